"""What image files carry beside their pixels: EXIF with its orientation, and ICC colour profiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION, _FOLDER, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_ABOUT_THE_FILE = {
    *(_ORIENTATION, 254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 284, 292, 293, 317, 318, 319),
    *(320, 322, 323, 324, 325, 330, 338, 339, 347, 512, 513, 514, 529, 530, 531, 532, 34675),
}
"""TIFF tags that hold for the file they were read from only: size, layout, compression, the colour profile."""

_UPRIGHT: dict[int, Callable[[NDArray[np.uint16]], NDArray[np.uint16]]] = {  # orientation to how pixels are shown
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def exif_of(image: Image.Image) -> bytes:
    """Return an image's EXIF data as in a JPEG, for another file: without orientation, thumbnail and layout.

    Damaged EXIF data counts as none.
    """
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
        for tag in _ABOUT_THE_FILE & set(exif):
            del exif[tag]
        return exif.tobytes() if len(exif) else b""
    except Exception:  # Pillow raises many kinds, and the pixels are whole without it
        return b""


def exif_of_size(data: bytes, width: int, height: int) -> bytes:
    """Return EXIF data with the size of the image it now belongs to, if it tells a size."""
    exif = Image.Exif()
    exif.load(data)
    folder = exif.get_ifd(_FOLDER) if _FOLDER in exif else {}
    for tag, side in ((_WIDTH, width), (_HEIGHT, height)):
        if tag in folder:
            folder[tag] = side
    return exif.tobytes()


def icc_of(image: Image.Image) -> bytes:
    """Return an image's ICC colour profile, or nothing."""
    return image.info.get("icc_profile") or b""


def upright(pixels: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Turn (H, W, C) as the EXIF orientation of the image says; for pixels that Pillow cannot hold."""
    return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1), _UPRIGHT[1])(pixels)
