"""ESPCN: all arithmetic at low resolution, and the image by one sub-pixel shuffle."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.colour import LumaGenerator
from srzoo.layers import activation as make_activation
from srzoo.layers import conv_stack

_GREY = 0.5


class ESPCN(LumaGenerator):
    """Efficient sub-pixel convolutional network (arXiv:1609.05158, sec. 3.1 and 3.2).

    With 64 and 32 features on luma, it has 24,752 parameters at x4. It predicts the image itself, with nothing
    interpolated beneath it. Borders are replicated, of which the paper does not speak: with zeros, half of what a
    small crop teaches is how to undo a black frame. Values are counted from mid-grey inside, which tanh is
    symmetric about; the biases could do the same.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), not clamped.

    Args:
        kernel_sizes: of the three convolutions.
        num_features: channels after the first and the second.
        activation: after these; the paper's final model has tanh (sec. 3.3.2), relu is its other one.
        channels: y as in the paper, with bicubic chroma, or rgb.
    """

    def __init__(
        self,
        scale: int = 4,
        kernel_sizes: tuple[int, int, int] = (5, 3, 3),
        num_features: tuple[int, int] = (64, 32),
        activation: Literal["tanh", "relu"] = "tanh",
        channels: Literal["y", "rgb"] = "y",
    ) -> None:
        super().__init__(scale, channels)
        widths = (self.planes, *num_features, self.planes * scale**2)
        first, second, self.reconstruct = conv_stack(widths, kernel_sizes)
        self.body = nn.Sequential(first, make_activation(activation), second, make_activation(activation))

    def enlarge(self, planes: torch.Tensor) -> torch.Tensor:
        sub_pixels = self.reconstruct(self.body(planes - _GREY))
        return F.pixel_shuffle(sub_pixels.to(planes.dtype), self.scale) + _GREY
