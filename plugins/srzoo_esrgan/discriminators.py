"""ESRGAN's VGG-style discriminator and Real-ESRGAN's U-Net."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from srzoo.layers import normalisation


class VGGDiscriminator(nn.Module):
    """VGG-style discriminator of ESRGAN's public code. RGB (N, 3, 128, 128) to logits (N, 1).

    Args:
        num_features: channels of the first two convolutions; the last four have eight times as many.
        norm: normalisation from the second convolution on.
    """

    def __init__(self, num_features: int = 64, norm: Literal["none", "batch", "instance", "group"] = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for factor in (1, 2, 4, 8, 8):
            width = num_features * factor
            for kernel, stride in ((3, 1), (4, 2)):
                first = previous == 3
                layers.append(nn.Conv2d(previous, width, kernel, stride, 1, bias=first or norm == "none"))
                if not first:
                    layers.append(normalisation(norm, width))
                layers.append(nn.LeakyReLU(0.2, inplace=True))
                previous = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(previous * 4 * 4, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (128, 128):
            raise ValueError(f"vgg128 takes 128x128 patches, not {images.shape[-2]}x{images.shape[-1]}")
        return self.classifier(self.features(images))


class UNetDiscriminator(nn.Module):
    """U-Net with spectral normalisation (Real-ESRGAN, arXiv:2107.10833). (N, 3, H, W) to logits (N, 1, H, W).

    Both sides must be multiples of 8.

    Args:
        num_features: channels of the first convolution.
        skip_connection: whether the decoder adds the encoder's features.
    """

    def __init__(self, num_features: int = 64, skip_connection: bool = True) -> None:
        super().__init__()
        self.skip_connection = skip_connection
        n = num_features
        self.stem = nn.Conv2d(3, n, 3, 1, 1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(n * factor, n * factor * 2, 4, 2, 1, bias=False)) for factor in (1, 2, 4)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(n * factor, n * factor // 2, 3, 1, 1, bias=False)) for factor in (8, 4, 2)
        )
        self.head = nn.Sequential(
            spectral_norm(nn.Conv2d(n, n, 3, 1, 1, bias=False)),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(n, n, 3, 1, 1, bias=False)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(n, 1, 3, 1, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2] % 8 or images.shape[-1] % 8:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise ValueError(f"unet takes patches whose sides are multiples of 8, not {size}")
        features = F.leaky_relu(self.stem(images), 0.2)  # (N, n, H, W)
        skips = []
        for layer in self.down:  # ends at (N, 8n, H/8, W/8)
            skips.append(features)
            features = F.leaky_relu(layer(features), 0.2)
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = F.leaky_relu(layer(features), 0.2)
            if self.skip_connection:
                features = features + skip
        return self.head(features)
