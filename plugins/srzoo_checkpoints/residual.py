"""Residual networks with pixel shuffle: MSRResNet, SRResNet and EDSR, under the names that their codes gave them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from srzoo.layouts import Ask

from .tables import TRUNK, Table, require, rgb_features, shuffle_factor

if TYPE_CHECKING:
    import torch

RELU = Ask("relu", "activation within the blocks")
FRAME = {
    **TRUNK,
    "block.name": "srgan/residual",
    "block.norm": "none",
    "upsampler.name": "composable/pixelshuffle",
}


class Residual(Table, ABC):
    """A trunk of residual blocks of two convolutions each, and a convolution before each pixel shuffle."""

    frame: ClassVar[dict[str, Any]] = {}
    """Options that its tensors imply."""
    published: ClassVar[dict[str, Any]] = {}
    """Options that the other program has built in."""
    convs: tuple[str, str] = ("1", "2")
    """What ``{conv}`` is for the two convolutions of a block."""

    @abstractmethod
    def options(self, features: int) -> dict[str, Any]:
        """Return generator options beside the counts, among them what is to be asked for."""

    def composition(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        features = rgb_features(tensors, self.head)
        blocks = self.counted(tensors, self.block.replace("{conv}", self.convs[0]), "block")
        scale = 1
        for step in range(1, self.steps(tensors) + 1):
            scale *= shuffle_factor(tensors, self.up_name(step))
        options = {"num_features": features, "num_blocks": blocks, **self.options(features)}
        return {"scale": scale, "generator": {"name": "composable/trunk", **options}}

    def names(self, composition: Mapping[str, Any]) -> dict[str, str]:
        from srzoo.layers import upsample_factors  # imports torch, which listing a layout's options need not wait for

        require(composition, {**FRAME, **self.frame})
        blocks, steps = composition["generator"]["num_blocks"], len(upsample_factors(composition["scale"]))
        table = self.ends(blocks, steps)
        for block in range(blocks):
            for ours, theirs in zip((0, 3), self.convs, strict=True):  # norm and activation lie between
                table[f"blocks.{block}.body.{ours}"] = self.block.format(block=block, conv=theirs)
        return table | {f"upsampler.steps.{3 * (step - 1)}": self.up_name(step) for step in range(1, steps + 1)}

    def write(self, tensors: Mapping[str, torch.Tensor], composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        require(composition, self.published)
        return dict(tensors)


class MSRResNet(Residual):
    """BasicSR (basicsr/archs/srresnet_arch.py)."""

    block = "body.{block}.conv{conv}"
    up = "upconv{step}"
    frame = {
        "head_activation": "leaky_relu",
        "trunk_conv": False,
        "trunk_skip": False,
        "hr_conv": True,
        "upsampler.activation": "leaky_relu",
        "rgb_mean": (None, [0.0, 0.0, 0.0]),
    }
    published = {
        "block.activation": "relu",
        "block.residual_scale": 1.0,
        "negative_slope": 0.1,
        "upsampler.negative_slope": 0.1,
        "image_skip": "bilinear",
    }

    def options(self, features: int) -> dict[str, Any]:
        slope = Ask(0.1, "slope of the leaky ReLU outside the blocks")
        scale = Ask(1.0, "factor on residuals before they are added")
        return {
            "block": {"name": "srgan/residual", "norm": "none", "activation": RELU, "residual_scale": scale},
            "upsampler": {"name": "composable/pixelshuffle", "activation": "leaky_relu", "negative_slope": slope},
            "head_activation": "leaky_relu",
            "negative_slope": slope,
            "trunk_conv": False,
            "trunk_skip": False,
            "hr_conv": True,
            "image_skip": Ask("bilinear", "how the image that the network adds to is enlarged, none for no such image"),
        }


class MMagicMSRResNet(MSRResNet):
    """mmagic (mmagic/models/editors/srgan/sr_resnet.py)."""

    block = "trunk_net.{block}.conv{conv}"
    up = "upsample{step}.upsample_conv"


class KAIRMSRResNet(MSRResNet):
    """ESRGAN's later code and KAIR (network_msrresnet.py, MSRResNet1)."""

    block = "recon_trunk.{block}.conv{conv}"
    up = "upconv{step}"
    hr_conv = "HRconv"


class SRResNet(Residual):
    """ESRGAN's first code (SRResNet) and KAIR (network_msrresnet.py, MSRResNet0): layers numbered through."""

    head = "model.0"
    block = "model.1.sub.{block}.res.{conv}"
    convs = ("0", "2")
    trunk_end = "model.1.sub.{blocks}"
    up = "model.{up}"
    up_offset = 1
    hr_conv = "model.{hr}"
    tail = "model.{tail}"
    frame = {
        "head_activation": "none",
        "trunk_conv": True,
        "trunk_skip": True,
        "hr_conv": True,
        "upsampler.activation": ("leaky_relu", "relu"),
        "image_skip": "none",
        "rgb_mean": (None, [0.0, 0.0, 0.0]),
    }
    published = {
        "block.activation": "relu",
        "block.residual_scale": 1.0,
        "negative_slope": 0.0,
        "upsampler.negative_slope": 0.0,
    }

    def options(self, features: int) -> dict[str, Any]:
        slope = Ask(0.0, "slope of the leaky ReLU after the trunk, 0 for a ReLU")
        scale = Ask(1.0, "factor on residuals before they are added")
        return {
            "block": {"name": "srgan/residual", "norm": "none", "activation": RELU, "residual_scale": scale},
            "upsampler": {"name": "composable/pixelshuffle", "activation": "leaky_relu", "negative_slope": slope},
            "negative_slope": slope,
            "hr_conv": True,
        }
