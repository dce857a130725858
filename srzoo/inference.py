"""Running a generator on whole images of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .errors import PluginError
from .plugins import describe_exception


def run_generator(generator: nn.Module, lr: torch.Tensor, scale: int, size_multiple: int = 1) -> torch.Tensor:
    """Upscale a batch of whole images.

    Sides that are not multiples of ``size_multiple`` are padded by replication, and the result is cut.

    Args:
        generator: in evaluation mode, on the device and of the type to compute in.
        lr: (N, 3, H, W) in [0, 1].

    Raises:
        PluginError: the generator raised.

    Returns:
        (N, 3, scale*H, scale*W) float32, not clamped.
    """
    parameter = next(generator.parameters(), None)
    dtype = parameter.dtype if parameter is not None else torch.float32
    device = parameter.device if parameter is not None else lr.device
    height, width = lr.shape[-2:]
    bottom, right = -height % size_multiple, -width % size_multiple
    padded = F.pad(lr, (0, right, 0, bottom), mode="replicate") if bottom or right else lr
    try:
        with torch.inference_mode():
            sr: torch.Tensor = generator(padded.to(device, dtype, memory_format=torch.channels_last))
    except Exception as error:
        raise PluginError(
            f"the generator failed on an input of {width}x{height}: {describe_exception(error)}."
        ) from error
    return sr[..., : height * scale, : width * scale].float()


def prepare(generator: nn.Module, device: torch.device | str) -> nn.Module:
    """Put a generator into evaluation mode on a device, in the memory format that convolutions are fastest in."""
    return generator.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def best_device() -> torch.device:
    """Return CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
