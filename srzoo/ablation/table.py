"""The table of an ablation in the paper's form, once as data, then as Markdown and CSV. Needs no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ..errors import DataError
from ..files import replacing
from ..report import format_milliseconds, format_value, short_number
from ..statistics import CONFIDENCE, MIN_PAIRS, images_needed
from ..store import CostRow
from .plan import Planned
from .results import Change, Findings, StepCost, duration, interval_text

LATENCY_SIZE = 128
"""Side of the low-resolution input that the benchmark states latency and memory for."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        detail: what stands below the text, such as an interval.
        changed: whether it is this that sets the column apart from the one it is compared with.
    """

    text: str
    detail: str = ""
    changed: bool = False


@dataclass(frozen=True)
class Line:
    """One row of the table: its label and a cell for each column."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """Rows under one heading; the first block, of what the columns are, has none."""

    title: str
    lines: tuple[Line, ...]


def build_table(findings: Findings) -> tuple[list[str], list[Block]]:
    """Return the columns' labels, and the blocks of the table: what they are, scores of each dataset, cost."""
    plan = findings.plan
    blocks = [Block("", tuple(_head_line(findings, row) for row in range(len(plan.rows))))]
    for dataset, images in findings.datasets.items():
        lines = tuple(_score_line(findings, dataset, metric) for metric in findings.directions)
        blocks.append(Block(f"{dataset}, {images} image{'s' if images != 1 else ''}", lines))
    blocks.append(Block("cost", tuple(_cost_lines(findings))))
    return [planned.label for planned in plan.columns], blocks


def _head_line(findings: Findings, row: int) -> Line:
    plan = findings.plan
    cells = []
    for planned in plan.columns:
        if planned.entry is None:
            cells.append(Cell("HR" if row == 0 else ""))
            continue
        other = plan.against(planned)
        cells.append(Cell(planned.cells[row], "", other is not None and other.cells[row] != planned.cells[row]))
    return Line(plan.rows[row], tuple(cells))


def _score_line(findings: Findings, dataset: str, metric: str) -> Line:
    cells = []
    for planned in findings.plan.columns:
        value = findings.values.get((planned.label, dataset, metric))
        if value is not None:
            lacks = findings.plan.seeds > 1 and value.seeds < findings.plan.seeds
            some = f"{value.seeds} of {findings.plan.seeds} seeds" if lacks else ""
            cells.append(Cell(format_value(value.mean), ", ".join(filter(None, [interval_text(value), some]))))
        else:
            cells.append(Cell("failed" if any(label == planned.label for label, _ in findings.failed) else "-"))
    return Line(f"{metric} {'↑' if findings.directions[metric] else '↓'}", tuple(cells))


def _cost_lines(findings: Findings) -> list[Line]:
    def line(label: str, texts: dict[str, str], spread: dict[str, str] | None = None) -> Line:
        labels = [planned.label for planned in findings.plan.columns]
        return Line(label, tuple(Cell(texts.get(label, "-"), (spread or {}).get(label, "")) for label in labels))

    def time(label: str, found: Mapping[str, CostRow] | Mapping[str, StepCost]) -> Line:
        show = format_milliseconds
        return line(
            label,
            {k: show(cost.milliseconds) for k, cost in found.items()},
            {k: f"{show(cost.quartile_low)} to {show(cost.quartile_high)}" for k, cost in found.items()},
        )

    costs, steps = findings.costs, findings.steps
    trained = {label: seconds for label, seconds in findings.seconds.items() if seconds}
    return [
        line("parameters", {k: short_number(c.parameters) for k, c in costs.items()}),
        time("latency, ms", costs),
        line("memory, MiB", {k: _mebibytes(c.peak_bytes) for k, c in costs.items()}),
        time("training step, ms", steps),
        line("training memory, MiB", {k: _mebibytes(s.peak_bytes) for k, s in steps.items()}),
        line("trained for", {k: duration(seconds) for k, seconds in trained.items()}),
    ]


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:,.0f}" if count >= 10 * 2**20 else f"{count / 2**20:.1f}"


# --- words ----------------------------------------------------------------------------------------------------------


