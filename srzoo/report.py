"""Rows of scores, and how they are written down. Needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from .errors import DataError
from .store import CostRow

COLUMNS = ("entry", "dataset", "image", "metric", "protocol", "value")


class Row(NamedTuple):
    """One value: of one entry, on one image, by one metric, under one protocol."""

    entry: str
    dataset: str
    image: str
    metric: str
    protocol: str
    value: float


def format_value(value: float, among: Iterable[float] = (), *, opinion: bool = False) -> str:
    """Return a score with the digits the field gives: two from 10 up (dB) and of what people said, four otherwise.

    Args:
        among: the other values of its column; where one of them has two digits, this one has.
        opinion: whether it is of a metric that has a panel: grades of 1 to 5 are not known to the fourth digit.
    """
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if opinion or any(abs(other) >= 10 for other in (value, *among)) else f"{value:.4f}"


def signed_interval(difference: float, low: float, high: float) -> str:
    """Return a difference with its interval, in three to six decimals: as many as show its first three digits.

    The interval is left out where it is NaN; a difference of NaN is ``-``. An infinite one, of an output that is equal
    to its reference, is ``+inf`` or ``-inf``.
    """
    if math.isnan(difference):
        return "-"
    if math.isinf(difference):
        return f"{difference:+g}"
    digits = 4 if difference == 0 else min(6, max(3, 2 - math.floor(math.log10(abs(difference)))))

    def signed(value: float) -> str:
        text = f"{value:+.{digits}f}"
        return text[1:] if float(text) == 0 else text

    return signed(difference) + ("" if math.isnan(low) else f" [{signed(low)}, {signed(high)}]")


def format_milliseconds(value: float) -> str:
    """Return a time without digits that no measurement has: ``13,345``, ``828``, ``50.1``; ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def short_number(value: float | None) -> str:
    """Return a count as the field writes it: ``502 K``, ``16.7 M``, ``1.03 T``; ``-`` for None and NaN."""
    if value is None or math.isnan(value):
        return "-"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= 0.9995 * size:  # which is rounded up to it
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def cost_table(costs: Mapping[str, Sequence[CostRow]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of what each entry takes at each input size, as text."""
    header = ["entry", "params", "multiply-adds", "input", "ms", "images/s", "MiB"]
    cells = []
    for entry, measured in costs.items():
        for cost in measured:
            median, low, high = map(format_milliseconds, (cost.milliseconds, cost.quartile_low, cost.quartile_high))
            time = f"{median} [{low}, {high}]"
            memory = "-" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:.1f}"
            counts = [short_number(cost.parameters), short_number(cost.multiply_adds)]
            size, speed = f"{cost.size}x{cost.size}", f"{cost.images_per_second:.3g}"
            cells.append([entry, *counts, size, time, speed, memory])
    return header, cells


UNSTEADY = 0.3
"""Part of the median that the middle half of repeats may span before it is pointed out."""


def unsteady(costs: Mapping[str, Sequence[CostRow]]) -> str:
    """Return a sentence on the least steady of the times, or an empty string where all are steady."""
    spans = {
        (entry, cost.size): (cost.quartile_high - cost.quartile_low) / cost.milliseconds
        for entry, measured in costs.items()
        for cost in measured
        if cost.milliseconds >= 1  # the clock and the caches make shorter ones unsteady on any machine
    }
    worst = max(spans, key=lambda key: spans[key], default=None)
    if worst is None or spans[worst] < UNSTEADY:
        return ""
    return (
        f"The machine was busy while times were measured: of {worst[0]} at {worst[1]}x{worst[1]}, the middle half of "
        f"the repeats spans {spans[worst]:.0%} of the median. Ratios hold better than times, since entries were "
        "measured in turn; for times, repeat it on an idle machine in another folder."
    )


PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def precision_text(costs: Mapping[str, Sequence[CostRow]]) -> str:
    """Return in words the precisions that costs were measured in, such as ``float32 and bfloat16``; empty for none."""
    found = {cost.precision for measured in costs.values() for cost in measured}
    *others, last = [words for name, words in PRECISIONS.items() if name in found] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def panel_text(panels: Mapping[str, int]) -> str:
    """Return in words how many people each metric is the opinion of; an empty text where it is none's."""
    return ", ".join(f"{metric} of {raters} raters" for metric, raters in panels.items())


def panel_notes(panels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return what a reader of a leaderboard with opinions has to know of their intervals; nothing without opinions."""
    metrics = " and ".join(dict.fromkeys(metric for asked in panels.values() for metric in asked))
    if not metrics:
        return []
    return [
        f"{metrics}: the interval and the tests are over images, as those of the other metrics, given what these "
        "people said. How far another panel might differ is in the report of the study, and is mostly more."
    ]


class RowWriter:
    """Appends rows to ``results.csv`` as they come, so that an interrupted run leaves what it had.

    Args:
        out: its folder; without one, nothing is written.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._file: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> RowWriter:
        if self._out is not None:
            try:
                self._out.mkdir(parents=True, exist_ok=True)
                self._file = open(self._out / "results.csv", "w", newline="", encoding="utf-8")
            except OSError as error:
                raise DataError(f"Cannot write results to {self._out}: {error}.") from error
            self._writer = csv.writer(self._file)
            self._writer.writerow(COLUMNS)
        return self

    def write(self, row: Row) -> None:
        """Write one row and hand it to the operating system."""
        if self._file is not None:
            self._writer.writerow([*row[:-1], repr(row.value)])
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
