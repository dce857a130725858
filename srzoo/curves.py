"""The picture of a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .files import replacing


def draw_curves(records: Iterable[Mapping[str, Any]], path: Path, title: str = "") -> None:
    """Draw every loss term, the gradient shares and the validation scores over the steps, stage after stage.

    Args:
        records: the lines of ``log.jsonl``.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = collect_curves(records)
    panels = [name for name in ("losses", "shares", "validation") if curves[name]]
    if len(curves["shares"]) == 1:  # one term has all of the gradient
        panels.remove("shares")
    metrics = sorted({label.rpartition("/")[2] for label in curves["validation"]})
    rows = [p for p in panels if p != "validation"] + [f"validation {metric}" for metric in metrics]
    if not rows:
        return
    figure = Figure(figsize=(8, 2.4 * len(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    labels = sorted({*curves["losses"], *curves["shares"]})
    colours = {label: f"C{number % 10}" for number, label in enumerate(labels)}  # the same in every panel
    for axis, row in zip(axes, rows, strict=True):
        kind, _, metric = row.partition(" ")
        for label, points in sorted(curves[kind].items()):
            if metric and label.rpartition("/")[2] != metric:
                continue
            steps, values = np.array(points).T
            style = "o-" if kind == "validation" or len(steps) == 1 else "-"
            if kind == "losses" and len(values) > 40:
                axis.plot(steps, values, lw=0.5, alpha=0.3, color=colours[label])
                axis.plot(*smooth(steps, values), lw=1.5, color=colours[label], label=label)
            else:
                name = label.removesuffix(f"/{metric}")
                axis.plot(steps, values, style, ms=3, lw=1.5, color=colours.get(label), label=name)
        if kind == "losses" and all(v > 0 for points in curves["losses"].values() for _, v in points):
            axis.set_yscale("log")
        names = {"losses": "weighted losses", "shares": "share of gradient"}
        axis.set_ylabel(names.get(kind, metric))
        for border in curves["borders"]:
            axis.axvline(border, color="grey", lw=0.8, ls=":")
        axis.grid(alpha=0.25)
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize="small", ncols=6, frameon=False)
    axes[-1].set_xlabel("step")
    figure.suptitle(title)
    with contextlib.suppress(OSError), replacing(path) as temporary:  # a picture is no reason to fail
        figure.savefig(temporary, dpi=110, format="png")


def collect_curves(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``losses``, ``shares`` and ``validation``, each label to ``[(step, value), ...]``, and ``borders``.

    Steps count on through the stages; ``borders`` are where one ends and the next begins.
    """
    curves: dict[str, Any] = {"losses": {}, "shares": {}, "validation": {}, "borders": []}
    stage, offset, last = None, 0, 0
    for record in records:
        if record["stage"] != stage:
            if stage is not None:
                offset = last
                curves["borders"].append(offset)
            stage = record["stage"]
        last = offset + record["step"]
        for kind in ("losses", "shares", "validation"):
            for label, value in record.get(kind, {}).items():
                if value is not None:  # it was not finite
                    curves[kind].setdefault(label, []).append((last, value))
    return curves


def smooth(steps: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Return a running mean over a fortieth of the points."""
    width = max(1, len(values) // 40)
    mean = np.convolve(values, np.ones(width) / width, mode="valid")
    return steps[width - 1 :], mean
