"""What is optimised in a stage: the generator alone, or the generator against a discriminator.

A task turns a batch into named losses and leaves their gradients in the networks; it never steps an optimizer. What
is special about a GAN formulation (pairing, criterion, penalties) is in its loss plugins, so no task is ever
subclassed for one.

The gradients of all the generator's terms meet in its output. They are taken there first, term by term, and only
their sum is sent back through the generator. So a perceptual network's memory is free again before the
discriminator runs, no gradient is computed that nobody needs, and what each term contributes is known at no cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from .compose import Term
from .errors import PluginError
from .plugins import FAULTS, describe_exception

Batch = dict[str, torch.Tensor]
"""``lr`` (N, 3, H, W) and ``hr`` (N, 3, scale*H, scale*W), float32 in [0, 1]; with a teacher also ``teacher``, what it
makes of ``lr``, as large as ``hr``."""

Losses = dict[str, torch.Tensor]
"""Term label to weighted loss, a scalar."""


class Outputs(NamedTuple):
    """What a generator made, float32.

    Attributes:
        sr: (N, 3, scale*H, scale*W).
        intermediate: (D, N, 3, scale*H, scale*W), what it would have made earlier on its way, where asked for.
    """

    sr: torch.Tensor
    intermediate: torch.Tensor | None = None

    def tensors(self) -> list[torch.Tensor]:
        """Return those that there are."""
        return [self.sr] if self.intermediate is None else [self.sr, self.intermediate]

    def leaves(self, requires_grad: bool = True) -> Outputs:
        """Return the same values, cut off from what made them."""
        return Outputs(*(tensor.detach().requires_grad_(requires_grad) for tensor in self.tensors()))


def generate(generator: nn.Module, lr: torch.Tensor, terms: Sequence[Term]) -> Outputs:
    """Run a generator, with its intermediate outputs if one of the terms supervises them.

    They are asked for by a keyword. A generator whose training mode returned more than one tensor would surprise all
    others who call it, and one that kept them in an attribute could not be copied, compiled or distributed.
    """
    if not any(term.supervises_intermediate for term in terms):
        return Outputs(generator(lr).float())  # losses are summed in float32 also under autocast
    sr, intermediate = generator(lr, intermediate=True)
    return Outputs(sr.float(), intermediate.float())


def _backward(loss: torch.Tensor, **options: Any) -> None:
    loss.backward(**options)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Engine:
    """How a task computes: what distribution and mixed precision change about a pass.

    Args:
        autocast: context of every forward pass.
        scale: applied to a loss before its gradient is taken (fp16).
        backward: ``backward(loss, inputs=...)``, scaling included.
        unwrap: the bare module within a distributed wrapper.
        gather: joins the logits of all processes, so that a relativistic average is over the whole batch.
    """

    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    scale: Callable[[torch.Tensor], torch.Tensor] = field(default=lambda loss: loss)
    backward: Callable[..., None] = _backward
    unwrap: Callable[[nn.Module], nn.Module] = field(default=lambda module: module)
    gather: Callable[[torch.Tensor], torch.Tensor] = field(default=lambda logits: logits)


@dataclass
class Outcome:
    """What a task made of a batch.

    Attributes:
        losses: the weighted value of every term, detached.
        norms: where measured, the gradient norm of each of the generator's terms on the generator's output.
    """

    losses: Losses
    norms: dict[str, torch.Tensor]


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what a batch gave of which each outcome is an equal part, computed with ``share=1 / parts``.

    Losses are means over the parts. The gradient on the whole output is that of all parts beside each other.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    losses: Losses = {}
    squares: Losses = {}
    for outcome in outcomes:
        for label, loss in outcome.losses.items():
            part = loss / len(outcomes)
            losses[label] = losses[label] + part if label in losses else part
        for label, norm in outcome.norms.items():
            squares[label] = squares[label] + norm.square() if label in squares else norm.square()
    return Outcome(losses, {label: square.sqrt() for label, square in squares.items()})


class PixelTask:
    """Generator only: pixel and perceptual terms.

    Args:
        generator: as prepared for distribution.
        terms: the stage's terms.
        engine: how to compute.
    """

    def __init__(self, generator: nn.Module, terms: Sequence[Term], engine: Engine | None = None) -> None:
        self.generator = generator
        self.image_terms = [term for term in terms if term.role in ("pixel", "perceptual")]
        self.engine = engine or Engine()

        self._terms = terms

    def networks(self) -> list[nn.Module]:
        """Return the networks that the task trains."""
        return [self.generator]

    def kind_of(self, step: int) -> tuple[Any, ...]:
        """Return what a step's number decides: two steps of equal kind differ in their batch alone."""
        due = [term for term in self._terms if term.role != "regulariser" or self._is_due(term, step)]
        return tuple((term.label, term.weight(step)) for term in due)

    @staticmethod
    def _is_due(term: Term, step: int) -> bool:
        return step % term.config.every == 0

    def on(self, networks: Sequence[nn.Module], engine: Engine) -> PixelTask:
        """Return the same task on other networks of the same kinds, in the order of :meth:`networks`."""
        make: Callable[..., PixelTask] = type(self)
        return make(*networks, self._terms, engine)

    def run(
        self,
        batch: Batch,
        step: int = 0,
        *,
        share: float = 1.0,
        train_generator: bool = True,
        measure: bool = False,
    ) -> Outcome:
        """Compute every term of a batch and add its gradient to the networks' parameters.

        Args:
            step: number of the step, from 0; lazy regularisers go by it.
            share: factor on all gradients, for batches in several parts.
            train_generator: whether the generator gets a gradient; if not, the discriminator alone does.
            measure: whether to take each term's gradient norm as well.
        """
        with self.engine.autocast(), torch.set_grad_enabled(train_generator):
            made = generate(self.generator, batch["lr"], self.image_terms)
        outputs = made.leaves(train_generator)
        pull = _Pull(outputs.tensors(), self.engine, share, measure)
        losses: Losses = {}
        if train_generator:
            with self.engine.autocast():
                losses = image_losses(self.image_terms, outputs, batch, step)
            pull.add(losses)
        losses |= self._against_discriminator(batch["hr"], outputs.sr, step, share, pull if train_generator else None)
        if train_generator:
            torch.autograd.backward(made.tensors(), pull.gradients)
        values = {label: loss.detach() for label, loss in losses.items()}
        return Outcome(values, pull.norms)

    def _against_discriminator(
        self, hr: torch.Tensor, output: torch.Tensor, step: int, share: float, pull: _Pull | None
    ) -> Losses:
        return {}


