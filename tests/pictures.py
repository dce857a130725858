"""Images that tests make, and a network that takes small ones only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srzoo.data import ImageItem, ImageSet


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def coordinates(height: int, width: int, blue: int) -> np.ndarray:
    """Red is the row, green the column, blue the number of the image."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([y, x, np.full_like(y, blue)]).astype(np.uint8)


def coordinate_set(folder: Path, scale: int, low_sizes: Sequence[tuple[int, int]]) -> ImageSet:
    """Pairs whose pixels say where they are: LR pixel (y, x) belongs to HR pixels (scale*y.., scale*x..)."""
    items = []
    for number, (height, width) in enumerate(low_sizes):
        hr = save(folder / "HR" / f"{number}.png", coordinates(height * scale, width * scale, number))
        lr = save(folder / f"LR_x{scale}" / f"{number}.png", coordinates(height, width, number))
        items.append(ImageItem(str(number), hr, {scale: lr}))
    return ImageSet("coordinates", tuple(items))


def pixels(tensor: torch.Tensor) -> np.ndarray:
    """(3, H, W) uint8 to (H, W, 3) integers."""
    return tensor.permute(1, 2, 0).numpy().astype(int)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return torch.equal(left["lr"], right["lr"]) and torch.equal(left["hr"], right["hr"])


def photographs(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> Path:
    """Write smooth pictures of some widths and heights, and return their folder."""
    random = np.random.default_rng(0)
    for name, size in sizes.items():
        coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        save(folder / f"{name}.png", np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)))
    return folder


class Greedy(torch.nn.Module):
    """Nearest neighbour that needs more memory than there is for more than so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels, self.refused = pixels, 0

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if lr.shape[-1] * lr.shape[-2] > self.pixels:
            self.refused += 1
            raise torch.OutOfMemoryError("out of memory")
        return torch.nn.functional.interpolate(lr, scale_factor=4)
