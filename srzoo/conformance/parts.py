"""The plainest parts: they fill the slots of a component under check, so that no other plugin is tried with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import conv


class PlainBlock(nn.Module):
    """A convolution with a skip. (N, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + torch.tanh(self.conv(features))


class PlainUpsampler(nn.Module):
    """Nearest-neighbour enlargement and a convolution. (N, C, H, W) to (N, C, scale*H, scale*W)."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = conv(channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        large: torch.Tensor = self.conv(F.interpolate(features, scale_factor=float(self.scale), mode="nearest"))
        return large


class PlainExtractor(nn.Module):
    """Two convolutions with a stride of 2 each; it has every layer it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv(3, 8, stride=2), nn.Softplus(), conv(8, 8, stride=2))

    def forward(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        features = self.convs(images)
        return dict.fromkeys(layers, features)


class PlainDiscriminator(nn.Module):
    """Two convolutions and a smooth activation. RGB (N, 3, H, W) to logits (N, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(3, 8, stride=2), nn.Softplus(), conv(8, 1, stride=2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


PARTS: dict[str, Callable[..., Any]] = {
    "block": PlainBlock,
    "upsampler": PlainUpsampler,
    "extractor": PlainExtractor,
}
"""Name of a slot to what fills it."""
