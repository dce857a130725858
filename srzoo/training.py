"""Training: one loop for every entry and stage.

Data are a pure function of seed and step, so a run that is resumed goes on with the very batches it would have
seen. Distribution and mixed precision come from Accelerate; optimizers, schedules and the moving average from timm.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    gather_object,
    set_seed,
)
from torch import nn
from torch.utils.data import DataLoader

from . import __version__
from .allocator import keep_freed_memory
from .compose import (
    Term,
    build_generator,
    build_terms,
    cautions,
    preflight,
)
from .composition import full_composition, plugin_versions
from .curves import draw_curves
from .data import ImageSet, load_image_set, shared_images
from .distribution import average_buffers_, gathered
from .errors import InputError, InterruptedRunError, RecipeWarning, TrainingError
from .guard import FiniteGuard, check_pulls
from .inference import best_device
from .optim import clip_weights_, precision_for
from .patches import PatchDataset, StepSampler, whole_batch
from .pretrained import load_start
from .process import SignalWatch, ignore_signals, random_state, restore_random_state
from .recipe import Entry, Stage, Training
from .runs import RunFolder, Validator
from .sharding import can_shard_on_cpus
from .stages import Parts, build_parts
from .tasks import Engine, Losses, Outcome, shares_of
from .trackers import Tracking
from .zoo import training_entry

Progress = Callable[[str, int, int, Mapping[str, float]], None]

PULL = "gradient on the output"
"""What the sum of the generator's gradients is called where it is not finite."""

