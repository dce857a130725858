"""Interpolation as generators without weights. (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.images import upscale_bicubic


class Nearest(nn.Module):
    """Repeats every pixel ``scale`` times in both directions."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.interpolate(lr, scale_factor=self.scale, mode="nearest")


class Bicubic(nn.Module):
    """MATLAB-like bicubic enlargement; the output is clamped to [0, 1]."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return upscale_bicubic(lr, self.scale)
