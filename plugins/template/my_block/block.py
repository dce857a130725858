"""The block."""

import torch
from torch import nn


class MyBlock(nn.Module):
    """Convolution with a sigmoid gate, scaled and added to the input. (N, C, H, W) to the same shape.

    The keyword arguments after ``channels`` are the options: typed, checked, and shown by srzoo with these lines.

    Args:
        kernel_size: side of the kernel in pixels; odd.
        residual_scale: factor on the gated values before they are added.
    """

    def __init__(self, channels: int, kernel_size: int = 3, residual_scale: float = 0.5) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        self.residual_scale = residual_scale
        self.conv = nn.Conv2d(channels, 2 * channels, kernel_size, padding=kernel_size // 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        value, gate = self.conv(features).chunk(2, dim=1)
        return features + self.residual_scale * value * torch.sigmoid(gate)
