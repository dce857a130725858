"""Upscaling pictures with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .errors import DataError, InputError
from .images import (
    Picture,
    UInt8Array,
    picture_from_pil,
    picture_to_pil,
    read_picture,
    to_tensor,
    to_uint8,
    upscale_bicubic,
)
from .inference import best_device, prepare, run_generator
from .pretrained import Model, load_model


def upscale(image: Any, entry: str | Path | Model) -> Any:
    """Upscale a picture.

    Args:
        image: a path or a PIL image (returns a PIL image), an array (H, W, 3) or grey (H, W), uint8
            (returns its like), or a tensor (N, 3, H, W) in [0, 1] (returns one, clamped).
        entry: a zoo entry, a checkpoint file, a run's folder, or a loaded :class:`srzoo.pretrained.Model`.

    Raises:
        DataError: the picture cannot be read or has the wrong shape or type.
        InputError: the entry does not exist or has no weights.
    """
    model = entry if isinstance(entry, Model) else load_model(entry)
    if isinstance(image, torch.Tensor):
        if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape or not image.is_floating_point():
            raise DataError(f"a tensor must be (N, 3, H, W), floating-point in [0, 1], not {tuple(image.shape)}.")
        if image.min() < -1e-3 or image.max() > 1 + 1e-3:
            raise DataError(f"a tensor's values must lie in [0, 1], not in [{image.min():.3g}, {image.max():.3g}].")
        return run_model(model, image).clamp(0, 1)
    if isinstance(image, np.ndarray):
        grey = image.ndim == 2
        rgb = np.repeat(image[..., None], 3, axis=2) if grey else image
        if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape or rgb.dtype != np.uint8:
            raise DataError(f"an array must be (H, W, 3) or (H, W), uint8, not {image.shape} {image.dtype}.")
        large = upscale_picture(model, Picture(rgb, grey)).rgb
        return large[..., 0] if grey else large
    if isinstance(image, Image.Image):
        picture = picture_from_pil(image)
    elif isinstance(image, (str, Path)):
        picture = read_picture(image)
    else:
        raise InputError(f"upscale takes a path, a PIL image, an array or a tensor, not {type(image).__name__}.")
    return picture_to_pil(upscale_picture(model, picture))


def run_model(model: Model, image: torch.Tensor) -> torch.Tensor:
    """Run a model on (N, 3, H, W) in [0, 1] on the best device there is."""
    device = best_device()
    prepare(model.generator, device)
    return run_generator(model.generator, image.to(device), model.entry.scale, model.size_multiple).cpu()


def upscale_picture(model: Model, picture: Picture) -> Picture:
    """Upscale a decoded picture; grey stays grey, and opacity is enlarged bicubically."""
    rgb = to_uint8(run_model(model, to_tensor(picture.rgb)))
    if picture.grey:  # a generator answers a grey input with nearly equal channels
        rgb = np.repeat(np.rint(rgb.mean(axis=2, keepdims=True)).astype(np.uint8), 3, axis=2)
    alpha: UInt8Array | None = None
    if picture.alpha is not None:
        opacity = torch.from_numpy(picture.alpha)[None, None].float() / 255.0
        alpha = to_uint8(upscale_bicubic(opacity, model.entry.scale))[..., 0]
    return Picture(rgb, picture.grey, alpha)
