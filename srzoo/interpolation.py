"""Network interpolation (ESRGAN, arXiv:1809.00219, sec. 3.4), and interpolation of images to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .benchmark import listed_or_own, load_image_sets
from .compose import build_generator
from .composition import full_composition, source_record
from .data import ImageItem
from .errors import DataError, InputError, PluginError
from .images import round_to_uint8, to_tensor
from .inference import best_device, prepare, run_generator
from .pretrained import Model, load_model
from .protocol import PROTOCOLS, Protocol
from .report import Row, RowWriter, format_value, signed_interval
from .scoring import Reference, available_metrics, image_to_device, mean_scores
from .statistics import compare_pairs, select
from .weights import differences, save_checkpoint, shown

KINDS = ("network", "image")
DEFAULT_METRICS = ("psnr", "lpips_squeeze", "ssim")
"""The first two that can be computed span the trade-off."""


@dataclass
class Interpolation:
    """What lies between two models.

    Attributes:
        alphas: weights of the second model.
        means: ``(kind, alpha, dataset)`` to metric to mean, kind being ``network`` or ``image``.
        rows: one for each image and metric; the entry is ``network 0.2``, ``image 0.2``, ...
        directions: metric to whether higher is better.
        unavailable: metric to the reason why it could not be computed here.
    """

    first: str
    second: str
    alphas: tuple[float, ...]
    means: dict[tuple[str, float, str], dict[str, float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    directions: dict[str, bool] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def parse_alphas(text: str) -> tuple[float, ...]:
    """Return the weights that ``0:1:0.2`` (first, last, step) or ``0,0.5,1`` stands for.

    Raises:
        InputError: it is neither, or leaves [0, 1].
    """
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            count = round((last - first) / step)
            if count < 1 or abs(first + count * step - last) > 1e-9:
                raise ValueError
            found = [first + (last - first) * k / count for k in range(count + 1)]
        else:
            found = [float(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"--alpha {text!r}: write first:last:step, such as 0:1:0.2, or a list, such as 0,0.5,1."
        ) from None
    if not all(0 <= alpha <= 1 for alpha in found):
        raise InputError(f"--alpha {text!r}: 0 is the first model and 1 the second; values must lie between.")
    return tuple(dict.fromkeys(round(alpha, 6) for alpha in found))


def interpolated(first: Model, second: Model, alpha: float) -> nn.Module:
    """Return a generator with ``(1 - alpha) * first + alpha * second`` as its weights.

    Buffers that are counters are the first's.

    Raises:
        InputError: the two are not of the same architecture; names what differs.
    """
    left, right = full_composition(first.entry), full_composition(second.entry)
    changed = ", ".join(f"{key} ({shown(a)} and {shown(b)})" for key, a, b in differences(left, right)[:4])
    if changed:
        raise InputError(f"{first.name} and {second.name} are not of one architecture; they differ in {changed}.")
    generator = build_generator(first.entry)
    one, two = first.generator.state_dict(), second.generator.state_dict()
    generator.load_state_dict(
        {
            name: torch.lerp(tensor, two[name], alpha) if tensor.is_floating_point() else tensor
            for name, tensor in one.items()
        }
    )
    return generator.eval()


def interpolate(
    first: str | Path,
    second: str | Path,
    alphas: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    data: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    *,
    protocol: Protocol = "y",
    out: str | Path | None = None,
    save_weights: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Interpolation:
    """Benchmark what lies between two models: interpolated networks, and interpolated output images.

    Args:
        first: a model, usually the PSNR-oriented one: zoo entry, checkpoint file or run folder.
        second: another of the same architecture, usually trained from the first with a GAN.
        alphas: weights of the second.
        data: datasets or folders; by default the photographs that come with scikit-image.
        metrics: at least one, by default ``DEFAULT_METRICS``; the first two that can be computed span the trade-off.
        out: folder for ``results.csv``, ``table.md``, ``tradeoff.png`` and ``strip.png``.
        save_weights: write every interpolated generator into ``out`` as well.
        progress: called as ``progress(dataset, images done, images)``.

    Raises:
        InputError: a model, dataset or metric does not exist, or the two are not of one architecture.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"There is no protocol {protocol!r}; use {', '.join(PROTOCOLS)}.")
    device = best_device()
    one, two = load_model(first), load_model(second)
    if ensembles := [model.name for model in (one, two) if model.entry.self_ensemble]:
        raise InputError(
            f"{' and '.join(ensembles)}: weights are interpolated of generators, not of self-ensembles; leave out the "
            "'+', or give the weight file."
        )
    for model in (one, two):
        if not any(True for _ in model.generator.parameters()):
            raise InputError(f"{model.name} has no weights to interpolate; name two models of one architecture.")
    folder = Path(out) if out is not None else None
    networks = {alpha: prepare(interpolated(one, two, alpha), device) for alpha in alphas}
    ends = [prepare(model.generator, device) for model in (one, two)]
    image_sets = load_image_sets(data)
    found, unavailable = available_metrics(listed_or_own("metric", metrics, DEFAULT_METRICS), device)
    if not found:
        raise DataError("None of the metrics can be computed here: " + " ".join(unavailable.values()))
    result = Interpolation(one.name, two.name, tuple(alphas), unavailable=unavailable)
    result.directions = {metric.name: metric.spec.higher_is_better for metric in found}
    scale = one.entry.scale
    strip: dict[tuple[str, float], np.ndarray[Any, Any]] = {}
    with RowWriter(folder) as writer:
        for image_set in image_sets:
            scores: dict[tuple[str, float], list[dict[str, float]]] = {}
            for done, item in enumerate(image_set, start=1):
                lr, hr, grey = item.read_pair(scale)
                inputs = to_tensor(lr).to(device)
                reference = Reference(image_to_device(hr, device), found, protocol, scale, grey)
                left, right = (run_generator(end, inputs, scale, one.size_multiple) for end in ends)
                for alpha in alphas:
                    outputs = {
                        "network": run_generator(networks[alpha], inputs, scale, one.size_multiple),
                        "image": torch.lerp(left, right, alpha),
                    }
                    for kind, output in outputs.items():
                        if not torch.isfinite(output).all():
                            raise PluginError(f"the {kind} at {alpha} gives values that are not finite.")
                        sr = round_to_uint8(output)
                        values = reference.score(sr)
                        scores.setdefault((kind, alpha), []).append(values)
                        for metric, value in values.items():
                            row = Row(f"{kind} {alpha:g}", image_set.name, item.name, metric, protocol, value)
                            result.rows.append(row)
                            writer.write(row)
                        if image_set is image_sets[0] and done == 1:
                            strip[kind, alpha] = _crop(sr, item)
                if progress is not None:
                    progress(image_set.name, done, len(image_set))
            for (kind, alpha), values_of in scores.items():
                result.means[kind, alpha, image_set.name] = mean_scores(values_of)
    if folder is not None:
        try:
            (folder / "table.md").write_text(table_markdown(result, protocol), encoding="utf-8")
        except OSError as error:
            raise DataError(f"Cannot write {folder / 'table.md'}: {error}.") from error
        if len(found) > 1:
            draw_tradeoff(result, folder / "tradeoff.png")
        draw_strip(result, strip, folder / "strip.png")
        if save_weights:
            for alpha, network in networks.items():
                description = {
                    "entry": f"{one.name} and {two.name}, alpha {alpha:g}",
                    "composition": full_composition(one.entry),
                    "interpolation": {"first": one.digest, "second": two.digest, "alpha": alpha},
                    **source_record(one.entry),
                }
                save_checkpoint(folder / f"alpha-{alpha:g}.safetensors", network.state_dict(), description)
    return result


