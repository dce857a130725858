"""The residual block of SRResNet, MSRResNet and EDSR."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from srzoo.layers import activation as make_activation
from srzoo.layers import conv, normalisation


class ResidualBlock(nn.Module):
    """conv, norm, activation, conv, norm, scaled and added to the input. (N, C, H, W) to the same shape.

    Args:
        norm: batch in SRResNet (arXiv:1609.04802), none in EDSR (arXiv:1707.02921) and MSRResNet.
        activation: between the convolutions; prelu in SRResNet, relu in EDSR.
        residual_scale: factor on the residual before it is added; 0.1 in EDSR.
        norm_momentum: weight of the new batch in the running statistics, as torch counts it.
        norm_after_activation: conv, activation, norm in the first half, as Keras-GAN has it.
    """

    def __init__(
        self,
        channels: int,
        norm: Literal["none", "batch"] = "batch",
        activation: Literal["relu", "leaky_relu", "prelu"] = "prelu",
        residual_scale: float = 1.0,
        norm_momentum: float = 0.1,
        norm_after_activation: bool = False,
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        bias = norm == "none"  # batch normalisation has its own
        middle = [normalisation(norm, channels, norm_momentum), make_activation(activation, channels)]
        if norm_after_activation:
            middle.reverse()
        self.body = nn.Sequential(
            conv(channels, channels, bias=bias or norm_after_activation),
            *middle,
            conv(channels, channels, bias=bias),
            normalisation(norm, channels, norm_momentum),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        residual = self.body(features)
        return features + (residual if self.residual_scale == 1.0 else self.residual_scale * residual)
