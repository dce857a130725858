"""The training loop: the steps of one stage after the other, what is watched, logged and saved on the way."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader

from . import __version__
from .compose import Term, imitating
from .composition import changed_sources, full_composition, plugin_versions, source_record
from .curves import draw_curves
from .distribution import average_buffers_, average_tensors_, gathered
from .entry import Entry
from .errors import InterruptedRunError, RecipeWarning, SrzooError, TrainingError
from .failures import blamed, remedy
from .graphs import step_of
from .guard import FiniteGuard, check_pulls, is_exhausted
from .inference import device_name
from .optim import autocast_in, clip_weights_, precision_for
from .patches import PatchDataset, Reported, StepSampler, whole_batch
from .process import SignalWatch, ignore_signals, random_state, restore_random_state
from .recipe import Stage, Training
from .runs import RunFolder, Validator
from .sharding import ShardedAverage
from .stages import Parts, build_parts, seed_stage
from .tasks import Batch, Engine, Outcome, shares_of
from .teaching import Teacher
from .trackers import Tracking

Progress = Callable[[str, int, int, Mapping[str, float]], None]

EXHAUSTED = "gradient at any scale"
FOLLOWS = {"gradient of the generator", "gradient of the discriminator", EXHAUSTED}
"""What is not finite because a term is not, or its gradient."""


@dataclass(frozen=True)
class Intervals:
    """Steps between lines of the log, and between states to resume from."""

    log: int
    checkpoint: int


class Run:
    """The stages of a run, one after the other, and what outlives them: where to log, what was scored, the time.

    Attributes:
        scores: the last validation.
        seconds: time spent training, over all resumed pieces.
        images: what is trained on, see :func:`srzoo.data.image_record`.
        teacher: makes the references of terms that imitate one.
        started_from: SHA-256 of the weight file that the first stage started from, or an empty string.
    """

    def __init__(
        self,
        entry: Entry,
        recipe: Training,
        accelerator: Accelerator,
        folder: RunFolder,
        validator: Validator | None,
        every: Intervals,
        tracking: Tracking,
        progress: Progress | None,
    ) -> None:
        self.entry, self.recipe, self.accelerator, self.folder = entry, recipe, accelerator, folder
        self.validator, self.every, self.tracking, self.progress = validator, every, tracking, progress
        self.scores: dict[str, float] = {}
        self.sources: dict[str, Any] = source_record(entry)
        self.images: dict[str, Any] = {}
        self.teacher: Teacher | None = None
        self.started_from = ""
        self.best: dict[str, float] = {}
        self.best_step = 0
        self.due = False  # a line of the log
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
        return autocast_in(self.precision, self.accelerator.device)

    def description(self, until: str | None = None) -> dict[str, Any]:
        """Return what a weight file says about itself, of all stages or of those until one."""
        recipe = self.recipe
        if until is not None:
            recipe = recipe.of_stages(self.order[: self.order.index(until) + 1])
        return {
            "entry": self.entry.name,
            "composition": full_composition(self.entry),
            "training": recipe.model_dump(mode="json"),
            "training_digest": recipe.digest(),
            "srzoo": __version__,
            "plugins": plugin_versions(),
            "torch": torch.__version__,
            "device": device_name(self.accelerator.device),
            **({"started_from": self.started_from} if self.started_from else {}),
            **self.sources,
        }

    def all_stages(
        self,
        generator: nn.Module,
        terms: Mapping[str, Sequence[Term]],
        dataset: PatchDataset,
        saved: Mapping[str, Any] | None,
    ) -> Path:
        """Train every stage, each from the weights of the one before, and return the weight file of the last.

        Args:
            saved: the state to go on from.

        Raises:
            InterruptedRunError: a signal; the state is saved.
            TrainingError: see :func:`srzoo.training.train`.
        """
        begun = self.order.index(saved["stage"]) if saved is not None else 0
        self.folder.rewind_log(saved["stage"] if saved is not None else None, saved["step"] if saved is not None else 0)
        try:
            with SignalWatch() as signals:
                for number, name in enumerate(self.order):
                    if number >= begun:  # what was trained earlier, the state holds
                        generator = self._stage(name, generator, terms[name], dataset, signals, saved)
                        saved = None
        finally:  # a run that stopped or failed is when curves are looked at
            if self.folder.writes:
                draw_curves(self.folder.records(), self.folder.path / "training.png", title=self.entry.name)
        weights = self.folder.save_weights(generator, self.description())
        self.folder.forget_failures()
        return weights

    def _stage(
        self,
        name: str,
        generator: nn.Module,
        terms: Sequence[Term],
        dataset: PatchDataset,
        signals: SignalWatch,
        saved: Mapping[str, Any] | None,
    ) -> nn.Module:
        """Train one stage, from a state of it if there is one, and return the (averaged) generator it ends with."""
        stage, recipe, accelerator = self.recipe.stages[name], self.recipe, self.accelerator
        seed_stage(recipe, name)
        parts = build_parts(self.entry, stage, generator, terms, accelerator, self.engine)
        # From here on, processes draw numbers of their own.
        seed_stage(recipe, name, device_specific=True)
        start = self._restore(saved, parts) if saved is not None else 0
        self.sources = source_record(self.entry)
        if saved is not None and start == stage.steps:  # nothing is trained by what the code is now
            self.sources = {"sources": saved["sources"]} if "sources" in saved else {}
        on_gpu = accelerator.device.type == "cuda"
        batches = DataLoader(
            Reported(dataset),
            batch_sampler=self._samples(start, stage.steps),
            collate_fn=whole_batch,  # type: ignore[arg-type]
            num_workers=4 if on_gpu else 0,  # on a CPU, cutting crops out of the cache is no work
            worker_init_fn=ignore_signals,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # else starting the loader would draw from the global generator
        )
        taken = step_of(parts, recipe, stage.clip_gradient, accelerator, self.scaler)
        guard = FiniteGuard(accelerator.device)
        # The terms' gradients are looked at once, at the first step that trains the generator.
        unchecked = not any(stage.trains_generator(step) for step in range(start))
        if start == 0:
            self.best, self.best_step = {}, 0  # scores of another stage are no measure for this one
            self.due = False
        if self.progress is not None and start < stage.steps:
            self.progress(name, start, stage.steps, {})
        self.clock = time.perf_counter()
        if self.validator is not None and saved is not None and not saved.get("validated", True):
            self._validate_or_save(name, start, stage, parts)
        scale = self.scaler.get_scale()
        for step, crops in enumerate(batches, start + 1):
            if isinstance(crops, SrzooError):
                raise crops
            last = step == stage.steps
            save_now = step % self.every.checkpoint == 0 or last
            train_generator = stage.trains_generator(step - 1)
            # A line of the log waits for a step that trains the generator, whose terms it is to tell.
            self.due |= step % self.every.log == 0
            waits = not train_generator and step > stage.discriminator_warmup
            log_now = save_now or (self.due and not waits)  # what is saved has been seen to be finite
            self.due = self.due and waits
            batch = self._batch(crops, stage, step)
            drawn = None if on_gpu else random_state()  # a GPU's failures are noticed when it has moved on

            outcome, norms = taken.gradients(
                batch, step - 1, train_generator=train_generator, measure=log_now or unchecked
            )
            # A scaler leaves steps out whose gradient is not finite; it is looked at for doing nothing else.
            broken = guard.note(step, outcome.losses if self.scaler.is_enabled() else {**outcome.losses, **norms})
            if log_now:
                broken |= guard.check() or ({EXHAUSTED: step} if is_exhausted(self.scaler) else {})
            stop, failed = self._agree(bool(signals.received), bool(broken), log_now)
            if failed:
                self._fail(name, step, broken, batch, drawn, parts, dataset)
            if unchecked and outcome.norms:
                check_pulls(name, outcome.norms, self.scaler.is_enabled(), imitating(terms))
                unchecked = False
            taken.update(train_generator)
            if parts.discriminator is not None and stage.clip_discriminator is not None:
                clip_weights_(parts.discriminator, stage.clip_discriminator)
            if parts.ema is not None and train_generator:
                parts.ema.update(parts.generator, step=step)
            rates = parts.rates()
            for schedule in parts.schedules:
                schedule.step_update(step)

            if log_now:
                self._count_time()
                self._log(name, step, stage, outcome, rates)
            if self.validator is not None and (step % self.validator.every == 0 or last):
                self._count_time()
                self._validate_or_save(name, step, stage, parts)
            if save_now or stop:
                self._save(name, step, parts)
            if stop:
                raise InterruptedRunError(
                    f"stopped by {signals.received or 'a signal'} after step {step} of {stage.steps} of stage "
                    f"{name!r}. The state is saved in {self.folder.path}; the same command goes on from there.",
                    signals.received or "SIGTERM",  # another process', which a launcher sent it
                )
        self._warn_of_nothing_done(name, stage.steps - start, scale)
        accelerator.free_memory()
        generator = parts.averaged()
        if name != self.order[-1]:  # the next stage trains it further, and drops its states
            self.folder.save_stage(name, generator, self.description(until=name))
        return generator

    def _samples(self, start: int, stop: int) -> StepSampler:
        size, processes = self.recipe.batch_size, self.accelerator.num_processes
        return StepSampler(start, stop, size, self.accelerator.process_index, processes)

    def _batch(self, crops: Mapping[str, torch.Tensor], stage: Stage, step: int) -> Batch:
        """Return the batch of a step, counted from 1, on the device."""
        device = self.accelerator.device
        batch = {key: images.to(device, non_blocking=True).float().div_(255.0) for key, images in crops.items()}
        if not stage.imitates():
            return batch
        assert self.teacher is not None
        return self.teacher.added_to(batch, stage.updates_before(step - 1))

    def _warn_of_nothing_done(self, name: str, steps: int, scale: float) -> None:
        if self.scaler.is_enabled() and steps and self.scaler.get_scale() <= scale * 0.5**steps:
            warnings.warn(
                f"stage {name!r}: gradients overflowed fp16 in each of its {steps} steps, which the scaler left out. "
                "Train for longer, or with training.precision=bf16 or fp32.",
                RecipeWarning,
                stacklevel=4,
            )

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
        self,
        name: str,
        step: int,
        broken: Mapping[str, int],
        batch: Batch,
        drawn: Mapping[str, Any] | None,
        parts: Parts,
        dataset: PatchDataset,
    ) -> None:
        """Keep what is needed to look into it, and stop; all processes do, with the message of those that failed.

        Args:
            drawn: the state of the random generators before the step.
        """
        networks = {k: p for k, p in parts.stateful().items() if k in ("generator", "discriminator")}
        weights = {label: copy.deepcopy(network.state_dict()) for label, network in networks.items()}
        first = min(broken.values(), default=step)
        terms = [label for label, found in broken.items() if found == first and label not in FOLLOWS]
        if first != step:  # crops are a function of the step
            crops = dataset.__getitems__(next(iter(self._samples(first - 1, first))))
            batch, drawn = self._batch(crops, self.recipe.stages[name], first), None
        faults = [*terms]
        if broken and not terms and not parts.sharded:
            terms = blamed(name, parts, batch, first - 1, Engine(autocast=self.autocast), drawn, self.recipe.accumulate)
            faults = [f"gradient of {term}" for term in terms]
        known = any(gather_object([bool(faults)]))  # other processes have but the mean of the gradients to tell by
        message = ""
        if broken and (faults or not known):
            faults = faults or [label for label, found in broken.items() if found == first]
            record = {"stage": name, "step": first, "terms": terms or faults, "batch": batch, "weights_of": step - 1}
            record |= {"precision": self.precision, "random": drawn}
            message = f"stage {name!r}, step {first}: not finite: {', '.join(faults)}. " + " ".join(
                [
                    *(["fp16 left out all of the last steps."] if EXHAUSTED in broken else []),
                    remedy(self.recipe, name, self.folder),
                    *(["With --log-every 1 the term is told."] if not terms and first < step else []),
                    self.folder.save_failure({**record, **weights}, self.accelerator.process_index),
                ]
            )
        raise TrainingError(" ".join(dict.fromkeys(text for text in gather_object([message]) if text)))

    def _validate_or_save(self, name: str, step: int, stage: Stage, parts: Parts) -> None:
        """Validate; where that fails, as on images that were taken away, save the state before saying so."""
        try:
            self._validate(name, step, stage, parts.averaged())
        except SrzooError as error:
            if self.accelerator.num_processes > 1:  # the others may not have failed, and would be waited for
                raise
            self.clock = time.perf_counter()
            self._save(name, step, parts, validated=False)
            raise TrainingError(
                f"validation after step {step} of stage {name!r}: {error} The state is saved in {self.folder.path}; "
                "once this is mended, the same command goes on with the validation."
            ) from error
        self.clock = time.perf_counter()  # validation is not training

    def _validate(self, name: str, step: int, stage: Stage, generator: nn.Module) -> None:
        assert self.validator is not None
        average_buffers_(generator, self.accelerator)
        self.scores = self.validator(generator)
        if self.validator.is_better(self.scores, self.best):
            self.best, self.best_step = self.scores, step
            self.folder.save_best(generator, {**self.description(), "step": step, "stage": name})
        self.folder.log({"stage": name, "step": step, "validation": self.scores})
        self.tracking.scores(self._global_step(name, step), self.scores, self.validator.shown, self.entry.scale)
        if self.progress is not None:
            self.progress(name, step, stage.steps, self.scores)

    def _log(self, name: str, step: int, stage: Stage, outcome: Outcome, rates: Mapping[str, float]) -> None:
        labels = list(outcome.losses)
        stacked = self.accelerator.reduce(torch.stack([outcome.losses[label] for label in labels]), "mean")
        values = dict(zip(labels, stacked.tolist(), strict=True))
        shares = shares_of(outcome.norms)
        record = {"stage": name, "step": step, **rates, "seconds": round(self.seconds, 2)}
        self.folder.log({**record, "losses": values, "shares": shares})
        self.tracking.losses(self._global_step(name, step), values, shares, rates)
        if self.progress is not None:
            self.progress(name, step, stage.steps, values)

    def _global_step(self, name: str, step: int) -> int:
        earlier = self.order[: self.order.index(name)]
        return sum(self.recipe.stages[stage].steps for stage in earlier) + step

    def _save(self, name: str, step: int, parts: Parts, validated: bool = True) -> None:
        self._count_time()
        average_buffers_(parts.generator, self.accelerator)
        if isinstance(parts.ema, ShardedAverage):  # whose module is made anew each time
            average_tensors_(parts.ema.unsharded(), self.accelerator)
        elif parts.ema is not None:
            average_buffers_(parts.ema.module, self.accelerator)
        state: dict[str, Any] = {"stage": name, "step": step, "seconds": self.seconds}
        state |= {"scores": self.scores, "best": self.best, "best_step": self.best_step, "due": self.due}
        state |= {key: part.state_dict() for key, part in parts.stateful().items()}
        for label in ("generator", "discriminator"):
            if not all(torch.isfinite(tensor).all() for tensor in state.get(label, {}).values()):
                advice = remedy(self.recipe, name, self.folder)
                raise TrainingError(f"stage {name!r}, step {step}: the {label}'s weights are not finite. {advice}")
        state["random"] = gather_object([random_state()])  # of every process
        state["scaler"], state["precision"] = self.scaler.state_dict(), self.precision
        state["images"], state["started_from"] = self.images, self.started_from
        if self.teacher is not None:
            state["teacher"] = self.teacher.identity
        if not validated:
            state["validated"] = False
        state |= self.sources
        self.folder.write_state(state)

    def _restore(self, saved: Mapping[str, Any], parts: Parts) -> int:
        # Optimizers first: torch has sharded ones take an empty step to find what to load, which may move weights.
        for key, part in sorted(parts.stateful().items(), key=lambda named: "optimizer" not in named[0]):
            part.load_state_dict(saved[key])
        rates = parts.rates()
        if not saved["generator_optimizer"]:  # of a sharded network that had not been updated
            del rates["lr"]
        for schedule in parts.schedules:
            schedule.step_update(saved["step"])
        if not parts.sharded and any(not math.isclose(rate, parts.rates()[key]) for key, rate in rates.items()):
            self._warn("the schedule has other learning rates for its next steps than when its state was saved")
        if self.scaler.is_enabled() and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        found = saved.get("precision", self.precision)  # states of older versions do not say
        if found != self.precision:
            self._warn(f"trained in {found} up to here, from here in {self.precision}")
        images = saved.get("images", self.images)
        if images != self.images:
            self._warn(
                f"the images trained on are others than when its state was saved, {images['number']} then and "
                f"{self.images['number']} now, and so are the crops from here on"
            )
        if self.teacher is not None and saved.get("teacher", self.teacher.identity) != self.teacher.identity:
            self._warn(f"{self.recipe.teacher}, its teacher, has other weights or parts than when its state was saved")
        if changed := changed_sources(saved.get("sources"), self.entry):
            self._warn(
                f"the source code of {' and '.join(changed)} has changed since its state was saved; if that changes "
                "what it computes, start anew with another --out"
            )
        if len(saved["random"]) == self.accelerator.num_processes:
            restore_random_state(saved["random"][self.accelerator.process_index])
        else:
            self._warn(
                f"{len(saved['random'])} processes up to here, from here {self.accelerator.num_processes}: random "
                "numbers of penalties and noise start anew, while crops stay the same"
            )
        self.seconds, self.scores, self.best = saved["seconds"], saved["scores"], saved["best"]
        self.best_step, self.due = saved.get("best_step", 0), saved.get("due", False)  # as older states do not say
        return int(saved["step"])

    def _warn(self, text: str) -> None:
        if self.folder.writes:
            warnings.warn(f"the run in {self.folder.path} is resumed otherwise: {text}.", RecipeWarning, stacklevel=5)
