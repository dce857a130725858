"""One generator for the whole family: head, trunk of blocks, upsampler, tail."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from srzoo.images import upscale_bicubic
from srzoo.layers import BlockFactory, UpsamplerFactory, conv, init_kaiming_, init_normal_, normalisation
from srzoo.layers import activation as make_activation


class Trunk(nn.Module):
    """Super-resolution generator with an exchangeable basic block and upsampler.

    ESRGAN's frame (arXiv:1809.00219, fig. 3): most computation happens at low resolution. With the right
    options it is SRResNet (arXiv:1609.04802), MSRResNet (BasicSR), EDSR (arXiv:1707.02921) or RRDBNet.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), nominally in [0, 1], not clamped.

    Args:
        block: the basic block.
        upsampler: the upsampler.
        num_features: channels of the trunk.
        num_blocks: blocks in the trunk.
        head_kernel: kernel size of the first convolution; 9 in SRResNet.
        head_activation: after the first convolution; prelu in SRResNet.
        negative_slope: of leaky ReLU after the head and hr_conv; 0.1 in MSRResNet, 0.2 in RRDBNet.
        trunk_conv: whether a convolution ends the trunk.
        trunk_norm: normalisation after that convolution; batch in SRResNet.
        norm_momentum: of that normalisation, as torch counts it.
        trunk_skip: whether the head's output is added to the trunk's.
        hr_conv: whether a convolution with leaky ReLU precedes the last one; RRDBNet and MSRResNet have it.
        tail_kernel: kernel size of the last convolution; 9 in SRResNet.
        output_activation: tanh maps the output to [0, 1] through (tanh + 1) / 2.
        image_skip: enlarge the input so and let the network add the rest; bilinear in MSRResNet.
        rgb_mean: subtracted from the input and added to the output; EDSR has DIV2K's.
        init: Kaiming initialisation of the blocks only (ESRGAN) or all convolutions (MSRResNet); normal with
            deviation 0.02 for all (DCGAN); torch's own by default.
        init_scale: factor on the Kaiming-normal weights; ESRGAN has 0.1.
        input_unshuffle: side of the squares of pixels that become channels first, so that the trunk computes at an even
            lower resolution; Real-ESRGAN (arXiv:2107.10833, sec. 3.4) has 2 for x2 and 4 for x1.
    """

    def __init__(
        self,
        block: BlockFactory,
        upsampler: UpsamplerFactory,
        scale: int = 4,
        num_features: int = 64,
        num_blocks: int = 16,
        head_kernel: int = 3,
        head_activation: Literal["none", "relu", "leaky_relu", "prelu"] = "none",
        trunk_conv: bool = True,
        trunk_norm: Literal["none", "batch"] = "none",
        trunk_skip: bool = True,
        hr_conv: bool = False,
        tail_kernel: int = 3,
        output_activation: Literal["none", "tanh"] = "none",
        image_skip: Literal["none", "nearest", "bilinear", "bicubic"] = "none",
        rgb_mean: tuple[float, float, float] | None = None,
        init: Literal["default", "blocks", "all", "normal"] = "default",
        init_scale: float = 0.1,
        negative_slope: float = 0.2,
        norm_momentum: float = 0.1,
        input_unshuffle: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        for name, value in (("num_features", num_features), ("num_blocks", num_blocks)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name, value in (("head_kernel", head_kernel), ("tail_kernel", tail_kernel)):
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name} must be odd, not {value}")
        self.scale = scale
        self.size_multiple = input_unshuffle
        self.trunk_skip = trunk_skip
        self.image_skip = image_skip
        self.output_activation = output_activation
        mean = torch.tensor(rgb_mean if rgb_mean is not None else (0.0, 0.0, 0.0)).view(1, 3, 1, 1)
        self.register_buffer("rgb_mean", mean, persistent=False)

        self.head = nn.Sequential(
            conv(3 * input_unshuffle**2, num_features, head_kernel),
            make_activation(head_activation, num_features, negative_slope),
        )
        self.blocks = nn.Sequential(*(block(num_features) for _ in range(num_blocks)))
        self.trunk_end = nn.Sequential(
            conv(num_features, num_features, bias=trunk_norm == "none") if trunk_conv else nn.Identity(),
            normalisation(trunk_norm, num_features, norm_momentum),
        )
        self.upsampler = upsampler(num_features, scale * input_unshuffle)
        width = getattr(self.upsampler, "out_channels", num_features)
        self.hr_conv: nn.Module = nn.Identity()
        if hr_conv:
            self.hr_conv = nn.Sequential(conv(width, width), make_activation("leaky_relu", width, negative_slope))
        self.tail = conv(width, 3, tail_kernel)

        if init == "blocks":
            init_kaiming_(self.blocks, init_scale)
        elif init == "all":
            init_kaiming_(self, init_scale)
        elif init == "normal":
            init_normal_(self)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        centred = lr - self.rgb_mean
        head = self.head(self._unshuffled(centred))  # (N, F, H, W), or divided by input_unshuffle
        features = self.trunk_end(self.blocks(head))
        if self.trunk_skip:
            features = features + head
        sr = self.tail(self.hr_conv(self.upsampler(features)))  # (N, 3, scale*H, scale*W)
        if self.size_multiple > 1:
            sr = sr[..., : self.scale * lr.shape[-2], : self.scale * lr.shape[-1]]
        if self.image_skip != "none":
            sr = sr + _enlarge(centred, self.scale, self.image_skip)  # under autocast this sum is in float32
        sr = sr + self.rgb_mean
        if self.output_activation == "tanh":
            sr = (torch.tanh(sr) + 1) / 2
        return sr

    def _unshuffled(self, image: torch.Tensor) -> torch.Tensor:
        """Return (N, 3*k*k, H/k, W/k); sides that are no multiples of k are padded by reflection, as Real-ESRGAN's."""
        k = self.size_multiple
        if k == 1:
            return image
        bottom, right = -image.shape[-2] % k, -image.shape[-1] % k
        mode = "reflect" if min(image.shape[-2:]) >= k else "replicate"  # a few pixels have nothing to reflect
        return F.pixel_unshuffle(F.pad(image, (0, right, 0, bottom), mode=mode), k)


def _enlarge(image: torch.Tensor, scale: int, mode: str) -> torch.Tensor:
    if mode == "nearest":
        return F.interpolate(image, scale_factor=scale, mode="nearest")
    if mode == "bilinear":
        return F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
    return upscale_bicubic(image, scale)
