"""LPIPS from the ``lpips`` package, with a backbone from the weights folder instead of a download."""

from __future__ import annotations

import contextlib
import io
import warnings

import lpips
import torch
from torch import nn

from srzoo.errors import UndefinedScoreError
from srzoo.imagenet import ALEXNET, SQUEEZENET1_1, VGG16
from srzoo.weights import load_backbone

TOO_SMALL = ("too small", "greater than actual input size")
"""What torch says where nothing is left of an image for a pooling or a convolution."""


class LPIPS(nn.Module):
    """Learned perceptual distance, v0.1 linear heads (Zhang et al., arXiv:1801.03924).

    RGB (N, 3, H, W) in [0, 1] to (N,); 0 for equal images, smaller is closer.
    """

    def __init__(self, net: str, backbone: dict[str, torch.Tensor]) -> None:
        super().__init__()
        # pnet_rand builds the backbone without downloading it; the heads come from the package. It prints, and
        # calls torchvision in a way that warns.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        features = {name.removeprefix("features."): value for name, value in backbone.items() if "features." in name}
        with torch.no_grad():
            for name, parameter in self.model.net.named_parameters():
                parameter.copy_(features[name.split(".", 1)[1]])  # slice3.6.weight is torchvision's features.6.weight
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return self.against(sr, self.reference(hr))

    def reference(self, hr: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of every layer, (N, C, h, w), of unit length at every position.

        Raises:
            UndefinedScoreError: the image is too small for the backbone.
        """
        try:
            scaled = self.model.scaling_layer(2 * hr - 1)
            features = self.model.net(scaled.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            if not any(told in str(error) for told in TOO_SMALL):
                raise
            size = f"{hr.shape[-1]}x{hr.shape[-2]}"
            raise UndefinedScoreError(f"an image of {size} is too small for the backbone") from None
        return [lpips.normalize_tensor(layer) for layer in features]

    def against(self, sr: torch.Tensor, reference: list[torch.Tensor]) -> torch.Tensor:
        """Return the distance to a reference that :meth:`reference` prepared.

        The mean over positions comes before the linear head: both are linear, and the head then sees one position.
        """
        distances = [
            head(((own - other) ** 2).mean(dim=(2, 3), keepdim=True))
            for head, own, other in zip(self.model.lins, self.reference(sr), reference, strict=True)
        ]
        return torch.stack(distances).sum(dim=0).flatten()


def lpips_alex() -> LPIPS:
    """LPIPS on AlexNet, the default of the literature."""
    return LPIPS("alex", load_backbone(ALEXNET, "lpips_alex is"))


def lpips_vgg() -> LPIPS:
    """LPIPS on VGG16."""
    return LPIPS("vgg", load_backbone(VGG16, "lpips_vgg is"))


def lpips_squeeze() -> LPIPS:
    """LPIPS on SqueezeNet 1.1."""
    return LPIPS("squeeze", load_backbone(SQUEEZENET1_1, "lpips_squeeze is"))
