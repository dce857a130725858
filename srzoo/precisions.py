"""What a lower precision costs in quality and gives in time and memory, model by model. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .report import Row
from .statistics import Estimate, compare_pairs, select
from .store import CostRow


@dataclass(frozen=True)
class PrecisionLoss:
    """A model in a lower precision against itself in float32, on one dataset.

    Attributes:
        entry: the model's label in float32.
        precision: ``bf16`` or ``fp16``.
        differences: metric to the mean over images of lower minus float32, with its bootstrap interval.
        time, memory: of the lower precision as a part of float32's, at the first input size that both were measured
            for; NaN where there is none. Memory is that beyond what was there before the pass.
    """

    entry: str
    precision: str
    dataset: str
    differences: dict[str, Estimate]
    time: float
    memory: float


def precision_losses(
    rows: Sequence[Row], metrics: Sequence[str], costs: Mapping[str, Sequence[CostRow]]
) -> list[PrecisionLoss]:
    """Return the losses of every model that was benchmarked in float32 and in a lower precision.

    Args:
        rows: of one protocol.
        metrics: in the order of the columns.
        costs: label to what it takes at each input size; they tell the precisions.
    """
    found = []
    for label, lower in costs.items():
        precision = lower[0].precision
        base = label.replace(f" ({precision})", "", 1)
        if precision == "fp32" or base not in costs:
            continue
        time, memory = _ratios(lower, costs[base])
        for dataset in dict.fromkeys(row.dataset for row in rows if row.entry == label):
            differences = {}
            for metric in metrics:
                own = [row for row in select(rows, dataset, metric) if row.entry in (label, base)]
                if {row.entry for row in own} == {label, base}:
                    (found_here,) = compare_pairs(own, [(label, base)])
                    ends = found_here.difference, found_here.low, found_here.high
                    differences[metric] = Estimate(*ends, found_here.images)
            if differences:
                found.append(PrecisionLoss(base, precision, dataset, differences, time, memory))
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
    header = ["entry", "precision", "dataset", *(f"Δ {m} {'↑' if metrics[m] else '↓'}" for m in there)]
    header += ["time", "memory"]
    cells = []
    for loss in losses:
        texts = [_difference(loss.differences[m], intervals) if m in loss.differences else "-" for m in there]
        ratios = [f"{ratio:.2f}x" if ratio == ratio else "-" for ratio in (loss.time, loss.memory)]
        cells.append([loss.entry, loss.precision, loss.dataset, *texts, *ratios])
    return header, cells


def _difference(estimate: Estimate, with_interval: bool) -> str:
    if math.isnan(estimate.mean):
        return "-"
    if not with_interval or math.isnan(estimate.low):
        return f"{estimate.mean:+.4f}"
    return f"{estimate.mean:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _ratios(lower: Sequence[CostRow], whole: Sequence[CostRow]) -> tuple[float, float]:
    """Return time and memory at the first input size that both were measured for on one device."""
    for cost in lower:
        for other in whole:
            if (cost.size, cost.device) == (other.size, other.device):
                time = cost.milliseconds / other.milliseconds if other.milliseconds else math.nan
                memory = cost.peak_bytes / other.peak_bytes if cost.peak_bytes and other.peak_bytes else math.nan
                return time, memory
    return math.nan, math.nan
