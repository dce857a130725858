"""PNG with 16 bits a channel, of which Pillow reads and writes opaque grey only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 64


def read_png16(path: Path) -> NDArray[np.uint16]:
    """Return (H, W, C) with one to four channels: grey, grey and opacity, RGB, RGB and opacity."""
    import png

    width, height, rows, info = png.Reader(bytes=path.read_bytes()).asDirect()
    values = np.vstack([np.asarray(row, dtype=np.uint16) for row in rows])
    return values.reshape(height, width, info["planes"])


def write_png16(
    file: IO[bytes], colour: NDArray[Any], alpha: NDArray[Any] | None, exif: bytes = b"", icc: bytes = b""
) -> None:
    """Write a PNG some rows at a time.

    Args:
        colour: (H, W, 1) or (H, W, 3) uint16.
        alpha: (H, W) uint16 opacity, or None.
        exif: EXIF data as in a JPEG; nothing for none.
        icc: colour profile; nothing for none.
    """
    import png

    height, width, channels = colour.shape

    def chunks() -> Iterator[tuple[bytes, bytes]]:
        colour_type = (0 if channels == 1 else 2) + (4 if alpha is not None else 0)
        yield b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
        if icc:
            yield b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)
        if exif:
            yield b"eXIf", exif.removeprefix(b"Exif\0\0")
        packer = zlib.compressobj()
        for start in range(0, height, ROWS_AT_ONCE):
            pixels = colour[start : start + ROWS_AT_ONCE]
            if alpha is not None:
                pixels = np.dstack([pixels, alpha[start : start + ROWS_AT_ONCE]])
            yield b"IDAT", packer.compress(_filtered(pixels).tobytes())
        yield b"IDAT", packer.flush()
        yield b"IEND", b""

    png.write_chunks(file, chunks())


def _filtered(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return rows of (H, W, C) as PNG stores them: filter 1, "Sub", then each byte less that of the pixel before."""
    stored = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(len(pixels), -1)
    step = 2 * pixels.shape[2]
    filtered = np.ones((stored.shape[0], stored.shape[1] + 1), np.uint8)
    filtered[:, 1:] = stored
    filtered[:, 1 + step :] -= stored[:, :-step]
    return filtered
