"""timm backbones as discriminators."""

from __future__ import annotations

import timm
import torch
from torch import nn

from .backbones import create_backbone


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
        options: dict[str, object] = {"drop_path_rate": drop_path} if drop_path else {}
        config = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
        if config is not None and config.fixed_input_size:
            options["img_size"] = input_size
        self.model = create_backbone(backbone, pretrained, num_classes=1, **options)
        mean = self.model.pretrained_cfg.get("mean", (0.5, 0.5, 0.5))
        std = self.model.pretrained_cfg.get("std", (0.5, 0.5, 0.5))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)
