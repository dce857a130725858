"""Training: one loop for every entry and stage.

Data are a pure function of seed and step, so a run that is resumed goes on with the very batches it would have
seen. Distribution and mixed precision come from Accelerate; optimizers, schedules and the moving average from timm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader

from . import __version__
from .allocator import keep_freed_memory
from .compose import (
    Term,
    build_discriminator,
    build_generator,
    build_terms,
    has_adversarial_term,
    preflight,
)
from .composition import full_composition, plugin_versions
from .data import PatchDataset, StepSampler, load_image_set
from .errors import InputError, TrainingError
from .inference import best_device
from .optim import clip_weights_, make_optimizer, make_schedule, precision_for
from .pretrained import load_start
from .recipe import Entry, Stage, Training
from .runs import RunFolder, Validator
from .tasks import GanTask, Losses, PixelTask, Task, gradient_shares
from .zoo import get_zoo


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        weights: safetensors with the averaged generator of the last stage.
        scores: the last validation, ``dataset/metric`` to mean; empty without validation.
        unavailable: validation metric to the reason why it could not be computed.
        seconds: time spent training, over all resumed pieces.
    """

    entry: Entry
    out: Path
    weights: Path
    steps: int
    scores: dict[str, float]
    seconds: float
    unavailable: dict[str, str]


