"""``bench`` and ``leaderboard``: computing scores, and ranking what was computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from ..errors import InputError
from .completion import complete_entry, complete_metric
from .console import console, errors, make_table, print_error, reports_errors
from .work import checked_protocol, make_progress, split_names

if TYPE_CHECKING:
    from ..report import Standing


@reports_errors
def bench_command(
    entries: Annotated[
        list[str] | None,
        typer.Argument(
            help="Entries, checkpoint files or run folders; all that are ready by default.",
            metavar="[ENTRY]...",
            autocompletion=complete_entry,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Datasets or folders (HR images, or HR/ and LR_x4/).  [default: photos]",
            metavar="NAME|FOLDER",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Metrics.  [default: psnr,ssim,lpips_alex,lpips_squeeze]",
            metavar="NAME",
            autocompletion=complete_metric,
        ),
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="y, y-matlab or rgb.")] = "y",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for results.csv and leaderboard.md.", metavar="DIR")
    ] = Path("bench"),
) -> None:
    """Benchmark models against each other and print a leaderboard.

    Without arguments it needs nothing downloaded: the photographs come with scikit-image.

    Examples: [bold]srzoo bench[/bold], [bold]srzoo bench bicubic runs/mine --data set5,set14 --metric psnr,ssim[/bold].
    """
    from ..benchmark import DEFAULT_DATA, DEFAULT_METRICS, LATENCY_SIZE, bench
    from ..report import table

    chosen = checked_protocol(protocol)
    if entries and not split_names(entries):
        raise InputError("The entry is an empty name; leave it out to benchmark all that are ready.")
    tasks: dict[str, TaskID] = {}
    with make_progress() as progress:

        def show(entry: str, dataset: str, done: int, total: int) -> None:
            label = f"{entry} on {dataset}"
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total, values="")
            progress.update(tasks[label], completed=done)

        result = bench(
            split_names(entries) or None,
            split_names(data) or DEFAULT_DATA,
            split_names(metric) or DEFAULT_METRICS,
            protocol=chosen,
            out=out,
            progress=show,
        )
    directions = result.directions
    for dataset in dict.fromkeys(standing.dataset for standing in result.standings):
        own = [standing for standing in result.standings if standing.dataset == dataset]
        header, cells = table(own, directions)
        shown = make_table(header, right=header[1:], title=f"{dataset}: {own[0].images} images, protocol {protocol}")
        for row in cells:
            shown.add_row(f"[bold]{escape(row[0])}[/bold]", *row[1:])
        console.print(shown)
    console.print(
        f"[dim]ms: median for one {LATENCY_SIZE}x{LATENCY_SIZE} input. Rows: {out / 'results.csv'}[/dim]",
        soft_wrap=True,
    )
    for name, reason in result.unavailable.items():
        errors.print(f"[yellow]{name}:[/yellow] {escape(reason)}", highlight=False, soft_wrap=True)
    for name, reason in result.failed.items():
        print_error(f"{name}: {reason}")
    if result.failed:
        raise typer.Exit(1)


