"""``interpolate``: what lies between two models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from ..errors import labelled
from .completion import complete_entry, complete_metric
from .console import console, errors, make_table, print_table, reports_errors
from .progress import make_progress
from .values import checked_protocol, split_names


@reports_errors
def interpolate_command(
    first: Annotated[
        str,
        typer.Argument(
            help="The model at 0, usually PSNR-oriented: entry, checkpoint or run folder.",
            show_default=False,
            autocompletion=complete_entry,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            help="The model at 1, of the same architecture.", show_default=False, autocompletion=complete_entry
        ),
    ],
    alpha: Annotated[
        str, typer.Option("--alpha", help="Weights of the second: first:last:step, or a list.", metavar="RANGE")
    ] = "0:1:0.2",
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Datasets or folders.  \\[default: photos]", metavar="NAME|FOLDER"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Metrics; the first two span the curve.  \\[default: psnr,lpips_squeeze,ssim]",
            metavar="NAME",
            autocompletion=complete_metric,
        ),
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="y, y-matlab or rgb.")] = "y",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for results.csv, table.md, tradeoff.png and strip.png.", metavar="DIR")
    ] = Path("interpolation"),
    save_weights: Annotated[
        bool, typer.Option("--save-weights", help="Write every interpolated generator as well.")
    ] = False,
) -> None:
    """Interpolate between two models, in their weights and in their images, and draw the trade-off.

    Example: [bold]srzoo interpolate rrdb-lite-x4 esrgan-lite-x4 --data photos --metric psnr,ssim[/bold].
    """
    from ..interpolation import KINDS, interpolate, parse_alphas
    from ..report import format_value

    alphas = parse_alphas(alpha)
    chosen = checked_protocol(protocol)
    tasks: dict[str, TaskID] = {}
    with make_progress() as progress:

        def show(dataset: str, done: int, total: int) -> None:
            if dataset not in tasks:
                tasks[dataset] = progress.add_task(dataset, total=total, values="")
            progress.update(tasks[dataset], completed=done)

        result = interpolate(
            first,
            second,
            alphas,
            split_names(data) or None,
            split_names(metric) or None,
            protocol=chosen,
            out=out,
            save_weights=save_weights,
            progress=show,
        )
    for dataset in dict.fromkeys(dataset for _, _, dataset in result.means):
        header = ["alpha", *(f"{kind} {name}" for name in result.directions for kind in KINDS)]
        shown = make_table(header, right=header[1:], title=f"{dataset}, protocol {protocol}: {first} to {second}")
        for value in result.alphas:
            cells = [
                format_value(result.means[kind, value, dataset][name]) for name in result.directions for kind in KINDS
            ]
            shown.add_row(f"{value:g}", *cells)
        print_table(shown)
    pictures = ", ".join(str(out / name) for name in ("tradeoff.png", "strip.png") if (out / name).is_file())
    note = "" if len(result.directions) > 1 else "; tradeoff.png needs two metrics, such as --metric psnr,lpips_squeeze"
    console.print(f"[dim]Pictures: {pictures}{note}[/dim]", soft_wrap=True)
    for name, reason in result.unavailable.items():
        errors.print(f"[yellow]{escape(labelled(name, reason))}[/yellow]", highlight=False, soft_wrap=True)
