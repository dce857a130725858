"""From rows to a leaderboard: places, means, intervals, and what separates neighbours. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from .coverage import comparable
from .precisions import PrecisionLoss, precision_table
from .report import (
    Row,
    cost_table,
    format_milliseconds,
    format_value,
    panel_text,
    precision_text,
    short_number,
    unsteady,
)
from .statistics import Comparison, Estimate, Ranking, SeedGroup, mean_interval, rank, select, untested_note
from .store import CostRow


@dataclass(frozen=True)
class Standing:
    """One entry's place on one dataset.

    Attributes:
        place: by the first metric: ``1``, ``2=`` where the test cannot tell neighbours apart, ``-`` without a score.
        estimates: metric to mean and interval over the images where it is defined.
        milliseconds: latency at the stated input size.
    """

    dataset: str
    entry: str
    place: str
    images: int
    estimates: dict[str, Estimate]
    milliseconds: float
    parameters: int

    @property
    def means(self) -> dict[str, float]:
        """Metric to mean."""
        return {metric: estimate.mean for metric, estimate in self.estimates.items()}


@dataclass(frozen=True)
class Leaderboard:
    """All entries on one dataset, best first by the first metric.

    Attributes:
        rankings: metric to places and to what separates neighbours under it.
        panel: metric to how many people it is the opinion of.
        notes: sentences on which entries lack images that others have, and on why none were told apart.
    """

    dataset: str
    images: int
    standings: tuple[Standing, ...]
    rankings: dict[str, Ranking]
    panel: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """What separates neighbours under the first metric."""
        return next(iter(self.rankings.values())).comparisons if self.rankings else ()


def leaderboards(
    rows: Sequence[Row],
    higher_is_better: Mapping[str, bool],
    costs: Mapping[str, CostRow],
    panels: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> list[Leaderboard]:
    """Return a leaderboard for each dataset, in the order of the rows, on the images that all its entries have.

    Args:
        rows: of one protocol.
        higher_is_better: metric to direction; the first ranks.
        costs: entry to what it takes.
        panels: dataset to metric to how many people it is the opinion of.

    Raises:
        InputError: entries have no image in common.
    """
    coverage = comparable(rows, higher_is_better)
    rows, found = coverage.rows, []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        by_metric = {metric: select(rows, dataset, metric) for metric in higher_is_better}
        rankings = {metric: rank(own, higher_is_better[metric]) for metric, own in by_metric.items() if own}
        entries = list(dict.fromkeys(row.entry for row in rows if row.dataset == dataset))
        places = {place.entry: place.rank for place in next(iter(rankings.values())).places}
        order = [*places, *(entry for entry in entries if entry not in places)]
        images = {entry: len({r.image for r in rows if r.dataset == dataset and r.entry == entry}) for entry in order}
        standings = []
        for entry in order:
            cost = costs.get(entry)
            estimates = {metric: mean_interval(own, entry) for metric, own in by_metric.items() if own}
            milliseconds, parameters = (cost.milliseconds, cost.parameters) if cost is not None else (math.nan, 0)
            standings.append(
                Standing(dataset, entry, places.get(entry, "-"), images[entry], estimates, milliseconds, parameters)
            )
        panel = dict(panels.get(dataset, {}))
        notes = (*coverage.notes.get(dataset, ()), *filter(None, [untested_note(rankings)]))
        found.append(Leaderboard(dataset, max(images.values()), tuple(standings), rankings, panel, notes))
    return found


def table(board: Leaderboard, higher_is_better: Mapping[str, bool]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of a leaderboard as text."""
    header = ["#", "entry"]
    header += [f"{metric} {'↑' if up else '↓'}" for metric, up in higher_is_better.items()]
    header += ["ms", "params"]
    cells = []
    column = {metric: _means(board, metric) for metric in higher_is_better}
    for standing in board.standings:
        means = {metric: standing.means.get(metric, math.nan) for metric in higher_is_better}
        values = [format_value(mean, column[m], opinion=m in board.panel) for m, mean in means.items()]
        milliseconds = format_milliseconds(standing.milliseconds)
        cells.append([standing.place, standing.entry, *values, milliseconds, short_number(standing.parameters)])
    return header, cells


def _means(board: Leaderboard, metric: str) -> list[float]:
    return [standing.means[metric] for standing in board.standings if metric in standing.means]


