"""Networks as other programs publish them, written down from their papers and codes, to compare imports with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def conv(inside: int, outside: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2)


class RDB(nn.Module):
    def __init__(self, features: int, growth: int, slope: float, scale: float) -> None:
        super().__init__()
        self.slope, self.scale = slope, scale
        for index in range(1, 6):
            setattr(self, f"conv{index}", conv(features + (index - 1) * growth, growth if index < 5 else features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x
        for index in range(1, 5):
            seen = torch.cat((seen, F.leaky_relu(getattr(self, f"conv{index}")(seen), self.slope)), 1)
        return x + self.scale * self.conv5(seen)


class RRDB(nn.Module):
    def __init__(self, features: int, growth: int, slope: float, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.rdb1, self.rdb2, self.rdb3 = (RDB(features, growth, slope, scale) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """With BasicSR's names."""

    def __init__(
        self,
        features: int,
        blocks: int,
        growth: int,
        steps: int,
        slope: float = 0.2,
        scale: float = 0.2,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        self.steps, self.slope, self.unshuffle = steps, slope, unshuffle
        self.conv_first = conv(3 * unshuffle**2, features)
        self.body = nn.Sequential(*(RRDB(features, growth, slope, scale) for _ in range(blocks)))
        self.conv_body = conv(features, features)
        for step in range(1, steps + 1):
            setattr(self, f"conv_up{step}", conv(features, features))
        self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (2**self.steps * side // self.unshuffle for side in x.shape[-2:])
        x = F.pad(x, (0, -x.shape[-1] % self.unshuffle, 0, -x.shape[-2] % self.unshuffle), "reflect")
        head = self.conv_first(F.pixel_unshuffle(x, self.unshuffle))
        x = head + self.conv_body(self.body(head))
        for step in range(1, self.steps + 1):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.leaky_relu(getattr(self, f"conv_up{step}")(x), self.slope)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), self.slope))[..., :height, :width]


class Residual(nn.Module):
    def __init__(self, features: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.conv1, self.conv2 = conv(features, features), conv(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.conv2(F.relu(self.conv1(x)))


class MSRResNet(nn.Module):
    """With BasicSR's names."""

    def __init__(self, features: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale, self.factors = scale, [2, 2] if scale == 4 else [scale]
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(Residual(features) for _ in range(blocks)))
        for step, factor in enumerate(self.factors, start=1):
            setattr(self, f"upconv{step}", conv(features, features * factor**2))
        self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for step, factor in enumerate(self.factors, start=1):
            y = F.leaky_relu(F.pixel_shuffle(getattr(self, f"upconv{step}")(y), factor), 0.1)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))
        return y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


class SRResNet(nn.Module):
    """Without normalisation; layers numbered through, as KAIR's MSRResNet0."""

    def __init__(self, features: int, blocks: int, steps: int) -> None:
        super().__init__()
        inner = [nn.Module() for _ in range(blocks)]
        for block in inner:
            block.res = nn.Sequential(conv(features, features), nn.ReLU(), conv(features, features))
        shortcut = nn.Module()
        shortcut.sub = nn.Sequential(*inner, conv(features, features))
        up: list[nn.Module] = []
        for _ in range(steps):
            up += [conv(features, 4 * features), nn.PixelShuffle(2), nn.ReLU()]
        ends = [conv(features, features), nn.ReLU(), conv(features, 3)]
        self.model = nn.Sequential(conv(3, features), shortcut, *up, *ends)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head = self.model[0](x)
        y = head
        for block in self.model[1].sub[:-1]:
            y = y + block.res(y)
        y = head + self.model[1].sub[-1](y)
        for layer in self.model[2:]:
            y = layer(y)
        return y


class NormalisedBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(features, features), nn.BatchNorm2d(features), nn.PReLU()
        self.conv2, self.bn2 = conv(features, features), nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class SRGANGenerator(nn.Module):
    """With the names of leftthomas/SRGAN; ``tanh`` is how it ends there. Statistics are those of some training."""

    def __init__(self, features: int, blocks: int, steps: int, tanh: bool = True) -> None:
        super().__init__()
        self.blocks, self.tanh = blocks, tanh
        self.block1 = nn.Sequential(conv(3, features, 9), nn.PReLU())
        for block in range(2, blocks + 2):
            setattr(self, f"block{block}", NormalisedBlock(features))
        setattr(self, f"block{blocks + 2}", nn.Sequential(conv(features, features), nn.BatchNorm2d(features)))
        up = [nn.Module() for _ in range(steps)]
        for step in up:
            step.conv, step.prelu = conv(features, 4 * features), nn.PReLU()
        setattr(self, f"block{blocks + 3}", nn.Sequential(*up, conv(features, 3, 9)))
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean)
                nn.init.uniform_(layer.running_var, 0.5, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head = y = self.block1(x)
        for block in range(2, self.blocks + 3):
            y = getattr(self, f"block{block}")(y)
        y = head + y
        *up, last = getattr(self, f"block{self.blocks + 3}")
        for step in up:
            y = step.prelu(F.pixel_shuffle(step.conv(y), 2))
        return (torch.tanh(last(y)) + 1) / 2 if self.tanh else last(y)


class EDSR(nn.Module):
    """With the names of the authors' PyTorch code, on images in [0, range]."""

    def __init__(self, features: int, blocks: int, scale: int, residual_scale: float, value_range: float) -> None:
        super().__init__()
        self.value_range, self.residual_scale = value_range, residual_scale
        mean = torch.tensor([0.4488, 0.4371, 0.4040]) * value_range
        self.sub_mean, self.add_mean = conv(3, 3, 1), conv(3, 3, 1)
        for layer, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
            layer.weight.data = torch.eye(3).view(3, 3, 1, 1)
            layer.bias.data = sign * mean
        inner = [nn.Module() for _ in range(blocks)]
        for block in inner:
            block.body = nn.Sequential(conv(features, features), nn.ReLU(), conv(features, features))
        self.head = nn.Sequential(conv(3, features))
        self.body = nn.Sequential(*inner, conv(features, features))
        up: list[nn.Module] = []
        for factor in [2, 2] if scale == 4 else [scale]:
            up += [conv(features, features * factor**2), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(nn.Sequential(*up), conv(features, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [0, 1] to [0, 1], as its users do: times and divided by the range."""
        head = self.head(self.sub_mean(x * self.value_range))
        y = head
        for block in self.body[:-1]:
            y = y + self.residual_scale * block.body(y)
        return self.add_mean(self.tail(head + self.body[-1](y))) / self.value_range
