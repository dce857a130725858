"""``verify``, ``export``, ``push`` and ``pull``: what others can rely on, and what they are given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from .completion import complete_entry, complete_metric
from .console import console, make_table, print_json, print_table, reports_errors
from .progress import make_progress
from .values import split_names

if TYPE_CHECKING:
    from ..verification import Verification

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A zoo entry, checkpoint file or run folder.",
        metavar="ENTRY",
        show_default=False,
        autocompletion=complete_entry,
    ),
]
LicenceOption = Annotated[
    str, typer.Option("--licence", help="Of the weights, where the zoo does not say.", metavar="NAME")
]


@reports_errors
def verify_command(
    entries: Annotated[
        list[str],
        typer.Argument(
            help="Zoo entries with recorded scores, or folders that srzoo pull made.",
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
            value, difference = f"{check.found:.4f}", f"{round(check.found - check.recorded, 4) + 0.0:+.4f}"  # no -0
        table.add_row(
            escape(check.dataset),
            escape(check.metric),
            f"{check.recorded:g}",
            value,
            difference,
            f"{check.tolerance:g}",
            words[check.holds],
        )
    print_table(table)
    for reason in dict.fromkeys(check.reason for check in found.unchecked):
        console.print(f"[yellow]not checked:[/yellow] {escape(reason)}", soft_wrap=True, highlight=False)
    checked = len(found.checks) - len(found.unchecked)
    weights = f"weights {found.digest[:16]} are those of the zoo" if found.digest else "there are no weights"
    told = f"{checked} of {len(found.checks)} recorded scores computed, "
    told += f"{len(found.failed)} of which do not hold" if found.failed or not checked else "which hold"
    console.print(f"{escape(found.entry)}: {weights}; {told}.", soft_wrap=True, highlight=False)


@reports_errors
def export_command(
    model: ModelArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="safetensors, pth, onnx, torchscript, or several.  \\[default: safetensors]",
            metavar="NAME",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to.  \\[default: exports/ENTRY]", metavar="DIR")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="Whose names tensors get: srzoo, or one of 'srzoo list layout'.  \\[default: srzoo in safetensors, "
            "another program's in pth]",
            metavar="NAME",
        ),
    ] = "",
    licence: LicenceOption = "",
) -> None:
    """Write a generator with its weights for other programs, and a model card beside it: all of it or nothing.

    safetensors is for srzoo; pth for chaiNNer, ComfyUI and BasicSR, where a layout of theirs can stand for the
    composition; onnx for any runtime, with images of any size; torchscript for torch without srzoo. The last two are
    run and compared before they are kept.

    'srzoo list layout' shows the layouts; where one does not fit, the message names those that do. Files of an earlier
    export are replaced, a README.md or zoo.yaml of something else is not.

    Examples: [bold]srzoo export rrdb-lite-x4 --format onnx[/bold],
    [bold]srzoo export runs/esrgan-x4 --format pth,safetensors[/bold],
    [bold]srzoo export edsr-lite-x4 --format pth --layout mmagic-edsr --out for-mmagic[/bold].
    """
    from ..exporting import export

    names = split_names(formats) or ["safetensors"]
    with console.status(f"writing {', '.join(names)} ..."):
        found = export(model, out, names, layout=layout or None, licence=licence)
    for name, path in found.files.items():
        told = f", tensors as in {found.layouts[name]}" if name in found.layouts else ""
        if name in found.errors:
            told = f", differs from the generator by at most {found.errors[name]:.1e}"
        console.print(f"wrote {escape(str(path))}{told}", soft_wrap=True, highlight=False)
    console.print(f"wrote {escape(str(found.card))}, the model card", soft_wrap=True, highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True, highlight=False)


@reports_errors
def push_command(
    model: ModelArgument,
    target: Annotated[
        str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub, or ./FOLDER.", metavar="TO", show_default=False)
    ],
    licence: LicenceOption = "",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Send a model to the Hugging Face Hub: weights, zoo file and model card.

    'hf auth login' logs in. A path in place of the repository writes the same files into a folder.

    Examples: [bold]srzoo push runs/mine me/my-model --licence mit[/bold],
    [bold]srzoo push rrdb-lite-x4 ./shared[/bold].
    """
    from ..hub import push

    with console.status(f"sending {escape(model)} ..."):
        address = push(model, target, licence=licence, private=private)
    console.print(f"sent to {escape(address)}", soft_wrap=True, highlight=False)
    console.print(f"[dim]srzoo pull {escape(target)} gets it.[/dim]", soft_wrap=True, highlight=False)


@reports_errors
def pull_command(
    source: Annotated[
        str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub, or ./FOLDER.", metavar="FROM", show_default=False)
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write to.  \\[default: models/NAME]", metavar="DIR")
    ] = None,
    revision: Annotated[str, typer.Option("--revision", help="Branch, tag or commit on the Hub.", metavar="NAME")] = "",
) -> None:
    """Get a model that srzoo push sent; its weights are kept only if their hash is right.

    Nothing else is fetched, and nothing in it is executed. The folder stands for the
    model wherever one is benchmarked, used, exported or verified.

    Example: [bold]srzoo pull me/my-model[/bold], then [bold]srzoo verify models/my-model[/bold].
    """
    from ..hub import pull

    with console.status(f"getting {escape(source)} ..."):
        found = pull(source, to, revision=revision or None)
    word = "was there" if found.was_there else "got"
    told = f"{found.folder}: {found.entry.name}, x{found.entry.scale}, {found.entry.summary}"
    console.print(f"{word}: {escape(told)}", soft_wrap=True, highlight=False)
    next_ = "verify" if found.entry.recorded is not None and found.entry.recorded.scores else "bench"
    console.print(f"[dim]srzoo {next_} {escape(str(found.folder))}[/dim]", soft_wrap=True, highlight=False)
