"""Upscaling pictures with a model."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from .errors import DataError, InputError, MemoryShortageError, UpscaleWarning
from .images import Picture, picture_from_pil, picture_to_pil, read_picture, upscale_bicubic
from .inference import best_device, prepare, run_generator, self_ensemble
from .pretrained import Model, load_model
from .receptive import Field, measure_field
from .tiling import AUTOMATIC_TILE, SMALLEST_TILE, Layout, Report, choose_layout, upscale_tiled

WHOLE_PIXELS = 2 * AUTOMATIC_TILE**2
"""Images of up to so many pixels are enlarged at once, unless a tile size is given."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How images are enlarged.

    Args:
        tile: side of the tiles, overlap included, in low-resolution pixels; 0 for the whole image at once; None to
            use tiles where the image has more than ``WHOLE_PIXELS`` pixels, or where memory runs out.
        overlap: how far tiles reach beyond what is kept of them; None for how far the generator sees.
        self_ensemble: mean over the eight flips and quarter turns of the input: eight times the work.
        tile_batch: how many tiles the generator is given at once; more may be faster on a GPU.

    Raises:
        InputError: a number is out of range.
    """

    tile: int | None = None
    overlap: int | None = None
    self_ensemble: bool = False
    tile_batch: int = 1

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile != 0 and self.tile < SMALLEST_TILE:
            raise InputError(f"tile must be at least {SMALLEST_TILE} pixels, or 0 for no tiles, not {self.tile}.")
        if self.overlap is not None and self.overlap < 0:
            raise InputError(f"overlap must not be negative, not {self.overlap}.")
        if self.tile_batch < 1:
            raise InputError(f"tile_batch must be at least 1, not {self.tile_batch}.")


def upscale(
    image: Any,
    entry: str | Path | Model,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    tile_batch: int = 1,
) -> Any:
    """Upscale a picture.

    Memory is bounded by the tile and the result, whatever the picture. An ``UpscaleWarning`` says how far the result
    may differ from that of the whole picture if tiles do not overlap as far as the generator sees.

    Args:
        image: a path or a PIL image (returns a PIL image), an array (H, W, 3) or grey (H, W), uint8 or uint16
            (returns its like), or a tensor (N, 3, H, W) in [0, 1] (returns one, clamped). In PIL images, 16 bits
            are kept for opaque grey only, since Pillow has no other such mode.
        entry: a zoo entry, a checkpoint file, a run's folder, or a loaded :class:`srzoo.pretrained.Model`.
        tile, overlap, self_ensemble, tile_batch: see :class:`Settings`.

    Raises:
        DataError: the picture cannot be read or has the wrong shape or type.
        InputError: the entry does not exist or has no weights, or a setting is out of range.
        MemoryShortageError: memory does not suffice for the result, or for the smallest tile.
    """
    settings = Settings(tile, overlap, self_ensemble, tile_batch)
    model = entry if isinstance(entry, Model) else load_model(entry)
    if isinstance(image, torch.Tensor):
        if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape or not image.is_floating_point():
            raise DataError(f"a tensor must be (N, 3, H, W), floating-point in [0, 1], not {tuple(image.shape)}.")
        if image.min() < -1e-3 or image.max() > 1 + 1e-3:
            raise DataError(f"a tensor's values must lie in [0, 1], not in [{image.min():.3g}, {image.max():.3g}].")
        return run_model(model, image, settings).clamp_(0, 1)
    if isinstance(image, np.ndarray):
        rgb = image[..., None] if image.ndim == 2 else image
        fits = rgb.ndim == 3 and rgb.shape[2] == (1 if image.ndim == 2 else 3) and 0 not in rgb.shape
        if not fits or rgb.dtype not in (np.uint8, np.uint16):
            raise DataError(f"an array must be (H, W, 3) or (H, W), uint8 or uint16, not {image.shape} {image.dtype}.")
        large = enlarge_pixels(model, rgb, settings)
        return large[..., 0] if image.ndim == 2 else large
    if isinstance(image, Image.Image):
        picture = picture_from_pil(image, keep_depth=True)
    elif isinstance(image, (str, Path)):
        picture = read_picture(image, keep_depth=True)
    else:
        raise InputError(f"upscale takes a path, a PIL image, an array or a tensor, not {type(image).__name__}.")
    return picture_to_pil(upscale_picture(model, picture, settings))


def run_model(model: Model, image: torch.Tensor, settings: Settings | None = None) -> torch.Tensor:
    """Run a model on (N, 3, H, W) in [0, 1] on the best device there is; returns float32, not clamped."""
    images = image.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    large = [enlarge_pixels(model, one, settings or Settings()) for one in images]
    return torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in large])


def upscale_picture(
    model: Model, picture: Picture, settings: Settings | None = None, progress: Progress | None = None
) -> Picture:
    """Upscale a decoded picture.

    Grey stays grey, 16 bits stay 16 bits, opacity is enlarged bicubically, and EXIF and colour profile stay.

    Args:
        progress: called with the number of tiles done and of all.
    """
    pixels = picture.rgb[..., :1] if picture.grey else picture.rgb
    rgb = enlarge_pixels(model, pixels, settings or Settings(), progress)
    if picture.grey:
        rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))  # a view: three times the memory would hold no more
    alpha = None
    if picture.alpha is not None:
        alpha = _enlarge_opacity(picture.alpha[..., None], model.entry.scale)[..., 0]
    return replace(picture, rgb=rgb, alpha=alpha)


def _enlarge_opacity(alpha: NDArray[Any], scale: int) -> NDArray[Any]:
    whole = alpha.shape[0] * alpha.shape[1] <= WHOLE_PIXELS
    layout = Layout() if whole else Layout(2 * AUTOMATIC_TILE, overlap=4)  # of four samples, two lie on either side
    return upscale_tiled(lambda image: upscale_bicubic(image, scale), alpha, scale, layout)[0]


def enlarge_in_tiles(model: Model, image: NDArray[Any], tile: int, device: torch.device) -> NDArray[Any]:
    """Enlarge (H, W, 3) uint8 in tiles of a side, by a generator that is prepared on a device.

    They overlap by what the generator sees, where that is known; an ``UpscaleWarning`` says by how much the result may
    differ from that of the whole image.
    """

    def run(layout: Layout) -> tuple[NDArray[Any], Report]:
        return upscale_tiled(
            lambda lr: run_generator(model.generator, lr.to(device), model.entry.scale),
            image,
            model.entry.scale,
            layout,
            size_multiple=model.size_multiple,
        )

    return _run(run, model, image.shape[0], image.shape[1], Settings(tile))


def enlarge_pixels(
    model: Model, image: NDArray[Any], settings: Settings, progress: Progress | None = None
) -> NDArray[Any]:
    """Enlarge (H, W, 3), or grey (H, W, 1), of type uint8, uint16 or float32 on the best device there is.

    What a generator makes of a grey image is nearly grey; the mean of its channels is returned.

    Returns:
        (scale*H, scale*W, C) of the same type.
    """
    device = best_device()
    prepare(model.generator, device)
    scale = model.entry.scale
    generate = partial(run_generator, model.generator, scale=scale)

    def enlarge(lr: torch.Tensor) -> torch.Tensor:
        sr = generate(lr.to(device).expand(-1, 3, -1, -1))
        return sr.mean(dim=1, keepdim=True) if lr.shape[1] == 1 else sr

    run: Callable[[Layout], tuple[NDArray[Any], Report]] = partial(
        upscale_tiled,
        self_ensemble(enlarge) if settings.self_ensemble and not model.entry.self_ensemble else enlarge,
        image,
        scale,
        size_multiple=model.size_multiple,
        batch=settings.tile_batch,
        progress=progress,
    )
    return _run(run, model, image.shape[0], image.shape[1], settings)


def _run(
    run: Callable[[Layout], tuple[NDArray[Any], Report]], model: Model, height: int, width: int, settings: Settings
) -> NDArray[Any]:
    """Run on the whole image where that is wanted or small enough; in tiles otherwise, or where memory runs out."""
    fits = height * width <= WHOLE_PIXELS if settings.tile is None else max(height, width) <= settings.tile
    if fits or settings.tile == 0:
        try:
            return run(Layout())[0]
        except MemoryShortageError:
            if settings.tile == 0 or max(height, width) < 2 * max(SMALLEST_TILE, 4 * model.size_multiple):
                raise
        tile: int | None = min(AUTOMATIC_TILE, max(height, width) // 2)
        warnings.warn(UpscaleWarning(f"memory ran out; going on with tiles of {tile} pixels."), stacklevel=2)
    else:
        tile = settings.tile
    pixels, report = run(choose_layout(_field(model), tile, settings.overlap, model.size_multiple))
    if not report.layout.exact or report.seam_error > 1:  # one level: a tie that was rounded to either side
        _tell_seams(report)
    return pixels


def _tell_seams(report: Report) -> None:
    sees = "has no bound that was found" if report.layout.sees is None else f"is {report.layout.sees}"
    warnings.warn(
        UpscaleWarning(
            f"{report.tiles} tiles of {report.layout.tile} pixels overlap by {report.layout.overlap}, and how far the "
            f"generator sees {sees}; where tiles meet, they differ by up to {report.seam_error:.3g} of 255 levels. "
            "A larger overlap makes this less."
        ),
        stacklevel=2,
    )


_fields: weakref.WeakKeyDictionary[nn.Module, Field] = weakref.WeakKeyDictionary()


def _field(model: Model) -> Field:
    """Return how far a model sees: as its plugin says, or measured once for as long as it is loaded."""
    declared = model.receptive_radius
    if declared is not None and declared <= AUTOMATIC_TILE // 8:
        return Field(declared, declared)
    if model.generator not in _fields:
        _fields[model.generator] = measure_field(model.generator, model.entry.scale, model.size_multiple)
    measured = _fields[model.generator]
    return measured if declared is None else replace(measured, radius=declared)