class GanTask(PixelTask):
    """Generator and discriminator, both from one pass of each network.

    The generator's update does not change the discriminator, so the logits that the generator is scored with are
    those that the discriminator is trained on: real and generated images go through it once each, real ones first
    and as separate batches, so that its batch statistics never mix the two. Both updates follow from the weights
    before the step, which equals updating the generator first and then the discriminator on the same images.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, terms: Sequence[Term], engine: Engine | None = None
    ) -> None:
        super().__init__(generator, terms, engine)
        self.discriminator = discriminator
        (self.adversarial,) = [term for term in terms if term.role == "adversarial"]
        self.regularisers = [term for term in terms if term.role == "regulariser"]

    def networks(self) -> list[nn.Module]:
        """Return the networks that the task trains."""
        return [self.generator, self.discriminator]

    def judge(self, hr: torch.Tensor, sr: torch.Tensor, step: int) -> tuple[Losses, Losses]:
        """Return the generator's adversarial term and the discriminator's terms that are due at a step."""
        term = self.adversarial
        with self.engine.autocast():
            real = self.engine.gather(self.discriminator(hr).float())
            fake = self.engine.gather(self.discriminator(sr).float())
            seen = real if getattr(term.loss, "generator_needs_real", True) else None
            generator = {term.label: term.weight(step) * called(term, term.loss.generator_loss, seen, fake)}
            discriminator = {"discriminator": called(term, term.loss.discriminator_loss, real, fake)}
        bare = self.engine.unwrap(self.discriminator)
        for term in self.regularisers:
            if self._is_due(term, step):
                # Second derivatives of bf16 convolutions are not worth the noise: penalties stay in float32.
                with torch.autocast(hr.device.type, enabled=False):
                    discriminator[term.label] = term.weight(step) * called(term, term.loss, bare, hr, sr.detach())
        return generator, discriminator

    def _against_discriminator(
        self, hr: torch.Tensor, output: torch.Tensor, step: int, share: float, pull: _Pull | None
    ) -> Losses:
        generator, discriminator = self.judge(hr, output, step)
        if pull is not None:
            pull.add(generator, keep_graph=True)
        self.engine.backward(
            share * torch.stack(list(discriminator.values())).sum(),
            inputs=[parameter for parameter in self.discriminator.parameters() if parameter.requires_grad],
        )
        return {**(generator if pull is not None else {}), **discriminator}


class _Pull:
    """The sums of the terms' gradients on what the generator made, and the norm of each term's."""

    def __init__(self, outputs: Sequence[torch.Tensor], engine: Engine, share: float, measure: bool) -> None:
        self.gradients = [torch.zeros_like(output) for output in outputs]
        self.norms: dict[str, torch.Tensor] = {}
        self._outputs, self._engine, self._share, self._measure = outputs, engine, share, measure

    def add(self, losses: Losses, keep_graph: bool = False) -> None:
        """Add the gradients of some terms, leaving their bare values in ``losses``.

        A term that does not depend on the output adds nothing. Terms are taken one by one, measured or not: the sum
        of three rounds differently in another order, and a run must not depend on when it is logged.
        """
        for number, label in enumerate(list(losses), 1):
            loss, found = losses[label], []
            if loss.requires_grad:
                scaled = self._engine.scale(self._share * loss)
                retain = keep_graph or number < len(losses)
                gradients = torch.autograd.grad(scaled, self._outputs, retain_graph=retain, allow_unused=True)
                found = [(n, gradient) for n, gradient in enumerate(gradients) if gradient is not None]
            losses[label] = loss.detach()  # so that what a term computed is free before the next one's gradient
            for n, gradient in found:
                self.gradients[n] += gradient
            if self._measure:
                self.norms[label] = norm_of([gradient for _, gradient in found], self.gradients[0])


def norm_of(gradients: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Return the norm of several gradients as of one vector; zero where there are none."""
    norms: list[torch.Tensor] = [gradient.norm() for gradient in gradients]
    if len(norms) > 1:
        norms = [torch.stack(norms).norm()]
    return norms[0] if norms else like.new_zeros(())


