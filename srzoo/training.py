"""Training: one loop for every entry and stage.

Data are a pure function of seed and step, so a run that is resumed goes on with the very batches it would have
seen. Distribution and mixed precision come from Accelerate; optimizers, schedules and the moving average from timm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import nn

from .allocator import keep_freed_memory
from .compose import build_generator, build_terms, cautions
from .composition import has_adversarial_term
from .data import ImageSet, image_record, load_image_set, shared_images
from .distribution import deterministic, launched
from .entry import Entry
from .errors import InputError, RecipeWarning
from .inference import best_device, device_name
from .loop import Intervals, Progress, Run
from .optim import autocast_in, precision_for
from .patches import as_batch, patches_for
from .preflight import preflight
from .pretrained import load_start
from .recipe import Training
from .rehearsal import rehearse, try_optimizers
from .runs import RunFolder, Validator
from .sharding import can_shard_on_cpus
from .teaching import Teacher, teacher_of
from .trackers import Tracking
from .zoo import training_entry


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        weights: safetensors with the averaged generator of the last stage.
        scores: the last validation, ``dataset/metric`` to mean; empty without validation.
        unavailable: validation metric to the reason why it could not be computed.
        seconds: time spent training, over all resumed pieces.
        resumed_at: steps that the run had behind it already; ``steps`` if there was nothing left to do.
        earlier: the averaged generators that the stages before the last ended with.
        best: the best validation of the last stage, whose generator is ``checkpoints/best.safetensors``.
        best_step: the step of the last stage that it was at; 0 where it is not known.
    """

    entry: Entry
    out: Path
    weights: Path
    steps: int
    scores: dict[str, float]
    seconds: float
    unavailable: dict[str, str]
    resumed_at: int = 0
    earlier: tuple[Path, ...] = ()
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0


