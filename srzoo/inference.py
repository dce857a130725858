"""Running a generator on whole images of any size."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .errors import PluginError
from .plugins import FAULTS, describe_exception

PRECISIONS = ("fp32", "bf16", "fp16")
"""What a generator's convolutions can compute in."""
REDUCED: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions below float32."""

VIEWS = 8
"""Flips and quarter turns of an image."""

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # what autocast computes in the lower precision anyway


class ReducedPrecision(nn.Module):
    """A generator whose convolutions compute in a lower precision, while images are added up in float32.

    (N, 3, H, W) float32 to (N, 3, scale*H, scale*W) of the type the generator ends in. The weights of convolutions
    and linear layers are converted in place, once: autocast would convert them again for every image.
    """

    def __init__(self, generator: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.generator = generator
        self.dtype = dtype
        for layer in generator.modules():
            if isinstance(layer, _CONVOLUTIONS):
                for parameter in layer.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        with torch.autocast(lr.device.type, self.dtype):
            sr: torch.Tensor = self.generator(lr)
            return sr


def self_ensemble(enlarge: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the mean over the eight flips and quarter turns of the input, each result turned back.

    EDSR's self-ensemble (arXiv:1707.02921, sec. 4.3).
    """

    def mean(lr: torch.Tensor) -> torch.Tensor:
        total = in_view(enlarge, lr, 0).float()  # float32, whatever the generator computes in
        for view in range(1, VIEWS):
            total = total + in_view(enlarge, lr, view)
        return total / VIEWS

    return mean


def in_view(enlarge: Callable[[torch.Tensor], torch.Tensor], lr: torch.Tensor, view: int) -> torch.Tensor:
    """Return what a generator makes of one of the eight flips and quarter turns of its input, turned back.

    Args:
        view: 0 to 7; 0 is the input as it is.
    """
    axes: tuple[int, ...] = ((), (2,), (3,), (2, 3))[view % 4]
    if view < 4:
        return enlarge(lr.flip(axes)).flip(axes)
    return enlarge(lr.transpose(2, 3).flip(axes)).flip(axes).transpose(2, 3)


class SelfEnsemble(nn.Module):
    """A generator whose output is its :func:`self_ensemble`; (N, 3, H, W) to (N, 3, scale*H, scale*W)."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.train(generator.training)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self_ensemble(self.generator)(lr)


def run_generator(generator: nn.Module, lr: torch.Tensor, scale: int, size_multiple: int = 1) -> torch.Tensor:
    """Upscale a batch of whole images.

    Sides that are not multiples of ``size_multiple`` are padded by replication, and the result is cut.

    Args:
        generator: in evaluation mode, on the device and of the type to compute in.
        lr: (N, 3, H, W) in [0, 1].

    Raises:
        PluginError: the generator raised, or returned something else than a batch of that size.

    Returns:
        (N, 3, scale*H, scale*W) float32, not clamped.
    """
    parameter = next(generator.parameters(), None)
    dtype = parameter.dtype if parameter is not None and not isinstance(generator, ReducedPrecision) else torch.float32
    device = parameter.device if parameter is not None else lr.device
    height, width = lr.shape[-2:]
    bottom, right = -height % size_multiple, -width % size_multiple
    padded = F.pad(lr, (0, right, 0, bottom), mode="replicate") if bottom or right else lr
    try:
        with torch.inference_mode(), exact_float32():
            sr: torch.Tensor = generator(padded.to(device, dtype, memory_format=torch.channels_last))
    except FAULTS as error:
        raise PluginError(
            f"the generator failed on an input of {width}x{height}: {describe_exception(error)}."
        ) from error
    check_size(sr, padded, scale)
    return sr[..., : height * scale, : width * scale].float()


def check_size(sr: Any, lr: torch.Tensor, scale: int) -> None:
    """Raise a PluginError unless a generator made (N, C, scale*H, scale*W) of (N, C, H, W)."""
    expected = (*lr.shape[:2], lr.shape[2] * scale, lr.shape[3] * scale)
    found = tuple(sr.shape) if isinstance(sr, torch.Tensor) else type(sr).__name__
    if found != expected:
        raise PluginError(f"the generator made {found} of {tuple(lr.shape)}; it must make {expected}.")


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within this context, float32 is float32 on CUDA too.

    By default torch has convolutions there computed in TF32, of 10 bits of mantissa: scores would differ from a CPU's
    in the third decimal, and tiles from the whole image.
    """
    if not torch.cuda.is_available():
        yield
        return
    parts: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    switch: str = "allow_tf32"
    exact: bool | str = False
    try:
        before = [getattr(part, switch) for part in parts]
    except RuntimeError:  # the caller has set torch's newer switches, beside which the older cannot be read
        parts, switch, exact = (parts[0].conv, parts[1]), "fp32_precision", "ieee"
        before = [getattr(part, switch) for part in parts]
    try:
        for part in parts:
            setattr(part, switch, exact)
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, switch, value)


def to_channels_last(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Put a module on a device, its weights of four dimensions in channels-last memory, and return it.

    What lies right already stays where it is: ``Module.to`` would copy weights such as (C, 1, 1, 1) to a new place
    every time, and leave behind whoever has noted the old one, as a CUDA graph has.
    """
    module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4 and not tensor.is_contiguous(memory_format=torch.channels_last):
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def prepare(generator: nn.Module, device: torch.device | str, precision: str = "fp32") -> nn.Module:
    """Put a generator into evaluation mode on a device, in the memory format that convolutions are fastest in.

    The generator itself is changed. What is returned is to be run; below fp32 it is a :class:`ReducedPrecision`.

    Raises:
        ValueError: there is no such precision.
    """
    if precision != "fp32" and precision not in REDUCED:
        raise ValueError(f"precision must be fp32, {' or '.join(REDUCED)}, not {precision!r}")
    prepared = to_channels_last(generator.eval(), device)
    return ReducedPrecision(prepared, REDUCED[precision]) if precision in REDUCED else prepared


def best_device() -> torch.device:
    """Return CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return the device in words, such as ``NVIDIA H200`` or ``CPU (AMD EPYC), 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads, model = torch.get_num_threads(), _processor()
    return f"CPU{f' ({model})' if model else ''}, {threads} thread{'s' if threads != 1 else ''}"


@cache
def _processor() -> str:
    """Return the processor's model, or an empty string."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
