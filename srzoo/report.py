"""From rows to a leaderboard. Reads rows only; needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Standing:
    """One entry's place on one dataset.

    Attributes:
        means: metric to mean over the images where it is defined.
        milliseconds: latency at the stated input size.
    """

    dataset: str
    entry: str
    images: int
    means: dict[str, float]
    milliseconds: float
    parameters: int


def standings(
    rows: Sequence[Row], higher_is_better: Mapping[str, bool], costs: Mapping[str, CostRow]
) -> list[Standing]:
    """Return the leaderboard: datasets in the order of the rows, entries best first by the first metric.

    Args:
        costs: entry to what it takes.
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    images: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        key = (row.dataset, row.entry)
        values.setdefault(key, {}).setdefault(row.metric, []).append(row.value)
        images.setdefault(key, set()).add(row.image)
    found = []
    for (dataset, entry), by_metric in values.items():
        cost = costs.get(entry)
        milliseconds, parameters = (cost.milliseconds, cost.parameters) if cost is not None else (math.nan, 0)
        means = {metric: _mean(by_metric[metric]) for metric in higher_is_better if metric in by_metric}
        found.append(Standing(dataset, entry, len(images[dataset, entry]), means, milliseconds, parameters))
    first = next(iter(higher_is_better), "")
    sign = -1 if higher_is_better.get(first, True) else 1
    order = {dataset: index for index, dataset in enumerate(dict.fromkeys(row.dataset for row in rows))}

    def rank(standing: Standing) -> tuple[int, bool, float]:
        value = standing.means.get(first, math.nan)
        return order[standing.dataset], math.isnan(value), 0.0 if math.isnan(value) else sign * value

    return sorted(found, key=rank)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def table(standings: Sequence[Standing], higher_is_better: Mapping[str, bool]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of a leaderboard of one dataset, as text."""
    header = ["entry"]
    header += [f"{metric} {'↑' if up else '↓'}" for metric, up in higher_is_better.items()]
    header += ["ms", "parameters"]
    cells = []
    for standing in standings:
        values = [format_value(standing.means.get(metric, math.nan)) for metric in higher_is_better]
        cells.append([standing.entry, *values, f"{standing.milliseconds:.1f}", f"{standing.parameters:,}"])
    return header, cells


def format_value(value: float) -> str:
    """Return a score with the digits the field gives: two from 10 up (dB), four below."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def leaderboard_markdown(
    standings: Sequence[Standing],
    higher_is_better: Mapping[str, bool],
    protocol: str,
    device: str,
    latency_size: int,
    notes: Sequence[str] = (),
) -> str:
    """Return the leaderboard as Markdown, one table a dataset, with protocol and device stated."""
    lines = [
        "# Leaderboard",
        "",
        f"Protocol `{protocol}`. Milliseconds: median for one {latency_size}x{latency_size} input, float32, {device}.",
        "",
    ]
    for dataset in dict.fromkeys(standing.dataset for standing in standings):
        own = [standing for standing in standings if standing.dataset == dataset]
        header, cells = table(own, higher_is_better)
        lines += [f"## {dataset} ({own[0].images} images)", "", "| " + " | ".join(header) + " |"]
        lines.append("|---" + "|--:" * (len(header) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in cells]
        lines.append("")
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


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
