"""Small layers that plugins share. Nothing here is an architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

BlockFactory = Callable[[int], nn.Module]
"""Builds a trunk block for a number of channels."""
UpsamplerFactory = Callable[[int, int], nn.Module]
"""Builds an upsampler for a number of channels and a scale."""


def activation(name: str, channels: int = 1, negative_slope: float = 0.2) -> nn.Module:
    """Return an activation layer.

    Args:
        name: ``none``, ``relu``, ``leaky_relu``, ``prelu`` (one slope a channel), ``tanh`` or ``sigmoid``.
        channels: channels of the feature map; only ``prelu`` looks at it.
        negative_slope: of ``leaky_relu``.

    Raises:
        ValueError: unknown name.
    """
    if name == "none":
        return nn.Identity()
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(negative_slope, inplace=True)
    if name == "prelu":
        return nn.PReLU(channels)
    if name == "tanh":
        return nn.Tanh()
    if name == "sigmoid":
        return nn.Sigmoid()
    raise ValueError(f"unknown activation {name!r}; use none, relu, leaky_relu, prelu, tanh or sigmoid")


def normalisation(name: str, channels: int, momentum: float = 0.1) -> nn.Module:
    """Return a normalisation layer: ``none``, ``batch``, ``instance`` or ``group`` (groups of 16 channels).

    Raises:
        ValueError: unknown name.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm2d(channels, momentum=momentum)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "group":
        return nn.GroupNorm(max(1, channels // 16), channels)
    raise ValueError(f"unknown normalisation {name!r}; use none, batch, instance or group")


def conv(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, *, bias: bool = True) -> nn.Conv2d:
    """Return a convolution that keeps the size (divided by the stride, rounded up) for odd kernels."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)


def conv_stack(widths: Sequence[int], kernel_sizes: Sequence[int]) -> list[nn.Conv2d]:
    """Return convolutions from each width to the next, which replicate borders and keep the size.

    Raises:
        ValueError: a kernel is even, or a width is below 1.
    """
    if any(size < 1 or size % 2 == 0 for size in kernel_sizes):
        raise ValueError(f"kernel_sizes must be odd, not {tuple(kernel_sizes)}")
    if min(widths) < 1:
        raise ValueError(f"num_features must be at least 1, not {tuple(widths[1:-1])}")
    return [
        nn.Conv2d(before, after, size, padding=size // 2, padding_mode="replicate")
        for before, after, size in zip(widths, widths[1:], kernel_sizes, strict=False)
    ]


def upsample_factors(scale: int) -> list[int]:
    """Return the factors of successive upsampling steps: 8 is ``[2, 2, 2]``, 3 is ``[3]``, 1 is ``[]``.

    Raises:
        ValueError: the scale has other prime factors than 2 and 3.
    """
    factors = []
    rest = scale
    for prime in (2, 3):
        while rest % prime == 0:
            factors.append(prime)
            rest //= prime
    if rest != 1:
        raise ValueError(f"scale {scale} is not a product of twos and threes")
    return factors


def constrain_spectrally(module: nn.Module) -> None:
    """Divide every convolution's and linear layer's weight by its largest singular value (arXiv:1802.05957)."""
    for layer in list(module.modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)) and not is_parametrized(layer, "weight"):
            spectral_norm(layer)


def init_kaiming_(module: nn.Module, scale: float) -> None:
    """Initialise every convolution with Kaiming-normal weights times ``scale`` and zero bias (ESRGAN, sec. 3.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
            with torch.no_grad():
                layer.weight.mul_(scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_normal_(module: nn.Module) -> None:
    """Initialise every convolution with normal weights of deviation 0.02 (DCGAN, arXiv:1511.06434, sec. 4)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
