"""DCGAN's plain convolution block and its discriminator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from srzoo.layers import conv, init_normal_, normalisation


class ConvBlock(nn.Sequential):
    """conv 3x3, norm, ReLU; the trunk of DCGAN-like generators. (N, C, H, W) to the same shape.

    Args:
        norm: normalisation after the convolution.
    """

    def __init__(self, channels: int, norm: Literal["none", "batch"] = "batch") -> None:
        super().__init__(
            conv(channels, channels, bias=norm == "none"), normalisation(norm, channels), nn.ReLU(inplace=True)
        )


class DCGANDiscriminator(nn.Module):
    """DCGAN's discriminator (arXiv:1511.06434) without the final sigmoid.

    (N, 3, 64, 64) to (N, 1, 1, 1); a larger patch gives a map, one logit for each 64x64 window at stride 16.

    Args:
        num_features: channels of the first convolution.
        norm: normalisation from the second convolution on.
    """

    def __init__(self, num_features: int = 64, norm: Literal["none", "batch", "instance", "group"] = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for index, factor in enumerate((1, 2, 4, 8)):
            width = num_features * factor
            layers.append(nn.Conv2d(previous, width, 4, 2, 1, bias=index == 0 or norm == "none"))
            if index > 0:
                layers.append(normalisation(norm, width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            previous = width
        layers.append(nn.Conv2d(previous, 1, 4, 1, 0))
        self.layers = nn.Sequential(*layers)
        init_normal_(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if min(images.shape[-2:]) < 64:
            raise ValueError(f"dcgan takes patches of at least 64x64, not {images.shape[-2]}x{images.shape[-1]}")
        return self.layers(images)
