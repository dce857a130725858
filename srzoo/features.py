"""What feature extractors share: ImageNet normalisation and layers by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .errors import UnknownNameError, did_you_mean


class ImageNetExtractor(nn.Module):
    """Base of extractors whose backbone was trained on ImageNet-normalised RGB.

    A subclass sets ``names``, all its layers, and implements :meth:`extract`.
    """

    names: Sequence[str] = ()
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raise :class:`srzoo.errors.UnknownNameError` for a layer that the backbone does not have."""
        for layer in layers:
            if layer not in self.names:
                raise UnknownNameError(
                    f"{type(self).__name__} has no layer {layer!r}.{did_you_mean(layer, self.names)} "
                    f"Layers: {', '.join(self.names)}."
                )

    def extract(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return ``{layer: features}`` of normalised images, computing no deeper than needed."""
        raise TypeError(f"{type(self).__name__} must define extract(images, layers)")

    def forward(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return ``{layer: features (N, C, h, w)}`` of RGB (N, 3, H, W) in [0, 1]."""
        return self.extract((images - self.mean) / self.std, layers)


def forbid_inplace(module: nn.Module) -> None:
    """Make every ReLU write a new tensor, so that features before an activation are not overwritten by it."""
    for layer in module.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
