"""timm backbones as feature extractors."""

from __future__ import annotations

import os
from collections.abc import Sequence

import timm
import torch

from srzoo.errors import MissingWeightsError, UnknownNameError, did_you_mean
from srzoo.features import ImageNetExtractor
from srzoo.weights import load_into, load_tensors

from .discriminator import check_backbone


class TimmExtractor(ImageNetExtractor):
    """Feature maps of a timm model (``features_only``), layers by timm's own names.

    Args:
        backbone: name of a timm model.
        pretrained: ImageNet weights from timm's hub cache; without them the weights are random.
        weights: path of a state dict of the feature model to use instead.
    """

    def __init__(self, backbone: str = "resnet50", pretrained: bool = True, weights: str | None = None) -> None:
        check_backbone(backbone)
        from_hub = pretrained and weights is None
        try:
            model = timm.create_model(backbone, pretrained=from_hub, features_only=True)
        except Exception as error:
            if from_hub:
                offline = "SRZOO_OFFLINE is set and " if os.environ.get("SRZOO_OFFLINE") == "1" else ""
                raise MissingWeightsError(
                    f"the perceptual extractor timm ({backbone}) is not available: {offline}timm could not load its "
                    f"weights ({error}). Give weights: PATH of a state dict, or pretrained: false."
                ) from error
            raise
        config = model.pretrained_cfg
        super().__init__(config.get("mean", (0.485, 0.456, 0.406)), config.get("std", (0.229, 0.224, 0.225)))
        self.model = model
        self.names: list[str] = list(model.feature_info.module_name())
        self.backbone = backbone
        if weights is not None:
            from pathlib import Path

            load_into(self.model, load_tensors(Path(weights)), weights)

    def check_layers(self, layers: Sequence[str]) -> None:
        for name in layers:
            if name not in self.names:
                raise UnknownNameError(
                    f"timm model {self.backbone!r} has no feature layer {name!r}.{did_you_mean(name, self.names)} "
                    f"Layers: {', '.join(self.names)}."
                )

    def extract(self, images: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        features = dict(zip(self.names, self.model(images), strict=True))
        return {name: features[name] for name in layers}
