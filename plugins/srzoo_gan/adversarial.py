"""Adversarial losses: how a logit is scored (criterion) and what is scored (pairing), chosen independently.

Written for a discriminator that wants real logits high. With f_r and f_f the criterion's penalties for a real and
a fake logit, and C(.) the logit:

=====================  ==========================================================================================
pairing                discriminator's loss
=====================  ==========================================================================================
standard               E f_r(C(x_r)) + E f_f(C(x_f))
relativistic           E f_r(C(x_r) - C(x_f)) + E f_f(C(x_f) - C(x_r))
relativistic_average   E f_r(C(x_r) - E C(x_f)) + E f_f(C(x_f) - E C(x_r))
=====================  ==========================================================================================

The generator's loss swaps the roles of real and fake (arXiv:1807.00734, eqs. 13 to 16): in a relativistic pairing
both terms depend on the generator. Scoring both with the standard generator's ``-C(.)`` instead, as public code
does for hinge, makes them cancel to a gradient of exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from srzoo.recipe import Stage

Penalty = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Criterion:
    """Penalties of a logit, elementwise.

    Args:
        real: the discriminator's, for a real logit.
        fake: the discriminator's, for a fake logit.
        fooled: the generator's, for its own logit under standard pairing.
    """

    real: Penalty
    fake: Penalty
    fooled: Penalty


def _relativistic_least_squares() -> Criterion:
    # A difference of logits is centred on 0, so the targets are 1 and -1 (RaLSGAN, arXiv:1807.00734, app. D)
    # where single logits have 1 and 0.
    return Criterion(
        real=lambda difference: (difference - 1) ** 2,
        fake=lambda difference: (difference + 1) ** 2,
        fooled=lambda difference: (difference - 1) ** 2,
    )


_CROSS_ENTROPY = Criterion(
    real=lambda logit: F.softplus(-logit),  # -log sigmoid(C)
    fake=F.softplus,  # -log(1 - sigmoid(C))
    fooled=lambda logit: F.softplus(-logit),  # non-saturating: -log sigmoid(C)
)
_CRITERIA: dict[str, Criterion] = {
    "bce": _CROSS_ENTROPY,
    "softplus": _CROSS_ENTROPY,
    "minimax": Criterion(
        real=_CROSS_ENTROPY.real,
        fake=_CROSS_ENTROPY.fake,
        fooled=lambda logit: -F.softplus(logit),  # the game's own log(1 - D), which saturates
    ),
    "least_squares": Criterion(
        real=lambda logit: (logit - 1) ** 2,
        fake=lambda logit: logit**2,
        fooled=lambda logit: (logit - 1) ** 2,
    ),
    "hinge": Criterion(
        real=lambda logit: F.relu(1 - logit),
        fake=lambda logit: F.relu(1 + logit),
        fooled=lambda logit: -logit,
    ),
    "wasserstein": Criterion(
        real=lambda logit: -logit,
        fake=lambda logit: logit,
        fooled=lambda logit: -logit,
    ),
}


class Adversarial:
    """Adversarial loss of generator and discriminator, from logits (N, 1) or (N, 1, h, w).

    Args:
        criterion: bce (arXiv:1406.2661, non-saturating), minimax (the same, saturating), softplus (bce as
            StyleGAN writes it), least_squares (arXiv:1611.04076), hinge (arXiv:1705.02894), wasserstein
            (arXiv:1701.07875; needs a gradient penalty or clipping).
        pairing: standard, relativistic or relativistic_average (arXiv:1807.00734; RaGAN of ESRGAN). Under wasserstein
            all three are one loss, which the relativistic ones count twice in the discriminator; so the same gradient
            penalty weighs half as much beside it.
        halves: whether the terms for real and fake are summed, as in the papers, or averaged, as in public code.
        on: probabilities puts a sigmoid before least_squares, as Keras-GAN does.
        label_smoothing: one-sided: the discriminator's target for real images is this much below certainty
            (arXiv:1606.03498, sec. 3.4; 0.1 there). For the cross entropies and least_squares.
        generator_criterion: another criterion for the generator's own loss, on logits; standard pairing only.
    """

    def __init__(
        self,
        criterion: Literal["bce", "minimax", "softplus", "least_squares", "hinge", "wasserstein"] = "bce",
        pairing: Literal["standard", "relativistic", "relativistic_average"] = "standard",
        halves: Literal["sum", "mean"] = "sum",
        on: Literal["logits", "probabilities"] = "logits",
        label_smoothing: float = 0.0,
        generator_criterion: Literal["bce", "minimax", "softplus", "least_squares", "hinge", "wasserstein"]
        | None = None,
    ) -> None:
        if generator_criterion is not None and pairing != "standard":
            raise ValueError("generator_criterion is for standard pairing; a relativistic loss is one game for both")
        if on == "probabilities" and (criterion != "least_squares" or pairing != "standard"):
            raise ValueError(
                "on: probabilities is for criterion least_squares with standard pairing; the other criteria and "
                "relativistic differences are defined on logits"
            )
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must lie in [0, 0.5), not {label_smoothing}")
        if label_smoothing and criterion in ("hinge", "wasserstein"):
            raise ValueError(f"label_smoothing is for criteria with targets; {criterion} has none")
        self.smoothing = label_smoothing
        self.unbounded = criterion == "wasserstein"
        self.pairing = pairing
        self.on_probabilities = on == "probabilities"
        self.saturating = criterion == "minimax"
        self.factor = 0.5 if halves == "mean" else 1.0
        self.generator_needs_real = pairing != "standard"
        if criterion == "least_squares" and pairing != "standard":
            self.criterion = _relativistic_least_squares()
        else:
            self.criterion = _CRITERIA[criterion]
        self.generator_criterion = _CRITERIA[generator_criterion] if generator_criterion is not None else None

    def cautions(self, stage: Stage, roles: Collection[str], discriminator: nn.Module) -> list[str]:
        """Return a warning if nothing bounds a critic whose loss has no minimum."""
        bounded = stage.clip_discriminator is not None or "regulariser" in roles
        if not self.unbounded or bounded or any(is_parametrized(module) for module in discriminator.modules()):
            return []
        return [
            "criterion wasserstein has no minimum unless the discriminator is constrained, and training will "
            "diverge; add gradient_penalty: 10, set clip_discriminator: 0.01, or use spectral norm."
        ]

    def discriminator_loss(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        """Return the discriminator's loss, a scalar."""
        real, fake = self._pair(real_logits, fake_logits)
        real_loss, fake_loss = self.criterion.real(real).mean(), self.criterion.fake(fake).mean()
        if self.smoothing:  # a target between two is a mixture of both, up to a constant
            real_loss = (1 - self.smoothing) * real_loss + self.smoothing * self.criterion.fake(real).mean()
        return self.factor * (real_loss + fake_loss)

    def generator_loss(self, real_logits: torch.Tensor | None, fake_logits: torch.Tensor) -> torch.Tensor:
        """Return the generator's loss, a scalar; ``real_logits`` may be None under standard pairing."""
        if self.generator_criterion is not None:
            return self.generator_criterion.fooled(fake_logits).mean()
        if self.pairing == "standard":
            fake = torch.sigmoid(fake_logits) if self.on_probabilities else fake_logits
            return self.criterion.fooled(fake).mean()
        assert real_logits is not None
        real, fake = self._pair(real_logits, fake_logits)
        if self.saturating:
            loss = -self.criterion.real(real).mean() - self.criterion.fake(fake).mean()
        else:
            loss = self.criterion.fake(real).mean() + self.criterion.real(fake).mean()
        return self.factor * loss

    def _pair(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.pairing == "relativistic":
            return real - fake, fake - real
        if self.pairing == "relativistic_average":
            return real - fake.mean(), fake - real.mean()
        if self.on_probabilities:
            return torch.sigmoid(real), torch.sigmoid(fake)
        return real, fake
