"""Watching a training for what makes it worthless: terms that are not finite, and terms that pull at nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .errors import TrainingError


class FiniteGuard:
    """Remembers the first step at which a term was not finite.

    On a CPU every step is looked at before its update. Looking at a value of another device would make the loop
    wait for it, so there the first bad step of each term is noted on the device and asked for when a step is logged.
    """

    def __init__(self, device: torch.device) -> None:
        self._immediate = device.type == "cpu"
        self._first: dict[str, torch.Tensor] = {}

    def note(self, step: int, losses: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Note a step's terms; returns the broken ones, each with its step, where that can be told at once."""
        if self._immediate:
            return {label: step for label, loss in losses.items() if not torch.isfinite(loss)}
        for label, loss in losses.items():
            bad = torch.where(torch.isfinite(loss), 0, step)
            before = self._first.get(label)
            self._first[label] = bad if before is None else torch.where(before > 0, before, bad)
        return {}

    def check(self) -> dict[str, int]:
        """Return the terms that were not finite so far, each with the first step at which it was not."""
        return {label: int(step) for label, step in self._first.items() if int(step) > 0}


def check_pulls(stage: str, norms: Mapping[str, torch.Tensor], scaled: bool = False) -> None:
    """Check that every term of the generator has a finite, non-zero gradient on the generator's output.

    Args:
        scaled: whether a gradient scaler is at work, whose first steps overflow on purpose.

    Raises:
        TrainingError: one has not, and would be trained with in vain.
    """
    for label, norm in norms.items():
        value = float(norm)
        if value == 0:
            raise TrainingError(
                f"stage {stage!r}: the term {label!r} has no gradient on the generator's output, so it would train "
                "nothing. A loss must be computed from its inputs without detach(), item() or torch.tensor(...)."
            )
        if not scaled and not math.isfinite(value):
            raise TrainingError(f"stage {stage!r}: the gradient of the term {label!r} is not finite at the first step.")
