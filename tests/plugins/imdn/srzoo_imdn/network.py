"""IMDN (Hui et al., arXiv:1909.11856), written from the paper's description.

The description gives the parts, their order and the widths of the trunk, but does not suffice to match the published
checkpoint. What it leaves open or says otherwise, and what settled it:

=============================  ==========================================================================
names of the tensors           not given; ``convert.py`` translates those of the checkpoint
widths within the attention    64 to 4 and back; from the checkpoint's shapes
3x3 convolution after joining  64 to 64, without activation, before the long skip; from the checkpoint
bias                           in every convolution; from the checkpoint
padding                        zeros, as usual
attention's activations        ReLU between its convolutions, a sigmoid after them, as in RCAN
activation and split           activation of all 64 channels, then the split; the other order ends at 7.3 dB
last step of a block           no activation, though the text counts it with the others; with one, 31.22 dB
fusion in a block              no activation
joining of the blocks          leaky ReLU after it; without, 26.54 dB
slope of leaky ReLU            0.05; with 0 or 0.1, 31.47 and 30.96 dB
deviation in the attention     of the population; the sample's cannot be told apart at 0.01 dB
range of the images            RGB in [0, 1], nothing subtracted
=============================  ==========================================================================

The figures are PSNR on Set5 with one choice changed, against 32.21 dB. Strict loading accepts each of these changes;
only the published scores tell them apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.layers import conv

SLOPE = 0.05
"""Negative slope of the leaky ReLU."""


class ContrastAttention(nn.Module):
    """Scale every channel by a gate computed from its mean plus its standard deviation (sec. 3.3). Shape is kept."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = conv(channels, channels // reduction, 1)
        self.excite = conv(channels // reduction, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        contrast = mean + variance.sqrt()  # (N, C, 1, 1)
        return features * torch.sigmoid(self.excite(F.relu(self.squeeze(contrast))))


class DistillationBlock(nn.Module):
    """Information multi-distillation block (sec. 3.2). Shape is kept.

    Each of three steps keeps a quarter of its channels and hands the others on; the fourth yields a last quarter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = channels // 4
        rest = channels - self.kept
        widths = [(channels, channels), (rest, channels), (rest, channels), (rest, self.kept)]
        self.steps = nn.ModuleList(conv(*width) for width in widths)
        self.attention = ContrastAttention(channels)
        self.fusion = conv(channels, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        distilled = []
        coarse = features
        for step in self.steps[:-1]:
            refined = F.leaky_relu(step(coarse), SLOPE)
            kept, coarse = refined.split([self.kept, refined.shape[1] - self.kept], dim=1)
            distilled.append(kept)
        distilled.append(self.steps[-1](coarse))
        return features + self.fusion(self.attention(torch.cat(distilled, dim=1)))


class IMDN(nn.Module):
    """Information multi-distillation network. RGB (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W), not clamped.

    Args:
        num_features: channels of the trunk, a multiple of 16.
        num_blocks: distillation blocks, whose outputs are all joined at the end.
    """

    def __init__(self, scale: int = 4, num_features: int = 64, num_blocks: int = 6) -> None:
        super().__init__()
        self.head = conv(3, num_features)
        self.blocks = nn.ModuleList(DistillationBlock(num_features) for _ in range(num_blocks))
        self.join = conv(num_blocks * num_features, num_features, 1)
        self.trunk_end = conv(num_features, num_features)
        self.tail = conv(num_features, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        head = features = self.head(lr)  # (N, F, H, W)
        outputs = []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        joined = F.leaky_relu(self.join(torch.cat(outputs, dim=1)), SLOPE)
        return self.shuffle(self.tail(head + self.trunk_end(joined)))
