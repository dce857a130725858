"""``train``: train an entry, or look at its first step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from ..errors import InputError, SrzooError, labelled
from ..zoo import get_zoo
from .completion import complete_entry
from .console import console, errors, make_table, print_table, reports_errors
from .progress import make_progress
from .values import split_names

if TYPE_CHECKING:
    from ..recipe import Validation
    from ..training import TrainResult


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
    if entry not in get_zoo() and ((Path(entry) / "entry.json").is_file() or Path(entry).is_file()):
        raise InputError(
            f"{entry} is no entry of the zoo. Repeat the command of a run to go on with it; to train further from its "
            f"weights, write the entry's name and training.start_from={entry}"
        )
    resolved = get_zoo().entry(entry, overrides or ())  # before torch is imported, so that a typo answers at once
    if resolved.training is None:
        raise InputError(f"entry {entry!r} has no training recipe; 'srzoo list' shows entries that have one.")
    if audit or replay is not None:
        _show_audit(entry, split_names(data) or None, steps, overrides or (), replay)
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
    peer = _peer(result.entry.scale)
    console.print(
        f"[dim]srzoo bench {escape(str(result.out))}{peer}{escape(_unseen(result.entry.training.data))} compares it; "
        f"its curves: {escape(str(result.out / 'training.png'))}[/dim]",
        soft_wrap=True,
        highlight=False,
    )
    if resolved.self_ensemble:
        console.print(
            f"[dim]What was trained is the generator alone; {escape(str(result.out))}+ is its self-ensemble.[/dim]",
            soft_wrap=True,
            highlight=False,
        )


def _peer(scale: int) -> str:
    """Return bicubic interpolation, to compare a run with, where it is an entry of that scale."""
    try:
        return " bicubic" if get_zoo().entry("bicubic").scale == scale else ""
    except SrzooError:  # a zoo file has another of that name, or it is left out
        return ""


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
    from ..registry import without_own_owner

    whole = {name.partition("[")[0] for name in without_own_owner(trained)}
    if not whole.intersection(DEFAULT_DATA):
        return ""
    for name in trained:
        beginning = re.fullmatch(r"(.+)\[:(\d+)\]", name)
        if beginning is not None and not {beginning[1], f"{beginning[1]}[{beginning[2]}:]"}.intersection(trained):
            return f' --data "{beginning[1]}[{beginning[2]}:]"'
    unseen = [name for name in dataset_names() if name not in whole]
    return f" --data {unseen[0] if unseen else 'FOLDER_OF_OTHER_IMAGES'}"


def _show_audit(
    entry: str,
    data: list[str] | None,
    steps: int | None,
    overrides: list[str] | tuple[str, ...],
    replay: Path | None,
) -> None:
    from ..audit import audit

    found = audit(entry, data=data, steps=steps, overrides=overrides, replay=replay)
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
