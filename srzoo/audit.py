"""The gradient audit: what every term of a recipe pulls at, before anything is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .compose import build_discriminator, build_generator, build_terms, has_adversarial_term, preflight
from .data import load_image_set
from .errors import InputError
from .inference import best_device
from .patches import PatchDataset
from .pretrained import load_start
from .recipe import Entry, Training
from .tasks import GanTask, Losses, PixelTask, image_losses
from .zoo import training_entry


@dataclass(frozen=True)
class AuditRow:
    """One term of one stage on the first batch.

    Attributes:
        value: the weighted loss.
        output: norm of its gradient on the generator's output; None for terms of the discriminator.
        generator, discriminator: norm of its gradient on all parameters of the network, or None where the
            term does not train it.
        share: part in the sum of the gradient norms on the output.
        problem: what is wrong, or an empty string.
    """

    stage: str
    term: str
    value: float
    output: float | None
    generator: float | None
    discriminator: float | None
    share: float | None
    problem: str = ""


@dataclass(frozen=True)
class Audit:
    """All terms, and for each network the parameters that no term reaches.

    Attributes:
        unreached: ``"stage: network"`` to parameters without a gradient.
    """

    rows: tuple[AuditRow, ...]
    unreached: dict[str, list[str]]

    @property
    def ok(self) -> bool:
        """Whether every term pulls and every parameter is reached."""
        return not self.unreached and not any(row.problem for row in self.rows)


def audit(
    entry: str | Entry,
    *,
    data: str | Sequence[str] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    replay: str | Path | None = None,
) -> Audit:
    """Take every term's value and gradient norms on the first batch of every stage; nothing is trained.

    Computed in float32 from the stage's starting weights; a later stage starts from fresh ones here.

    Args:
        replay: the ``failure.pt`` of a run that stopped because a term was not finite: its stage alone, with the
            weights and the batch of that step. Without overrides, the settings are those of the run it lies in.

    Raises:
        InputError: as :func:`srzoo.training.train`, or the file to replay is not one, or of another entry.
    """
    if replay is not None and isinstance(entry, str) and not overrides and data is None:
        entry = _entry_of_run(Path(replay), entry)
    entry = training_entry(entry, data, None, overrides)
    recipe = entry.training
    assert recipe is not None
    preflight(entry)
    failure = _read_failure(Path(replay), entry) if replay is not None else None
    stages = dict(recipe.stages) if failure is None else {failure["stage"]: recipe.stages[failure["stage"]]}
    terms = {name: build_terms(entry, name) for name in stages}
    device = best_device()
    crops = failure["batch"] if failure is not None else _first_batch(entry, recipe)
    batch = {key: images.to(device) for key, images in crops.items()}
    rows: list[AuditRow] = []
    unreached: dict[str, list[str]] = {}
    for name, stage in stages.items():
        torch.manual_seed(recipe.seed)
        generator = build_generator(entry)
        if failure is not None:
            _load(generator, failure["generator"], replay)
        elif recipe.start_from is not None:
            load_start(generator, recipe.start_from, entry)
        generator.to(device).train()
        for term in terms[name]:
            if isinstance(term.loss, nn.Module):
                term.loss.to(device)
        task: PixelTask
        if has_adversarial_term(stage):
            discriminator = build_discriminator(entry, stage)
            if failure is not None:
                _load(discriminator, failure["discriminator"], replay)
            task = GanTask(generator, discriminator.to(device).train(), terms[name])
        else:
            task = PixelTask(generator, terms[name])
        found, missed = _audit_stage(name, task, batch)
        rows += found
        unreached |= missed
    return Audit(tuple(rows), unreached)


def _first_batch(entry: Entry, recipe: Training) -> dict[str, torch.Tensor]:
    dataset = PatchDataset(
        [load_image_set(name) for name in recipe.data],
        entry.scale,
        recipe.patch_size,
        augment=recipe.augment,
        multiscale=recipe.multiscale,
        seed=recipe.seed,
    )
    return {k: images.float().div_(255.0) for k, images in dataset.__getitems__(range(recipe.batch_size)).items()}


def _entry_of_run(failure: Path, name: str) -> str | Entry:
    """Return the entry as the run that failed changed it, or its name where that is not known."""
    try:
        entry = Entry.model_validate(json.loads((failure.parent / "entry.json").read_text()))
    except (OSError, ValueError):
        return name
    return entry if entry.name == name else name


def _read_failure(path: Path, entry: Entry) -> dict[str, Any]:
    assert entry.training is not None
    try:
        failure: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stage, batch = failure["stage"], failure["batch"]
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except Exception:
        raise InputError(f"{path} is no failure.pt of a training run, or is damaged.") from None
    if batch is None:
        raise InputError(f"{path} holds no batch: on a GPU the failure is noticed after its step. Train on a CPU.")
    if stage not in entry.training.stages:
        raise InputError(f"{path} is of stage {stage!r}, which entry {entry.name!r} does not have.")
    return failure


def _load(network: nn.Module, state: dict[str, torch.Tensor], source: str | Path | None) -> None:
    """Load weights that need not be finite."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise InputError(f"{source} is of another composition; repeat the overrides of that run.") from None


