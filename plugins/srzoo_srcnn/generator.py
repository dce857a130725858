"""SRCNN: patch extraction, non-linear mapping and reconstruction as three convolutions at high resolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from srzoo.colour import with_bicubic_chroma
from srzoo.images import upscale_bicubic

_GREY = 0.5


class SRCNN(nn.Module):
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
        super().__init__()
        if any(size < 1 or size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, not {kernel_sizes}")
        if min(num_features) < 1:
            raise ValueError(f"num_features must be at least 1, not {num_features}")
        self.scale = scale
        self.channels = channels
        planes = 1 if channels == "y" else 3
        widths = (planes, *num_features, planes)
        self.extract, self.map, self.reconstruct = (
            nn.Conv2d(before, after, size, padding=size // 2, padding_mode="replicate")
            for before, after, size in zip(widths, widths[1:], kernel_sizes, strict=False)
        )
        for layer in (self.extract, self.map, self.reconstruct):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.001)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is self.reconstruct else "relu")
            nn.init.zeros_(layer.bias)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if self.channels == "y":
            return with_bicubic_chroma(lr, self.scale, self._enlarge)
        return self._enlarge(lr)

    def _enlarge(self, planes: torch.Tensor) -> torch.Tensor:
        enlarged = upscale_bicubic(planes, self.scale) - _GREY
        features = torch.relu(self.extract(enlarged))  # (N, 64, scale*H, scale*W)
        return self.reconstruct(torch.relu(self.map(features))) + _GREY
