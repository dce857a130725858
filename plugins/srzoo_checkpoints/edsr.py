"""EDSR (arXiv:1707.02921). Its codes compute on images in [0, 255], ours on [0, 1].

Convolutions and ReLU commute with a positive factor, so the same network on [0, 1] has the same weights and biases
divided by 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from srzoo.errors import WeightsError
from srzoo.layouts import Ask

from .residual import RELU, Residual
from .tables import require

if TYPE_CHECKING:
    import torch

DIV2K_MEAN = [0.4488, 0.4371, 0.4040]
RANGE = 255.0


class BasicSR(Residual):
    """BasicSR (basicsr/archs/edsr_arch.py). The mean of the images and their range are no tensors there."""

    block = "body.{block}.conv{conv}"
    trunk_end = "conv_after_body"
    up = "upsample.{even}"
    hr_conv = ""
    frame = {
        "head_activation": "none",
        "trunk_conv": True,
        "trunk_skip": True,
        "hr_conv": False,
        "upsampler.activation": "none",
        "image_skip": "none",
    }
    published = {"block.activation": "relu", "rgb_mean": (DIV2K_MEAN,)}
    range = RANGE
    """Largest value of the images that the other program computes on."""

    def options(self, features: int) -> dict[str, Any]:
        usual = 0.1 if features >= 256 else 1.0
        scale = Ask(usual, "factor on residuals before they are added, 0.1 with 256 features and 1 with 64")
        return {
            "block": {"name": "srgan/residual", "norm": "none", "activation": RELU, "residual_scale": scale},
            "upsampler": {"name": "composable/pixelshuffle", "activation": "none"},
            "rgb_mean": Ask(DIV2K_MEAN, "mean of the training images in [0, 1]"),
        }

    def composition(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        found = super().composition(tensors)
        return {
            **found,
            "values": {"rgb_range": Ask(self.range, "largest value of the images it computes on, 255 or 1")},
        }

    def read(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        factor = values["rgb_range"]
        if not isinstance(factor, (int, float)) or not factor > 0:
            raise WeightsError(f"rgb_range must be a positive number, not {factor!r}")
        return {name: tensor / factor if name.endswith(".bias") else tensor for name, tensor in tensors.items()}

    def write(self, tensors: Mapping[str, torch.Tensor], composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        require(composition, self.published)
        return {name: tensor * self.range if name.endswith(".bias") else tensor for name, tensor in tensors.items()}


class MMagic(BasicSR):
    """mmagic (mmagic/models/editors/edsr/edsr_net.py), which computes on images in [0, 1]."""

    range = 1.0
    up = "upsample.{index}.upsample_conv"


class EDSRPyTorch(BasicSR):
    """The authors' PyTorch code (src/model/edsr.py). The mean stands in fixed 1x1 convolutions at both ends."""

    head = "head.0"
    block = "body.{block}.body.{conv}"
    convs = ("0", "2")
    trunk_end = "body.{blocks}"
    up = "tail.0.{even}"
    tail = "tail.1"
    published = {"block.activation": "relu"}

    def composition(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        found = super().composition(tensors)
        shift = _shift(tensors)
        largest = max(shift)
        factor: Any = RANGE if largest > 1 else 1.0
        if not any(shift):
            factor = Ask(RANGE, "largest value of the images it computes on, 255 or 1, which a mean of 0 does not show")
        elif min(shift) < 0 or not 0.05 <= largest / factor <= 1:  # images are neither that dark nor that bright
            raise WeightsError(f"sub_mean.bias takes off {shift}, the mean of images neither in [0, 255] nor in [0, 1]")
        published = RANGE if isinstance(factor, Ask) else factor
        found["generator"]["rgb_mean"] = [round(value / published, 6) for value in shift]
        return {**found, "values": {"rgb_range": factor}}

    def read(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        own = {n: t for n, t in tensors.items() if n.partition(".")[0] not in ("sub_mean", "add_mean")}
        return super().read(own, values)

    def write(self, tensors: Mapping[str, torch.Tensor], composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        import torch

        result = super().write(tensors, composition)
        mean = torch.tensor(composition["generator"]["rgb_mean"] or [0.0, 0.0, 0.0]) * self.range
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            result |= {f"{name}.weight": torch.eye(3).view(3, 3, 1, 1), f"{name}.bias": sign * mean}
        return result


def _shift(tensors: Mapping[str, torch.Tensor]) -> list[float]:
    """Return the mean that is taken off the image before the first convolution, and added after the last.

    Raises:
        WeightsError: the 1x1 convolutions at both ends do something else, which no generator here does.
    """
    import torch

    biases = tensors["sub_mean.bias"].flatten().double(), tensors["add_mean.bias"].flatten().double()
    if any(len(bias) != 3 for bias in biases):
        raise WeightsError(f"sub_mean.bias and add_mean.bias have {len(biases[0])} and {len(biases[1])} values, not 3")
    for name in ("sub_mean.weight", "add_mean.weight"):
        weight = tensors[name].double()
        if tuple(weight.shape) != (3, 3, 1, 1) or not torch.allclose(weight.view(3, 3), torch.eye(3).double()):
            raise WeightsError(f"{name} is not the identity: it divides by a deviation or mixes colours")
    if not torch.allclose(biases[0], -biases[1], rtol=1e-4):
        raise WeightsError("add_mean.bias does not add what sub_mean.bias takes off")
    return [-float(value) for value in biases[0]]
