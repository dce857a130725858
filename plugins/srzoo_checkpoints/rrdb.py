"""RRDBNet (arXiv:1809.00219) under the names that its codes gave it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from srzoo.errors import WeightsError
from srzoo.layouts import Ask

from .tables import TRUNK, Table, head_of, require

if TYPE_CHECKING:
    import torch

SLOPE = Ask(0.2, "slope of the leaky ReLU, 0 for a ReLU")
SCALE = Ask(0.2, "factor on residuals before they are added")

FRAME = {
    **TRUNK,
    "block.name": "esrgan/rrdb",
    "upsampler.name": "composable/nearest_conv",
    "upsampler.activation": "leaky_relu",
    "head_activation": "none",
    "trunk_conv": True,
    "trunk_skip": True,
    "hr_conv": True,
    "image_skip": "none",
    "rgb_mean": (None, [0.0, 0.0, 0.0]),
    "input_unshuffle": (1, 2, 4),
}
PUBLISHED = {
    "block.residual_scale": 0.2,
    "block.negative_slope": 0.2,
    "negative_slope": 0.2,
    "upsampler.negative_slope": 0.2,
}
"""What the other programs have built in, so that other values cannot be written in their layout."""


class RRDBNet(Table):
    """ESRGAN's generator: three dense blocks of five convolutions each in a block."""

    scales: tuple[int, ...] = (1, 2, 4, 8)
    """Those that the other program builds from these tensors alone, times the factor of an unshuffled image."""

    def composition(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        features, unshuffle = head_of(tensors, self.head)
        blocks, steps = self.counted(tensors, self.block, "block"), self.steps(tensors)
        growth = tensors[f"{self.block.format(block=0, dense=1, conv=1)}.weight"].shape[0]
        scale: Any = 2**steps
        if unshuffle > 1:
            if 2**steps % unshuffle:
                raise WeightsError(
                    f"{self.head} takes an image unshuffled by {unshuffle} and {steps} steps enlarge it by {2**steps}, "
                    "so its output would be smaller than its input"
                )
            scale = 2**steps // unshuffle
        elif steps == 1 and 3 in self.scales:
            scale = Ask(2, "the upscaling factor of its one step, 2 or 3")
        return {
            "scale": scale,
            "generator": {
                "name": "composable/trunk",
                "num_features": features,
                "num_blocks": blocks,
                "block": {"name": "esrgan/rrdb", "growth": growth, "residual_scale": SCALE, "negative_slope": SLOPE},
                "upsampler": {
                    "name": "composable/nearest_conv",
                    "activation": "leaky_relu",
                    "negative_slope": SLOPE,
                },
                "hr_conv": True,
                "negative_slope": SLOPE,
                **({"input_unshuffle": unshuffle} if unshuffle > 1 else {}),
            },
        }

    def names(self, composition: Mapping[str, Any]) -> dict[str, str]:
        generator = composition["generator"]
        require(composition, {**FRAME, "upsampler.num_features": (None, generator.get("num_features"))})
        inner = composition["scale"] * generator["input_unshuffle"]
        if inner not in self.scales:
            raise ValueError(f"it enlarges features by {', '.join(map(str, self.scales))}, not {inner}")
        blocks, steps = generator["num_blocks"], {1: 0, 2: 1, 3: 1, 4: 2, 8: 3}[inner]
        table = self.ends(blocks, steps)
        for block, dense, conv in product(range(blocks), range(3), range(5)):
            theirs = self.block.format(block=block, dense=dense + 1, conv=conv + 1)
            table[f"blocks.{block}.dense_blocks.{dense}.convs.{conv}"] = theirs
        return table | {f"upsampler.convs.{step - 1}": self.up_name(step) for step in range(1, steps + 1)}

    def write(self, tensors: Mapping[str, torch.Tensor], composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        require(composition, PUBLISHED)
        return dict(tensors)


class BasicSR(RRDBNet):
    """BasicSR (basicsr/archs/rrdbnet_arch.py), Real-ESRGAN, mmagic. For x2 and x1 they unshuffle the image first."""

    block = "body.{block}.rdb{dense}.conv{conv}"
    trunk_end = "conv_body"
    up = "conv_up{step}"
    scales = (4,)


class ESRGAN(RRDBNet):
    """ESRGAN's first code (block.py, RRDB_Net) and KAIR (network_rrdb.py): layers numbered through."""

    head = "model.0"
    block = "model.1.sub.{block}.RDB{dense}.conv{conv}.0"
    trunk_end = "model.1.sub.{blocks}"
    up = "model.{up}"
    hr_conv = "model.{hr}"
    tail = "model.{tail}"
    scales = (1, 2, 3, 4, 8)


class LaterESRGAN(RRDBNet):
    """ESRGAN's later code (RRDBNet_arch.py), BSRGAN, KAIR (network_rrdbnet.py)."""

    block = "RRDB_trunk.{block}.RDB{dense}.conv{conv}"
    trunk_end = "trunk_conv"
    up = "upconv{step}"
    hr_conv = "HRconv"
    scales = (2, 4)
