"""SRResNet as SRGAN has it (arXiv:1609.04802), with batch normalisation, under the names of two codes for PyTorch.

Both have one PReLU slope for all channels, where ours has one a channel, and one of them has biases that the batch
normalisation behind them takes out again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from srzoo.layouts import Ask

from .tables import Table, require, rgb_features, shuffle_factor

if TYPE_CHECKING:
    import torch

FRAME = {
    "name": "composable/trunk",
    "block.name": "srgan/residual",
    "block.norm": "batch",
    "block.activation": "prelu",
    "block.residual_scale": 1.0,
    "block.norm_after_activation": False,
    "upsampler.name": "composable/pixelshuffle",
    "upsampler.activation": "prelu",
    "head_activation": "prelu",
    "trunk_conv": True,
    "trunk_norm": "batch",
    "trunk_skip": True,
    "hr_conv": False,
    "image_skip": "none",
    "rgb_mean": (None, [0.0, 0.0, 0.0]),
    "input_unshuffle": 1,
    "head_kernel": 9,
    "tail_kernel": 9,
}


class SRGAN(Table):
    """What the two have in common."""

    prelu = ""
    """Of an upsampling step, as ``up`` is its convolution."""
    parts: tuple[str, ...] = ()
    """What ``{conv}`` is for the five layers of a block."""
    first = 0
    """What ``{block}`` counts from."""
    output = "none"
    """Published way to [0, 1]; clamping is none, as srzoo clamps what it saves."""
    biased = False
    """Whether convolutions before a batch normalisation have a bias."""

    def composition(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        features = rgb_features(tensors, self.head)
        blocks = self.counted(tensors, self.block.replace("{conv}", self.parts[0]), "block")
        scale, steps = 1, 0
        while f"{self.step_name(self.up, blocks, steps)}.weight" in tensors:
            scale *= shuffle_factor(tensors, self.step_name(self.up, blocks, steps))
            steps += 1
        return {
            "scale": scale,
            "generator": {
                "name": "composable/trunk",
                "num_features": features,
                "num_blocks": blocks,
                "block": {"name": "srgan/residual", "norm": "batch", "activation": "prelu"},
                "upsampler": {"name": "composable/pixelshuffle", "activation": "prelu"},
                "head_kernel": 9,
                "head_activation": "prelu",
                "trunk_norm": "batch",
                "tail_kernel": 9,
                "output_activation": Ask(self.output, "what maps the output to [0, 1]: tanh, or none where it is cut"),
            },
        }

    def step_name(self, template: str, blocks: int, step: int) -> str:
        """Return the name of a layer of an upsampling step, which counts from 0."""
        return template.format(end=blocks + 3, step=step)

    def names(self, composition: Mapping[str, Any]) -> dict[str, str]:
        from srzoo.layers import upsample_factors

        require(composition, FRAME)
        blocks, steps = composition["generator"]["num_blocks"], len(upsample_factors(composition["scale"]))
        table = {
            "head.0": self.head,
            "head.1": self.head[:-1] + "1",
            "trunk_end.0": self.trunk_end.format(end=blocks + 2) + ".0",
            "trunk_end.1": self.trunk_end.format(end=blocks + 2) + ".1",
            "tail": self.tail.format(end=blocks + 3, step=steps),
        }
        for block in range(blocks):
            for ours, theirs in enumerate(self.parts):
                table[f"blocks.{block}.body.{ours}"] = self.block.format(block=block + self.first, conv=theirs)
        for step in range(steps):
            table[f"upsampler.steps.{3 * step}"] = self.step_name(self.up, blocks, step)
            table[f"upsampler.steps.{3 * step + 2}"] = self.step_name(self.prelu, blocks, step)
        return table

    def read(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        result = dict(tensors)
        for name, tensor in tensors.items():
            layer, _, parameter = name.rpartition(".")
            if parameter == "weight" and tuple(tensor.shape) == (1,):  # a PReLU's
                result[name] = tensor.repeat(len(tensors[f"{self.head}.weight"]))
            elif parameter == "running_mean":  # norm(conv + bias) is norm with another mean
                bias = result.pop(f"{_before(layer)}.bias", None)
                if bias is not None:
                    result[name] = tensor - bias
        return result

    def write(self, tensors: Mapping[str, torch.Tensor], composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        require(composition, {"output_activation": self.output})
        result = dict(tensors)
        for name, tensor in tensors.items():
            layer, _, parameter = name.rpartition(".")
            if parameter == "weight" and tensor.dim() == 1 and f"{layer}.running_mean" not in tensors:
                if not bool((tensor == tensor[0]).all()):
                    raise ValueError("it has one PReLU slope for all channels, and here they differ")
                result[name] = tensor[:1].clone()
            elif parameter == "running_mean" and self.biased:
                result[f"{_before(layer)}.bias"] = tensor.new_zeros(tensor.shape)
        return result


def _before(norm: str) -> str:
    """Return the name of the convolution before a batch normalisation: conv1 before bn1, and 0 before 1."""
    layers, _, own = norm.rpartition(".")
    previous = str(int(own) - 1) if own.isdigit() else re.sub("^bn", "conv", own)
    return f"{layers}.{previous}"


class Leftthomas(SRGAN):
    """leftthomas/SRGAN (model.py) and its many descendants: everything is a numbered block."""

    head = "block1.0"
    block = "block{block}.{conv}"
    parts = ("conv1", "bn1", "prelu", "conv2", "bn2")
    first = 2
    trunk_end = "block{end}"
    up = "block{end}.{step}.conv"
    prelu = "block{end}.{step}.prelu"
    tail = "block{end}.{step}"
    output = "tanh"
    biased = True


class Lornatang(SRGAN):
    """Lornatang/SRGAN-PyTorch (model.py)."""

    head = "conv_block1.0"
    block = "trunk.{block}.rcb.{conv}"
    parts = ("0", "1", "2", "3", "4")
    trunk_end = "conv_block2"
    up = "upsampling.{step}.upsample_block.0"
    prelu = "upsampling.{step}.upsample_block.2"
    tail = "conv_block3"