def _crop(sr: torch.Tensor, item: ImageItem, side: int = 128) -> np.ndarray[Any, Any]:
    """Return the crop of an image with the most texture, the same for every output: found in the reference."""
    hr, _ = item.read_hr()
    grey = hr.astype(np.float32).mean(axis=2)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = sr.shape[-2:]
    best, place = -1.0, (0, 0)
    for top in range(0, max(1, height - side + 1), side // 2):
        for left in range(0, max(1, width - side + 1), side // 2):
            value = float(detail[top : top + side, left : left + side].mean())
            if value > best:
                best, place = value, (top, left)
    top, left = place
    return sr[0, :, top : top + side, left : left + side].permute(1, 2, 0).cpu().numpy()


def table_markdown(result: Interpolation, protocol: Protocol) -> str:
    """Return what networks and images score at each weight, and what separates the two between the ends."""
    parts = [
        f"# From {result.first} (0) to {result.second} (1)",
        "Interpolated networks against mixed output images (ESRGAN, sec. 3.4). Difference: network minus image, mean "
        "over the images with its 95 % bootstrap interval; p: Wilcoxon's signed-rank test with Holm's adjustment for "
        "the weights between the ends.",
    ]
    between = [alpha for alpha in result.alphas if 0 < alpha < 1]
    pairs = [(f"{KINDS[0]} {alpha:g}", f"{KINDS[1]} {alpha:g}") for alpha in between]
    for dataset in dict.fromkeys(dataset for _, _, dataset in result.means):
        for metric, higher in result.directions.items():
            compared = compare_pairs(select(result.rows, dataset, metric), pairs)
            differences = {
                alpha: f"{signed_interval(c.difference, c.low, c.high)} | {c.verdict}"
                for alpha, c in zip(between, compared, strict=True)
            }
            lines = ["| weight | network | image | difference | p |", "|--:|--:|--:|---|---|"]
            for alpha in result.alphas:
                network, image = (format_value(result.means[kind, alpha, dataset][metric]) for kind in KINDS)
                lines.append(f"| {alpha:g} | {network} | {image} | {differences.get(alpha, ' | ')} |")
            better = "higher" if higher else "lower"
            parts.append(f"## {metric} on {dataset}, protocol {protocol}; {better} is better")
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def draw_tradeoff(result: Interpolation, path: Path) -> None:
    """Draw distortion against perception, one curve a kind, one panel a dataset.

    That is the first metric against the first of which less is better, or where there is none, against the second.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    horizontal, *others = result.directions
    vertical = next((name for name in others if not result.directions[name]), others[0])
    datasets = list(dict.fromkeys(dataset for _, _, dataset in result.means))
    figure = Figure(figsize=(5.2 * len(datasets), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        for kind, style in zip(KINDS, ("o-", "s--"), strict=True):
            points = [result.means[kind, alpha, dataset] for alpha in result.alphas]
            x, y = [p[horizontal] for p in points], [p[vertical] for p in points]
            axis.plot(x, y, style, ms=4, label=f"{kind} interpolation")
            if kind == "network":
                for alpha, px, py in zip(result.alphas, x, y, strict=True):
                    axis.annotate(f"{alpha:g}", (px, py), (4, 4), textcoords="offset points", fontsize="small")
        arrows = {True: "higher is better", False: "lower is better"}
        axis.set_xlabel(f"{horizontal}, {arrows[result.directions[horizontal]]}")
        axis.set_ylabel(f"{vertical}, {arrows[result.directions[vertical]]}")
        axis.set_title(dataset)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
    figure.suptitle(f"{result.first} (0) to {result.second} (1)")
    figure.savefig(path, dpi=130)


def draw_strip(result: Interpolation, crops: dict[tuple[str, float], np.ndarray[Any, Any]], path: Path) -> None:
    """Draw the crops as in the paper's figure 10: alphas from left to right, networks above images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(result.alphas)
    figure = Figure(figsize=(1.9 * columns, 4.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(KINDS), columns, squeeze=False)
    for row, kind in enumerate(KINDS):
        for column, alpha in enumerate(result.alphas):
            axis = axes[row, column]
            axis.imshow(crops[kind, alpha], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(f"{alpha:g}")
            if column == 0:
                axis.set_ylabel(kind)
    figure.suptitle(f"{result.first} (0) to {result.second} (1)")
    figure.savefig(path, dpi=130)
