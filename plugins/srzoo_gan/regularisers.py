"""Regularisers of the discriminator: called with it and the two batches of images, (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from srzoo.recipe import Stage


def _input_gradient(discriminator: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each image's logit with respect to that image, (N, 3*H*W), differentiable.

    A map of logits counts as its mean.
    """
    images = images.detach().requires_grad_(True)
    logits = discriminator(images)
    score = logits.flatten(1).mean(dim=1).sum()
    (gradient,) = torch.autograd.grad(score, images, create_graph=True)
    return gradient.flatten(1)


class GradientPenalty:
    """WGAN-GP (arXiv:1704.00028, eq. 3): the gradient norm between real and generated images is held at a target.

    It is defined image by image; use a discriminator without batch normalisation (``norm: none``), which couples
    the images of a batch.

    Args:
        target: the norm to hold; 1 in the paper.
    """

    def __init__(self, target: float = 1.0) -> None:
        self.target = target

    def cautions(self, stage: Stage, roles: Collection[str], discriminator: nn.Module) -> list[str]:
        """Return a warning if batch normalisation couples the images whose gradients are held apart."""
        if not any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
            return []
        return [
            "gradient_penalty is defined image by image, but the discriminator's batch normalisation couples the "
            "images of a batch; use a discriminator without it (most take norm: none)."
        ]

    def __call__(self, discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
        mix = torch.rand(len(hr), 1, 1, 1, device=hr.device, dtype=hr.dtype)
        gradient = _input_gradient(discriminator, mix * hr + (1 - mix) * sr)
        return (gradient.norm(dim=1) - self.target).square().mean()


class R1:
    """R1 (Mescheder et al., arXiv:1801.04406, eq. 9): half the squared gradient norm on real images.

    The term's weight is the paper's gamma.
    """

    def __call__(self, discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
        return 0.5 * _input_gradient(discriminator, hr).square().sum(dim=1).mean()
