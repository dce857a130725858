"""Upsamplers: (N, C, H, W) to (N, out_channels, scale*H, scale*W). A scale of 1 leaves the features alone."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.layers import activation as make_activation
from srzoo.layers import conv, normalisation, upsample_factors


def _sub_pixel(features: torch.Tensor, layer: nn.Conv2d, factor: int) -> torch.Tensor:
    """Return ``pixel_shuffle(layer(features), factor)``; (N, C, H, W) to (N, C', factor*H, factor*W).

    In channels_last, a shuffle moves single numbers, and so does its gradient, which takes as long as a convolution.
    Where the layer's channels come in the order (row, column, channel) instead of the (channel, row, column) of every
    checkpoint, it moves whole pixels, several times as fast. Reordering the weights costs nothing beside that.
    """
    if factor == 1 or not features.is_contiguous(memory_format=torch.channels_last):
        return F.pixel_shuffle(layer(features), factor)
    n, _, height, width = features.shape
    channels = layer.out_channels // factor**2
    weight = layer.weight.unflatten(0, (channels, factor**2)).transpose(0, 1).flatten(0, 1)
    bias = None if layer.bias is None else layer.bias.unflatten(0, (channels, factor**2)).t().flatten()
    # (N, H, W, factor, factor*C'), then rows of pixels are put in place
    rows = layer._conv_forward(features, weight, bias).permute(0, 2, 3, 1).unflatten(3, (factor, factor * channels))
    return rows.transpose(2, 3).reshape(n, factor * height, factor * width, channels).permute(0, 3, 1, 2)


def _nearest_conv(features: torch.Tensor, layer: nn.Conv2d, factor: int) -> torch.Tensor:
    """Return ``layer(interpolate(features, factor, "nearest"))``; (N, C, H, W) to (N, C', factor*H, factor*W).

    Of the nine pixels under a 3x3 kernel, only four differ after an enlargement by 2. Their taps added up make a
    transposed convolution of stride 2 and kernel 4x4, which is the same function, borders included, in 16 products a
    low-resolution pixel instead of 36. On a CPU that is twice as fast; on a GPU it has not been measured.
    """
    if factor == 1 or features.device.type != "cpu":
        return layer(F.interpolate(features, scale_factor=factor, mode="nearest"))
    around = F.pad(layer.weight.to(torch.promote_types(layer.weight.dtype, torch.float32)), [factor - 1] * 4)
    taps = F.avg_pool2d(around, factor, stride=1) * factor**2  # their sums; ONNX knows no divisor_override
    kernel = taps.flip(2, 3).transpose(0, 1).to(layer.weight.dtype, memory_format=torch.channels_last)
    return F.conv_transpose2d(features, kernel, layer.bias, stride=factor, padding=layer.padding)


class PixelShuffle(nn.Module):
    """Sub-pixel convolution (Shi et al., arXiv:1609.05158): conv to factor^2 x channels, shuffle, activation.

    Args:
        activation: after each shuffle; SRResNet has prelu, EDSR none.
        negative_slope: of leaky_relu; MSRResNet has 0.1.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        activation: Literal["none", "relu", "leaky_relu", "prelu"] = "none",
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.out_channels = channels
        steps: list[nn.Module] = []
        for factor in upsample_factors(scale):
            steps += [
                conv(channels, channels * factor**2),
                nn.PixelShuffle(factor),
                make_activation(activation, channels, negative_slope),
            ]
        self.steps = nn.Sequential(*steps)  # shuffles have no weights; they keep the activations' names in checkpoints

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer, shuffle, act in zip(self.steps[0::3], self.steps[1::3], self.steps[2::3], strict=True):
            features = act(_sub_pixel(features, layer, shuffle.upscale_factor))
        return features


class PixelShuffleDirect(nn.Module):
    """One convolution to scale^2 x num_features channels and one shuffle, whatever the scale; ESPCN's own layer.

    Light networks end so (SwinIR calls its head pixelshuffledirect): hardly anything is computed at high resolution,
    and the time goes into the trunk instead.

    Args:
        num_features: channels at high resolution. With 3, as in the papers, they are the image already.
    """

    def __init__(self, channels: int, scale: int, num_features: int = 3) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, not {num_features}")
        enlarges = scale > 1
        self.out_channels = num_features if enlarges else channels
        self.steps = nn.Sequential()
        if enlarges:
            self.steps = nn.Sequential(conv(channels, num_features * scale**2), nn.PixelShuffle(scale))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not self.steps:
            return features
        layer, shuffle = self.steps
        return _sub_pixel(features, layer, shuffle.upscale_factor)


class NearestConv(nn.Module):
    """Nearest-neighbour enlargement, conv, activation; free of the checkerboard of transposed convolutions.

    Args:
        num_features: channels after the first step; the trunk's own by default.
        activation: after each convolution; ESRGAN has leaky_relu.
        negative_slope: of leaky_relu.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        num_features: int | None = None,
        activation: Literal["none", "relu", "leaky_relu", "prelu"] = "leaky_relu",
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.factors = upsample_factors(scale)
        width = num_features or channels
        self.out_channels = width if self.factors else channels
        self.convs = nn.ModuleList(conv(channels if i == 0 else width, width) for i in range(len(self.factors)))
        self.activations = nn.ModuleList(make_activation(activation, width, negative_slope) for _ in self.factors)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for factor, layer, act in zip(self.factors, self.convs, self.activations, strict=True):
            features = act(_nearest_conv(features, layer, factor))
        return features


class TransposedConv(nn.Module):
    """Transposed convolution as in DCGAN (arXiv:1511.06434, sec. 3): 4x4 stride 2, or 5x5 stride 3.

    Args:
        norm: after each convolution; DCGAN has batch.
        activation: after the normalisation.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        norm: Literal["none", "batch"] = "none",
        activation: Literal["none", "relu", "leaky_relu", "prelu"] = "relu",
    ) -> None:
        super().__init__()
        self.out_channels = channels
        steps: list[nn.Module] = []
        for factor in upsample_factors(scale):
            kernel = 2 * factor - factor % 2  # with padding 1, the output is exactly factor times as large
            steps += [
                nn.ConvTranspose2d(channels, channels, kernel, stride=factor, padding=1, bias=norm == "none"),
                normalisation(norm, channels),
                make_activation(activation, channels),
            ]
        self.steps = nn.Sequential(*steps)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.steps(features)
