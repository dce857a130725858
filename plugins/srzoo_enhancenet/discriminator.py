"""EnhanceNet's discriminator."""

from __future__ import annotations

import torch
from torch import nn

from srzoo.layers import conv


class EnhanceNetDiscriminator(nn.Module):
    """Five pairs of 3x3 convolutions, the second with stride 2, and two dense layers (arXiv:1612.07919, supplement).

    The paper trains it on patches of 128 px. The final sigmoid is in the loss. (N, 3, S, S) to (N, 1).

    Args:
        num_features: channels of the first pair; each next pair has twice as many.
        dense_features: width of the hidden dense layer.
    """

    def __init__(self, input_size: int = 128, num_features: int = 32, dense_features: int = 1024) -> None:
        super().__init__()
        self.input_size = input_size
        side = -(-input_size // 32)  # five strides of 2, each rounding up
        layers: list[nn.Module] = []
        previous = 3
        for width in (num_features * factor for factor in (1, 2, 4, 8, 16)):
            for stride in (1, 2):
                layers += [conv(previous, width, stride=stride), nn.LeakyReLU(0.2, inplace=True)]
                previous = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(previous * side**2, dense_features),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(dense_features, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"this EnhanceNet discriminator was built for {self.input_size}x{self.input_size} patches, "
                f"not {images.shape[-2]}x{images.shape[-1]}"
            )
        return self.classifier(self.features(images))
