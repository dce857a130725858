"""``verify``: whether what a zoo entry claims can be relied on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from .completion import complete_entry, complete_metric
from .console import console, make_table, print_json, reports_errors
from .work import make_progress, split_names

if TYPE_CHECKING:
    from ..verification import Verification


@reports_errors
def verify_command(
    entries: Annotated[
        list[str],
        typer.Argument(
            help="Zoo entries with recorded scores.",
            metavar="ENTRY...",
            show_default=False,
            autocompletion=complete_entry,
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Of the recorded datasets, those to compute.  \\[default: all]", metavar="NAME"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Of the recorded metrics, those to compute.  \\[default: all]",
            metavar="NAME",
            autocompletion=complete_metric,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the recorded scores of an entry again, and say whether they hold.

    Its weights are checked by hash and composition first. Each metric has its own tolerance, for what differs between
    machines; 'srzoo show metric/psnr' tells it. The exit code is 1 if a score does not hold, or none could be computed.

    Example: [bold]srzoo verify srresnet-lite-x4 --data photos[/bold].
    """
    from ..verification import recorded_scores, verify

    names, sets, metrics = split_names(entries), split_names(data) or None, split_names(metric) or None
    for entry in names:  # all of them before the first image, so that a typo costs no time
        recorded_scores(entry, sets, metrics)

    tasks: dict[tuple[str, str], TaskID] = {}
    found: list[Verification] = []
    with make_progress() as progress:
        for entry in names:

            def show(dataset: str, done: int, total: int, entry: str = entry) -> None:
                if (entry, dataset) not in tasks:
                    tasks[entry, dataset] = progress.add_task(dataset, total=total, values=entry)
                progress.update(tasks[entry, dataset], completed=done)

            found.append(verify(entry, sets, metrics, show))
    if as_json:
        print_json([{**dataclasses.asdict(one), "holds": one.holds} for one in found])
    else:
        for one in found:
            _print_verification(one)
    if not all(one.holds for one in found):
        raise typer.Exit(1)


def _print_verification(found: Verification) -> None:
    columns = ["dataset", "metric", "recorded", "found", "difference", "tolerance", ""]
    title = f"{found.entry}, protocol {found.protocol}"
    table = make_table(columns, right=columns[2:6], title=title)
    for check in found.checks:
        words = {True: "[green]holds[/green]", False: "[red]does not hold[/red]", None: "[yellow]not checked[/yellow]"}
        value, difference = "-", "-"
        if check.found is not None:
            value, difference = f"{check.found:.4f}", f"{check.found - check.recorded:+.4f}"
        table.add_row(
            escape(check.dataset),
            escape(check.metric),
            f"{check.recorded:g}",
            value,
            difference,
            f"{check.tolerance:g}",
            words[check.holds],
        )
    console.print(table)
    for reason in dict.fromkeys(check.reason for check in found.unchecked):
        console.print(f"[yellow]not checked:[/yellow] {escape(reason)}", soft_wrap=True, highlight=False)
    checked = len(found.checks) - len(found.unchecked)
    weights = f"weights {found.digest[:16]} are those of the zoo" if found.digest else "there are no weights"
    told = f"{checked} of {len(found.checks)} recorded scores computed, {len(found.failed)} of which do not hold"
    console.print(f"{escape(found.entry)}: {weights}; {told}.", soft_wrap=True, highlight=False)
