import torch
from torch import nn


class GatedBlock(nn.Module):
    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, kernel_size, padding=kernel_size // 2)

    def forward(self, features):
        value, gate = self.conv(features).chunk(2, dim=1)
        return features + value * torch.sigmoid(gate)
