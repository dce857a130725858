"""Pixel losses. Both images are (N, 3, H, W) in [0, 1]; the loss is a scalar."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class L1(nn.Module):
    """Mean absolute error."""

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return F.l1_loss(sr, hr)


class MSE(nn.Module):
    """Mean squared error."""

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(sr, hr)


class Charbonnier(nn.Module):
    """Mean of sqrt(error^2 + eps^2) (Lai et al., arXiv:1710.01992, sec. 3.3); its minimum is ``eps``.

    Args:
        eps: how far around zero the loss is quadratic rather than linear.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        self.eps = eps

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return torch.sqrt((sr - hr) ** 2 + self.eps**2).mean()


class TotalVariation(nn.Module):
    """Anisotropic total variation of the output, averaged over pixels; ignores the reference."""

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        vertical = (sr[..., 1:, :] - sr[..., :-1, :]).abs().mean()
        horizontal = (sr[..., :, 1:] - sr[..., :, :-1]).abs().mean()
        return vertical + horizontal
