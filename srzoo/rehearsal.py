"""Before a run and after a failure: every optimizer is tried and every term's gradient is looked at on its own."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from .compose import Term, build_discriminator, imitating
from .composition import has_adversarial_term
from .entry import Entry
from .errors import InputError, RecipeWarning, TrainingError
from .optim import make_schedule, try_optimizer
from .process import random_state, restore_random_state
from .tasks import Batch, GanTask, Losses, Outputs, PixelTask, generate, image_losses, norm_of


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

    @property
    def is_broken(self) -> bool:
        """Whether the value or a gradient is not finite."""
        numbers = (self.value, self.output, self.generator, self.discriminator)
        return not all(math.isfinite(number) for number in numbers if number is not None)


def measure_terms(stage: str, task: PixelTask, batch: Batch, step: int) -> tuple[list[AuditRow], dict[str, list[str]]]:
    """Take the value of every term of a task and its gradients on the output and on both networks' parameters.

    Args:
        stage: its name.
        task: of bare networks, on the batch's device; buffers of theirs may move as in a step.
        step: its number, from 0; weights of terms move with it, and lazy regularisers go by it.

    Returns:
        one row a term, and ``"stage: network"`` to the parameters that no term reaches.
    """
    networks = {"generator": task.generator}
    with task.engine.autocast():
        made = generate(task.generator, batch["lr"], task.image_terms)
        outputs = made.leaves()
        losses = image_losses(task.image_terms, outputs, batch, step)
    judged: Losses = {}
    if isinstance(task, GanTask):
        networks["discriminator"] = task.discriminator
        adversarial, judged = task.judge(batch["hr"], outputs.sr, step)
        losses |= adversarial
    reached = {
        network: {name: False for name, p in module.named_parameters() if p.requires_grad}
        for network, module in networks.items()
    }

    def pull(network: str, ends: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor] | None = None) -> float:
        """Take a gradient on a network's parameters, note which it reaches, and return its norm."""
        named = [(n, p) for n, p in networks[network].named_parameters() if p.requires_grad]
        found = torch.autograd.grad(ends, [p for _, p in named], gradients, retain_graph=True, allow_unused=True)
        for (parameter, _), part in zip(named, found, strict=True):
            reached[network][parameter] |= part is not None  # a branch that starts at zero may well have none yet
        return math.sqrt(sum(float(part.double().square().sum()) for part in found if part is not None))

    pulls: dict[str, tuple[float, float]] = {}
    values = {label: float(loss.detach()) for label, loss in {**losses, **judged}.items()}
    for label, loss in losses.items():
        pulls[label] = (0.0, 0.0)
        if not loss.requires_grad:
            continue
        gradients = torch.autograd.grad(loss, outputs.tensors(), retain_graph=True, allow_unused=True)
        reach = [(end, g) for end, g in zip(made.tensors(), gradients, strict=True) if g is not None]
        if reach:
            ends, on_ends = [end for end, _ in reach], [g for _, g in reach]
            pulls[label] = (float(norm_of(on_ends, outputs.sr)), pull("generator", ends, on_ends))
    total = sum(on_output for on_output, _ in pulls.values())
    may_be_zero = imitating(task.image_terms)
    rows = [
        AuditRow(
            stage,
            label,
            values[label],
            on_output,
            on_generator,
            None,
            on_output / total if total and math.isfinite(total) else None,
            _problem(values[label], on_output, on_generator, may_be_zero=label in may_be_zero),
        )
        for label, (on_output, on_generator) in pulls.items()
    ]
    for label, loss in judged.items():
        norm = pull("discriminator", [loss]) if loss.requires_grad else 0.0
        rows.append(AuditRow(stage, label, values[label], None, None, norm, None, _problem(values[label], norm)))
    unreached = {
        f"{stage}: {network}": [name for name, hit in names.items() if not hit]
        for network, names in reached.items()
        if not all(names.values())
    }
    return rows, unreached


def _problem(value: float, *norms: float, may_be_zero: bool = False) -> str:
    if not math.isfinite(value):
        return "the value is not finite"
    if not all(math.isfinite(norm) for norm in norms):
        return "the gradient is not finite"
    return "no gradient: it would train nothing" if 0 in norms and not may_be_zero else ""


def try_optimizers(entry: Entry, device: torch.device) -> None:
    """Build the optimizers and schedules of every stage and let each take a step on parameters of its own.

    Raises:
        InputError: one refuses its settings; says of which stage.

    Warns:
        RecipeWarning: a stage ends before its learning rate has warmed up.
    """
    assert entry.training is not None
    for name, stage in entry.training.stages.items():
        where = f"entry {entry.name!r}: training.stages.{name}"
        for setting in ("optimizer", "discriminator_optimizer"):
            config = getattr(stage, setting)
            if config is None:
                continue
            try:
                sharded = entry.training.fsdp and setting == "optimizer"  # discriminators are whole everywhere
                make_schedule(try_optimizer(config, device, sharded), stage.schedule, stage.steps)
            except InputError as error:
                raise InputError(f"{where}.{setting}: {error}") from None
        if stage.schedule.warmup >= stage.steps:
            warnings.warn(
                f"{where}.schedule: the warm-up of {stage.schedule.warmup} steps does not end within the stage's "
                f"{stage.steps}, so the learning rate is never reached.",
                RecipeWarning,
                stacklevel=3,
            )