def train(
    entry: str | Entry,
    out: str | Path | None = None,
    *,
    data: str | Sequence[str] | None = None,
    steps: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    log_every: int = 50,
    checkpoint_every: int = 500,
    progress: Callable[[str, int, int, Mapping[str, float]], None] | None = None,
) -> TrainResult:
    """Train an entry: every stage of its recipe in order, each from the weights of the one before.

    Run it again with the same arguments to go on with an interrupted run.

    Args:
        entry: name of a zoo entry, or an entry.
        out: the run's folder; ``runs/ENTRY`` by default.
        data: datasets or folders instead of the recipe's.
        steps: shorten every stage in proportion to this total.
        overrides: dotted keys, e.g. ``{"training.batch_size": 8}``, on top of the entry.
        log_every: steps between lines of ``log.jsonl``.
        checkpoint_every: steps between checkpoints.
        progress: called as ``progress(stage, step, steps, values)`` after every logged step.

    Raises:
        InputError: the entry, the data or the run folder do not fit; nothing has been trained.
        TrainingError: the run cannot go on, for instance because a loss is not finite.
    """
    entry = resolve_for_training(entry, data, steps, overrides)
    recipe = entry.training
    assert recipe is not None
    preflight(entry)
    keep_freed_memory()
    precision = precision_for(recipe.precision, best_device())
    # Accelerate scales fp16's gradients. bf16 needs no more than autocast, which the loop enters itself, so that
    # a penalty can leave it.
    # Broadcasting buffers would change the discriminator's between its two passes of one step, under DDP.
    accelerator = Accelerator(
        mixed_precision="fp16" if precision == "fp16" else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if recipe.batch_size % accelerator.num_processes:
        raise InputError(
            f"training.batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes."
        )
    # The terms of every stage now: a backbone that is missing should not be noticed after a week of pre-training.
    terms = {name: build_terms(entry, name) for name in recipe.stages}
    set_seed(recipe.seed)
    generator = build_generator(entry)
    if recipe.start_from is not None:
        load_start(generator, recipe.start_from, entry)
    dataset = PatchDataset(
        [load_image_set(name) for name in recipe.data],
        entry.scale,
        recipe.patch_size,
        augment=recipe.augment,
        seed=recipe.seed,
    )
    validator = Validator(recipe.validation, entry, accelerator.device) if recipe.validation is not None else None
    folder = RunFolder(Path(out) if out is not None else Path("runs") / entry.name, entry, accelerator.is_main_process)
    run = _Run(entry, recipe, accelerator, folder, validator, precision, log_every, checkpoint_every, progress)
    for name in recipe.stages:
        generator = run.stage(name, generator, terms[name], dataset)
    weights = folder.save_weights(generator, run.description())
    return TrainResult(
        entry,
        folder.path,
        weights,
        run.total_steps,
        run.scores,
        run.seconds,
        validator.unavailable if validator else {},
    )


def resolve_for_training(
    entry: str | Entry,
    data: str | Sequence[str] | None,
    steps: int | None,
    overrides: Mapping[str, Any] | Sequence[str],
) -> Entry:
    """Return the entry with all that the call changes about it.

    Raises:
        InputError: no such entry, no recipe, or a change that is not valid.
    """
    if isinstance(entry, str):
        entry = get_zoo().entry(entry, overrides)
    elif overrides:
        raise InputError("overrides apply to an entry given by name; change the Entry itself instead.")
    if entry.training is None:
        raise InputError(f"entry {entry.name!r} has no training recipe; 'srzoo list' shows entries that have one.")
    recipe = entry.training
    if data is not None:
        names = [data] if isinstance(data, str) else list(data)
        recipe = recipe.model_copy(update={"data": tuple(names)})
    if steps is not None:
        try:
            recipe = recipe.shortened(steps)
        except ValueError as error:
            raise InputError(f"{error}.") from None
    return entry.model_copy(update={"training": recipe})


@dataclass
class _Parts:
    """What one stage trains and trains with. ``generator`` is the bare module, the task has it as prepared."""

    task: Task
    generator: nn.Module
    generator_optimizer: Any
    schedules: list[Scheduler]
    ema: ModelEmaV3 | None
    discriminator: nn.Module | None = None
    discriminator_optimizer: Any = None

    @property
    def averaged(self) -> nn.Module:
        """The generator that is validated, saved and handed to the next stage."""
        return self.ema.module if self.ema is not None else self.generator  # type: ignore[no-any-return]

    def stateful(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds the state of, by name."""
        names = ("generator", "generator_optimizer", "ema", "discriminator", "discriminator_optimizer")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class _Run:
    """The state that outlives a stage: where to log, what was scored, how long it took."""

    def __init__(
        self,
        entry: Entry,
        recipe: Training,
        accelerator: Accelerator,
        folder: RunFolder,
        validator: Validator | None,
        precision: str,
        log_every: int,
        checkpoint_every: int,
        progress: Callable[[str, int, int, Mapping[str, float]], None] | None,
    ) -> None:
        self.entry, self.recipe, self.accelerator, self.folder = entry, recipe, accelerator, folder
        self.validator, self.progress = validator, progress
        self.log_every, self.checkpoint_every = log_every, checkpoint_every
        self.scores: dict[str, float] = {}
        self.seconds = 0.0
        self.precision = precision
        self.total_steps = sum(stage.steps for stage in recipe.stages.values())

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context that networks run in."""
        if self.precision == "bf16":
            return torch.autocast(self.accelerator.device.type, torch.bfloat16)
        return self.accelerator.autocast()  # type: ignore[no-any-return]

    def description(self) -> dict[str, Any]:
        """Return what a weight file says about itself."""
        return {
            "entry": self.entry.name,
            "composition": full_composition(self.entry),
            "training": self.recipe.model_dump(mode="json"),
            "training_digest": self.recipe.digest(),
            "srzoo": __version__,
            "plugins": plugin_versions(),
            "torch": torch.__version__,
        }

    def stage(self, name: str, generator: nn.Module, terms: Sequence[Term], dataset: PatchDataset) -> nn.Module:
        """Train one stage and return the (averaged) generator it ends with."""
        stage, accelerator, order = self.recipe.stages[name], self.accelerator, list(self.recipe.stages)
        saved = self.folder.read_state()
        if saved is not None and order.index(saved["stage"]) > order.index(name):
            return generator  # a later stage is under way; its state holds the weights
        set_seed(self.recipe.seed + order.index(name))  # so that a stage does not depend on what came before it
        parts = self._build(stage, generator, terms)
        start = self._restore(saved, parts) if saved is not None and saved["stage"] == name else 0
        task, ema, discriminator = parts.task, parts.ema, parts.discriminator
        batches = DataLoader(
            dataset,
            batch_sampler=StepSampler(
                start, stage.steps, self.recipe.batch_size, accelerator.process_index, accelerator.num_processes
            ),
            generator=torch.Generator(),  # else starting the loader would draw from the global generator
        )
        clock = time.perf_counter()
        for step, batch in enumerate(batches, start + 1):
            last = step == stage.steps
            save_now = step % self.checkpoint_every == 0 or last
            log_now = step % self.log_every == 0 or save_now  # what is saved has been seen to be finite
            batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}

            with self.autocast():
                losses = task.generator_losses(batch)
            shares = gradient_shares(losses, task.sr) if log_now else {}
            self._update(parts.generator_optimizer, losses)

            if discriminator is not None:
                with self.autocast():
                    discriminator_losses = task.discriminator_losses(batch, step - 1)
                self._update(parts.discriminator_optimizer, discriminator_losses)
                if stage.clip_discriminator is not None:
                    clip_weights_(discriminator, stage.clip_discriminator)
                losses = {**losses, **discriminator_losses}

            if ema is not None:
                ema.update(parts.generator, step=step)
            for schedule in parts.schedules:
                schedule.step_update(step)

            if log_now:
                self.seconds, clock = self.seconds + time.perf_counter() - clock, time.perf_counter()
                self._log(name, step, stage, losses, shares, parts.generator_optimizer.param_groups[0]["lr"])
            if self.validator is not None and (step % self.validator.every == 0 or last):
                self._validate(name, step, stage, parts.averaged)
                clock = time.perf_counter()
            if save_now:
                self._save(name, step, parts)
        return parts.averaged

    def _build(self, stage: Stage, generator: nn.Module, terms: Sequence[Term]) -> _Parts:
        accelerator = self.accelerator
        generator = generator.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for term in terms:
            if isinstance(term.loss, nn.Module):
                term.loss.to(accelerator.device)
        ema = ModelEmaV3(generator, decay=stage.ema, use_warmup=True) if stage.ema else None
        optimizer = make_optimizer(generator, stage.optimizer)
        schedules = [make_schedule(optimizer, stage.schedule, stage.steps)]
        wrapped, optimizer = accelerator.prepare(generator, optimizer)
        if not has_adversarial_term(stage):
            return _Parts(PixelTask(wrapped, terms), generator, optimizer, schedules, ema)
        discriminator = build_discriminator(self.entry).to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        discriminator_optimizer = make_optimizer(discriminator, stage.discriminator_optimizer or stage.optimizer)
        schedules.append(make_schedule(discriminator_optimizer, stage.schedule, stage.steps))
        discriminator, discriminator_optimizer = accelerator.prepare(discriminator, discriminator_optimizer)
        task = GanTask(wrapped, discriminator, terms)
        return _Parts(task, generator, optimizer, schedules, ema, discriminator, discriminator_optimizer)

    def _update(self, optimizer: Any, losses: Losses) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()

    def _validate(self, name: str, step: int, stage: Stage, generator: nn.Module) -> None:
        assert self.validator is not None
        self.scores = self.validator(generator)
        self.folder.log({"stage": name, "step": step, "validation": self.scores})
        if self.progress is not None:
            self.progress(name, step, stage.steps, self.scores)

    def _log(self, name: str, step: int, stage: Stage, losses: Losses, shares: dict[str, float], lr: float) -> None:
        values = {label: float(loss.detach()) for label, loss in losses.items()}
        broken = [label for label, value in values.items() if not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"stage {name!r}, step {step}: {', '.join(broken)} is not finite. The last checkpoint in "
                f"{self.folder.path} is from before; lower the learning rate or the weight of that term."
            )
        record = {"stage": name, "step": step, "lr": lr, "seconds": round(self.seconds, 2)}
        self.folder.log({**record, "losses": values, "shares": shares})
        if self.progress is not None:
            self.progress(name, step, stage.steps, values)

    def _save(self, name: str, step: int, parts: _Parts) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in parts.generator.state_dict().values()):
            raise TrainingError(
                f"stage {name!r}, step {step}: the generator's weights are not finite. The last checkpoint in "
                f"{self.folder.path} is from before; lower the learning rate."
            )
        state: dict[str, Any] = {"stage": name, "step": step, "seconds": self.seconds, "scores": self.scores}
        state |= {key: part.state_dict() for key, part in parts.stateful().items()}
        state["rng"] = torch.get_rng_state()
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            self.folder.write_state(state)

    def _restore(self, saved: Mapping[str, Any], parts: _Parts) -> int:
        for key, part in parts.stateful().items():
            part.load_state_dict(saved[key])
        if self.accelerator.scaler is not None and "scaler" in saved:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"])
        self.seconds, self.scores = saved["seconds"], saved["scores"]
        return int(saved["step"])
