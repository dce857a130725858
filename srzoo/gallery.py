"""Pictures for a page: chosen, cut and encoded within a budget of bytes, with the crop where entries differ most."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import DataError

REFERENCE = "HR"
"""The label of the high-resolution image among the entries' outputs."""
MAX_IMAGES = 12
MAX_BYTES = 25_000_000
"""Of all pictures together, as they stand in the page (base64)."""
MAX_SIDE = 1024
"""Larger pictures are cut, never shrunk: what distinguishes upscalers is the finest detail."""
CROP_SIDE = 96
MAX_REMAINDER = 16
"""A reference may be larger by the rows and columns that do not fill a multiple of the scale; they are cut."""
QUALITY = 90
"""Of WebP for whole pictures; crops are lossless."""

Pictures = Mapping[str, Mapping[str, Mapping[str, Path]]]
"""Dataset to image to entry, or ``REFERENCE``, to the file of its output."""
UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, pixels: UInt8Array) -> UInt8Array:
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Exhibit:
    """One image as the page shows it.

    Attributes:
        width, height: of the part that is shown, in pixels.
        original: width and height of the whole image.
        pictures: label to data URI of the part; the reference comes first.
        crop: where the entries differ most, within the part.
        crops: label to data URI of the crop, lossless.
    """

    dataset: str
    image: str
    width: int
    height: int
    original: tuple[int, int]
    pictures: dict[str, str]
    crop: Box
    crops: dict[str, str]

    @property
    def is_cut(self) -> bool:
        return (self.width, self.height) != self.original


@dataclass
class Gallery:
    """What is shown, and what had to be left out to stay within the budget.

    Attributes:
        offered: number of images there were pictures of.
        bytes: that the pictures take in the page.
    """

    exhibits: list[Exhibit] = field(default_factory=list)
    offered: int = 0
    bytes: int = 0

    @property
    def left_out(self) -> int:
        return self.offered - len(self.exhibits)


def build_gallery(pictures: Pictures, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES) -> Gallery:
    """Choose, cut and encode the pictures of a page.

    Images are taken from all datasets in turn, evenly spaced within each, so that the choice favours no entry; one
    that no longer fits the budget is left out.

    Raises:
        DataError: a picture cannot be read, or those of one image differ in size.
    """
    gallery = Gallery(offered=sum(len(images) for images in pictures.values()))
    for dataset, image in choose_images(pictures, max_images):
        exhibit = _exhibit(dataset, image, pictures[dataset][image])
        size = sum(len(uri) for uri in (*exhibit.pictures.values(), *exhibit.crops.values()))
        if gallery.bytes + size <= max_bytes:
            gallery.exhibits.append(exhibit)
            gallery.bytes += size
    order = list(pictures)
    gallery.exhibits.sort(key=lambda exhibit: order.index(exhibit.dataset))
    return gallery


def choose_images(pictures: Pictures, count: int) -> list[tuple[str, str]]:
    """Return at most ``count`` of ``(dataset, image)``: the datasets in turn, evenly spaced within each."""
    quota = dict.fromkeys(pictures, 0)
    while sum(quota.values()) < count and any(quota[name] < len(pictures[name]) for name in quota):
        for name in quota:
            if quota[name] < len(pictures[name]) and sum(quota.values()) < count:
                quota[name] += 1
    chosen = []
    for name, images in pictures.items():
        places = np.linspace(0, len(images) - 1, quota[name]).round().astype(int)
        chosen.append([(name, list(images)[place]) for place in places])
    longest = max(quota.values(), default=0)
    return [own[turn] for turn in range(longest) for own in chosen if turn < len(own)]


def busiest_box(stack: list[UInt8Array], side: int = CROP_SIDE) -> Box:
    """Return the square where pictures of one image differ most.

    Measured by the variance over the pictures of their luma after a Gaussian blur of 2 pixels, averaged over the
    square: the blur makes it a difference that is seen, not one of single pixels.

    Args:
        stack: RGB (H, W, 3) each, all of one size.
        side: cut to the picture where it is smaller.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    height, width = stack[0].shape[:2]
    tall, wide = min(side, height), min(side, width)
    lumas = [gaussian_filter(pixels.astype(np.float32) @ _LUMA, 2.0) for pixels in stack]
    spread: FloatArray = np.var(np.stack(lumas), axis=0)
    means = uniform_filter(spread, (tall, wide), mode="nearest")
    inside = means[tall // 2 : tall // 2 + height - tall + 1, wide // 2 : wide // 2 + width - wide + 1]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return Box(int(left), int(top), wide, tall)


_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _exhibit(dataset: str, image: str, files: Mapping[str, Path]) -> Exhibit:
    labels = sorted(files, key=lambda label: label != REFERENCE)  # the reference first, the others as they came
    pixels = {label: _read(files[label]) for label in labels}
    width, height = _common_size(f"image {image!r} of {dataset}", pixels)
    pixels = {label: array[:height, :width] for label, array in pixels.items()}
    outputs = [pixels[label] for label in labels if label != REFERENCE]
    box = busiest_box(outputs if len(outputs) > 1 else list(pixels.values()))
    window = Box(
        _start(box.left + box.width // 2, width), _start(box.top + box.height // 2, height),
        min(width, MAX_SIDE), min(height, MAX_SIDE),
    )  # fmt: skip
    return Exhibit(
        dataset,
        image,
        window.width,
        window.height,
        (width, height),
        {label: _encode(window.cut(array), lossless=False) for label, array in pixels.items()},
        Box(box.left - window.left, box.top - window.top, box.width, box.height),
        {label: _encode(box.cut(array), lossless=True) for label, array in pixels.items()},
    )


def _common_size(what: str, pixels: Mapping[str, UInt8Array]) -> tuple[int, int]:
    sizes = {label: (array.shape[1], array.shape[0]) for label, array in pixels.items()}
    widths, heights = zip(*sizes.values(), strict=True)
    if max(max(widths) - min(widths), max(heights) - min(heights)) >= MAX_REMAINDER:
        named = ", ".join(f"{label} {width}x{height}" for label, (width, height) in sizes.items())
        raise DataError(f"The pictures of {what} differ in size: {named}.")
    return min(widths), min(heights)


def _start(centre: int, length: int) -> int:
    """Where a window of ``MAX_SIDE`` around a centre begins, so that it lies within the length."""
    return max(0, min(centre - MAX_SIDE // 2, length - MAX_SIDE))


def _read(path: Path) -> UInt8Array:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"Cannot read the picture {path}: {error}.") from error


def _encode(pixels: UInt8Array, lossless: bool) -> str:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
