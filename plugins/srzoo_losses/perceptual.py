"""Perceptual losses: distances between features of a frozen, pretrained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call


class _FeatureLoss(nn.Module):
    """An extractor that is frozen and stays in evaluation mode, and weighted layers."""

    def __init__(
        self,
        extractor: Callable[[], nn.Module],
        layers: dict[str, float],
        distance: Literal["l1", "mse"],
        normalise: Literal["none", "mean"],
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("layers: name at least one layer, e.g. {conv5_4: 1.0}")
        self.extractor = extractor().eval().requires_grad_(False)
        check = getattr(self.extractor, "check_layers", None)
        if check is not None:
            check(list(layers))
        self.layers = dict(layers)
        self.distance = F.l1_loss if distance == "l1" else F.mse_loss
        self.normalise = normalise
        self._cast: dict[str, torch.Tensor] = {}
        self._cast_of: object = None

    def train(self, mode: bool = True) -> _FeatureLoss:
        """Stay in evaluation mode whatever the training loop asks for."""
        return super().train(False)

    def compare(self, found: torch.Tensor, wanted: torch.Tensor, stride: int) -> torch.Tensor:
        """Return the distance of two images' features of a layer, whose positions are ``stride`` pixels apart."""
        return self.distance(found, wanted)

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``{layer: features (N, C, h, w)}`` of images (N, 3, H, W)."""
        return functional_call(self.extractor, self._cast_weights(images.device.type), (images, list(self.layers)))

    def _cast_weights(self, device_type: str) -> dict[str, torch.Tensor]:
        """Return the convolutions' weights in the type that autocast would cast them to; empty without autocast.

        Autocast remembers what it casts of weights that are trained. Frozen ones it casts anew in every pass.
        """
        if not torch.is_autocast_enabled(device_type):
            return {}
        dtype = torch.get_autocast_dtype(device_type)
        weights = {
            f"{name}.{key}": parameter
            for name, layer in self.extractor.named_modules()
            if isinstance(layer, nn.Conv2d)
            for key, parameter in layer.named_parameters(recurse=False)
        }
        now = [(dtype, parameter.device, parameter.data_ptr(), parameter._version) for parameter in weights.values()]
        if now != self._cast_of:
            self._cast = {name: parameter.detach().to(dtype) for name, parameter in weights.items()}
            self._cast_of = now
        return self._cast

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.features(hr)
        found = self.features(sr)
        terms = []
        for name, weight in self.layers.items():
            stride = max(1, round(sr.shape[-1] / found[name].shape[-1]))
            pair = [found[name], wanted[name]]
            if self.normalise == "mean":
                size = wanted[name].float().abs().mean().clamp(min=1e-6)
                pair = [features / size for features in pair]
            terms.append(weight * self.compare(*pair, stride))
        return torch.stack(terms).sum()


class Perceptual(_FeatureLoss):
    """Distance of feature maps.

    VGG54 of SRGAN (arXiv:1609.04802, eq. 5) is ``{relu5_4: 1.0}`` with mse and ``feature_scale`` 1/12.75;
    ESRGAN (arXiv:1809.00219, sec. 3.3) is ``{conv5_4: 1.0}``, before the activation, with l1.

    Args:
        extractor: the network.
        layers: layer name to weight; ``conv...`` is before and ``relu...`` after the activation.
        distance: l1 or mse, averaged over all elements.
        feature_scale: factor on the features before they are compared.
        normalise: mean divides each layer by the mean magnitude that it has on the reference, so that layers weigh
            alike. EnhanceNet's features have a mean of one over ImageNet (arXiv:1612.07919, sec. 5.3).
    """

    def __init__(
        self,
        extractor: Callable[[], nn.Module],
        layers: dict[str, float],
        distance: Literal["l1", "mse"] = "l1",
        feature_scale: float = 1.0,
        normalise: Literal["none", "mean"] = "none",
    ) -> None:
        super().__init__(extractor, layers, distance, normalise)
        self.feature_scale = feature_scale

    def compare(self, found: torch.Tensor, wanted: torch.Tensor, stride: int) -> torch.Tensor:
        if self.feature_scale != 1.0:
            found, wanted = found * self.feature_scale, wanted * self.feature_scale
        return super().compare(found, wanted, stride)


class Texture(_FeatureLoss):
    """Texture matching of EnhanceNet (arXiv:1612.07919, sec. 4.2.3): Gram matrices of feature patches.

    Args:
        extractor: the network.
        layers: layer name to weight.
        patch_size: side of the patches in pixels of the image; the layer's stride is taken off.
        distance: l1 or mse between the Gram matrices, which are means over a patch's positions.
        normalise: as in ``perceptual``.
    """

    def __init__(
        self,
        extractor: Callable[[], nn.Module],
        layers: dict[str, float],
        patch_size: int = 16,
        distance: Literal["l1", "mse"] = "mse",
        normalise: Literal["none", "mean"] = "none",
    ) -> None:
        super().__init__(extractor, layers, distance, normalise)
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, not {patch_size}")
        self.patch_size = patch_size

    def compare(self, found: torch.Tensor, wanted: torch.Tensor, stride: int) -> torch.Tensor:
        side = min(max(1, self.patch_size // stride), *found.shape[-2:])
        # The distance is a small difference of large sums, which bf16 would drown.
        with torch.autocast(found.device.type, enabled=False):
            x, y = (_patches(features.float(), side) for features in (found, wanted))
            channels, positions = x.shape[-2:]
            if self.distance is F.mse_loss and positions < channels:
                # |XX' - YY'|^2 = |X'X|^2 - 2 |X'Y|^2 + |Y'Y|^2, which are as large as a patch and not as its channels
                squares = [(a.transpose(-1, -2) @ b).square().sum((-1, -2)) for a, b in ((x, x), (x, y), (y, y))]
                whole = squares[0] - 2 * squares[1] + squares[2]
                return whole.mean() / (positions * channels) ** 2
            return self.distance(*(a @ a.transpose(-1, -2) / positions for a in (x, y)))


def _patches(features: torch.Tensor, side: int) -> torch.Tensor:
    """Return the patches that tile (N, C, H, W), what is left at the ends cut off: (N, patches, C, side*side)."""
    n, channels, height, width = features.shape
    rows, columns = height // side, width // side
    tiled = features[..., : rows * side, : columns * side].reshape(n, channels, rows, side, columns, side)
    return tiled.permute(0, 2, 4, 1, 3, 5).reshape(n, rows * columns, channels, side * side)
