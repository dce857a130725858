"""What all layouts share: a table of names as class attributes, counting in names, and what a composition must be."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from srzoo.errors import WeightsError
from srzoo.layouts import PlainLayout

if TYPE_CHECKING:
    import torch


class Table(PlainLayout):
    """A layout whose names are templates. ``{block}`` counts from 0, ``{step}``, ``{dense}`` and ``{conv}`` from 1.

    Where layers are numbered through, ``{blocks}`` and ``{steps}`` are how many there are, and ``{up}``, ``{hr}`` and
    ``{tail}`` the places of an upsampling step and of the last two convolutions.
    """

    head = "conv_first"
    block = ""
    trunk_end = ""
    up = ""
    hr_conv = "conv_hr"
    tail = "conv_last"
    up_offset = 0
    """Where layers are numbered through: of a step's convolution among its three layers."""

    def counted(self, tensors: Collection[str], template: str, field: str) -> int:
        """Return how many values a field of a template takes among the names of tensors."""
        pattern = re.escape(template).replace(rf"\{{{field}\}}", r"(?P<found>\d{1,4})")
        pattern = re.sub(r"\\\{\w+\\\}", r"\\d+", pattern) + r"\.weight"
        return len({match["found"] for name in tensors if (match := re.fullmatch(pattern, name))})

    def places(self, blocks: int, steps: int) -> dict[str, int]:
        """Return the numbers of layers that are numbered through."""
        return {"blocks": blocks, "steps": steps, "hr": 3 * steps + 2, "tail": 3 * steps + 4}

    def up_name(self, step: int) -> str:
        """Return the name of an upsampling convolution."""
        return self.up.format(step=step, up=3 * step - self.up_offset, index=step - 1, even=2 * (step - 1))

    def steps(self, tensors: Collection[str]) -> int:
        """Return how many upsampling convolutions there are."""
        if "{up}" in self.up:  # model.0, the trunk, the steps, and two more
            return max(0, self.counted(tensors, "model.{number}", "number") - 3)
        steps = 0
        while f"{self.up_name(steps + 1)}.weight" in tensors:
            steps += 1
        return steps

    def ends(self, blocks: int, steps: int) -> dict[str, str]:
        """Return ours to theirs of all that lies outside the blocks and the upsampler."""
        places = self.places(blocks, steps)
        found = {"head.0": self.head, "trunk_end.0": self.trunk_end, "hr_conv.0": self.hr_conv, "tail": self.tail}
        return {ours: theirs.format(**places) for ours, theirs in found.items() if theirs}


def rgb_features(tensors: Mapping[str, torch.Tensor], head: str) -> int:
    """Return the channels of the trunk, from the first convolution.

    Raises:
        WeightsError: it does not take RGB.
    """
    features, unshuffle = head_of(tensors, head)
    if unshuffle > 1:
        raise WeightsError(
            f"{head} takes {3 * unshuffle**2} channels, so the image is unshuffled before it, which is known "
            "of RRDBNet alone (Real-ESRGAN x2 and x1)"
        )
    return features


def head_of(tensors: Mapping[str, torch.Tensor], head: str) -> tuple[int, int]:
    """Return the channels of the trunk, and the factor by which the image is unshuffled before it.

    Raises:
        WeightsError: the first convolution does not take RGB, as it is or unshuffled.
    """
    shape = tuple(tensors[f"{head}.weight"].shape)
    if len(shape) != 4:
        raise WeightsError(f"{head}.weight has shape {shape}, which is not that of a convolution")
    unshuffle = {3: 1, 12: 2, 48: 4}.get(shape[1])
    if unshuffle is None:
        raise WeightsError(
            f"{head} takes {shape[1]} channels; generators here take RGB: 3, or 12 and 48 where it is unshuffled"
        )
    return shape[0], unshuffle


def shuffle_factor(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the factor of a convolution before a pixel shuffle: the root of how many times it has more channels."""
    shape = tuple(tensors[f"{name}.weight"].shape)
    if len(shape) != 4:
        raise WeightsError(f"{name}.weight has shape {shape}, which is not that of a convolution")
    factor = math.isqrt(shape[0] // max(1, shape[1]))
    if factor < 2 or factor**2 * shape[1] != shape[0]:
        raise WeightsError(f"{name} maps {shape[1]} to {shape[0]} channels, which no pixel shuffle follows")
    return factor


def require(composition: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check options of a composition, by dotted key below ``generator``.

    Raises:
        ValueError: one is another; says which, and what it would have to be.
    """
    for key, value in wanted.items():
        found: Any = composition["generator"]
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        accepted = value if isinstance(value, tuple) else (value,)
        if found not in accepted:
            raise ValueError(f"it needs generator.{key} {' or '.join(map(repr, accepted))}, not {found!r}")


TRUNK = {
    "name": "composable/trunk",
    "head_kernel": 3,
    "tail_kernel": 3,
    "trunk_norm": "none",
    "output_activation": "none",
    "input_unshuffle": 1,
}
"""What the trunk is in all of these."""
