"""``train``, ``interpolate`` and ``upscale``: the commands that compute."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from ..errors import InputError, SrzooError, labelled
from ..zoo import get_zoo
from .completion import complete_entry, complete_metric
from .console import console, errors, make_table, print_error, print_table, reports_errors

if TYPE_CHECKING:
    from ..pretrained import Model
    from ..protocol import Protocol
    from ..recipe import Validation
    from ..training import TrainResult
    from ..upscaling import Settings


class _Speed(ProgressColumn):
    """Units a second, over the last minute or so."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")


def make_progress() -> Progress:
    """Return the progress bars of all long work."""

    def whole() -> Column:
        return Column(no_wrap=True)

    values = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # gives way where the terminal is narrow
    return Progress(
        TextColumn("{task.description}", table_column=whole()),
        BarColumn(bar_width=12, table_column=whole()),
        MofNCompleteColumn(table_column=whole()),
        TimeElapsedColumn(table_column=whole()),
        TimeRemainingColumn(table_column=whole()),
        _Speed(table_column=whole()),
        TextColumn("{task.fields[values]}", table_column=values),
        console=errors,
        expand=True,
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
        Path | None, typer.Option("--out", help="Folder of the run.  \\[default: runs/ENTRY]", metavar="DIR")
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
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="Also log to tensorboard, wandb, ...; commas or repeats.", metavar="TRACKER"),
    ] = None,
    log_every: Annotated[
        int | None, typer.Option("--log-every", help="Steps between lines of log.jsonl.  \\[default: 50]", min=1)
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", help="Steps between states to resume from.", min=1)
    ] = 500,
    keep: Annotated[int, typer.Option("--keep", help="How many of those states are kept.", min=1)] = 2,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Train nothing: show every loss term's value and gradient on every network."),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", help="Audit the step that a run failed at: its failure.pt.", metavar="FILE"),
    ] = None,
) -> None:
    """Train an entry: every stage of its recipe, checkpointed; run it again to go on where it stopped.

    Ctrl-C and SIGTERM save the state and stop.

    Examples: [bold]srzoo train srresnet-lite-x4 --data photos --steps 200[/bold],
    [bold]srzoo train srgan-lite-x4 --data photos training.stages.gan.losses.perceptual=null[/bold].
    """
    if entry not in get_zoo().names() and ((Path(entry) / "entry.json").is_file() or Path(entry).is_file()):
        raise InputError(
            f"{entry} is no entry of the zoo. Repeat the command of a run to go on with it; to train further from its "
            f"weights, write the entry's name and training.start_from={entry}"
        )
    resolved = get_zoo().entry(entry, overrides or ())  # before torch is imported, so that a typo answers at once
    if resolved.training is None:
        raise InputError(f"entry {entry!r} has no training recipe; 'srzoo list' shows entries that have one.")
    if audit or replay is not None:
        _show_audit(entry, split_names(data) or None, overrides or (), replay)
        return
    if int(os.environ.get("RANK", "0")) > 0:  # one of several processes speaks for all
        console.quiet = errors.quiet = True
    _find_images(split_names(data) or resolved.training.data, resolved.training.validation)
    with errors.status("loading torch ..."):
        from ..training import train

    tasks: dict[str, TaskID] = {}
    scores: dict[str, str] = {}
    with make_progress() as progress:

        def show(stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    progress.stop_task(earlier)
                tasks[stage] = progress.add_task(stage, total=total, completed=step, values="")
                if step and not values and stage != "decoding":
                    progress.console.print(f"going on from step {step} of {total} of stage {stage}", highlight=False)
                if not values:
                    return
            if values and all("/" in label for label in values):  # dataset/metric: a validation, shown until the next
                scores[stage] = "  ".join(f"[bold]{label} {value:.4g}[/bold]" for label, value in values.items())
                values = {}
            losses = "  ".join(f"{label} {value:.4g}" for label, value in values.items())
            text = "  ".join(part for part in (scores.get(stage, ""), losses) if part)
            progress.update(tasks[stage], completed=step, total=total, values=text)
            if not errors.is_terminal and stage != "decoding":
                errors.print(f"{stage} {step}/{total}  {losses or text}", highlight=False, soft_wrap=True)

        result = train(
            entry,
            out,
            data=split_names(data) or None,
            steps=steps,
            overrides=overrides or (),
            track=split_names(track),
            progress=show,
            announce=lambda plan: progress.console.print(escape(plan), highlight=False, soft_wrap=True),
            log_every=log_every or (10 if steps and steps < 500 else 50),
            checkpoint_every=checkpoint_every,
            keep=keep,
        )
    if result.resumed_at == result.steps:
        console.print(
            f"{escape(str(result.out))} holds a finished run of {result.steps} steps; there was nothing left to do. "
            f"For more, train from its weights: --out ANOTHER training.start_from={escape(str(result.weights))}",
            soft_wrap=True,
            highlight=False,
        )
    else:
        console.print(
            f"[green]trained[/green] {entry} for {result.steps} steps in {result.seconds:.0f} s: {result.weights}",
            soft_wrap=True,
        )
    for path in result.earlier:
        console.print(
            f"  before its last stage: {escape(str(path))}\n"
            f"[dim]srzoo interpolate {escape(str(path))} {escape(str(result.out))} goes from one to the other.[/dim]",
            soft_wrap=True,
            highlight=False,
        )
    for name, value in result.scores.items():
        console.print(f"  {name} {value:.4f}")
    if text := _better_before(result):
        errors.print(f"[yellow]{escape(text)}[/yellow]", highlight=False, soft_wrap=True)
    for name, reason in result.unavailable.items():
        errors.print(f"[yellow]{escape(labelled(name, reason))}[/yellow]", highlight=False, soft_wrap=True)
    assert result.entry.training is not None
    console.print(
        f"[dim]srzoo bench {escape(str(result.out))} bicubic{escape(_unseen(result.entry.training.data))} compares it; "
        f"its curves: {escape(str(result.out / 'training.png'))}[/dim]",
        soft_wrap=True,
        highlight=False,
    )


def _better_before(result: TrainResult) -> str:
    """Say where a run's last stage validated better than at its end; empty if nowhere."""
    from ..registry import get_registry
    from ..specs import LossSpec

    assert result.entry.training is not None
    stage = list(result.entry.training.stages.values())[-1]
    if not result.best_step or result.best_step == stage.steps:
        return ""
    metric, best = next(iter(result.best.items()))
    weights = result.out / "checkpoints" / "best.safetensors"
    text = f"It validated best after {result.best_step} of {stage.steps} steps, {metric} {best:.4f}: {weights}."
    specs = [get_registry().get("loss", term.name).spec for term in stage.losses.values()]
    if all(isinstance(spec, LossSpec) and spec.role == "pixel" for spec in specs):
        text += (
            " Where scores fall while the loss does too, a network learns its images by heart: train for fewer steps, "
            "on more images, or a smaller network."
        )
    return text


def _find_images(trained: Sequence[str], validation: Validation | None) -> None:
    """Refuse a dataset that is not there before torch is loaded."""
    from ..data import load_image_set

    for name in (*trained, *(validation.data if validation is not None else ())):
        load_image_set(name)


def _unseen(trained: Sequence[str]) -> str:
    """Return the option by which a benchmark gets images that a run was not trained on; empty if it does unasked."""
    from ..benchmark import DEFAULT_DATA
    from ..data import dataset_names

    whole = {name.partition("[")[0] for name in trained}
    if not whole.intersection(DEFAULT_DATA):
        return ""
    for name in trained:
        beginning = re.fullmatch(r"(.+)\[:(\d+)\]", name)
        if beginning is not None and not {beginning[1], f"{beginning[1]}[{beginning[2]}:]"}.intersection(trained):
            return f' --data "{beginning[1]}[{beginning[2]}:]"'
    unseen = [name for name in dataset_names() if name not in whole]
    return f" --data {unseen[0] if unseen else 'FOLDER_OF_OTHER_IMAGES'}"


def _show_audit(
    entry: str, data: list[str] | None, overrides: list[str] | tuple[str, ...], replay: Path | None
) -> None:
    from ..audit import audit

    found = audit(entry, data=data, overrides=overrides, replay=replay)
    columns = ["term", "value", "share", "output", "generator", "discriminator"]
    for stage in dict.fromkeys(row.stage for row in found.rows):
        shown = make_table(
            [*columns, ""],
            right=columns[1:],
            title=f"{entry}, stage {stage}: the {'failed' if replay else 'first'} batch",
        )
        for row in found.rows:
            if row.stage == stage:
                share = f"{row.share:.1%}" if row.share is not None else "-"
                norms = [f"{x:.3g}" if x is not None else "-" for x in (row.output, row.generator, row.discriminator)]
                shown.add_row(
                    f"[bold]{escape(row.term)}[/bold]", f"{row.value:.4g}", share, *norms, f"[red]{row.problem}[/red]"
                )
        print_table(shown)
    console.print(
        "[dim]output, generator, discriminator: norms of each weighted term's gradient on the generator's output and "
        "on all parameters of a network; share: its part in what pulls at the output.[/dim]",
        soft_wrap=True,
    )
    for where, names in found.unreached.items():
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        errors.print(f"[yellow]{where}:[/yellow] no gradient reaches {escape(some)}", soft_wrap=True)
    if found.replayed and not found.reproduced:
        errors.print(
            f"[yellow]not reproduced:[/yellow] in {escape(found.replayed)}, no term is broken by itself. What broke "
            "was their sum, or depends on what is not replayed: another device, other processes, parts of a batch.",
            soft_wrap=True,
            highlight=False,
        )
    if not found.ok:
        raise typer.Exit(1)


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
        Path, typer.Option("--out", help="Folder for results.csv, tradeoff.png and strip.png.", metavar="DIR")
    ] = Path("interpolation"),
    save_weights: Annotated[
        bool, typer.Option("--save-weights", help="Write every interpolated generator as well.")
    ] = False,
) -> None:
    """Interpolate between two models, in their weights and in their images, and draw the trade-off.

    Example: [bold]srzoo interpolate rrdb-lite-x4 esrgan-lite-x4 --data photos --metric psnr,ssim[/bold].
    """
    from ..interpolation import DEFAULT_METRICS, KINDS, interpolate, parse_alphas
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
            split_names(data) or ("photos",),
            split_names(metric) or DEFAULT_METRICS,
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


