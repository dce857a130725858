"""DRCN: embedding, a recursion of one shared convolution, and a reconstruction shared by all recursions."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import nn

from srzoo.colour import LumaGenerator
from srzoo.images import upscale_bicubic
from srzoo.layers import conv

_GREY = 0.5


class DRCN(LumaGenerator):
    """Deeply-recursive convolutional network (arXiv:1511.04491, sec. 3.2, the advanced model).

    Every recursion's features are turned into an image, to which the enlarged input is added (skip-connection). The
    output is the sum of these images with learned weights. On luma, with 256 features, it has the 1,774,080 weights
    that later papers count, 1,025 biases and one weight a recursion.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), not clamped; with ``intermediate=True``
    also (recursions, N, 3, scale*H, scale*W), the recursions' images.

    Args:
        num_features: channels throughout.
        recursions: how often the shared convolution is applied.
        channels: y as in the paper, with bicubic chroma, or rgb.
    """

    def __init__(
        self,
        scale: int = 4,
        num_features: int = 256,
        recursions: int = 16,
        channels: Literal["y", "rgb"] = "y",
    ) -> None:
        super().__init__(scale, channels)
        for name, value in (("num_features", num_features), ("recursions", recursions)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.recursions = recursions
        self.embed = nn.Sequential(
            conv(self.planes, num_features),
            nn.ReLU(inplace=True),
            conv(num_features, num_features),
            nn.ReLU(inplace=True),
        )
        self.recursion = conv(num_features, num_features)
        self.reconstruct = nn.Sequential(
            conv(num_features, num_features), nn.ReLU(inplace=True), conv(num_features, self.planes)
        )
        self.ensemble = nn.Parameter(torch.full((recursions,), 1 / recursions))
        self._init_as_in_the_paper()

    def _init_as_in_the_paper(self) -> None:
        """The recursion starts as the identity, everything else after He et al. (sec. 4.2)."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.dirac_(self.recursion.weight)

    def forward(self, lr: torch.Tensor, intermediate: bool = False) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        images = self.on_planes(lr, partial(self.enlarge, intermediate=intermediate))
        if not intermediate:
            return images
        sr, *of_recursions = images.chunk(1 + self.recursions)
        return sr, torch.stack(of_recursions)

    def enlarge(self, planes: torch.Tensor, intermediate: bool = False) -> torch.Tensor:
        """Return the output, (N, C, scale*H, scale*W), and after it in the batch those of the recursions if asked."""
        enlarged = upscale_bicubic(planes, self.scale)
        features = self.embed(enlarged - _GREY)  # the biases could do it, but features that all begin bright soon die
        output, images = torch.zeros_like(enlarged), []
        for weight in self.ensemble:
            features = torch.relu(self.recursion(features))
            image = enlarged + self.reconstruct(features)
            output = output + weight * image
            if intermediate:
                images.append(image)
        return torch.cat([output, *images])
