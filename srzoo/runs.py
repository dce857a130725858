"""The folder of a training run: settings, log, states to resume from, weights. And validation."""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from .data import ImageItem, load_image_set
from .entry import Entry
from .errors import InputError, RecipeWarning, SrzooError, TrainingError
from .files import acquired, remedy, replacing
from .inference import prepare
from .recipe import Validation
from .registry import get_registry, without_own_owner
from .scoring import Reference, available_metrics, image_to_device, mean_scores, score_set
from .specs import GeneratorSpec
from .states import saved_states
from .weights import differences, read_checkpoint, save_checkpoint, shown

LOCK_PATIENCE = 10.0
"""Seconds to wait for a run's folder that another run holds."""


class RunFolder:
    """What a run leaves on disk.

    ========================  =====================================================================
    ``entry.json``            the settings; another run in the same folder is refused
    ``log.jsonl``             losses, gradient shares and validation scores, one line each
    ``states/``               the newest states to resume from, ``STAGE-STEP.pt``
    ``best.safetensors``      in ``checkpoints/``, the weights that validated best in the stage under way
    ``STAGE.safetensors``     there too, the weights that a stage before the last ended with
    ``ENTRY.safetensors``     the weights at the end
    ``training.png``          the curves
    ``earlier-N/``            weights, log and settings of a run before this one whose states are gone
    ``failure.pt``            batch and weights of a step that was not finite, for ``--replay``
    ``.lock``                 held by the run that writes here; it needs no cleaning up after a crash
    ========================  =====================================================================

    Nothing is written before :meth:`held`.

    Args:
        writes: whether this process writes; of several, one does.
        keep: number of states that are kept.

    Raises:
        InputError: the folder holds a run of other settings, or is a file.
    """

    def __init__(self, path: Path, entry: Entry, writes: bool = True, keep: int = 2) -> None:
        self.path = path
        self.writes = writes
        self._entry = entry
        self._keep = keep
        self._lock = filelock.FileLock(path / ".lock")
        assert entry.training is not None
        self._order = list(entry.training.stages)
        self._wanted = entry.model_dump(mode="json", exclude={"weights", "recorded"})
        obstacle = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
        if obstacle is not None:
            raise InputError(f"The run folder {path} cannot be made: {obstacle} is a file. Give another --out.")
        if any((path / "states").glob("*.pt")):  # even of stages that this entry does not have
            self._check_same()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, or find in it the run to go on with, and keep other runs out of it. All processes ask.

        It is free again after this context, or when the process ends, in whatever way.

        Raises:
            InputError: another run is at work in it.
            TrainingError: it cannot be written.
        """
        told: list[Any] = [self._prepare() if self.writes else None]
        if told[0] is not None:
            self._lock.release()
        broadcast_object_list(told)  # else the other processes would wait for one that gave up
        if told[0] is not None:
            raise told[0]
        try:
            yield
        finally:
            self._lock.release()

    def _prepare(self) -> SrzooError | None:
        try:
            (self.path / "states").mkdir(parents=True, exist_ok=True)
            self._acquire()
            for old in (self.path / "states").glob("*.writing"):  # of a run that was killed
                old.unlink()
            if any((self.path / "states").glob("*.pt")):  # also of a run that began and stopped since this was made
                self._check_same()
            else:
                self._set_aside()
                (self.path / "entry.json").write_text(json.dumps(self._wanted, indent=2) + "\n")
        except InputError as error:
            return error
        except filelock.Timeout:
            return InputError(
                f"Another run is at work in {self.path}: two would overwrite each other's states. "
                "Give another --out, or wait for it or stop it."
            )
        except OSError as error:
            return TrainingError(f"Cannot use the run folder {self.path}: {error}. {remedy(error)}")
        return None

    def _set_aside(self) -> None:
        """Move the weights of an earlier run, which left no states, so that they do not pass for those of this one."""
        checkpoints = self.path / "checkpoints"
        weights = [*([checkpoints] if checkpoints.exists() else []), *self.path.glob("*.safetensors")]
        if not weights:
            return
        aside = next(path for n in itertools.count(1) if not (path := self.path / f"earlier-{n}").exists())
        aside.mkdir()
        told = [self.path / name for name in ("entry.json", "log.jsonl", "training.png")]
        for path in [*weights, *(path for path in told if path.exists())]:
            path.rename(aside / path.name)
        warnings.warn(
            f"{self.path} held weights of an earlier run but no states to go on from; what it left is in {aside} now.",
            RecipeWarning,
            stacklevel=5,
        )

    def _weights(self) -> Path:
        return self.path / f"{self._entry.name}.safetensors"

    def _acquire(self) -> None:
        # What a run that was just killed leaves running, such as workers that read images, ends soon.
        if not acquired(self._lock, LOCK_PATIENCE):
            warnings.warn(
                f"{self.path} is on a disk without file locks; see to it yourself that no other run writes there.",
                RecipeWarning,
                stacklevel=5,
            )

    def _check_same(self) -> None:
        try:
            found, wanted = json.loads((self.path / "entry.json").read_text()), self._wanted
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path} holds states of a run, but its entry.json cannot be read: {error}. Give another --out."
            ) from None
        changed = differences(without_own_owner(found), without_own_owner(wanted))
        if not changed:
            return
        told = ", ".join(f"{key} (there {shown(left)}, now {shown(right)})" for key, left, right in changed[:4])
        raise InputError(
            f"{self.path} holds a run with other settings: {told}. "
            "Give another --out, or repeat the settings to go on with that run."
        )

    # --- log ----------------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON line to the log; a number that is not finite, which JSON does not have, becomes null.

        Raises:
            TrainingError: it cannot be written.
        """
        if not self.writes:
            return
        try:
            with open(self.path / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(record), allow_nan=False) + "\n")
        except OSError as error:
            raise TrainingError(
                f"Cannot write to {self.path / 'log.jsonl'}: {error}. The last state is untouched. {remedy(error)}"
            ) from error

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what the log holds; a line that was cut short, or is no record of a run, is left out."""
        path = self.path / "log.jsonl"
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("stage"), str) and type(record.get("step")) is int:
                yield record

    def rewind_log(self, stage: str | None, step: int) -> None:
        """Take out what was logged after a state was saved, since it is about to be done again.

        Raises:
            TrainingError: the log cannot be written.
        """
        path = self.path / "log.jsonl"
        if not self.writes or not path.is_file():
            return
        order = {name: number for number, name in enumerate(self._order)}
        reached = (order[stage], step) if stage is not None else (-1, 0)
        kept = [_finite(r) for r in self.records() if (order.get(r["stage"], len(order)), r["step"]) <= reached]
        try:
            with replacing(path) as temporary:
                temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"Cannot write {path}: {error}. {remedy(error)}") from error

    # --- states -------------------------------------------------------------------------------------------------

    def _states(self) -> list[Path]:
        """Return the states to resume from, newest first."""
        return saved_states(self.path, self._order)

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from, whole or not at all, and drop the oldest.

        Raises:
            TrainingError: it cannot be written; the last state is still there.
        """
        if not self.writes:
            return
        path = self.path / "states" / f"{state['stage']}-{state['step']:08d}.pt"
        try:
            with replacing(path) as temporary, open(temporary, "wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())  # else a power failure could leave the new name on an empty file
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"Cannot write a checkpoint to {self.path}: {_reason(error)}. {self.what_is_saved()} "
                f"{remedy(_reason(error))}"
            ) from error
        for old in self._states()[self._keep :]:
            old.unlink(missing_ok=True)

    def read_state(self) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None at the start of a run. Of several processes, all ask.

        Raises:
            TrainingError: there are states, and all are damaged.
        """
        state: dict[str, Any] | None = None
        chosen: list[Any] = [None, ""]  # the file, and why there is none
        if self.writes:
            state, chosen = self._newest()
        broadcast_object_list(chosen)  # else processes might see different files on a shared disk
        path, reason = chosen
        if reason:
            raise TrainingError(reason)
        if path is not None and state is None:
            state = torch.load(self.path / "states" / path, map_location="cpu", weights_only=True)
        return state

    def _newest(self) -> tuple[dict[str, Any] | None, list[Any]]:
        reason = ""
        for path in self._states():
            try:
                return torch.load(path, map_location="cpu", weights_only=True), [path.name, ""]
            except Exception as error:
                reason = f"{path} is damaged: {error}"
                warnings.warn(f"{reason}. Trying the state before it.", RecipeWarning, stacklevel=3)
        if reason:
            reason += f". No state is left; delete {self.path / 'states'} to start this run anew."
        return None, [None, reason]

    def what_is_saved(self) -> str:
        """Say, after a failure, what a run can go on from."""
        newest = self.newest_step()
        if newest is None:
            return "Nothing had been saved yet."
        return f"The state of step {newest[1]} of stage {newest[0]!r} in {self.path} is from before."

    def newest_step(self) -> tuple[str, int] | None:
        """Return stage and step of the newest state, or None at the start of a run."""
        for path in self._states():
            stage, _, step = path.stem.rpartition("-")
            return stage, int(step)
        return None

    # --- weights ------------------------------------------------------------------------------------------------

    def save_weights(self, generator: nn.Module, description: Mapping[str, Any]) -> Path:
        """Write the generator as ``ENTRY.safetensors`` and return its path.

        A file that holds it already stays as it is, with the versions that trained it.
        """
        path = self._weights()
        if self.writes and not self._holds(path, generator, description):
            save_checkpoint(path, generator.state_dict(), description)
        return path

    @staticmethod
    def _holds(path: Path, generator: nn.Module, description: Mapping[str, Any]) -> bool:
        try:
            tensors, found = read_checkpoint(path)
        except SrzooError:  # none there, or damaged
            return False
        own = generator.state_dict()
        return (
            found.get("training_digest") == description["training_digest"]
            and tensors.keys() == own.keys()
            and all(torch.equal(tensors[name], own[name].cpu()) for name in own)
        )

    def save_best(self, generator: nn.Module, description: Mapping[str, Any]) -> None:
        """Write the generator as ``checkpoints/best.safetensors``."""
        if self.writes:
            (self.path / "checkpoints").mkdir(exist_ok=True)
            save_checkpoint(self.path / "checkpoints" / "best.safetensors", generator.state_dict(), description)

    def save_stage(self, name: str, generator: nn.Module, description: Mapping[str, Any]) -> None:
        """Write the generator that a stage ended with."""
        if self.writes:
            save_checkpoint(self.stage_path(name), generator.state_dict(), description)

    def stage_path(self, name: str) -> Path:
        """Return where the generator lies that a stage before the last ended with."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def save_failure(self, record: Mapping[str, Any], rank: int = 0) -> str:
        """Write what is needed to look into a step that failed, ``failure.pt``, and say what is in it.

        Args:
            record: among others ``step``, the one that failed, and ``weights_of``, the one its weights came out of.
        """
        path = self.path / ("failure.pt" if rank == 0 else f"failure-{rank}.pt")
        try:
            torch.save(dict(record), path)
        except (OSError, RuntimeError) as error:
            return f"Batch and weights could not be written: {_reason(error)}."
        step, after = record["step"], record["weights_of"]
        weights = "that it started from" if after < step else f"after step {after}, which it has spoiled,"
        return (
            f"The batch of step {step} and the weights {weights} are in {path}; "
            f"repeat the command with --replay {path} to look into it."
        )

    def forget_failures(self) -> None:
        """Drop what was kept of failed steps, once the run got past them."""
        if self.writes:
            for path in self.path.glob("failure*.pt"):
                path.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """Return a record with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: BaseException) -> BaseException:
    """Return the system's error that torch's is the consequence of; torch says where in its own code it stopped."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


