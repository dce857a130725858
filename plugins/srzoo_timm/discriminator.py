"""timm backbones as discriminators."""

from __future__ import annotations

import timm
import torch
from torch import nn

from srzoo.errors import UnknownNameError, did_you_mean


def check_backbone(backbone: str) -> None:
    """Raise :class:`srzoo.errors.UnknownNameError` if timm has no model of this name."""
    if not timm.is_model(backbone):
        raise UnknownNameError(
            f"timm has no model {backbone!r}.{did_you_mean(backbone, timm.list_models())} "
            "timm.list_models('*resnet*') shows what it has."
        )


class TimmDiscriminator(nn.Module):
    """A timm image model with one logit. RGB (N, 3, S, S) in [0, 1] to (N, 1).

    Transformers are built for the patch size they are trained on.

    Args:
        backbone: name of a timm model.
        pretrained: ImageNet weights from timm's hub cache.
        drop_path: stochastic depth rate, where the model has it.
    """

    def __init__(
        self, input_size: int = 128, backbone: str = "resnet18", pretrained: bool = False, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        check_backbone(backbone)
        options: dict[str, object] = {"drop_path_rate": drop_path} if drop_path else {}
        config = timm.get_pretrained_cfg(backbone)
        if config is not None and config.fixed_input_size:
            options["img_size"] = input_size
        self.model = timm.create_model(backbone, pretrained=pretrained, num_classes=1, **options)
        config = self.model.pretrained_cfg
        mean = torch.tensor(config.get("mean", (0.5,) * 3)).view(1, 3, 1, 1)
        std = torch.tensor(config.get("std", (0.5,) * 3)).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)
