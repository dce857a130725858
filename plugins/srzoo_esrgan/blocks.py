"""ESRGAN's dense block and residual-in-residual dense block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.layers import conv


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each seeing all features before it (arXiv:1809.00219, fig. 4). Shape is kept.

    Args:
        growth: channels that each of the first four convolutions adds.
        residual_scale: factor on the last convolution's output before it is added to the input.
        negative_slope: of the leaky ReLU; 0 makes it a ReLU.
    """

    def __init__(
        self, channels: int, growth: int = 32, residual_scale: float = 0.2, negative_slope: float = 0.2
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.negative_slope = negative_slope
        self.convs = nn.ModuleList(
            conv(channels + index * growth, growth if index < 4 else channels) for index in range(5)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        seen = features
        for layer in self.convs[:-1]:
            seen = torch.cat((seen, F.leaky_relu(layer(seen), self.negative_slope, inplace=True)), dim=1)
        return torch.add(features, self.convs[-1](seen), alpha=self.residual_scale)


class RRDB(nn.Module):
    """Residual-in-residual dense block: three dense blocks inside a scaled skip. Shape is kept.

    Args:
        growth: of the dense blocks.
        residual_scale: beta, at both levels.
        negative_slope: of the dense blocks' leaky ReLU.
    """

    def __init__(
        self, channels: int, growth: int = 32, residual_scale: float = 0.2, negative_slope: float = 0.2
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.dense_blocks = nn.Sequential(
            *(DenseBlock(channels, growth, residual_scale, negative_slope) for _ in range(3))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.add(features, self.dense_blocks(features), alpha=self.residual_scale)