def comparison_lines(board: Leaderboard, higher_is_better: Mapping[str, bool]) -> list[str]:
    """Return in words what separates each entry from the next under the first metric."""
    metric = next(iter(higher_is_better), "")
    lines = []
    for comparison in board.comparisons:
        ends = comparison.difference, comparison.low, comparison.high
        difference, low, high = (signed(value, opinion=metric in board.panel) for value in ends)
        interval = "" if math.isnan(comparison.low) else f" [{low}, {high}]"
        verdict = "tied, " if comparison.tied else ""
        lines.append(
            f"{comparison.first} - {comparison.second}: {metric} {difference}{interval}, {verdict}{comparison.verdict}"
        )
    return lines


def signed(value: float, *, opinion: bool = False) -> str:
    """Return a difference with its sign and three digits after the point, four below 0.1; two of what people said."""
    if opinion:
        return f"{value:+.2f}"
    return f"{value:+.3f}" if abs(value) >= 0.1 else f"{value:+.4f}"


def seed_line(group: SeedGroup, *, opinion: bool = False) -> str:
    """Return in words how the runs of one recipe scatter."""
    mean, deviation = format_value(group.mean, opinion=opinion), f"{group.deviation:.{2 if opinion else 4}f}"
    what = f"{group.recipe} on {group.dataset}: {group.metric} {mean}"
    if len(group.means) == 1:
        return f"{what} of one seed, the others were not benchmarked on it"
    return f"{what}, standard deviation {deviation} over {len(group.means)} seeds"


def leaderboard_markdown(
    boards: Sequence[Leaderboard],
    higher_is_better: Mapping[str, bool],
    protocol: str,
    device: str,
    latency_size: int,
    notes: Sequence[str] = (),
    seeds: Sequence[SeedGroup] = (),
    costs: Mapping[str, Sequence[CostRow]] = MappingProxyType({}),
    losses: Sequence[PrecisionLoss] = (),
) -> str:
    """Return the leaderboards as Markdown, with protocol, device and statistics stated."""
    facts = [f"median for one {latency_size}x{latency_size} input", precision_text(costs), device]
    lines = [
        "# Leaderboard",
        "",
        f"Protocol `{protocol}`. Milliseconds: {', '.join(filter(None, facts))}.",
        "Brackets: bootstrap 95 % interval of the mean over images. Entries that share a place, such as `2=`, are not "
        "told apart by Wilcoxon's signed-rank test on the images' differences (Holm-adjusted p of at least 0.05).",
        "",
    ]
    for board in boards:
        header, cells = table(board, higher_is_better)
        images = ", ".join(filter(None, [f"{board.images} images", panel_text(board.panel)]))
        lines += [f"## {board.dataset} ({images})", "", "| " + " | ".join(header) + " |"]
        lines.append("|--:|---" + "|--:" * (len(header) - 2) + "|")
        for standing, row in zip(board.standings, cells, strict=True):
            for column, metric in enumerate(higher_is_better, start=2):
                estimate = standing.estimates.get(metric)
                if estimate is not None and not math.isnan(estimate.low):
                    own, opinion = _means(board, metric), metric in board.panel
                    ends = [format_value(end, own, opinion=opinion) for end in (estimate.low, estimate.high)]
                    row[column] += f" [{', '.join(ends)}]"
            lines.append("| " + " | ".join(row) + " |")
        lines.append("")
        lines += [f"- {note}" for note in board.notes]
        lines += [f"- {line}" for line in comparison_lines(board, higher_is_better)]
        lines.append("")
    if costs:
        header, cells = cost_table(costs)
        text = "One forward pass, batch 1; brackets: the middle half of the repeats."
        lines += ["## Cost", "", " ".join(filter(None, [text, unsteady(costs)])), ""]
        lines += ["| " + " | ".join(row) + " |" for row in (header, ["---", *["--:"] * (len(header) - 1)], *cells)]
        lines.append("")
    if losses:
        header, cells = precision_table(losses, higher_is_better)
        text = "Lower precisions against float32 on the same images: mean differences with their intervals, and the "
        lines += ["## Precision", "", f"{text}part of float32's time and memory.", ""]
        alignment = [*["---"] * 3, *["--:"] * (len(header) - 3)]
        lines += ["| " + " | ".join(row) + " |" for row in (header, alignment, *cells)]
        lines.append("")
    if seeds:
        lines += ["## Seeds", ""]
        opinions = {(board.dataset, metric) for board in boards for metric in board.panel}
        lines += [f"- {seed_line(group, opinion=(group.dataset, group.metric) in opinions)}" for group in seeds]
        lines.append("")
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"
