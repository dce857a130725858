"""Evaluation protocols: what happens to two images before a metric sees them. A protocol is data.

============  ===========================================================================================
name          meaning
============  ===========================================================================================
``y``         today's tables (BasicSR, IMDN): output rounded to uint8, Y of BT.601 limited range in floating
              point, border of ``scale`` pixels cut; a grey image is replicated to RGB first
``y-matlab``  the older tables (SRCNN, A+, SelfExSR): the same with Y rounded to integers as MATLAB's
              rgb2ycbcr on uint8, and a grey image compared on its grey channel
``rgb``       mean over the three channels, border of ``scale`` pixels cut
============  ===========================================================================================
"""

from __future__ import annotations

from typing import Literal

import torch

from .errors import UndefinedScoreError
from .images import luma

Protocol = Literal["y", "y-matlab", "rgb"]
PROTOCOLS: tuple[Protocol, ...] = ("y", "y-matlab", "rgb")


def apply_protocol(image: torch.Tensor, protocol: Protocol, scale: int, grey: bool) -> torch.Tensor:
    """Return what a metric of domain ``protocol`` compares.

    Args:
        image: RGB (N, 3, H, W) uint8, as saved.
        scale: of the entry; the border cut on each side, in pixels.
        grey: whether the reference is a grey image.

    Returns:
        (N, 1 or 3, H - 2*scale, W - 2*scale), float64 in [0, 1].

    Raises:
        UndefinedScoreError: nothing is left inside the border.
    """
    if min(image.shape[-2:]) <= 2 * scale:
        raise UndefinedScoreError(
            f"an image of {image.shape[-1]}x{image.shape[-2]} has nothing inside a border of {scale}."
        )
    image = image[..., scale:-scale, scale:-scale].double() / 255.0
    if protocol == "rgb":
        return image
    if protocol == "y":
        return luma(image)
    if grey:  # the three channels of a grey reference are equal; a generator's are nearly so
        return (image.mean(dim=1, keepdim=True) * 255).round() / 255
    return (luma(image) * 255).round() / 255