def rehearse(
    entry: Entry, terms: Mapping[str, Sequence[Term]], generator: nn.Module, batch: Batch, device: torch.device
) -> None:
    """Take every term's gradient in every stage on a small batch, before anything is trained.

    What it works on are copies, in float32, and the random generators are put back. So a run ends with the same
    bytes with and without it. A later stage is tried with the generator that the first one starts from.

    Args:
        terms: of every stage.
        batch: a few crops; with two, this takes a fraction of a step's time and memory.

    Raises:
        TrainingError: a term's gradient is not finite, or it has none, or the generator's output has none.

    Warns:
        RecipeWarning: some parameters of a network get no gradient.
    """
    assert entry.training is not None
    before = random_state()
    try:
        batch = {key: images.to(device) for key, images in batch.items()}
        made = _made(copy.deepcopy(generator).to(device).train(), batch, terms)
        for name, stage in entry.training.stages.items():
            copies = [replace(term, loss=_copied(term.loss, device)) for term in terms[name]]
            discriminator = build_discriminator(entry, stage).to(device) if has_adversarial_term(stage) else None
            _rehearse_stage(name, stage.trains_generator(0), copies, discriminator, batch, made)
    finally:
        restore_random_state(before)


def _made(generator: nn.Module, batch: Batch, terms: Mapping[str, Sequence[Term]]) -> Outputs:
    """Return what a generator makes of a batch, after a look at which of its parameters that depends on."""
    made = generate(generator, batch["lr"], [term for built in terms.values() for term in built])
    if not all(torch.isfinite(tensor).all() for tensor in made.tensors()):
        raise TrainingError(
            "The generator's output is not finite on the first crops: one of its parts divides by zero, takes a root "
            "or a logarithm of what is negative, or starts from weights that are too large. Nothing has been trained."
        )
    named = {name: weight for name, weight in generator.named_parameters() if weight.requires_grad}
    ends = [tensor.sum() for tensor in made.tensors() if tensor.requires_grad]
    found = (
        torch.autograd.grad(ends, list(named.values()), allow_unused=True) if ends and named else [None] * len(named)
    )
    missed = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
    if named and len(missed) == len(named):
        raise TrainingError(
            "No gradient reaches any parameter of the generator, so nothing would be trained: forward() of the "
            "generator or of one of its parts cuts it off, by detach(), torch.no_grad() or a tensor made anew. "
            "Nothing has been trained."
        )
    _warn_of_unreached("generator", missed, len(named))
    return made.leaves(requires_grad=False)


def _warn_of_unreached(network: str, missed: Sequence[str], of: int) -> None:
    if missed:
        some = f"{missed[0]} to {missed[-1]}" if len(missed) > 2 else " and ".join(missed)
        warnings.warn(
            f"no gradient reaches {len(missed)} of the {of} parameters of the {network}, which keep their first "
            f"values: {some}. Look for detach() or torch.no_grad() behind them, or drop them if nothing computes with "
            "them.",
            RecipeWarning,
            stacklevel=4,
        )


def _copied(loss: object, device: torch.device) -> object:
    loss = copy.deepcopy(loss)  # it may count its calls, or keep averages
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def _rehearse_stage(
    stage: str,
    trains_generator: bool,
    terms: Sequence[Term],
    discriminator: nn.Module | None,
    batch: Batch,
    made: Outputs,
) -> None:
    outputs = made.leaves()
    task = PixelTask(nn.Identity(), terms)
    judged: Losses = {}
    losses = image_losses(task.image_terms, outputs, batch)
    if discriminator is not None:
        adversarial, judged = GanTask(nn.Identity(), discriminator.train(), terms).judge(batch["hr"], outputs.sr, 0)
        losses |= adversarial
    at_minimum = imitating(terms)
    for label, loss in losses.items():
        # Before the generator's first step the discriminator may have to learn something to pull with, and a generator
        # that starts from its teacher has nothing to imitate yet.
        may_be_zero = not trains_generator or label in at_minimum
        _check(stage, label, "generator's output", loss, outputs.tensors(), may_be_zero)
    if discriminator is None:
        return
    named = {name: weight for name, weight in discriminator.named_parameters() if weight.requires_grad}
    missed = set(named)
    for label, loss in judged.items():
        # A penalty may well be at its minimum with fresh weights.
        found = _check(stage, label, "discriminator", loss, list(named.values()), may_be_zero=True)
        missed -= {name for name, gradient in zip(named, found, strict=True) if gradient is not None}
    _warn_of_unreached(f"discriminator of stage {stage!r}", [name for name in named if name in missed], len(named))


def _check(
    stage: str, label: str, target: str, loss: torch.Tensor, inputs: Sequence[torch.Tensor], may_be_zero: bool
) -> Sequence[torch.Tensor | None]:
    """Return a term's gradients on what it should pull at, each None where none reaches it."""
    found: Sequence[torch.Tensor | None] = []
    if loss.requires_grad:
        found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    reached = [gradient for gradient in found if gradient is not None]
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in reached))
    where = f"stage {stage!r}: the term {label!r}"
    if not math.isfinite(float(loss.detach())) or not math.isfinite(norm):
        what = "gradient" if math.isfinite(float(loss.detach())) else "value"
        raise TrainingError(f"{where} has a {what} that is not finite on the first crops. Nothing has been trained.")
    if not reached or (norm == 0 and not may_be_zero):
        raise TrainingError(
            f"{where} has no gradient on the {target}, so it would train nothing. A loss, and a discriminator "
            "before it, must compute with their inputs without detach(), item() or torch.tensor(...). Nothing has been "
            "trained."
        )
    return found


def broken_terms(stage: str, task: PixelTask, batch: Batch, step: int, pieces: int) -> list[str]:
    """Return the terms whose value or gradient is not finite on a batch that is computed in parts.

    Args:
        task: of bare networks; their buffers move.
        step: the batch's number, from 0.
    """
    found: dict[str, None] = {}
    for number in range(pieces):
        part = {key: images.chunk(pieces)[number] for key, images in batch.items()}
        rows, _ = measure_terms(stage, task, part, step)
        found |= {row.term: None for row in rows if row.is_broken}
    return list(found)