@reports_errors
def upscale_command(
    image: Annotated[Path, typer.Argument(help="An image, or a folder of images.", show_default=False)],
    entry: Annotated[
        str, typer.Option("--entry", help="A zoo entry, checkpoint file or run folder.", autocompletion=complete_entry)
    ],
    out: Annotated[Path, typer.Option("--out", help="The image to write; for a folder, a folder.", metavar="PATH")],
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side of the tiles in pixels of the input; 0 for none.  \\[default: tiles for large images]",
            min=0,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Overlap of the tiles.  \\[default: how far the generator sees]", min=0),
    ] = None,
    tile_batch: Annotated[int, typer.Option("--tile-batch", help="Tiles computed at once.", min=1)] = 1,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over the eight flips and quarter turns; eight times slower.")
    ] = False,
) -> None:
    """Upscale a picture, or every picture in a folder.

    Grey, 16-bit and transparent pictures stay what they are; EXIF and colour profile stay. Large pictures are
    computed in tiles.

    Example: [bold]srzoo upscale photo.png --entry rrdb-lite-x4 --out photo-x4.png[/bold].
    """
    from ..images import SUFFIXES
    from ..pretrained import load_model
    from ..upscaling import Settings

    settings = Settings(tile, overlap, self_ensemble, tile_batch)
    if image.is_dir():
        files = sorted(p for p in image.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{image} holds no images ({', '.join(SUFFIXES)}).")
        if out.suffix.lower() in SUFFIXES and not out.is_dir():
            raise InputError(f"{image} is a folder, so --out must be a folder, not {out}.")
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
    with make_progress() as progress:
        task = progress.add_task("upscaling", total=len(files), values="")
        for file, target in zip(files, targets, strict=True):
            try:
                _upscale_file(model, file, target, settings, progress)
            except SrzooError as error:
                print_error(str(error))
                failed += 1
                progress.update(task, advance=1, values=f"{failed} failed")
            else:
                progress.update(task, advance=1, values=target.name)
    if failed:
        raise typer.Exit(2)
    console.print(f"wrote {targets[0] if len(targets) == 1 else f'{len(targets)} images to {out}'}", soft_wrap=True)


def _upscale_file(model: Model, file: Path, target: Path, settings: Settings, progress: Progress) -> None:
    from ..images import check_writable, read_picture, write_picture
    from ..upscaling import upscale_picture

    picture = read_picture(file, keep_depth=True)
    height, width = (side * model.entry.scale for side in picture.rgb.shape[:2])
    check_writable(target, width, height, picture.alpha is not None)
    tasks: list[TaskID] = []

    def show(done: int, total: int) -> None:
        if total > 1 and not tasks:
            tasks.append(progress.add_task("tiles", total=total, values=file.name))
        if tasks:
            progress.update(tasks[0], completed=done, total=total)

    try:
        write_picture(upscale_picture(model, picture, settings, show), target)
    finally:
        for task in tasks:
            progress.remove_task(task)


def checked_protocol(name: str) -> Protocol:
    """Return a protocol by name, or say which there are."""
    from ..protocol import PROTOCOLS

    for protocol in PROTOCOLS:
        if protocol == name:
            return protocol
    raise InputError(f"There is no protocol {name!r}; use {', '.join(PROTOCOLS)}.")


def split_names(values: list[str] | None) -> list[str]:
    """Split comma-separated values of an option that may also repeat."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
