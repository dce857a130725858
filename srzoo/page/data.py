"""What the report is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..gallery import Pictures
from ..report import Row
from ..store import CostRow


class EntryCost(NamedTuple):
    """What an entry costs.

    Attributes:
        milliseconds: latency at the stated input size.
        multiply_adds: of one output of ``costs.HR_SIZE``; None where they were not counted.
        measured: time and memory at every input size, for a table of their own.
    """

    milliseconds: float = math.nan
    parameters: int = 0
    multiply_adds: int | None = None
    measured: tuple[CostRow, ...] = ()


def page_costs(
    costs: Mapping[str, Sequence[CostRow]], compared: Mapping[str, CostRow] | None = None
) -> dict[str, EntryCost]:
    """Return what the page shows of measured costs.

    Args:
        costs: entry to what it takes at every input size.
        compared: entry to what the leaderboard shows of it; by default the first input size.
    """
    shown = compared if compared is not None else {name: found[0] for name, found in costs.items()}
    return {
        name: EntryCost(cost.milliseconds, cost.parameters, cost.multiply_adds, tuple(costs.get(name, ())))
        for name, cost in shown.items()
    }


@dataclass(frozen=True)
class PageData:
    """All that the report shows.

    Attributes:
        rows: of one protocol; any datasets, entries and metrics.
        directions: metric to whether higher is better, in the order of the columns; the first one ranks.
        costs: entry to cost; entries without one show none.
        device: that the times were taken on, in words.
        latency_size: side of the square low-resolution input of the times, in pixels.
        notes: sentences for the end of the page, such as why a metric is missing.
        pictures: dataset to image to entry, or ``HR``, to the PNG or WebP file of its output.
        tradeoff: metrics of distortion and of perception for the plot; by default the first metric and the
            first one after it that points the other way, as LPIPS does to PSNR, or else the second.
        recipes: run to recipe, for the table of seeds; by default runs named ``RECIPE@seedN``.
        panels: dataset to metric to how many people it is the opinion of.
        bases: what lower precisions are compared with, see :func:`srzoo.precisions.float32_of`.
    """

    rows: Sequence[Row]
    directions: Mapping[str, bool]
    costs: Mapping[str, EntryCost] = field(default_factory=dict)
    protocol: str = "y"
    device: str = ""
    latency_size: int = 128
    notes: Sequence[str] = ()
    pictures: Pictures = field(default_factory=dict)
    tradeoff: tuple[str, str] | None = None
    recipes: Mapping[str, str] | None = None
    title: str = "Super-resolution benchmark"
    panels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    bases: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def tradeoff(directions: Mapping[str, bool]) -> tuple[str, str] | None:
    """Return the metrics of distortion and of perception: the first, and the first after it that points the other way.

    Where there is none, the second.
    """
    first, *others = directions
    opposite = [metric for metric in others if directions[metric] != directions[first]]
    return (first, (opposite or others)[0]) if others else None