def method_sentences(findings: Findings) -> list[str]:
    """Return what the numbers are: protocol, intervals, tests, cost."""
    plan, budget = findings.plan, findings.plan.budget
    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    runs = f"{plan.seeds} seeds" if plan.seeds > 1 else "one seed"
    if plan.seeds > 1:
        interval = f"Intervals: {percent}, Student's over the {plan.seeds} seeds' means"
    else:
        interval = f"Intervals: {percent}, bootstrap over images; one seed tells nothing about how runs differ"
    precisions = list(dict.fromkeys(step.precision for step in findings.steps.values() if step.precision))
    how = f", in {' and '.join(precisions)}" if precisions else ""
    trained_on = f", on {' and '.join(findings.trained_on)}" if findings.trained_on else ""
    how += "" if findings.device.startswith("CPU") else ", launched operation by operation"
    return [
        f"Budget {plan.budget_name}, {runs}: {budget.summary}",
        f"Scores of protocol {budget.protocol}, mean over images and seeds. {interval}.",
        "Changes: each column against the one it is compared with, image by image, each image's score averaged over "
        f"seeds: mean difference, its {percent} bootstrap interval, Wilcoxon's signed-rank test with Holm's adjustment "
        "for all changes of a dataset and metric. Better or worse is said where interval and test agree"
        + (", and the interval over seeds with them" if plan.seeds > 1 else "")
        + f"; below {fewest_images(findings.changes)} nothing is tested. {_tolerances(findings)}".rstrip(),
        f"Cost on {findings.device}. Latency and memory: a forward pass of one {LATENCY_SIZE}x{LATENCY_SIZE} input in "
        f"float32. Training step: forward and backward of the generator with the batch of its last stage{how}. Times "
        "are medians and quartiles of repeats in which the columns took turns. Trained for: all stages, those shared "
        f"with other columns included{trained_on}.",
        *_shown_seeds(findings),
        *budget.notes,
    ]


def _shown_seeds(findings: Findings) -> list[str]:
    """Return whose pictures, costs and times are shown, where there are several seeds."""
    if findings.plan.seeds == 1:
        return []
    others = [
        f"those of column {planned.label} of seed {seed}"
        for planned in findings.plan.trained
        for seed, run in enumerate(planned.runs)
        if seed > 0 and run is findings.shown.get(planned.label)
    ]
    return ["; ".join(["Pictures, cost and time are of the first seed, which is seed 0", *others]) + "."]


def fewest_images(found: Sequence[Change]) -> str:
    """Return in words how many images changes take to be tested, for one and for as many as there are."""
    changes = len({(change.first, change.second) for change in found})
    needed = images_needed(changes)
    one = f"{MIN_PAIRS} images"
    return one if needed == MIN_PAIRS else f"{one} for one change, or {needed} for {changes} of them,"


def _tolerances(findings: Findings) -> str:
    changes = {change.metric: change.tolerance for change in (*findings.changes, *findings.starts) if change.tolerance}
    if not changes:
        return ""
    each = ", ".join(f"{tolerance:g} in {metric}" for metric, tolerance in changes.items())
    return f"Differences of up to {each}, which another machine may make of the same weights, are negligible."


def change_sentences(findings: Findings) -> list[str]:
    """Return for each change what it did, in one sentence."""
    found = []
    for planned in findings.plan.trained:
        changes = [change for change in findings.changes if change.first == planned.label]
        if not changes:
            continue
        head = f"{planned.label} against {changes[0].second} ({changes[0].what})"
        parts = []
        for verdict, word in (("better", "better"), ("worse", "worse")):
            own = [c for c in changes if c.verdict == verdict]
            if own:
                parts.append(f"{word} in " + ", ".join(f"{c.metric} on {c.dataset} ({_evidence(c)})" for c in own))
        small = [c for c in changes if c.verdict == "negligible"]
        if small:
            some = ", ".join(f"{c.metric} on {c.dataset} ({_evidence(c)})" for c in small)
            parts.append(f"a difference too small to count in {some}")
        silent = [c for c in changes if c.verdict == "not shown"]
        if silent:
            parts.append("no difference shown in " + ", ".join(f"{c.metric} on {c.dataset}" for c in silent))
        if any(c.verdict == "too few seeds" for c in changes):
            parts.append("too few seeds that both have")
        untested = list(dict.fromkeys(c.dataset for c in changes if c.verdict == "not tested"))
        if untested:
            parts.append(f"not tested on {', '.join(untested)}, which has too few images")
        found.append(f"{head}: {'; '.join(parts)}.")
    return found


def _evidence(change: Change) -> str:
    """Return a difference with its interval over images and, where there are several seeds, that over seeds."""
    _, _, interval = change.arithmetic_over_seeds.partition(" ")  # the same mean stands before it
    return f"{change.arithmetic}, over seeds {interval}" if interval else change.arithmetic


def p_value(change: Change) -> str:
    """Return a change's adjusted p value, or why there is none."""
    return change.comparison.verdict


# --- files ------------------------------------------------------------------------------------------------------------


def write_tables(findings: Findings, folder: Path) -> None:
    """Write ``table.md``, ``table.csv`` and ``changes.csv``.

    Raises:
        DataError: they cannot be written.
    """
    texts = {
        "table.md": markdown(findings),
        "table.csv": table_csv(findings),
        "changes.csv": changes_csv(findings),
    }
    for name, text in texts.items():
        try:
            with replacing(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"Cannot write {folder / name}: {error}.") from error


