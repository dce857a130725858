"""``ablate``: a table of entries that differ by one line each."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from ..errors import SrzooError
from .completion import complete_ablation
from .console import console, errors, make_table, print_error, print_table, reports_errors
from .progress import make_progress

if TYPE_CHECKING:
    from ..ablation.plan import Plan
    from ..ablation.results import Findings
    from ..ablation.table import Block, Cell

QUIET_SECONDS = 30
"""Between lines of progress where there is no terminal; what comes to its end is told at once."""


@reports_errors
def ablate_command(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="An ablation by name, or the file of one of your own; without it, those that are known are listed.",
            show_default=False,
            autocompletion=complete_ablation,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="What to spend: smoke, cpu, gpu, paper, or what the recipe has.  \\[default: smoke, or the only one]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", help="Runs of every column.  \\[default: the budget's]", min=1, show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of runs and results.  \\[default: ablations/RECIPE-BUDGET]", metavar="DIR"),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            help="Folder of the training runs, to share it between ablations.  \\[default: DIR/runs]",
            metavar="DIR",
        ),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            help="Dataset of the recipe's figure to draw, such as one whose images may be published; repeatable.  "
            "\\[default: all]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show columns and runs, and train nothing.")] = False,
) -> None:
    """Train, benchmark and compare entries that differ by one line each, as a paper's ablation table does.

    Stages that columns share are trained once. Run it again to go on where it was stopped; started several times on
    one folder, or by accelerate launch or torchrun, the processes share the columns.

    Examples: [bold]srzoo ablate esrgan[/bold], [bold]srzoo ablate esrgan --budget cpu --out ablation[/bold].
    """
    from ..ablation.plan import make_plan
    from ..ablation.recipe import read_recipe

    if recipe is None:
        _list_ablations()
        return
    source = read_recipe(recipe)
    if budget is None:
        budget = next(iter(source.ablation.budgets)) if len(source.ablation.budgets) == 1 else "smoke"
    plan = make_plan(source, budget, seeds)  # before torch is imported, so that a typo answers at once
    if plan_only:
        _show_plan(plan, plan.folders(out, runs)[1])
        return
    if int(os.environ.get("RANK", "0")) > 0:  # one of several processes speaks for all
        console.quiet = errors.quiet = True
    console.print(f"[bold]{escape(plan.ablation.title)}[/bold], budget {budget}: {escape(plan.budget.summary)}")
    for note in plan.budget.notes:
        console.print(f"[dim]{escape(note)}[/dim]", soft_wrap=True)
    from ..ablation.work import ablate

    tasks: dict[str, TaskID] = {}
    told = [time.monotonic()]
    with make_progress() as progress:

        def show(kind: str, name: str, done: int, total: int, values: Mapping[str, float]) -> None:
            key = f"{kind} {name}"
            if key not in tasks:
                for other, task in tasks.items():
                    if other.startswith(kind):
                        progress.stop_task(task)
                        progress.update(task, visible=False)
                tasks[key] = progress.add_task(name or kind, total=total, completed=done, values="")
            text = "  ".join(f"{label} {value:.4g}" for label, value in values.items())
            progress.update(tasks[key], completed=done, total=total, values=text)
            if not errors.is_terminal and (done == total or time.monotonic() - told[-1] > QUIET_SECONDS):
                told.append(time.monotonic())
                errors.print(f"{kind} {name} {done}/{total}  {text}".rstrip(), highlight=False, soft_wrap=True)

        result = ablate(
            recipe,
            budget,
            out,
            seeds=seeds,
            runs=runs,
            figure=figure,
            progress=show,
            announce=lambda sentence: progress.console.print(sentence, highlight=False, soft_wrap=True),
        )
    if result.findings is None:
        return
    _print_findings(result.findings)
    trained = f"{len(result.trained)} run{'s' if len(result.trained) != 1 else ''}"
    fresh = f"{trained} trained and {result.computed} score{'s' if result.computed != 1 else ''} computed now"
    drawn = [name for name in ("changes.png", "figure.png") if (result.out / name).is_file()]
    console.print(
        f"[dim]{fresh}. To look at: {result.out / 'ablation.html'}; also "
        f"{', '.join(['table.md', 'table.csv', 'changes.csv', *drawn])} and bench/report.html there.[/dim]",
        soft_wrap=True,
        highlight=False,
    )
    if plan.ablation.figure and not figure and "figure.png" not in drawn:
        wanted = ", ".join(dict.fromkeys(exhibit.dataset for exhibit in plan.ablation.figure))
        console.print(
            f"[dim]No figure: its images are of {wanted}; the benchmark was on {', '.join(plan.budget.data)}.[/dim]",
            soft_wrap=True,
            highlight=False,
        )
    for label, reason in result.findings.failures.items():
        print_error(f"column {label}: {reason}")
    if result.findings.failed:
        raise typer.Exit(1)


def _list_ablations() -> None:
    from ..ablation.recipe import read_recipe, recipe_files

    shown = make_table(["ablation", "columns", "budgets", "summary"], right=["columns"])
    broken: list[SrzooError] = []
    for name in recipe_files():
        try:
            ablation = read_recipe(name).ablation
        except SrzooError as error:  # of one plugin; those of the others are listed
            broken.append(error)
            continue
        summary = ablation.summary + (f" ({ablation.paper})" if ablation.paper else "")
        shown.add_row(f"[bold]{name}[/bold]", str(len(ablation.columns)), ", ".join(ablation.budgets), escape(summary))
    print_table(shown)
    console.print(
        "[dim]srzoo ablate NAME --budget BUDGET trains one; with --plan it shows what would be trained.[/dim]",
        soft_wrap=True,
    )
    for problem in broken:
        print_error(str(problem))
    if broken:
        raise typer.Exit(2)


def _show_plan(plan: Plan, folder: Path) -> None:
    """Print columns and runs, and how far the runs in a folder are."""
    from ..ablation.plan import lineage
    from ..ablation.results import what_changed

    columns = make_table(["column", "entry", "change"], title=plan.ablation.title)
    for planned in plan.columns:
        name = planned.column.entry or "the high-resolution image"
        columns.add_row(f"[bold]{escape(planned.label)}[/bold]", name, escape(what_changed(plan, planned)))
    print_table(columns)
    title = "What is trained, each once" + (f", in {folder}" if folder.is_dir() else "")
    runs = make_table(["run", "steps", "done", "columns"], right=["steps", "done"], title=title)
    for run in plan.runs():
        users = [p.label for p in plan.trained if any(run in lineage(own) for own in p.runs)]
        done = "all" if run.weights_in(folder).is_file() else f"{run.steps_done_in(folder):,}"
        runs.add_row(run.name, f"{run.steps:,}", done, ", ".join(users))
    print_table(runs)


def _print_findings(findings: Findings) -> None:
    from ..ablation.table import build_table, change_sentences, method_sentences

    labels, blocks = build_table(findings)
    if console.width < 20 + 9 * len(labels):
        _print_lying(findings.plan.ablation.title, labels, blocks)
    else:
        _print_standing(findings.plan.ablation.title, labels, blocks)
    for sentence in change_sentences(findings):
        console.print(f"• {sentence}", highlight=False, markup=False)
    console.print()
    for sentence in (*method_sentences(findings), *findings.notes):
        console.print(f"[dim]{escape(sentence)}[/dim]", highlight=False)


def _print_standing(title: str, labels: Sequence[str], blocks: Sequence[Block]) -> None:
    """Print the table as the paper has it, with intervals where the terminal is wide enough."""
    roomy = console.width >= 24 + 18 * len(labels)
    shown = make_table([], title=title)
    shown.add_column("", overflow="fold", min_width=12)
    for label in labels:
        shown.add_column(escape(label), justify="center", overflow="fold")
    for block in blocks:
        if block.title:
            shown.add_row()
            shown.add_row(f"[dim]{escape(block.title)}[/dim]")
        for line in block.lines:
            shown.add_row(escape(line.label), *(_cell(cell, roomy) for cell in line.cells))
    print_table(shown)
    if not roomy:
        console.print("[dim]Intervals: in table.md, on the page, and here where the terminal is wider.[/dim]")


def _print_lying(title: str, labels: Sequence[str], blocks: Sequence[Block]) -> None:
    """Print what the columns are, then each block, with a line for each column: they are too many to stand."""
    for block in blocks:
        names = [line.label for line in block.lines]
        shown = make_table(["", *names], title=f"{title}: {block.title}" if block.title else title)
        for number, label in enumerate(labels):
            shown.add_row(f"[bold]{escape(label)}[/bold]", *(_cell(line.cells[number], True) for line in block.lines))
        print_table(shown)


def _cell(cell: Cell, roomy: bool) -> str:
    text = f"[bold red]{escape(cell.text)}[/bold red]" if cell.changed else escape(cell.text)
    return f"{text}\n[dim]{escape(cell.detail)}[/dim]" if cell.detail and roomy else text
