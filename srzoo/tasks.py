"""What is optimised in a stage: the generator alone, or the generator against a discriminator.

A task turns a batch into named loss values; it never calls backward. What is special about a GAN formulation
(pairing, criterion, penalties) is in its loss plugins, so no task is ever subclassed for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from .compose import Term
from .errors import PluginError
from .plugins import describe_exception

Batch = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
"""Term label to weighted loss, a scalar."""


class Task(Protocol):
    """What the training loop needs of a task."""

    sr: torch.Tensor
    """The generator's output for the current batch, (N, 3, H, W) float32; the terms' gradients meet in it."""

    def generator_losses(self, batch: Batch) -> Losses:
        """Run the generator and return its weighted terms."""

    def discriminator_losses(self, batch: Batch, step: int) -> Losses:
        """Return the discriminator's terms for the same batch and output; empty where there is none."""


class PixelTask:
    """Generator only: pixel and perceptual terms."""

    def __init__(self, generator: nn.Module, terms: Sequence[Term]) -> None:
        self.generator = generator
        self.terms = terms
        self.sr = torch.empty(0)

    def generator_losses(self, batch: Batch) -> Losses:
        """Return every term between output and reference, times its weight."""
        self.sr = self.generator(batch["lr"]).float()  # losses are summed in float32 also under autocast
        return image_losses(self.terms, self.sr, batch["hr"])

    def discriminator_losses(self, batch: Batch, step: int) -> Losses:
        """Return nothing: there is no discriminator."""
        return {}


class GanTask:
    """Generator and discriminator in alternation, one update each a batch.

    The discriminator is in training mode throughout and sees real and generated images as separate batches, so
    that its batch statistics never mix the two.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, terms: Sequence[Term]) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.image_terms = [term for term in terms if term.role in ("pixel", "perceptual")]
        (self.adversarial,) = [term for term in terms if term.role == "adversarial"]
        self.regularisers = [term for term in terms if term.role == "regulariser"]
        self.sr = torch.empty(0)

    def generator_losses(self, batch: Batch) -> Losses:
        """Return the generator's terms; gradients flow through the discriminator but not into it."""
        self.discriminator.requires_grad_(False)
        self.sr = self.generator(batch["lr"]).float()
        losses = image_losses(self.image_terms, self.sr, batch["hr"])
        loss, config = self.adversarial.loss, self.adversarial.config
        real_logits = None
        if loss.generator_needs_real:  # relativistic: the generator is scored against the real images' logits
            with torch.no_grad():
                real_logits = self.discriminator(batch["hr"]).float()
        fake_logits = self.discriminator(self.sr).float()
        losses[self.adversarial.label] = config.weight * loss.generator_loss(real_logits, fake_logits)
        return losses

    def discriminator_losses(self, batch: Batch, step: int) -> Losses:
        """Return the discriminator's term and the regularisers due at this step."""
        self.discriminator.requires_grad_(True)
        hr, sr = batch["hr"], self.sr.detach()
        real_logits = self.discriminator(hr).float()
        fake_logits = self.discriminator(sr).float()
        losses = {"discriminator": self.adversarial.loss.discriminator_loss(real_logits, fake_logits)}
        for term in self.regularisers:
            if step % term.config.every == 0:
                # Second derivatives of bf16 convolutions are not worth the noise: penalties stay in float32.
                with torch.autocast(hr.device.type, enabled=False):
                    losses[term.label] = term.config.weight * term.loss(self.discriminator, hr, sr)
        return losses


def image_losses(terms: Sequence[Term], sr: torch.Tensor, hr: torch.Tensor) -> Losses:
    """Return weight times loss for every term that compares two images."""
    losses = {}
    for term in terms:
        try:
            losses[term.label] = term.config.weight * term.loss(sr, hr)
        except Exception as error:
            raise PluginError(
                f"loss {term.label!r} ({term.config.name}) failed: {describe_exception(error)}."
            ) from error
    return losses


def gradient_shares(losses: Losses, sr: torch.Tensor) -> dict[str, float]:
    """Return the share of each term in the sum of the terms' gradient norms on the generator's output.

    It tells what drives the training: a term with a large value may pull weakly. Call it before ``backward``.
    """
    norms: dict[str, float] = {}
    for label, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, sr, retain_graph=True, allow_unused=True)
        norms[label] = float(gradient.norm()) if gradient is not None else 0.0
    total = sum(norms.values())
    return {label: norm / total if total else 0.0 for label, norm in norms.items()}