def image_losses(terms: Sequence[Term], outputs: Outputs, batch: Batch, step: int = 0) -> Losses:
    """Return weight times loss for every term that compares two images.

    A term on intermediate outputs sees them as one batch, so that a mean over images is one over outputs as well.
    """
    losses = {}
    for term in terms:
        found, wanted = outputs.sr, batch["teacher" if term.imitates else "hr"]
        if term.supervises_intermediate:
            assert outputs.intermediate is not None
            found, wanted = outputs.intermediate.flatten(0, 1), wanted.repeat(len(outputs.intermediate), 1, 1, 1)
        losses[term.label] = term.weight(step) * called(term, term.loss, found, wanted)
    return losses


def called(term: Term, function: Callable[..., Any], *arguments: Any) -> torch.Tensor:
    """Return what a loss plugin makes of its arguments, a scalar.

    Raises:
        PluginError: it fails, or returns something else; names the term and the plugin.
    """
    where = f"loss {term.label!r} ({term.config.name})"
    try:
        loss = function(*arguments)
    except FAULTS as error:
        raise PluginError(f"{where} failed: {describe_exception(error)}.") from error
    if not isinstance(loss, torch.Tensor):
        raise PluginError(
            f"{where} returns a {type(loss).__name__}, which has no gradient; return the tensor, not its .item()."
        )
    if loss.ndim:
        raise PluginError(f"{where} returns a tensor of shape {tuple(loss.shape)}, not one number; end it in .mean().")
    return loss


def shares_of(norms: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the share of each term in the sum of the gradient norms: what drives the training.

    A term with a large value may pull weakly. Empty where a norm is not finite, as in a step that fp16 leaves out.
    """
    total = sum(float(norm) for norm in norms.values())
    if not math.isfinite(total):
        return {}
    return {label: float(norm) / total if total else 0.0 for label, norm in norms.items()}
