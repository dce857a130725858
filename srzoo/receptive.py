"""How far a generator sees: the distance at which an input still changes an output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .errors import PluginError
from .inference import run_generator

TOLERANCE = 1e-6
"""Changes of an output below this do not count; a tenth of what tiled and whole may differ by."""


@dataclass(frozen=True)
class Field:
    """How far a generator sees, in low-resolution pixels; None where no bound was found.

    Attributes:
        radius: no input farther from an output's pixel has any influence on it.
        effective: none farther away changes it by more than ``TOLERANCE``. In deep networks this is far less: the
            theoretical radius of RRDBNet's 23 blocks is several hundred pixels.
    """

    radius: int | None = None
    effective: int | None = None

    @property
    def needed(self) -> int | None:
        """How far tiles must overlap to give what the whole image would, to within 1e-5."""
        return self.effective if self.effective is not None else self.radius


def receptive_radius(generator: nn.Module, scale: int, size_multiple: int = 1) -> int | None:
    """Return the distance, in low-resolution pixels, beyond which no input has an influence on an output.

    Returns:
        None where :func:`measure_field` finds no bound.
    """
    return measure_field(generator, scale, size_multiple).radius


def measure_field(generator: nn.Module, scale: int, size_multiple: int = 1, longest: int = 512) -> Field:
    """Measure how far a generator sees, by what changes when everything beyond a line does.

    That is what cutting a tile changes. Strips of random values are used, longer ones until the field fits: the
    field of RRDBNet's 23 blocks would fill the memory by gradients, but needs no more than one tile's this way.

    Args:
        generator: prepared by :func:`srzoo.inference.prepare`.
        longest: length of the longest strip; wider fields, and operations over the whole image, have no bound.
    """
    length = -(-64 // (2 * size_multiple)) * 2 * size_multiple
    while True:
        try:
            change = _change_by_distance(generator, scale, size_multiple, length)
        except PluginError:  # it cannot take strips; then nothing is known, and the seams of the image itself tell
            return Field()
        if change[-1] <= TOLERANCE:
            exact = None if change[-1] > 0 else _reach(change, 0.0)
            return Field(exact, _reach(change, TOLERANCE))
        if 2 * length > longest:
            return Field()
        length *= 2


def _reach(change: torch.Tensor, tolerance: float) -> int:
    beyond = (change > tolerance).nonzero()
    return int(beyond.max()) + 1 if len(beyond) else 0


def _change_by_distance(generator: nn.Module, scale: int, size_multiple: int, length: int) -> torch.Tensor:
    """Return (length/2,): the largest change of an output at each distance from a line beyond which all changed."""
    source = torch.Generator().manual_seed(0)
    half, breadth = length // 2, -(-16 // size_multiple) * size_multiple
    largest = torch.zeros(half)
    parameter = next(generator.parameters(), None)
    for upright in (False, True):
        strip, other = (torch.rand(1, 3, breadth, side, generator=source) for side in (length, half))
        before, after = strip.clone(), strip.clone()
        before[..., :half], after[..., half:] = other, other
        batch = torch.cat([strip, before, after])
        batch = batch.transpose(2, 3) if upright else batch
        sr = run_generator(generator, batch.to(parameter.device if parameter is not None else "cpu"), scale)
        sr = (sr.transpose(2, 3) if upright else sr).cpu()  # (3, 3, scale*breadth, scale*length)
        change = (sr[1:] - sr[:1]).abs().amax(dim=(1, 2)).view(2, length, scale).amax(dim=2)
        change = change / sr.abs().max().clamp(min=1)
        largest = torch.maximum(largest, torch.maximum(change[0, half:], change[1, :half].flip(0)))
    return largest
