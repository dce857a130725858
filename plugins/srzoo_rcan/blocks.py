"""The blocks of RCAN; the trunk around them is anybody's. (N, C, H, W) to the same shape."""

from __future__ import annotations

import torch
from torch import nn

from srzoo.layers import BlockFactory, conv

_ALIVE = 0.5
"""Bias that the squeezed channels start with."""


class ChannelAttention(nn.Module):
    """Weights each channel by a factor in (0, 1) that follows from all channels' means (arXiv:1807.02758, eq. 6-8)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)
        # The squeezed channels are few (4 in the paper), and their inputs hardly differ between images: a ReLU that
        # starts closed stays closed. Published code leaves that to chance.
        nn.init.constant_(self.squeeze.bias, _ALIVE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        means = features.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        return features * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class ChannelAttentionBlock(nn.Module):
    """conv, ReLU, conv, channel attention, added to the input: RCAN's RCAB (arXiv:1807.02758, eq. 9 and 10).

    It sees the whole image, through the channels' means, so results of tiles differ a little where they meet.

    Args:
        reduction: factor by which the channels are squeezed between the two layers of the attention.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, not {reduction}")
        self.body = nn.Sequential(
            conv(channels, channels),
            nn.ReLU(inplace=True),
            conv(channels, channels),
            ChannelAttention(channels, reduction),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.body(features)


class ResidualGroup(nn.Module):
    """Blocks, a convolution, added to the input: RCAN's residual group (arXiv:1807.02758, eq. 5).

    Args:
        block: any block; RCAN's channel_attention by default.
        num_blocks: how many; 20 in RCAN.
    """

    def __init__(self, channels: int, block: BlockFactory | None = None, num_blocks: int = 20) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, not {num_blocks}")
        make = block or ChannelAttentionBlock
        self.body = nn.Sequential(*(make(channels) for _ in range(num_blocks)), conv(channels, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.body(features)
