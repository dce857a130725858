"""Models of timm."""

from __future__ import annotations

import timm

from srzoo.errors import MissingWeightsError, UnknownNameError, did_you_mean


def create_backbone(backbone: str, pretrained: bool, **options: object) -> timm.models.VisionTransformer:
    """Build a timm model.

    Raises:
        UnknownNameError: timm has no model of this name.
        MissingWeightsError: its pretrained weights are neither cached nor to be had.
    """
    if not timm.is_model(backbone):
        raise UnknownNameError(
            f"timm has no model {backbone!r}.{did_you_mean(backbone, timm.list_models())} "
            "timm.list_models('*resnet*') shows what it has."
        )
    try:
        return timm.create_model(backbone, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = " ".join(str(error).split())
        raise MissingWeightsError(
            f"ImageNet weights of timm's {backbone} are not available ({reason[:200]}). Load them once where there is "
            "a network, or set pretrained: false."
        ) from error
