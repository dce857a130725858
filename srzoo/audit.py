"""The gradient audit: what every term of a recipe pulls at, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import nn

from .compose import build_discriminator, build_generator, build_terms
from .composition import has_adversarial_term
from .data import load_image_set
from .entry import Entry
from .errors import InputError
from .inference import best_device
from .optim import autocast_in
from .patches import as_batch, patches_for
from .preflight import preflight
from .pretrained import load_start
from .process import restore_random_state
from .recipe import Training
from .rehearsal import AuditRow, measure_terms
from .stages import seed_stage
from .tasks import Engine, GanTask, PixelTask
from .teaching import teacher_of
from .zoo import training_entry


@dataclass(frozen=True)
class Audit:
    """All terms, and for each network the parameters that no term reaches.

    Attributes:
        unreached: ``"stage: network"`` to parameters without a gradient.
        replayed: the precision, step and stage of the failure that this is the replay of, in words.
    """

    rows: tuple[AuditRow, ...]
    unreached: dict[str, list[str]]
    replayed: str = ""

    @property
    def ok(self) -> bool:
        """Whether every term pulls and every parameter is reached. A failure is none the better for a replay."""
        return not self.replayed and not self.unreached and not any(row.problem for row in self.rows)

    @property
    def reproduced(self) -> bool:
        """Whether a term of the failure that was replayed is not finite again."""
        return bool(self.replayed) and any(row.is_broken for row in self.rows)


def audit(
    entry: str | Entry,
    *,
    data: str | Sequence[str] | None = None,
    steps: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    replay: str | Path | None = None,
) -> Audit:
    """Take every term's value and gradient norms on the first batch of every stage; nothing is trained.

    Computed in float32 from the stage's starting weights and random numbers; a later stage starts from fresh weights
    here.

    Args:
        data, steps, overrides: as for :func:`srzoo.training.train`; a weight that changes during a stage depends on how
            many steps that has.
        replay: the ``failure.pt`` of a run that stopped because a term was not finite: its stage alone, with the
            weights, batch, precision, weights of terms and, where they are known, random numbers of that step. With
            nothing else given, the settings are those of the run it lies in.

    Raises:
        InputError: as :func:`srzoo.training.train`, or the file to replay is not one, or of another entry.
    """
    if replay is not None and isinstance(entry, str) and not overrides and data is None and steps is None:
        entry = _entry_of_run(Path(replay), entry)
    entry = training_entry(entry, data, steps, overrides)
    recipe = entry.training
    assert recipe is not None
    preflight(entry)
    failure = _read_failure(Path(replay), entry) if replay is not None else None
    stages = dict(recipe.stages) if failure is None else {failure["stage"]: recipe.stages[failure["stage"]]}
    set_seed(recipe.seed)  # here and below, where a run does
    terms = {name: build_terms(entry, name) for name in recipe.stages}
    device = best_device()
    step, precision = (failure["step"] - 1, failure["precision"]) if failure is not None else (0, "fp32")
    engine = Engine(autocast=lambda: autocast_in(precision, device))
    crops = failure["batch"] if failure is not None else _first_batch(entry, recipe)
    batch = {key: images.to(device) for key, images in crops.items()}
    teacher = None if failure is not None else teacher_of(entry, device, engine.autocast)  # else it is in the batch
    if teacher is not None:
        batch = teacher.added_to(batch, 0)
    rows: list[AuditRow] = []
    unreached: dict[str, list[str]] = {}
    for name, stage in stages.items():
        set_seed(recipe.seed)
        generator = build_generator(entry)
        if failure is not None:
            _load(generator, failure["generator"], replay)
        elif recipe.start_from is not None:
            load_start(generator, recipe.start_from, entry)
        generator.to(device).train()
        for term in terms[name]:
            if isinstance(term.loss, nn.Module):
                term.loss.to(device)
        seed_stage(recipe, name)
        task: PixelTask
        if has_adversarial_term(stage):
            discriminator = build_discriminator(entry, stage)
            if failure is not None:
                _load(discriminator, failure["discriminator"], replay)
            task = GanTask(generator, discriminator.to(device).train(), terms[name], engine)
        else:
            task = PixelTask(generator, terms[name], engine)
        seed_stage(recipe, name)  # as the first process does
        if failure is not None and failure["random"] is not None:
            restore_random_state(failure["random"])
        found, missed = measure_terms(name, task, batch, step)
        rows += found
        unreached |= missed
    replayed = f"{precision} at step {step + 1} of stage {failure['stage']!r}" if failure is not None else ""
    return Audit(tuple(rows), unreached, replayed)


def _first_batch(entry: Entry, recipe: Training) -> dict[str, torch.Tensor]:
    dataset = patches_for(recipe, [load_image_set(name) for name in recipe.data], entry.scale)
    return as_batch(dataset.__getitems__(range(recipe.batch_size)))


def _entry_of_run(failure: Path, name: str) -> str | Entry:
    """Return the entry as the run that failed changed it, or its name where that is not known."""
    try:
        entry = Entry.model_validate(json.loads((failure.parent / "entry.json").read_text()))
    except (OSError, ValueError):
        return name
    return entry if entry.name == name.rpartition("/")[2] else name


def _read_failure(path: Path, entry: Entry) -> dict[str, Any]:
    assert entry.training is not None
    try:
        failure: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stage, _ = failure["stage"], failure["batch"]
        failure = {"precision": "fp32", "random": None, **failure, "step": int(failure["step"])}
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except Exception:
        raise InputError(f"{path} is no failure.pt of a training run, or is damaged.") from None
    if stage not in entry.training.stages:
        raise InputError(f"{path} is of stage {stage!r}, which entry {entry.name!r} does not have.")
    return failure


def _load(network: nn.Module, state: dict[str, torch.Tensor], source: str | Path | None) -> None:
    """Load weights that need not be finite."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise InputError(f"{source} is of another composition; repeat the overrides of that run.") from None
