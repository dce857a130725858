"""SRCNN: patch extraction, non-linear mapping and reconstruction as three convolutions at high resolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from srzoo.colour import LumaGenerator
from srzoo.images import upscale_bicubic
from srzoo.layers import conv_stack

_GREY = 0.5


class SRCNN(LumaGenerator):
    """Super-resolution by three convolutions on the bicubically enlarged image (arXiv:1501.00092, sec. 3.1).

    On luma, the networks 9-1-5, 9-3-5 and 9-5-5 with 64 and 32 features have 8,032, 24,416 and 57,184 weights, as
    the paper counts (sec. 4.3.2), and 97 biases. The paper trains without padding and tests with replicated borders;
    here borders are replicated always, so that no output is smaller than its image. Values are counted from mid-grey
    inside: the biases could do the same, but without, most of the second layer's features died in training.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), not clamped.

    Args:
        kernel_sizes: of the three convolutions.
        num_features: channels after the first and the second.
        channels: y as in the paper's comparisons, with bicubic chroma, or rgb (sec. 4.5).
        init: normal with deviation 0.001 (sec. 3.3), or kaiming, after He et al., which needs fewer steps.
    """

    def __init__(
        self,
        scale: int = 4,
        kernel_sizes: tuple[int, int, int] = (9, 5, 5),
        num_features: tuple[int, int] = (64, 32),
        channels: Literal["y", "rgb"] = "y",
        init: Literal["normal", "kaiming"] = "normal",
    ) -> None:
        super().__init__(scale, channels)
        self.extract, self.map, self.reconstruct = conv_stack((self.planes, *num_features, self.planes), kernel_sizes)
        for layer in (self.extract, self.map, self.reconstruct):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.001)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is self.reconstruct else "relu")
            nn.init.zeros_(layer.bias)

    def enlarge(self, planes: torch.Tensor) -> torch.Tensor:
        enlarged = upscale_bicubic(planes, self.scale) - _GREY
        features = torch.relu(self.extract(enlarged))  # (N, 64, scale*H, scale*W)
        return self.reconstruct(torch.relu(self.map(features))).to(planes.dtype) + _GREY
