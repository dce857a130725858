"""Colour: BT.601 luma and chroma, and methods that enlarge luma with a network and chroma by interpolation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from .images import luma, upscale_bicubic

# ITU-R BT.601, limited range, for R'G'B' in [0, 1] and eight-bit codes, as MATLAB's rgb2ycbcr; the rows of Cb and Cr.
_CB = (-37.797, -74.203, 112.0)
_CR = (112.0, -93.786, -18.214)
# The inverse of the rows of Y, Cb and Cr, times 255; published tables round it further.
_TO_RED = (1.164383561644, 3.011243974e-7, 1.596026887336)
_TO_GREEN = (1.164383561644, -0.3917625399415, -0.8129682921622)
_TO_BLUE = (1.164383561644, 2.017232639556, 3.054261745e-6)


def to_ycbcr(rgb: torch.Tensor) -> torch.Tensor:
    """Return Y, Cb and Cr (N, 3, H, W) of RGB (N, 3, H, W) in [0, 1], as MATLAB's ``rgb2ycbcr`` before rounding.

    Y is in [16/255, 235/255], Cb and Cr in [16/255, 240/255].
    """
    # Products and sums, not a matrix product: autocast would compute that one in bf16.
    chroma = [(rgb * rgb.new_tensor(row).view(1, 3, 1, 1)).sum(dim=1, keepdim=True) for row in (_CB, _CR)]
    return torch.cat([luma(rgb), *((plane + 128.0) / 255.0 for plane in chroma)], dim=1)


def to_rgb(ycbcr: torch.Tensor) -> torch.Tensor:
    """Return RGB (N, 3, H, W) of what :func:`to_ycbcr` gives; not clamped."""
    offset = ycbcr.new_tensor([16.0, 128.0, 128.0]).view(1, 3, 1, 1) / 255.0
    centred = ycbcr - offset
    rows = (_TO_RED, _TO_GREEN, _TO_BLUE)
    planes = [(centred * centred.new_tensor(row).view(1, 3, 1, 1)).sum(dim=1, keepdim=True) for row in rows]
    return torch.cat(planes, dim=1)


def with_bicubic_chroma(lr: torch.Tensor, scale: int, enlarge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Enlarge an image as the methods for luma do: Y by a network, Cb and Cr bicubically.

    The luma of the result, :func:`srzoo.images.luma`, is what ``enlarge`` made.

    Args:
        lr: RGB (N, 3, H, W) in [0, 1].
        enlarge: Y (N, 1, H, W) in [16/255, 235/255] to (K*N, 1, scale*H, scale*W): K versions of the batch, one
            after the other, which all get the same chroma. Mostly K is 1.

    Returns:
        RGB (K*N, 3, scale*H, scale*W) of the input's type, not clamped.
    """
    ycbcr = to_ycbcr(lr)
    planes = enlarge(ycbcr[:, :1])
    chroma = upscale_bicubic(ycbcr[:, 1:], scale).repeat(planes.shape[0] // lr.shape[0], 1, 1, 1)
    return to_rgb(torch.cat([planes.to(chroma.dtype), chroma], dim=1))


class LumaGenerator(nn.Module, ABC):
    """A generator whose network enlarges luma while chroma is enlarged bicubically, or, told so, all of RGB.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), not clamped.

    Attributes:
        planes: C, 1 for luma and 3 for RGB.
    """

    def __init__(self, scale: int, channels: Literal["y", "rgb"]) -> None:
        super().__init__()
        self.scale = scale
        self.planes = 1 if channels == "y" else 3

    def on_planes(self, lr: torch.Tensor, enlarge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return RGB of what a function makes of the planes; see :func:`with_bicubic_chroma`."""
        return with_bicubic_chroma(lr, self.scale, enlarge) if self.planes == 1 else enlarge(lr)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.on_planes(lr, self.enlarge)

    @abstractmethod
    def enlarge(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (N, C, scale*H, scale*W) of planes (N, C, H, W)."""