def _audit_stage(
    stage: str, task: PixelTask, batch: dict[str, torch.Tensor]
) -> tuple[list[AuditRow], dict[str, list[str]]]:
    networks = {"generator": task.generator}
    sr = task.generator(batch["lr"]).float()
    output = sr.detach().requires_grad_(True)
    losses = image_losses(task.image_terms, output, batch["hr"])
    judged: Losses = {}
    if isinstance(task, GanTask):
        networks["discriminator"] = task.discriminator
        adversarial, judged = task.judge(batch["hr"], output, 0)
        losses |= adversarial
    reached = {
        network: {name: False for name, p in module.named_parameters() if p.requires_grad}
        for network, module in networks.items()
    }

    def pull(network: str, loss: torch.Tensor, gradient: torch.Tensor | None = None) -> float:
        """Take a gradient on a network's parameters, note which it reaches, and return its norm."""
        named = [(n, p) for n, p in networks[network].named_parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, [p for _, p in named], gradient, retain_graph=True, allow_unused=True)
        for (parameter, _), part in zip(named, found, strict=True):
            reached[network][parameter] |= part is not None  # a branch that starts at zero may well have none yet
        return math.sqrt(sum(float(part.double().square().sum()) for part in found if part is not None))

    pulls: dict[str, tuple[float, float]] = {}
    values = {label: float(loss.detach()) for label, loss in {**losses, **judged}.items()}
    for label, loss in losses.items():
        on_output = None
        if loss.requires_grad:
            (on_output,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
        pulls[label] = (0.0, 0.0) if on_output is None else (float(on_output.norm()), pull("generator", sr, on_output))
    total = sum(on_output for on_output, _ in pulls.values())
    rows = [
        AuditRow(
            stage,
            label,
            values[label],
            on_output,
            on_generator,
            None,
            on_output / total if total and math.isfinite(total) else None,
            _problem(values[label], on_output, on_generator),
        )
        for label, (on_output, on_generator) in pulls.items()
    ]
    for label, loss in judged.items():
        norm = pull("discriminator", loss)
        rows.append(AuditRow(stage, label, values[label], None, None, norm, None, _problem(values[label], norm)))
    unreached = {
        f"{stage}: {network}": [name for name, hit in names.items() if not hit]
        for network, names in reached.items()
        if not all(names.values())
    }
    return rows, unreached


def _problem(value: float, *norms: float) -> str:
    if not math.isfinite(value):
        return "the value is not finite"
    if not all(math.isfinite(norm) for norm in norms):
        return "the gradient is not finite"
    return "no gradient: it would train nothing" if 0 in norms else ""