class Validator:
    """Mean scores of a generator on the validation sets, by the benchmark's own code.

    A metric whose backbone is missing is left out and named in ``unavailable``; the training goes on without it.

    Attributes:
        sets: the validation sets.
        shown: the first image of every set with the last output for it, (1, 3, H, W) uint8.

    Raises:
        UnknownNameError: a validation set does not exist.
        InputError: none of the metrics can be computed here.
    """

    def __init__(self, config: Validation, entry: Entry, device: torch.device) -> None:
        self.every = config.every
        self._config, self._device = config, device
        self._scale = entry.scale
        spec = get_registry().get("generator", entry.generator.name).spec
        assert isinstance(spec, GeneratorSpec)
        self._size_multiple = spec.size_multiple
        self.sets = [load_image_set(name) for name in config.data]
        self.shown: dict[str, tuple[ImageItem, torch.Tensor]] = {}
        self._metrics, missing = available_metrics(config.metrics, device)
        self.unavailable = missing
        if not self._metrics:
            raise InputError(f"training.validation.metrics: {' '.join(missing.values())}")

    def __call__(self, generator: nn.Module) -> dict[str, float]:
        """Return ``dataset/metric`` to mean value."""
        training = generator.training
        prepare(generator, next(generator.parameters()).device)
        means: dict[str, float] = {}
        for image_set in self.sets:
            scores: list[dict[str, float]] = []
            for found in score_set(
                generator, image_set, self._metrics, self._config.protocol, self._scale, self._size_multiple
            ):
                if not scores:
                    self.shown[image_set.name] = found.item, found.sr
                scores.append(found.values)
            means |= {f"{image_set.name}/{name}": value for name, value in mean_scores(scores).items()}
        generator.train(training)
        return means

    def try_metrics(self) -> None:
        """Score the first image, enlarged by nearest neighbours, so that a metric that fails is noticed now.

        Raises:
            PluginError: one fails, or returns something else than one value an image.
        """
        lr, hr, grey = next(iter(self.sets[0])).read_pair(self._scale)
        nearest = lr.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        reference = Reference(
            image_to_device(hr, self._device), self._metrics, self._config.protocol, self._scale, grey
        )
        reference.score(image_to_device(nearest, self._device))

    def is_better(self, scores: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Whether scores beat the best so far: by the first metric, averaged over the sets; NaN never does."""
        metric = self._metrics[0]
        keys: Sequence[str] = [f"{image_set.name}/{metric.name}" for image_set in self.sets]
        # The best of before may lack a metric whose backbone was not here then.
        new, old = (sum(values.get(key, math.nan) for key in keys) if values else math.nan for values in (scores, best))
        if math.isnan(new) or math.isnan(old):
            return math.isnan(old) and not math.isnan(new)
        return new > old if metric.spec.higher_is_better else new < old
