"""What the report says of one dataset, as text, and the numbers that it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..precisions import automatic, precision_losses, precision_table
from ..report import Row, cost_table, format_milliseconds, format_value, panel_text, short_number
from ..statistics import Comparison, Ranking, WinMatrix, rank, select, untested_note, win_matrix
from .data import EntryCost, PageData
from .plots import dataset_plots


class Cell(NamedTuple):
    """One cell of a table: the text, the number it is sorted by (empty where undefined), whether it is the best."""

    text: str
    key: str
    best: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one entry in the leaderboard.

    Attributes:
        whisker: ends and mean of the interval in [0, 100] of the span of its column, or None where undefined.
    """

    cell: Cell
    rank: str
    interval: str
    whisker: tuple[float, float, float] | None


@dataclass(frozen=True)
class MetricSection:
    """One metric on one dataset: who is told apart from whom, and the scores of every image."""

    metric: str
    better: str
    comparisons: list[tuple[Comparison, str, str]]
    wins: WinMatrix
    images: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class DatasetSection:
    """One dataset; ``notes`` tell which entries lack images that others have, and why none were told apart."""

    name: str
    anchor: str
    images: int
    board: list[tuple[str, int, list[Score], list[Cell]]]
    metrics: list[MetricSection]
    plots: list[tuple[str, str]]
    panel: str = ""
    notes: Sequence[str] = ()


def dataset_section(
    data: PageData, every: Sequence[Row], name: str, anchor: str, indices: Mapping[str, int], notes: Sequence[str]
) -> DatasetSection:
    """Return what is shown of one dataset: of ``every`` row where images are listed, else of those compared."""
    rows = [row for row in data.rows if row.dataset == name]
    metrics = [metric for metric in data.directions if any(row.metric == metric for row in rows)]
    tables = {metric: select(rows, name, metric) for metric in metrics}
    rankings = {metric: rank(tables[metric], data.directions[metric]) for metric in metrics}
    order = [place.entry for place in rankings[metrics[0]].places]
    whole = [row for row in every if row.dataset == name]
    order += [entry for entry in indices if entry not in order and any(row.entry == entry for row in whole)]
    panel = data.panels.get(name, {})
    scores = {metric: _scores(rankings[metric], metric in panel) for metric in metrics}
    missing = Score(Cell("-", ""), "", "", None)
    board = [
        (
            entry,
            indices[entry],
            [scores[metric].get(entry, missing) if metric in scores else missing for metric in data.directions],
            _cost_cells(data.costs.get(entry)),
        )
        for entry in order
    ]
    sections = [
        MetricSection(
            metric,
            "higher is better" if data.directions[metric] else "lower is better",
            _differences(rankings[metric], metric in panel),
            win_matrix(tables[metric], data.directions[metric]),
            _per_image(select(whole, name, metric), order, data.directions[metric], metric in panel),
        )
        for metric in metrics
    ]
    images = len({row.image for row in rows})
    untested = filter(None, [untested_note(rankings)])
    plots = dataset_plots(data, anchor, name, rankings, indices)
    return DatasetSection(name, anchor, images, board, sections, plots, panel_text(panel), [*notes, *untested])


def _scores(ranking: Ranking, opinion: bool) -> dict[str, Score]:
    estimates = [place.estimate for place in ranking.places]
    ends = [v for e in estimates for v in (e.low, e.high, e.mean) if math.isfinite(v)]
    least, span = min(ends, default=0.0), (max(ends, default=0.0) - min(ends, default=0.0)) or 1.0
    best = ranking.places[0].rank
    means = [estimate.mean for estimate in estimates]
    found = {}
    for place in ranking.places:
        estimate = place.estimate
        values = (estimate.low, estimate.mean, estimate.high)
        defined = all(math.isfinite(value) for value in values)
        texts = [format_value(value, means, opinion=opinion) for value in values]
        low, mean, high = (100 * (value - least) / span for value in values)
        found[place.entry] = Score(
            Cell(texts[1], _key(estimate.mean), place.rank == best and place.rank != "-"),
            place.rank,
            f"{texts[0]} to {texts[2]}" if defined else "",
            (low, mean, high) if defined else None,
        )
    return found


def _cost_cells(cost: EntryCost | None) -> list[Cell]:
    cost = cost or EntryCost(parameters=-1)
    time = format_milliseconds(cost.milliseconds)
    counts = [None if count is None or count < 0 else count for count in (cost.parameters, cost.multiply_adds)]
    return [Cell(time, _key(cost.milliseconds)), *(Cell(short_number(n), "" if n is None else str(n)) for n in counts)]


def cost_rows(data: PageData, indices: Mapping[str, int]) -> list[tuple[str, int, list[Cell]]]:
    """Each entry's time and memory at each input size, with its number among the entries."""
    found = []
    for entry, index in indices.items():
        measured = data.costs.get(entry, EntryCost()).measured
        for cost, texts in zip(measured, cost_table({entry: measured})[1], strict=True):
            numbers = (cost.parameters, cost.multiply_adds, cost.size, cost.milliseconds, cost.images_per_second)
            keys = ["" if number is None else str(number) for number in (*numbers, cost.peak_bytes)]
            found.append((entry, index, [Cell(*pair) for pair in zip(texts[1:], keys, strict=True)]))
    return found


def loss_table(data: PageData, indices: Mapping[str, int]) -> tuple[list[str], list[tuple[str, int, list[Cell]]]]:
    """Header, and entry, its number among the entries and cells, of what lower precisions lose and gain."""
    costs = {entry: data.costs[entry].measured for entry in indices if entry in data.costs}
    losses = precision_losses(data.rows, automatic(data.directions, data.panels), data.bases, costs)
    header, cells = precision_table(losses, data.directions)
    there = [metric for metric in data.directions if any(metric in loss.differences for loss in losses)]
    table = []
    for loss, texts in zip(losses, cells, strict=True):
        means = [loss.differences[m].mean if m in loss.differences else math.nan for m in there]
        keys = [loss.precision, loss.dataset, *map(_key, [loss.images, *means, loss.size, loss.time, loss.memory])]
        table.append((loss.entry, indices[loss.entry], [Cell(*pair) for pair in zip(texts[1:], keys, strict=True)]))
    return header, table


def _differences(ranking: Ranking, opinion: bool) -> list[tuple[Comparison, str, str]]:
    """Each comparison with its difference and interval as text: of dB in one more digit than they are given in."""
    means = [abs(place.estimate.mean) for place in ranking.places]
    digits = 2 if opinion else 3 if any(mean >= 10 for mean in means) else 4
    found = []
    for comparison in ranking.comparisons:
        ends = (comparison.difference, comparison.low, comparison.high)
        difference, low, high = ("-" if math.isnan(value) else f"{value:+.{digits}f}" for value in ends)
        found.append((comparison, difference, "" if math.isnan(comparison.low) else f"{low} to {high}"))
    return found


def _per_image(
    rows: Sequence[Row], order: Sequence[str], higher_is_better: bool, opinion: bool
) -> list[tuple[str, list[Cell]]]:
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row.image, {})[row.entry] = row.value
    table = []
    for image, by_entry in values.items():
        defined = [value for value in by_entry.values() if not math.isnan(value)]
        best = (max if higher_is_better else min)(defined, default=math.nan)
        cells = [by_entry.get(entry, math.nan) for entry in order]
        texts = [format_value(value, opinion=opinion) for value in cells]
        table.append((image, [Cell(t, _key(v), v == best) for t, v in zip(texts, cells, strict=True)]))
    return table


def _key(value: float) -> str:
    if math.isnan(value):
        return ""
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
