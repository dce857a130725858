"""VGG19 as a feature extractor, every layer by its name in the literature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.models import vgg19

from srzoo.features import ImageNetExtractor, forbid_inplace
from srzoo.imagenet import VGG19 as WEIGHTS
from srzoo.layers import init_kaiming_
from srzoo.weights import load_features

_CONVS = (2, 2, 4, 4, 4)


def layer_names() -> list[str]:
    """Return the name of each module of torchvision's ``vgg19().features``: conv1_1, relu1_1, ..., pool5."""
    names = []
    for stage, count in enumerate(_CONVS, start=1):
        for index in range(1, count + 1):
            names += [f"conv{stage}_{index}", f"relu{stage}_{index}"]
        names.append(f"pool{stage}")
    return names


class VGG19(ImageNetExtractor):
    """VGG19 (arXiv:1409.1556). SRGAN's VGG22 is ``relu2_2``, VGG54 ``relu5_4``; ESRGAN's tap is ``conv5_4``.

    Args:
        pretrained: ImageNet weights from the weights folder; without them the weights are random.
    """

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.names = layer_names()
        with torch.device("meta"):  # the classifier's 120 million weights would take seconds, and are not wanted
            features = vgg19(weights=None).features
        self.features = features.to_empty(device="cpu")
        if pretrained:
            load_features(self.features, WEIGHTS, "the perceptual extractor vgg19 is")
        else:
            init_kaiming_(self.features, 1.0)
        forbid_inplace(self.features)

    def extract(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        last = max(self.names.index(name) for name in layers)
        found = {}
        for name, module in zip(self.names[: last + 1], self.features, strict=False):
            images = module(images)
            if name in layers:
                found[name] = images
        return found
