"""Watching a training for what makes it worthless: values that are not finite, and terms that pull at nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch

from .errors import TrainingError

SMALLEST_SCALE = 2.0**-14
"""Of the gradient scaler: the smallest normal number of fp16, below which gradients of order one would be lost. From
its initial 2**16 it takes thirty steps that are left out, with no thousands of good ones in between, to get there."""


class FiniteGuard:
    """Remembers the first step at which a term, or a network's gradient, was not finite.

    On a CPU every step is looked at before its update. Looking at a value of another device would make the loop
    wait for it, so there the first bad step of each term is noted on the device and asked for when a step is logged.
    """

    def __init__(self, device: torch.device) -> None:
        self._immediate = device.type == "cpu"
        self._first: dict[str, torch.Tensor] = {}

    def note(self, step: int, losses: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Note a step's terms and norms; returns the broken ones, each with its step, where it can be told at once."""
        if self._immediate:
            return {label: step for label, loss in losses.items() if not torch.isfinite(loss)}
        for label, loss in losses.items():
            bad = torch.where(torch.isfinite(loss), 0, step)
            before = self._first.get(label)
            self._first[label] = bad if before is None else torch.where(before > 0, before, bad)
        return {}

    def check(self) -> dict[str, int]:
        """Return what was not finite so far, each with the first step at which it was not."""
        return {label: int(step) for label, step in self._first.items() if int(step) > 0}


def is_exhausted(scaler: torch.amp.GradScaler) -> bool:
    """Whether a scaler went on lowering its scale in vain: gradients are not finite at whatever scale.

    Reads the scale, so the device has to be waited for.
    """
    return scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE


def check_pulls(
    stage: str, norms: Mapping[str, torch.Tensor], scaled: bool = False, may_be_zero: Collection[str] = ()
) -> None:
    """Check that every term of the generator has a finite, non-zero gradient on the generator's output.

    Args:
        scaled: whether a gradient scaler is at work, whose first steps overflow on purpose.
        may_be_zero: terms that may be at their minimum at first, as those that imitate what the generator starts from.

    Raises:
        TrainingError: one has not, and would be trained with in vain.
    """
    for label, norm in norms.items():
        value = float(norm)
        if value == 0 and label not in may_be_zero:
            raise TrainingError(
                f"stage {stage!r}: the term {label!r} has no gradient on the generator's output, so it would train "
                "nothing. A loss must be computed from its inputs without detach(), item() or torch.tensor(...)."
            )
        if not scaled and not math.isfinite(value):
            raise TrainingError(f"stage {stage!r}: the gradient of the term {label!r} is not finite at the first step.")
