"""timm backbones as feature extractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from srzoo.features import ImageNetExtractor
from srzoo.weights import load_into, load_tensors

from .backbones import create_backbone


class TimmExtractor(ImageNetExtractor):
    """Feature maps of a timm model (``features_only``), layers by timm's own names.

    Args:
        backbone: name of a timm model.
        pretrained: ImageNet weights from timm's hub cache; without them the weights are random.
        weights: path of a state dict of the feature model to use instead.
    """

    def __init__(self, backbone: str = "resnet50", pretrained: bool = True, weights: Path | None = None) -> None:
        model = create_backbone(backbone, pretrained and weights is None, features_only=True)
        config = model.pretrained_cfg
        super().__init__(config.get("mean", (0.485, 0.456, 0.406)), config.get("std", (0.229, 0.224, 0.225)))
        self.model = model
        self.names: list[str] = list(model.feature_info.module_name())
        if weights is not None:
            load_into(self.model, load_tensors(Path(weights)), str(weights))

    def extract(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        features = dict(zip(self.names, self.model(images), strict=True))
        return {name: features[name] for name in layers}