DISTRIBUTION = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
"""Ways of being launched that the loop knows how to share a batch in."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        weights: safetensors with the averaged generator of the last stage.
        scores: the last validation, ``dataset/metric`` to mean; empty without validation.
        unavailable: validation metric to the reason why it could not be computed.
        seconds: time spent training, over all resumed pieces.
        resumed_at: steps that the run had behind it already; ``steps`` if there was nothing left to do.
    """

    entry: Entry
    out: Path
    weights: Path
    steps: int
    scores: dict[str, float]
    seconds: float
    unavailable: dict[str, str]
    resumed_at: int = 0


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

    Raises:
        InputError: the entry, the data or the run folder do not fit; nothing has been trained.
        InterruptedRunError: SIGTERM or Ctrl-C; the state is saved.
        TrainingError: the run cannot go on, for instance because a loss is not finite.

    Warns:
        RecipeWarning: the recipe is known to train badly, or its validation to mislead.
    """
    entry = training_entry(entry, data, steps, overrides)
    recipe = entry.training
    assert recipe is not None
    preflight(entry)
    keep_freed_memory()
    if recipe.fsdp and best_device().type == "cpu" and not can_shard_on_cpus():
        raise InputError(f"training.fsdp=true on CPUs needs a newer torch than {torch.__version__}.")
    path = Path(out) if out is not None else Path("runs") / entry.name
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    # Mixed precision is the loop's own: a penalty has to leave it, and two optimizers share one gradient scaler.
    # Broadcasting buffers would change a discriminator's between its two passes of one step, under DDP.
    accelerator = Accelerator(
        cpu=best_device().type == "cpu",  # else it would not join several processes on a CPU
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(hours=6)),  # one decodes all images while the others wait
        ],
    )
    if accelerator.distributed_type not in DISTRIBUTION:
        raise InputError(
            f"launched as {accelerator.distributed_type.value}; srzoo shards by training.fsdp=true. Launch with "
            "torchrun, or accelerate launch --multi_gpu."
        )
    if recipe.batch_size % (accelerator.num_processes * recipe.accumulate):
        raise InputError(
            f"training.batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes "
            f"in {recipe.accumulate} parts each."
        )
    torch.use_deterministic_algorithms(recipe.deterministic)
    set_seed(recipe.seed)  # before the terms, whose extractors may be random
    # The terms of every stage now: a backbone that is missing should not be noticed after a week of pre-training.
    terms = {name: build_terms(entry, name) for name in recipe.stages}
    for name, built in terms.items():
        for sentence in cautions(entry, name, built):
            warnings.warn(sentence, RecipeWarning, stacklevel=2)
    set_seed(recipe.seed)
    generator = build_generator(entry)
    if recipe.start_from is not None:
        load_start(generator, recipe.start_from, entry)
    sets = [load_image_set(name) for name in recipe.data]
    validator = Validator(recipe.validation, entry, accelerator.device) if recipe.validation is not None else None
    _warn_of_shared_images(sets, validator)
    folder = RunFolder(path, entry, accelerator.is_main_process, keep)
    with accelerator.local_main_process_first():  # the others find its cache
        dataset = PatchDataset(
            sets,
            entry.scale,
            recipe.patch_size,
            augment=recipe.augment,
            multiscale=recipe.multiscale,
            seed=recipe.seed,
            progress=_decoding(progress),
        )
    folder.prepare()
    names = [track] if isinstance(track, str) else track
    done, total = _steps_done(recipe, folder), sum(stage.steps for stage in recipe.stages.values())
    tracking = Tracking(accelerator, names if done < total else (), folder.path, done)
    run = _Run(entry, recipe, accelerator, folder, validator, log_every, checkpoint_every, tracking, progress)
    try:
        with SignalWatch() as signals:
            for name in recipe.stages:
                generator = run.stage(name, generator, terms[name], dataset, signals)
    finally:  # a run that stopped or failed is when curves are looked at
        if folder.writes:
            draw_curves(folder.records(), folder.path / "training.png", title=entry.name)
    weights = folder.save_weights(generator, run.description())
    folder.forget_failures()
    tracking.close()
    accelerator.wait_for_everyone()  # a process that ends early would take the others' connections with it
    return TrainResult(
        entry,
        folder.path,
        weights,
        total,
        run.scores,
        run.seconds,
        validator.unavailable if validator else {},
        resumed_at=done,
    )


def _steps_done(recipe: Training, folder: RunFolder) -> int:
    """Return how many steps of all stages a run has behind it."""
    newest = folder.newest_step()
    if newest is None:
        return 0
    earlier = list(recipe.stages)[: list(recipe.stages).index(newest[0])]
    return sum(recipe.stages[name].steps for name in earlier) + newest[1]


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


class _Run:
    """The state that outlives a stage: where to log, what was scored, how long it took."""

    def __init__(
        self,
        entry: Entry,
        recipe: Training,
        accelerator: Accelerator,
        folder: RunFolder,
        validator: Validator | None,
        log_every: int,
        checkpoint_every: int,
        tracking: Tracking,
        progress: Progress | None,
    ) -> None:
        self.entry, self.recipe, self.accelerator, self.folder = entry, recipe, accelerator, folder
        self.validator, self.tracking, self.progress = validator, tracking, progress
        self.log_every, self.checkpoint_every = log_every, checkpoint_every
        self.scores: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.seconds, self.clock, self.asked = 0.0, 0.0, 0
        self.order = list(recipe.stages)
        self.precision = precision_for(recipe.precision, accelerator.device)
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=self.precision == "fp16")
        self.engine = Engine(
            autocast=self.autocast,
            scale=self.scaler.scale,
            backward=lambda loss, **options: self.scaler.scale(loss).backward(**options),
            unwrap=accelerator.unwrap_model,
            gather=gathered if accelerator.num_processes > 1 else lambda logits: logits,
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context that networks run in."""
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return nullcontext() if kind is None else torch.autocast(self.accelerator.device.type, kind)

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

    def stage(
        self,
        name: str,
        generator: nn.Module,
        terms: Sequence[Term],
        dataset: PatchDataset,
        signals: SignalWatch,
    ) -> nn.Module:
        """Train one stage and return the (averaged) generator it ends with."""
        stage, recipe, accelerator = self.recipe.stages[name], self.recipe, self.accelerator
        saved = self.folder.read_state()
        if saved is not None and self.order.index(saved["stage"]) > self.order.index(name):
            return generator  # a later stage is under way; its state holds the weights
        set_seed(recipe.seed + self.order.index(name))  # so that a stage does not depend on what came before it
        parts = build_parts(self.entry, stage, generator, terms, accelerator, self.engine)
        # From here on, processes draw numbers of their own.
        set_seed(recipe.seed + self.order.index(name), device_specific=True)
        start = self._restore(saved, parts) if saved is not None and saved["stage"] == name else 0
        self.folder.rewind_log(saved["stage"] if saved is not None else None, saved["step"] if saved is not None else 0)
        on_gpu = accelerator.device.type == "cuda"
        batches = DataLoader(
            dataset,
            batch_sampler=StepSampler(
                start, stage.steps, recipe.batch_size, accelerator.process_index, accelerator.num_processes
            ),
            collate_fn=whole_batch,  # type: ignore[arg-type]
            num_workers=4 if on_gpu else 0,  # on a CPU, cutting crops out of the cache is no work
            worker_init_fn=ignore_signals,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # else starting the loader would draw from the global generator
        )
        guard = FiniteGuard(accelerator.device)
        # The terms' gradients are looked at once, at the first step that trains the generator.
        unchecked = not any(stage.trains_generator(step) for step in range(start))
        if start == 0:
            self.best = {}  # scores of another stage are no measure for this one
        if self.progress is not None and start < stage.steps:
            self.progress(name, start, stage.steps, {})
        self.clock = time.perf_counter()
        for step, crops in enumerate(batches, start + 1):
            last = step == stage.steps
            save_now = step % self.checkpoint_every == 0 or last
            log_now = step % self.log_every == 0 or save_now  # what is saved has been seen to be finite
            train_generator = stage.trains_generator(step - 1)
            batch = {
                key: images.to(accelerator.device, non_blocking=True).float().div_(255.0)
                for key, images in crops.items()
            }

            outcome = self._gradients(parts, batch, step - 1, train_generator, measure=log_now or unchecked)
            watched = outcome.losses if self.scaler.is_enabled() else {**outcome.losses, PULL: outcome.pull}
            broken = guard.note(step, watched)
            if log_now:
                broken |= guard.check()
            stop, failed = self._agree(bool(signals.received), bool(broken), log_now)
            if failed:
                self._fail(name, step, broken, batch, parts)
            if unchecked and outcome.norms:
                check_pulls(name, outcome.norms, scaled=self.scaler.is_enabled())
                unchecked = False
            self._update(parts.optimizers(train_generator), stage.clip_gradient)
            if parts.discriminator is not None and stage.clip_discriminator is not None:
                clip_weights_(parts.discriminator, stage.clip_discriminator)
            if parts.ema is not None and train_generator:
                parts.ema.update(parts.generator, step=step)
            for schedule in parts.schedules:
                schedule.step_update(step)

            if log_now:
                self._count_time()
                self._log(name, step, stage, outcome, parts)
            if self.validator is not None and (step % self.validator.every == 0 or last):
                self._count_time()
                self._validate(name, step, stage, parts.averaged())
                self.clock = time.perf_counter()  # validation is not training
            if save_now or stop:
                self._save(name, step, parts)
            if stop:
                raise InterruptedRunError(
                    f"stopped by {signals.received or 'a signal'} after step {step} of {stage.steps} of stage "
                    f"{name!r}. The state is saved in {self.folder.path}; the same command goes on from there."
                )
        accelerator.free_memory()
        return parts.averaged()

    def _gradients(
        self, parts: Parts, batch: dict[str, torch.Tensor], step: int, train_generator: bool, measure: bool
    ) -> Outcome:
        """Leave the gradients of a batch, computed in parts, in the networks."""
        for optimizer, _ in parts.optimizers(with_generator=True):
            optimizer.zero_grad(set_to_none=True)
        pieces = self.recipe.accumulate
        parted = {key: images.chunk(pieces) for key, images in batch.items()}
        chunks = [{key: images[number] for key, images in parted.items()} for number in range(pieces)]
        losses: Losses = {}
        for number, chunk in enumerate(chunks, 1):
            with ExitStack() as stack:
                if number < pieces:  # processes exchange gradients once a step
                    for network in parts.task.networks():
                        stack.enter_context(self.accelerator.no_sync(network))
                outcome = parts.task.run(
                    chunk, step, share=1 / pieces, train_generator=train_generator, measure=measure
                )
            for label, loss in outcome.losses.items():
                losses[label] = losses[label] + loss / pieces if label in losses else loss / pieces
        outcome.losses = losses
        return outcome

    def _update(self, optimizers: Sequence[tuple[Any, nn.Module]], clip: float | None) -> None:
        for optimizer, network in optimizers:
            self.scaler.unscale_(optimizer)
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
        for optimizer, _ in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _agree(self, stop: bool, failed: bool, now: bool) -> tuple[bool, bool]:
        """Return whether any process is asked to stop, and whether any has failed.

        Processes ask each other at every step on CPUs, and on GPUs, where the answer has to be waited for, at every
        tenth and at logged ones.
        """
        if self.accelerator.num_processes == 1:
            return stop, failed
        self.asked += 1
        if not now and self.accelerator.device.type != "cpu" and self.asked % 10:
            return False, False
        flags = torch.tensor([stop, failed], dtype=torch.float32, device=self.accelerator.device)
        any_stop, any_failed = self.accelerator.reduce(flags, "sum").tolist()
        return any_stop > 0, any_failed > 0

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def _fail(
        self, name: str, step: int, broken: Mapping[str, int], batch: dict[str, torch.Tensor], parts: Parts
    ) -> None:
        """Keep what is needed to look into it, and stop; all processes do, with the message of those that failed."""
        weights = {k: p.state_dict() for k, p in parts.stateful().items() if k in ("generator", "discriminator")}
        message = ""
        if broken:
            first = min(broken.values())
            terms = [label for label, found in broken.items() if found == first]
            terms = [label for label in terms if label != PULL] or [PULL]  # which follows from a term's
            record = {"stage": name, "step": first, "terms": terms, "batch": batch if first == step else None}
            message = (
                f"stage {name!r}, step {first}: not finite: {', '.join(terms)}. {self.folder.what_is_saved()} "
                "Lower the learning rate or the weight of a term. "
                + self.folder.save_failure({**record, **weights}, self.accelerator.process_index)
            )
        raise TrainingError(" ".join(dict.fromkeys(text for text in gather_object([message]) if text)))

    def _validate(self, name: str, step: int, stage: Stage, generator: nn.Module) -> None:
        assert self.validator is not None
        average_buffers_(generator, self.accelerator)
        self.scores = self.validator(generator)
        if self.validator.is_better(self.scores, self.best):
            self.best = self.scores
            self.folder.save_best(generator, {**self.description(), "step": step, "stage": name})
        self.folder.log({"stage": name, "step": step, "validation": self.scores})
        self.tracking.scores(self._global_step(name, step), self.scores, self.validator.shown, self.entry.scale)
        if self.progress is not None:
            self.progress(name, step, stage.steps, self.scores)

    def _log(self, name: str, step: int, stage: Stage, outcome: Outcome, parts: Parts) -> None:
        labels = list(outcome.losses)
        stacked = self.accelerator.reduce(torch.stack([outcome.losses[label] for label in labels]), "mean")
        values = dict(zip(labels, stacked.tolist(), strict=True))
        shares = shares_of(outcome.norms)
        rates = {"lr": parts.generator_optimizer.param_groups[0]["lr"]}
        if parts.discriminator_optimizer is not None:
            rates["lr_discriminator"] = parts.discriminator_optimizer.param_groups[0]["lr"]
        record = {"stage": name, "step": step, **rates, "seconds": round(self.seconds, 2)}
        self.folder.log({**record, "losses": values, "shares": shares})
        self.tracking.losses(self._global_step(name, step), values, shares, rates)
        if self.progress is not None:
            self.progress(name, step, stage.steps, values)

    def _global_step(self, name: str, step: int) -> int:
        earlier = self.order[: self.order.index(name)]
        return sum(self.recipe.stages[stage].steps for stage in earlier) + step

    def _save(self, name: str, step: int, parts: Parts) -> None:
        self._count_time()
        if not parts.sharded:
            for network in (parts.averaged(), parts.generator):
                average_buffers_(network, self.accelerator)
        state: dict[str, Any] = {"stage": name, "step": step, "seconds": self.seconds}
        state |= {"scores": self.scores, "best": self.best}
        state |= {key: part.state_dict() for key, part in parts.stateful().items()}
        for label in ("generator", "discriminator"):
            if not all(torch.isfinite(tensor).all() for tensor in state.get(label, {}).values()):
                raise TrainingError(
                    f"stage {name!r}, step {step}: the {label}'s weights are not finite. "
                    f"{self.folder.what_is_saved()} Lower the learning rate."
                )
        state["random"] = gather_object([random_state()])  # of every process
        state["scaler"] = self.scaler.state_dict()
        self.folder.write_state(state)

    def _restore(self, saved: Mapping[str, Any], parts: Parts) -> int:
        for key, part in parts.stateful().items():
            part.load_state_dict(saved[key])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        if len(saved["random"]) == self.accelerator.num_processes:
            restore_random_state(saved["random"][self.accelerator.process_index])
        self.seconds, self.scores, self.best = saved["seconds"], saved["scores"], saved["best"]
        return int(saved["step"])