def train(
    entry: str | Entry,
    out: str | Path | None = None,
    *,
    data: str | Sequence[str] | None = None,
    steps: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    log_every: int = 50,
    checkpoint_every: int = 500,
    keep: int = 2,
    track: str | Sequence[str] = (),
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train an entry: every stage of its recipe in order, each from the weights of the one before.

    Run it again with the same arguments to go on with an interrupted run. Under ``accelerate launch`` or
    ``torchrun`` the batch is shared by all processes.

    Args:
        entry: name of a zoo entry, or an entry.
        out: the run's folder; ``runs/ENTRY`` by default.
        data: datasets or folders instead of the recipe's.
        steps: shorten every stage in proportion to this total.
        overrides: dotted keys, e.g. ``{"training.batch_size": 8}``, on top of the entry.
        log_every: steps between lines of ``log.jsonl``.
        checkpoint_every: steps between states to resume from.
        keep: how many of them are kept.
        track: trackers of Accelerate, such as ``tensorboard``, that scalars and images go to.
        progress: called as ``progress(stage, step, steps, values)`` at the start of a stage, without values and with
            the step it goes on from, and after every logged step; with the stage ``decoding`` while images are decoded.
        announce: called once, before the first step, with a sentence on what is trained on what.

    Raises:
        InputError: the entry, the settings of a stage, the data or the run folder do not fit, or another run is at
            work in that folder; nothing has been trained.
        InterruptedRunError: SIGTERM or Ctrl-C; the state is saved.
        TrainingError: the run cannot go on, for instance because a loss is not finite, or cannot start, because a
            term of one of its stages has no gradient.

    Warns:
        RecipeWarning: the recipe is known to train badly, or its validation to mislead; no gradient reaches some
            parameters; a run goes on in another precision, on other images, with another teacher or another number of
            processes.
    """
    _check_counts(log_every=log_every, checkpoint_every=checkpoint_every, keep=keep)
    entry = training_entry(entry, data, steps, overrides)
    recipe = entry.training
    assert recipe is not None
    preflight(entry)
    keep_freed_memory()
    on_cpu = best_device().type == "cpu"
    if recipe.fsdp and on_cpu and not can_shard_on_cpus():
        raise InputError(f"training.fsdp=true on CPUs needs a newer torch than {torch.__version__}.")
    path = Path(out) if out is not None else Path("runs") / entry.name
    sets = [load_image_set(name) for name in recipe.data]
    accelerator = launched(on_cpu, recipe)
    device = accelerator.device
    try_optimizers(entry, device)
    with deterministic(recipe.deterministic):
        set_seed(recipe.seed)  # before the terms, whose extractors may be random
        # The terms of every stage now: a backbone that is missing should not be noticed after a week of pre-training.
        terms = {name: build_terms(entry, name) for name in recipe.stages}
        for name, built in terms.items():
            for sentence in cautions(entry, name, built):
                warnings.warn(sentence, RecipeWarning, stacklevel=2)
        precision = precision_for(recipe.precision, device)
        find_teacher = partial(teacher_of, entry, device, lambda: autocast_in(precision, device))
        set_seed(recipe.seed)
        generator = build_generator(entry)
        folder = RunFolder(path, entry, accelerator.is_main_process, keep)
        teacher: Teacher | None = None
        started_from = ""
        if folder.newest_step() is None:
            teacher = find_teacher()
            if recipe.start_from is not None:  # else a state holds what it led to
                started_from = load_start(generator, recipe.start_from, entry)
        validator = Validator(recipe.validation, entry, device) if recipe.validation is not None else None
        _warn_of_shared_images(sets, validator)
        with accelerator.local_main_process_first():  # the others find its cache
            dataset = patches_for(recipe, sets, entry.scale, _decoding(progress))
        if folder.newest_step() is None:
            if validator is not None:
                validator.try_metrics()
            few = {key: images.to(device) for key, images in as_batch(dataset.__getitems__(range(2))).items()}
            rehearse(entry, terms, generator, teacher.added_to(few, 0) if teacher is not None else few, device)
        with folder.held():
            names = [track] if isinstance(track, str) else track
            saved = folder.read_state()
            done, total = _steps_done(recipe, saved), sum(stage.steps for stage in recipe.stages.values())
            if teacher is None and recipe.of_stages(_stages_ahead(recipe, saved)).teacher is not None:
                teacher = find_teacher()
            with Tracking(accelerator, names if done < total else (), folder.path, done) as tracking:
                every = Intervals(log_every, checkpoint_every)
                run = Run(entry, recipe, accelerator, folder, validator, every, tracking, progress)
                run.images, run.teacher = image_record(sets, entry.scale), teacher
                run.started_from = started_from if saved is None else saved.get("started_from", "")
                if announce is not None and accelerator.is_main_process and done < total:
                    announce(_plan(entry, generator, sets, validator, run))
                weights = run.all_stages(generator, terms, dataset, saved)
            accelerator.wait_for_everyone()  # a process that ends early would take the others' connections with it
    earlier = tuple(path for path in map(folder.stage_path, list(recipe.stages)[:-1]) if path.is_file())
    return TrainResult(
        entry,
        folder.path,
        weights,
        total,
        run.scores,
        run.seconds,
        validator.unavailable if validator else {},
        resumed_at=done,
        earlier=earlier,
        best=run.best,
        best_step=run.best_step,
    )


def _plan(entry: Entry, generator: nn.Module, sets: Sequence[ImageSet], validator: Validator | None, run: Run) -> str:
    """Return in a sentence what is trained, on which device and images, and for how long."""
    recipe, processes = run.recipe, run.accelerator.num_processes
    stages = []
    for name, stage in recipe.stages.items():
        against = f" against {entry.discriminator.name}" if entry.discriminator and has_adversarial_term(stage) else ""
        stages.append(f"{name} {stage.steps:,} steps{against}")
    crops = f"batches of {recipe.batch_size} crops of {recipe.patch_size} px"
    parts = [
        f"{entry.name}, {sum(weight.numel() for weight in generator.parameters()):,} parameters"
        + (f", from {recipe.start_from}" if recipe.start_from is not None else "")
        + (f", taught by {recipe.teacher}" if recipe.teacher is not None else ""),
        f"in {run.precision} on {device_name(run.accelerator.device)}" + f", {processes} processes" * (processes > 1),
        f"{crops} from {_images(sets)}",
        f"validated on {_images(validator.sets)} every {validator.every:,} steps" if validator else "not validated",
        " and then ".join(stages),
    ]
    return "; ".join(parts)


def _images(sets: Sequence[ImageSet]) -> str:
    count = sum(len(image_set) for image_set in sets)
    return f"{count} image{'s' * (count != 1)} of {', '.join(image_set.name for image_set in sets)}"


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise InputError(f"{name}={count!r}: give a whole number of at least 1.")


def _steps_done(recipe: Training, saved: Mapping[str, Any] | None) -> int:
    """Return how many steps of all stages a run has behind it that goes on from a state."""
    if saved is None:
        return 0
    earlier = list(recipe.stages)[: list(recipe.stages).index(saved["stage"])]
    return sum(recipe.stages[name].steps for name in earlier) + int(saved["step"])


def _stages_ahead(recipe: Training, saved: Mapping[str, Any] | None) -> list[str]:
    """Return the stages that a run still has to train, in whole or in part."""
    names = list(recipe.stages)
    if saved is not None:
        ended = saved["step"] == recipe.stages[saved["stage"]].steps
        names = names[names.index(saved["stage"]) + ended :]
    return names


def _warn_of_shared_images(sets: Sequence[ImageSet], validator: Validator | None) -> None:
    shared = shared_images(sets, validator.sets) if validator is not None else []
    if shared:
        warnings.warn(
            f"{len(shared)} of the validation images are also trained on ({shared[0]}, ...); their scores will flatter "
            "the model. Set training.validation.data to others.",
            RecipeWarning,
            stacklevel=3,
        )


def _decoding(progress: Progress | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, images: progress("decoding", done, images, {})
