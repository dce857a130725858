"""Benchmark: entries x datasets x metrics, one row an image and metric."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .allocator import keep_freed_memory
from .data import ImageSet, load_image_set
from .errors import DataError, SrzooError
from .inference import best_device, prepare, run_generator
from .pretrained import Model, is_ready, load_model
from .protocol import PROTOCOLS, Protocol
from .report import Row, RowWriter, Standing, leaderboard_markdown, standings
from .scoring import Metric, available_metrics, score_set
from .zoo import get_zoo

DEFAULT_METRICS = ("psnr", "ssim", "lpips_alex", "lpips_squeeze")
DEFAULT_DATA = ("photos",)
LATENCY_SIZE = 128
"""Side of the square low-resolution input that latency is stated for."""

Progress = Callable[[str, str, int, int], None]


@dataclass
class BenchResult:
    """What a benchmark found.

    Attributes:
        rows: one for each image and metric.
        standings: the leaderboard, best first, dataset by dataset.
        directions: metric to whether higher is better, in the order asked for.
        unavailable: metric to the reason why it could not be computed here.
        failed: entry to the reason why it could not be benchmarked.
        out: folder with ``results.csv`` and ``leaderboard.md``, if one was given.
    """

    rows: list[Row] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    directions: dict[str, bool] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    out: Path | None = None


def bench(
    entries: str | Sequence[str] | None = None,
    data: str | Sequence[str] = DEFAULT_DATA,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    protocol: Protocol = "y",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Benchmark models against each other.

    Args:
        entries: zoo entries, checkpoint files or run folders; all entries that are ready by default.
        data: datasets or folders.
        metrics: names of metrics; one whose backbone is missing is reported and left out.
        protocol: ``y``, ``y-matlab`` or ``rgb``.
        out: folder for ``results.csv`` and ``leaderboard.md``.
        progress: called as ``progress(entry, dataset, images done, images)``.

    Raises:
        InputError: an entry, dataset, metric or protocol does not exist, or an asked-for entry has no weights.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"There is no protocol {protocol!r}; use {', '.join(PROTOCOLS)}.")
    device = best_device()
    keep_freed_memory()
    names = ready_entries() if entries is None else listed(entries)
    image_sets = [load_image_set(name) for name in listed(data)]
    _refuse_duplicates("datasets", [image_set.name for image_set in image_sets])
    result = BenchResult(out=Path(out) if out is not None else None)
    found, result.unavailable = available_metrics(listed(metrics), device)
    if not found:
        raise DataError("None of the metrics can be computed here: " + " ".join(result.unavailable.values()))
    models = [load_model(name) for name in names]  # all of them before the first image, so that a typo costs no time
    _refuse_duplicates("models", [model.name for model in models])
    _refuse_mixed_scales(models)
    costs: dict[str, tuple[float, int]] = {}
    with RowWriter(result.out) as writer:
        for model in models:
            try:
                prepare(model.generator, device)
                parameters = sum(p.numel() for p in model.generator.parameters())
                costs[model.name] = (latency(model, device), parameters)
                for image_set in image_sets:
                    for row in _score(model, image_set, found, protocol, progress):
                        result.rows.append(row)
                        writer.write(row)
            except DataError:
                raise
            except SrzooError as error:
                result.failed[model.name] = str(error)
            finally:
                model.generator.to("cpu")
    result.directions = {metric.name: metric.spec.higher_is_better for metric in found}
    ranked = [row for row in result.rows if row.entry not in result.failed]  # what is not whole is not compared
    result.standings = standings(ranked, result.directions, costs)
    if result.out is not None:
        notes = [f"{name}: {reason}" for name, reason in result.unavailable.items()]
        notes += [f"{name} failed and is left out: {reason}" for name, reason in result.failed.items()]
        text = leaderboard_markdown(
            result.standings, result.directions, protocol, device_name(device), LATENCY_SIZE, notes
        )
        try:
            (result.out / "leaderboard.md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"Cannot write {result.out / 'leaderboard.md'}: {error}.") from error
    return result


def ready_entries() -> list[str]:
    """Return the zoo entries that can be benchmarked at once; entries with errors are left to ``srzoo list``."""
    names = []
    for name in get_zoo().names():
        try:
            if is_ready(name):
                names.append(name)
        except SrzooError:
            continue
    return names


def latency(model: Model, device: torch.device, size: int = LATENCY_SIZE, budget: float = 3.0) -> float:
    """Return the median time of one image in milliseconds, batch 1, float32.

    Args:
        size: side of the square low-resolution input.
        budget: seconds after which no further repeat is started; at most 10 and at least 3 are timed.
    """
    image = torch.rand(1, 3, size, size, device=device)
    times: list[float] = []
    start = time.perf_counter()
    for repeat in range(11):
        _synchronise(device)
        before = time.perf_counter()
        run_generator(model.generator, image, model.entry.scale, model.size_multiple)
        _synchronise(device)
        if repeat > 0:  # the first is warm-up
            times.append(time.perf_counter() - before)
        if len(times) >= 3 and time.perf_counter() - start > budget:
            break
    return 1000 * statistics.median(times)


def device_name(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _score(
    model: Model, image_set: ImageSet, metrics: Sequence[Metric], protocol: Protocol, progress: Progress | None
) -> Iterator[Row]:
    scored = score_set(model.generator, image_set, metrics, protocol, model.entry.scale, model.size_multiple)
    for done, image in enumerate(scored, start=1):
        for metric, value in image.values.items():
            yield Row(model.name, image_set.name, image.item.name, metric, protocol, value)
        if progress is not None:
            progress(model.name, image_set.name, done, len(image_set))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def listed(names: str | Sequence[str]) -> list[str]:
    """Split comma-separated names and drop repeats, keeping the order."""
    parts = [names] if isinstance(names, (str, Path)) else names
    return list(dict.fromkeys(p.strip() for part in parts for p in str(part).split(",") if p.strip()))


def _refuse_duplicates(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two {what} are called {name!r}, so their rows could not be told apart; rename one.")


def _refuse_mixed_scales(models: Sequence[Model]) -> None:
    scales = {model.entry.scale: model.name for model in models}
    if len(scales) > 1:
        named = " and ".join(f"x{scale} ({name})" for scale, name in sorted(scales.items()))
        raise DataError(f"Scores of different scales are not comparable: {named}; benchmark one scale at a time.")
