"""``train``, ``bench`` and ``upscale``: the commands that compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import InputError, SrzooError
from ..zoo import get_zoo
from .completion import complete_entry, complete_metric
from .console import console, errors, make_table, print_error, reports_errors


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
        console=errors,
    )


@reports_errors
def train_command(
    entry: Annotated[
        str,
        typer.Argument(
            help="A zoo entry with a recipe; 'srzoo list' shows them.",
            show_default=False,
            autocompletion=complete_entry,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the entry, e.g. training.batch_size=8 generator.block=rrdb.", metavar="[KEY=VALUE]..."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.  [default: runs/ENTRY]", metavar="DIR")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", help="Datasets or folders instead of the recipe's; commas or repeats.", metavar="NAME|FOLDER"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Shorten every stage in proportion to this total.", min=1)
    ] = None,
) -> None:
    """Train an entry: every stage of its recipe, checkpointed; run it again to go on where it stopped.

    Examples: [bold]srzoo train srresnet-lite-x4 --data photos --steps 200[/bold],
    [bold]srzoo train srgan-lite-x4 --data photos training.stages.gan.losses.perceptual=null[/bold].
    """
    resolved = get_zoo().entry(entry, overrides or ())  # before torch is imported, so that a typo answers at once
    if resolved.training is None:
        raise InputError(f"entry {entry!r} has no training recipe; 'srzoo list' shows entries that have one.")
    from ..training import train

    tasks: dict[str, TaskID] = {}
    with _progress() as progress:

        def show(stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, values="")
            text = "  ".join(f"{label} {value:.4g}" for label, value in values.items())
            progress.update(tasks[stage], completed=step, total=total, values=text)
            if not errors.is_terminal:
                errors.print(f"{stage} {step}/{total}  {text}", highlight=False, soft_wrap=True)

        result = train(
            entry,
            out,
            data=_split(data) or None,
            steps=steps,
            overrides=overrides or (),
            progress=show,
            log_every=10 if steps and steps < 500 else 50,
        )
    console.print(
        f"[green]trained[/green] {entry} for {result.steps} steps in {result.seconds:.0f} s: {result.weights}",
        soft_wrap=True,
    )
    for name, value in result.scores.items():
        console.print(f"  {name} {value:.4f}")
    for name, reason in result.unavailable.items():
        errors.print(f"[yellow]{name}:[/yellow] {escape(reason)}", highlight=False, soft_wrap=True)
    console.print(f"[dim]srzoo bench {result.out} bicubic compares it.[/dim]")


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
    from ..protocol import PROTOCOLS
    from ..report import table

    chosen = next((p for p in PROTOCOLS if p == protocol), None)
    if chosen is None:
        raise InputError(f"There is no protocol {protocol!r}; use {', '.join(PROTOCOLS)}.")
    if entries and not _split(entries):
        raise InputError("The entry is an empty name; leave it out to benchmark all that are ready.")
    tasks: dict[str, TaskID] = {}
    with _progress() as progress:

        def show(entry: str, dataset: str, done: int, total: int) -> None:
            label = f"{entry} on {dataset}"
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total, values="")
            progress.update(tasks[label], completed=done)

        result = bench(
            _split(entries) or None,
            _split(data) or DEFAULT_DATA,
            _split(metric) or DEFAULT_METRICS,
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


@reports_errors
def upscale_command(
    image: Annotated[Path, typer.Argument(help="An image, or a folder of images.", show_default=False)],
    entry: Annotated[
        str, typer.Option("--entry", help="A zoo entry, checkpoint file or run folder.", autocompletion=complete_entry)
    ],
    out: Annotated[Path, typer.Option("--out", help="The image to write; for a folder, a folder.", metavar="PATH")],
) -> None:
    """Upscale a picture, or every picture in a folder.

    Example: [bold]srzoo upscale photo.png --entry rrdb-lite-x4 --out photo-x4.png[/bold].
    """
    from ..images import SUFFIXES, read_picture, write_picture
    from ..pretrained import load_model
    from ..upscaling import upscale_picture

    if image.is_dir():
        files = sorted(p for p in image.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{image} holds no images ({', '.join(SUFFIXES)}).")
        targets = [out / f"{file.stem}.png" for file in files]
        if len(set(targets)) < len(targets):
            raise InputError(f"{image} holds two images of one name; their outputs would overwrite each other.")
    else:
        files = [image]
        targets = [out / f"{image.stem}.png" if out.is_dir() else out]
    if not image.exists():
        raise InputError(f"There is no image or folder {image}.")
    for target in targets:
        if target.resolve() in {file.resolve() for file in files}:
            raise InputError(f"{target} would overwrite its own input; give another --out.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {target.parent}: {error}.") from None
    model = load_model(entry)
    failed = 0
    with _progress() as progress:
        task = progress.add_task("upscaling", total=len(files), values="")
        for file, target in zip(files, targets, strict=True):
            try:
                picture = read_picture(file)
                if picture.sixteen_bit:
                    errors.print(f"[yellow]{file}: 16 bits a channel were rounded to 8.[/yellow]", soft_wrap=True)
                write_picture(upscale_picture(model, picture), target)
            except SrzooError as error:
                print_error(str(error))
                failed += 1
            progress.update(task, advance=1, values=target.name)
    if failed:
        raise typer.Exit(2)
    console.print(f"wrote {targets[0] if len(targets) == 1 else f'{len(targets)} images to {out}'}", soft_wrap=True)


def _split(values: list[str] | None) -> list[str]:
    """Split comma-separated values of an option that may also repeat."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
