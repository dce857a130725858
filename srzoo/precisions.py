"""What a lower precision costs in quality and gives in time and memory, model by model. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .report import Row
from .statistics import Estimate, compare_pairs, select
from .store import CostRow


class Made(Protocol):
    """What a model's outputs are made by: a :class:`~srzoo.store.Subject` or a :class:`~srzoo.results.Score`."""

    @property
    def entry(self) -> str: ...
    @property
    def configuration(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def precision(self) -> str: ...


def float32_of(models: Mapping[str, Made]) -> dict[str, tuple[str, str]]:
    """Return label of each model in a lower precision to the same weights' and composition's in float32.

    Returns:
        label to that label and the lower precision.
    """
    whole = {(m.entry, m.configuration, m.weights): label for label, m in models.items() if m.precision == "fp32"}
    lower = {label: (m.entry, m.configuration, m.weights) for label, m in models.items() if m.precision != "fp32"}
    return {label: (whole[made], models[label].precision) for label, made in lower.items() if made in whole}


def automatic(metrics: Iterable[str], panels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the metrics that are no opinions, since nobody is asked about precisions.

    Args:
        panels: dataset to metric to how many people it is the opinion of.
    """
    asked = {metric for panel in panels.values() for metric in panel}
    return [metric for metric in metrics if metric not in asked]


@dataclass(frozen=True)
class PrecisionLoss:
    """A model in a lower precision against itself in float32, on one dataset.

    Attributes:
        entry: the model's label in float32.
        precision: ``bf16`` or ``fp16``.
        differences: metric to the mean over images of lower minus float32, with its bootstrap interval.
        size: side of the square input of time and memory, the first that both were measured for on one device; 0 where
            there is none.
        time, memory: of the lower precision as a part of float32's; NaN where they are not known. Memory is that
            beyond what was there before the pass.
    """

    entry: str
    precision: str
    dataset: str
    differences: dict[str, Estimate]
    size: int
    time: float
    memory: float

    @property
    def images(self) -> int:
        """The number of images that both were scored on."""
        return max(estimate.images for estimate in self.differences.values())


def precision_losses(
    rows: Sequence[Row],
    metrics: Sequence[str],
    bases: Mapping[str, tuple[str, str]],
    costs: Mapping[str, Sequence[CostRow]],
) -> list[PrecisionLoss]:
    """Return the losses of every model that was benchmarked in float32 and in a lower precision.

    Args:
        rows: of one protocol.
        metrics: in the order of the columns.
        bases: see :func:`float32_of`.
        costs: label to what it takes at each input size.
    """
    found = []
    for label, (base, precision) in bases.items():
        size, time, memory = _ratios(costs.get(label, ()), costs.get(base, ()))
        for dataset in dict.fromkeys(row.dataset for row in rows if row.entry == label):
            differences = {}
            for metric in metrics:
                own = [row for row in select(rows, dataset, metric) if row.entry in (label, base)]
                if {row.entry for row in own} == {label, base}:
                    (found_here,) = compare_pairs(own, [(label, base)])
                    ends = found_here.difference, found_here.low, found_here.high
                    differences[metric] = Estimate(*ends, found_here.images)
            if differences:
                found.append(PrecisionLoss(base, precision, dataset, differences, size, time, memory))
    return found


def precision_table(
    losses: Sequence[PrecisionLoss], metrics: Mapping[str, bool], *, intervals: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the losses as text; differences to the fourth digit.

    Args:
        metrics: to whether higher is better, in the order of the columns.
        intervals: whether differences have theirs behind them.
    """
    there = [metric for metric in metrics if any(metric in loss.differences for loss in losses)]
    header = ["entry", "precision", "dataset", "images", *(f"Δ {m} {'↑' if metrics[m] else '↓'}" for m in there)]
    header += ["input", "time", "memory"]
    cells = []
    for loss in losses:
        texts = [_difference(loss.differences[m], intervals) if m in loss.differences else "-" for m in there]
        ratios = [f"{ratio:.2f}x" if ratio == ratio else "-" for ratio in (loss.time, loss.memory)]
        size = f"{loss.size}x{loss.size}" if loss.size else "-"
        cells.append([loss.entry, loss.precision, loss.dataset, str(loss.images), *texts, size, *ratios])
    return header, cells


def _difference(estimate: Estimate, with_interval: bool) -> str:
    if math.isnan(estimate.mean):
        return "-"
    if not with_interval or math.isnan(estimate.low):
        return f"{estimate.mean:+.4f}"
    return f"{estimate.mean:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _ratios(lower: Sequence[CostRow], whole: Sequence[CostRow]) -> tuple[int, float, float]:
    """Return size, time and memory at the first input size that both were measured for on one device."""
    for cost in lower:
        for other in whole:
            if (cost.size, cost.device) == (other.size, other.device):
                time = cost.milliseconds / other.milliseconds if other.milliseconds else math.nan
                memory = cost.peak_bytes / other.peak_bytes if cost.peak_bytes and other.peak_bytes else math.nan
                return cost.size, time, memory
    return 0, math.nan, math.nan