def markdown(findings: Findings) -> str:
    """Return table, changes and method as Markdown; the changed cell of a column is bold."""
    plan = findings.plan
    labels, blocks = build_table(findings)
    paper = f" {plan.ablation.paper}." if plan.ablation.paper else ""
    text = [f"# {plan.ablation.title}", "", f"{plan.ablation.summary}.{paper} What a column changes is bold.", ""]
    text += [*_markdown_row(["", *labels]), "|---" + "|:-:" * len(labels) + "|"]
    for block in blocks:
        if block.title:
            text += _markdown_row([f"*{block.title}*", *[""] * len(labels)])
        for line in block.lines:
            cells = [f"**{c.text}**" if c.changed else c.text for c in line.cells]
            cells = [f"{cell}<br>{c.detail}" if c.detail else cell for cell, c in zip(cells, line.cells, strict=True)]
            text += _markdown_row([line.label, *cells])
    text += ["", "## Which change did what", ""]
    text += [f"- {sentence}" for sentence in change_sentences(findings)]
    if findings.starts:
        text += ["", "## Against the stage each column started from", ""]
        seeds = ["over seeds"] if plan.seeds > 1 else []
        header = ["column", "against", "dataset", "metric", "difference", *seeds, "p", ""]
        text += [*_markdown_row(header), "|---|---|---|---|--:|" + "--:|" * len(seeds) + "---|---|"]
        for c in findings.starts:
            cells = [
                c.first,
                c.second,
                c.dataset,
                c.metric,
                c.arithmetic,
                *[c.arithmetic_over_seeds or "-" for _ in seeds],
            ]
            text += _markdown_row([*cells, p_value(c), c.verdict])
    if findings.failed:
        text += ["", "## Failed", ""] + [f"- {run}: {reason}" for run, reason in findings.failures.items()]
    text += ["", "## Method", ""]
    text += [f"- {sentence}" for sentence in (*method_sentences(findings), *findings.notes)]
    return "\n".join(text) + "\n"


def _markdown_row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]


def table_csv(findings: Findings) -> str:
    """Return one line for each column, earlier stage, dataset and metric, with composition and cost beside it."""
    plan = findings.plan
    header = ["column", "entry", *plan.rows, "dataset", "metric", "protocol", "higher_is_better"]
    header += ["mean", "low", "high", "deviation", "seeds", "images"]
    header += ["parameters", "multiply_adds", "milliseconds", "quartile_low", "quartile_high", "peak_bytes"]
    header += ["step_milliseconds", "step_quartile_low", "step_quartile_high", "step_peak_bytes"]
    header += ["training_seconds"]
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    columns: dict[str, Planned] = {planned.label: planned for planned in plan.trained}
    for (label, dataset, metric), value in findings.values.items():
        planned, cost, step = columns.get(label), findings.costs.get(label), findings.steps.get(label)
        row: list[object] = [label, planned.column.entry if planned else ""]
        row += list(planned.cells) if planned else [""] * len(plan.rows)
        row += [dataset, metric, plan.budget.protocol, int(findings.directions[metric])]
        row += [_number(number) for number in (value.mean, value.low, value.high, value.deviation)]
        row += [value.seeds, value.images]
        row += [cost.parameters, cost.multiply_adds] if cost else [""] * 2
        row += _time_and_memory(cost) + _time_and_memory(step)
        row += [findings.seconds.get(label, "")]
        writer.writerow(row)
    return buffer.getvalue()


def changes_csv(findings: Findings) -> str:
    """Return one line for each comparison, of columns with each other and with the stage they started from."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = [
        "kind",
        "first",
        "second",
        "change",
        "dataset",
        "metric",
        "difference",
        "low",
        "high",
        "images",
        "p",
        "p_holm",
    ]
    writer.writerow([*header, "by_seed", "seeds_low", "seeds_high", "verdict"])
    for kind, changes in (("column", findings.changes), ("start", findings.starts)):
        for c in changes:
            found = c.comparison
            row: list[object] = [kind, c.first, c.second, c.what, c.dataset, c.metric]
            row += [_number(found.difference), _number(found.low), _number(found.high), found.images]
            row += ["" if found.p is None else repr(found.p), "" if found.p_holm is None else repr(found.p_holm)]
            row += [" ".join(map(repr, c.by_seed)), *map(_number, c.over_seeds or (math.nan, math.nan))]
            writer.writerow([*row, c.verdict])
    return buffer.getvalue()


def _time_and_memory(cost: CostRow | StepCost | None) -> list[object]:
    if cost is None:
        return [""] * 4
    return [cost.milliseconds, cost.quartile_low, cost.quartile_high, cost.peak_bytes]


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
