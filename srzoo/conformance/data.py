"""Checks of datasets: images under names, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import ImageSet
from .outcome import listed, promise, require
from .subject import Subject

READ = 3
"""How many images are read; a set may hold thousands."""


def examine(image_set: Any) -> ImageSet:
    """Return what a dataset's factory returned, after looking at it and at its first image."""
    require(isinstance(image_set, ImageSet), f"it returns {type(image_set).__name__}, not a srzoo.data.ImageSet.")
    require(len(image_set), "it holds no images.")
    _read(image_set.items[0])
    return image_set  # type: ignore[no-any-return]


def _read(item: Any) -> np.ndarray[Any, Any]:
    rgb, grey = item.read_hr()
    kind = f"{getattr(rgb, 'shape', '?')} {getattr(rgb, 'dtype', type(rgb).__name__)}"
    fits = isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    require(fits, f"image {item.name!r} is {kind}; it must be (H, W, 3) uint8.")
    require(isinstance(grey, bool), f"image {item.name!r} does not say with True or False whether it is grey.")
    for scale in item.lr:
        item.read_pair(scale)  # raises where the two sizes do not belong together
    return rgb  # type: ignore[no-any-return]


@promise("readable", "dataset")
def readable(subject: Subject) -> str:
    """Images are (H, W, 3) uint8, and low-resolution ones fit."""
    image_set = examine(subject.build())
    for item in image_set.items[:READ]:
        _read(item)
    return f"{len(image_set)} images"


@promise("distinct-names", "dataset")
def distinct_names(subject: Subject) -> None:
    """Every image has a name of its own."""
    names = [item.name for item in examine(subject.build())]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{listed(twice)} names more than one image; results are told apart by name.")


@promise("reproducible", "dataset")
def reproducible(subject: Subject) -> None:
    """The same images in the same order every time."""
    one, other = examine(subject.build()), examine(subject.build())
    require([i.name for i in one] == [i.name for i in other], "asked twice, it lists its images differently.")
    for first, second in list(zip(one, other, strict=True))[:READ]:
        pixels = [_read(first), _read(first), _read(second)]
        same = all(np.array_equal(pixels[0], again) for again in pixels[1:])
        require(same, f"image {first.name!r} has other pixels the second time.")


CHECKS = (
    readable,
    distinct_names,
    reproducible,
)
