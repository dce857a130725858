"""Pixel losses. Both images are (N, 3, H, W) in [0, 1]; the loss is a scalar."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.images import luma


class _PixelLoss(nn.Module):
    """What is compared of two images: all of their channels, or luma."""

    def __init__(self, channels: Literal["rgb", "y"] = "rgb") -> None:
        super().__init__()
        self.channels = channels

    def compared(self, sr: torch.Tensor, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both images' RGB (N, 3, H, W) or luma (N, 1, H, W)."""
        return (luma(sr), luma(hr)) if self.channels == "y" else (sr, hr)


class L1(_PixelLoss):
    """Mean absolute error.

    Args:
        channels: rgb, or y for luma alone (BT.601, limited range), which methods for luma are trained on.
    """

    def __init__(self, channels: Literal["rgb", "y"] = "rgb") -> None:
        super().__init__(channels)

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return F.l1_loss(*self.compared(sr, hr))


class MSE(_PixelLoss):
    """Mean squared error.

    Args:
        channels: rgb, or y for luma alone (BT.601, limited range), which methods for luma are trained on.
    """

    def __init__(self, channels: Literal["rgb", "y"] = "rgb") -> None:
        super().__init__(channels)

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(*self.compared(sr, hr))


class Charbonnier(_PixelLoss):
    """Mean of sqrt(error^2 + eps^2) (Lai et al., arXiv:1710.01992, sec. 3.3); its minimum is ``eps``.

    Args:
        eps: how far around zero the loss is quadratic rather than linear.
        channels: rgb, or y for luma alone (BT.601, limited range).
    """

    def __init__(self, eps: float = 1e-3, channels: Literal["rgb", "y"] = "rgb") -> None:
        super().__init__(channels)
        if eps <= 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        self.eps = eps

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        found, wanted = self.compared(sr, hr)
        return torch.sqrt((found - wanted) ** 2 + self.eps**2).mean()


class TotalVariation(nn.Module):
    """Anisotropic total variation of the output, averaged over pixels; ignores the reference."""

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        vertical = (sr[..., 1:, :] - sr[..., :-1, :]).abs().mean()
        horizontal = (sr[..., :, 1:] - sr[..., :, :-1]).abs().mean()
        return vertical + horizontal
