"""Photographs out of scikit-image's wheel, so that a benchmark needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srzoo.data import ImageItem, ImageSet
from srzoo.images import UInt8Array, read_rgb

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
"""Photographs that lie in the wheel itself; the others of ``skimage.data`` are downloaded on first use."""
LARGEST_SIDE = 512


def photos() -> ImageSet:
    """Return the photographs, the middle of those that are larger than 512 pixels on a side."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"

    def reader(path: Path) -> tuple[UInt8Array, bool]:
        rgb, grey = read_rgb(path)
        top, left = (max(0, (side - LARGEST_SIDE) // 2) for side in rgb.shape[:2])
        return np.ascontiguousarray(rgb[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]), grey

    return ImageSet(
        "photos",
        tuple(
            ImageItem(Path(name).stem, hr=lambda path=folder / name: reader(path))  # type: ignore[misc]
            for name in PHOTOS
        ),
    )
