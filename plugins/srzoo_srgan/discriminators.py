"""SRGAN's discriminator, and the same trunk with a logit at every position."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from srzoo.layers import conv, normalisation


def _trunk(
    num_features: int, norm: Literal["none", "batch", "instance", "group"], norm_first: bool, momentum: float
) -> nn.Sequential:
    """Eight 3x3 convolutions; every second one has stride 2, and the channels double after it."""
    widths = [num_features * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
    layers: list[nn.Module] = []
    previous = 3
    for index, width in enumerate(widths):
        layers.append(conv(previous, width, stride=1 + index % 2))
        normalise = [normalisation(norm, width, momentum)] if index > 0 and norm != "none" else []
        activate = [nn.LeakyReLU(0.2, inplace=True)]
        layers += [*normalise, *activate] if norm_first else [*activate, *normalise]
        previous = width
    return nn.Sequential(*layers)


class SRGANDiscriminator(nn.Module):
    """The discriminator of SRGAN (arXiv:1609.04802, fig. 4), without the final sigmoid. (N, 3, S, S) to (N, 1).

    Args:
        num_features: channels of the first convolution; the last has eight times as many.
        norm: normalisation from the second convolution on.
        dense_features: width of the hidden dense layer.
    """

    def __init__(
        self,
        input_size: int = 96,
        num_features: int = 64,
        norm: Literal["none", "batch", "instance", "group"] = "batch",
        dense_features: int = 1024,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        side = -(-input_size // 16)  # four strides of 2, each rounding up
        self.features = _trunk(num_features, norm, norm_first=True, momentum=0.1)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * num_features * side**2, dense_features),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(dense_features, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"this SRGAN discriminator was built for {self.input_size}x{self.input_size} patches, "
                f"not {images.shape[-2]}x{images.shape[-1]}"
            )
        return self.classifier(self.features(images))


class PatchDiscriminator(nn.Module):
    """The discriminator of Keras-GAN's face SRGAN. (N, 3, H, W) to a logit map (N, 1, ceil(H/16), ceil(W/16)).

    Args:
        num_features: channels of the first convolution; the last has eight times as many.
        norm: normalisation from the second convolution on, *after* the activation as in the source.
        dense_features: width of the hidden layer applied at every position.
        norm_momentum: weight of the new batch in the running statistics; Keras' momentum 0.8 is 0.2 here.
    """

    def __init__(
        self,
        num_features: int = 64,
        norm: Literal["none", "batch", "instance", "group"] = "batch",
        dense_features: int = 1024,
        norm_momentum: float = 0.2,
    ) -> None:
        super().__init__()
        self.features = _trunk(num_features, norm, norm_first=False, momentum=norm_momentum)
        self.classifier = nn.Sequential(
            nn.Conv2d(8 * num_features, dense_features, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(dense_features, 1, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))
