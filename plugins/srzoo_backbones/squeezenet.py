"""SqueezeNet 1.1 as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.models import squeezenet1_1

from srzoo.features import ImageNetExtractor, forbid_inplace
from srzoo.imagenet import SQUEEZENET1_1
from srzoo.weights import load_features

_FIRES = {3: 2, 4: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8, 12: 9}
"""Index of a fire module in ``squeezenet1_1().features`` to its number in the paper."""


def layer_names() -> list[str]:
    """Return the layers: before (conv) and after (relu) the activation of the stem and of every fire module."""
    names = ["conv1", "relu1"]
    for number in _FIRES.values():
        names += [f"fire{number}_conv", f"fire{number}_relu"]
    return names


class SqueezeNet(ImageNetExtractor):
    """SqueezeNet 1.1 (arXiv:1602.07360): 0.7 million weights, where VGG19 has 20.

    ``fireN_conv`` is the concatenation of both expanding convolutions before their activation.

    Args:
        pretrained: ImageNet weights from the weights folder; without them the weights are random.
    """

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.names = layer_names()
        self.features = squeezenet1_1(weights=None).features
        if pretrained:
            load_features(self.features, SQUEEZENET1_1, "the perceptual extractor squeezenet1_1 is")
        forbid_inplace(self.features)

    def extract(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        last = max(self.names.index(name) for name in layers)
        found: dict[str, torch.Tensor] = {}
        for index, module in enumerate(self.features):
            if index == 0:
                images = found["conv1"] = module(images)
            elif index == 1:
                images = found["relu1"] = module(images)
            elif index in _FIRES:
                squeezed = module.squeeze_activation(module.squeeze(images))
                before = torch.cat([module.expand1x1(squeezed), module.expand3x3(squeezed)], dim=1)
                images = torch.relu(before)
                found[f"fire{_FIRES[index]}_conv"], found[f"fire{_FIRES[index]}_relu"] = before, images
            else:
                images = module(images)
            if self.names[last] in found:
                break
        return {name: found[name] for name in layers}
