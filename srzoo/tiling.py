"""Enlarging large images in tiles: memory is bounded by the tile, whatever the image.

A tile is a window of the low-resolution image. Of what the generator makes of it, the margin that its cut edges reach
into is thrown away. Where an edge of the window is one of the image there is no margin, and the generator treats it as
it always does. So tiles whose overlap is the generator's receptive radius give what the whole image would.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import InputError, MemoryShortageError, PluginError, UpscaleWarning
from .inference import check_size
from .receptive import Field

Enlarge = Callable[[torch.Tensor], torch.Tensor]
"""Maps (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W)."""

AUTOMATIC_TILE = 256
LARGEST_AUTOMATIC_TILE = 512
SMALLEST_TILE = 16


@dataclass(frozen=True)
class Layout:
    """How an image is cut; in low-resolution pixels.

    Attributes:
        tile: side of the windows that the generator is given, overlap included; 0 for the whole image at once.
        overlap: how far a window reaches beyond what it is kept of, at every edge that is not the image's. It must be
            a pixel more than the generator sees: in the first pixel beyond, neighbours are compared.
        sees: how far the generator sees, as far as the result depends on it; None if no bound is known.
    """

    tile: int = 0
    overlap: int = 0
    sees: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the result is that of the whole image, as far as is known."""
        return not self.tile or (self.sees is not None and self.sees < self.overlap)


@dataclass(frozen=True)
class Report:
    """What a tiling came to.

    Attributes:
        tiles: how many there were.
        layout: the last one in use; another than was asked for where memory ran out.
        seam_error: the largest difference between two tiles at the pixels where they meet, in 8-bit levels.
    """

    tiles: int
    layout: Layout
    seam_error: float


# --- layouts --------------------------------------------------------------------------------------------------


def choose_layout(field: Field, tile: int | None = None, overlap: int | None = None, size_multiple: int = 1) -> Layout:
    """Choose tile and overlap, as far as they are not given.

    The overlap is the field's radius where that is cheap, else its effective radius, else an eighth of the tile. At
    an eighth, 1.8 times as much is computed as without overlap, and four times as much at a quarter.

    Raises:
        InputError: the tile is too small, or the overlap leaves nothing of it.
    """
    needed = field.needed
    if tile is None:
        side = min(max(AUTOMATIC_TILE, 8 * (overlap or needed or 0)), LARGEST_AUTOMATIC_TILE)
        side, limit = max(side // size_multiple, 8) * size_multiple, side // 4
    else:
        side, limit = tile // size_multiple * size_multiple, 3 * tile // 8
    if side < max(SMALLEST_TILE, 4 * size_multiple):
        least = max(SMALLEST_TILE, 4 * size_multiple)
        raise InputError(f"a tile of {tile} pixels is too small; give at least {least}, or 0 for no tiles.")
    if overlap is None:
        candidates = [field.radius if (field.radius or 0) <= side // 8 else None, field.effective, field.radius]
        bounded = [radius for radius in candidates if radius is not None and radius <= limit]
        fitting = [radius for radius in bounded if side > 2 * _round_up(radius + 1, size_multiple)]
        overlap = fitting[0] if fitting else side // 8
    rounded = _round_up(overlap + 1, size_multiple)
    if side <= 2 * rounded:
        most = (side // size_multiple - 1) // 2 * size_multiple - 1
        raise InputError(f"an overlap of {overlap} leaves nothing of a tile of {side} pixels; give at most {most}.")
    return Layout(side, rounded, needed)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class _Box(NamedTuple):
    """A rectangle of low-resolution pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


def _cut(start: int, stop: int, length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Cut [start, stop) of an axis into the parts that windows of a tile's length can be kept of."""
    parts = []
    while start < stop:
        window = _window(start, length, tile, overlap)
        end = stop if window + tile >= min(stop + overlap, length) else window + tile - overlap
        parts.append((start, end))
        start = end
    return parts


def _window(start: int, length: int, tile: int, overlap: int) -> int:
    """Return where the window of a part begins: within the image, so that all windows have one size."""
    return max(0, min(start - overlap, length - tile))


def _even(length: int, tile: int, overlap: int, multiple: int) -> int:
    """Return the smallest window that cuts an axis into no more parts; a rest would be mostly overlap."""
    tile = min(tile, length)
    count = len(_cut(0, length, length, tile, overlap))
    while tile - multiple > 2 * overlap and len(_cut(0, length, length, tile - multiple, overlap)) == count:
        tile -= multiple
    return tile


# --- the tiles ------------------------------------------------------------------------------------------------


def upscale_tiled(
    enlarge: Enlarge,
    image: NDArray[Any],
    scale: int,
    layout: Layout,
    *,
    size_multiple: int = 1,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[Any], Report]:
    """Enlarge an image tile by tile into an array of its own type.

    Where memory runs out, the batch is halved and then the tile, from the tile that failed on, with a warning.

    Args:
        enlarge: gets windows whose sides are multiples of ``size_multiple``, and may raise when memory runs out.
        image: (H, W, C) uint8 or uint16, or float32 in [0, 1].
        batch: how many tiles ``enlarge`` is given at once.
        progress: called with the number of tiles done and of all.

    Raises:
        MemoryShortageError: the output, the whole image, or the smallest tile does not fit into memory.
        PluginError: the generator failed, or its output has the wrong size or is not finite.

    Returns:
        (scale*H, scale*W, C) of the image's type, rounded and clamped if that is an integer, and how it went.
    """
    assert not layout.tile or layout.tile > 2 * layout.overlap > 0, layout
    height, width = image.shape[:2]
    bottom, right = -height % size_multiple, -width % size_multiple
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
    canvas = _Canvas(height, width, image.shape[2], scale, image.dtype)
    work = _Work(image.shape[0], image.shape[1], layout, size_multiple, batch)
    while work.pending:
        boxes = work.pending[: work.batch]
        corners = [work.corner(box) for box in boxes]
        windows = [image[top : top + work.rows, left : left + work.columns] for top, left in corners]
        large = _attempt(enlarge, windows, scale)
        if large is None:
            work.shrink()
            continue
        for box, corner, pixels in zip(boxes, corners, large, strict=True):
            canvas.place(box, corner, pixels)
        del work.pending[: len(boxes)]
        work.done += len(boxes)
        if progress is not None:
            progress(work.done, work.done + len(work.pending))
    return canvas.pixels, Report(work.done, work.layout, canvas.seam_error)


class _Work:
    """What is still to be done, and in windows of which size."""

    def __init__(self, height: int, width: int, layout: Layout, multiple: int, batch: int) -> None:
        self.height, self.width, self.layout, self.multiple, self.batch = height, width, layout, multiple, batch
        self.done = 0
        self.rows, self.columns = height, width
        if layout.tile:
            self.rows = _even(height, layout.tile, layout.overlap, multiple)
            self.columns = _even(width, layout.tile, layout.overlap, multiple)
        self.pending = list(self._cut(_Box(0, height, 0, width)))

    def corner(self, box: _Box) -> tuple[int, int]:
        """Return row and column of the first pixel of a box's window."""
        overlap = self.layout.overlap
        return (
            _window(box.top, self.height, self.rows, overlap),
            _window(box.left, self.width, self.columns, overlap),
        )

    def shrink(self) -> None:
        """Go on with a smaller batch or else with smaller tiles, after memory ran out."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.batch > 1:
            self.batch = min(self.batch, len(self.pending)) // 2 or 1
            count = f"{self.batch} tiles" if self.batch > 1 else "1"
            warnings.warn(UpscaleWarning(f"memory ran out; going on with {count} at once."), stacklevel=3)
            return
        used = max(self.rows, self.columns)
        if not self.layout.tile:
            raise MemoryShortageError(
                f"memory does not suffice for {self.width}x{self.height} pixels at once; give a tile size, such as 256."
            )
        smallest = _round_up(max(SMALLEST_TILE, 4 * self.multiple), self.multiple)
        tile = max(smallest, used // 2 // self.multiple * self.multiple)
        if used <= smallest:
            raise MemoryShortageError(
                f"memory does not suffice even for a tile of {self.columns}x{self.rows} pixels; free some, or choose a "
                "smaller model."
            )
        overlap, sees = self.layout.overlap, self.layout.sees
        if overlap > 3 * tile // 8:
            overlap = _round_up(sees + 1 if sees is not None and sees < 3 * tile // 8 else tile // 8, self.multiple)
            if tile <= 2 * overlap:  # rounded up to where nothing of the tile is left
                overlap = _round_up(tile // 8, self.multiple)
        assert tile > 2 * overlap > 0, (tile, overlap)  # else cutting would never end
        self.layout = Layout(tile, overlap, sees)
        self.rows, self.columns = min(tile, self.height), min(tile, self.width)
        self.pending = [part for box in self.pending for part in self._cut(box)]
        warnings.warn(
            UpscaleWarning(f"memory ran out; going on with tiles of {tile} pixels that overlap by {overlap}."),
            stacklevel=3,
        )

    def _cut(self, box: _Box) -> Iterator[_Box]:
        overlap = self.layout.overlap
        for top, bottom in _cut(box.top, box.bottom, self.height, self.rows, overlap):
            for left, right in _cut(box.left, box.right, self.width, self.columns, overlap):
                yield _Box(top, bottom, left, right)


class _Canvas:
    """The output; and how much a tile differs, just beyond its own pixels, from those that its neighbours wrote."""

    def __init__(self, height: int, width: int, channels: int, scale: int, dtype: np.dtype[Any]) -> None:
        self.scale = scale
        self.seam_error = 0.0
        try:
            self.pixels = np.empty((height * scale, width * scale, channels), dtype)
            self._written = np.zeros((height, width), bool)
        except MemoryError:
            raise MemoryShortageError(
                f"memory does not suffice for a picture of {width * scale}x{height * scale} pixels; cut it into parts."
            ) from None

    def place(self, box: _Box, corner: tuple[int, int], pixels: NDArray[Any]) -> None:
        """Keep the part of a window that is the box; corner: (row, column) where the window begins."""
        height, width = self._written.shape
        bottom, right = min(box.bottom, height), min(box.right, width)  # the rest only fills up to a multiple
        rows = slice(
            max(corner[0], box.top - 1), min(box.bottom + 1, height, corner[0] + pixels.shape[0] // self.scale)
        )
        columns = slice(
            max(corner[1], box.left - 1), min(box.right + 1, width, corner[1] + pixels.shape[1] // self.scale)
        )
        for line in (
            _Box(rows.start, box.top, box.left, right),
            _Box(bottom, rows.stop, box.left, right),
            _Box(box.top, bottom, columns.start, box.left),
            _Box(box.top, bottom, right, columns.stop),
        ):
            self._compare(line, corner, pixels)
        kept = _Box(box.top, bottom, box.left, right)
        self.pixels[self._large(kept)] = pixels[self._large(kept, corner)]
        self._written[kept.rows, kept.columns] = True

    def _compare(self, line: _Box, corner: tuple[int, int], pixels: NDArray[Any]) -> None:
        written = self._written[line.rows, line.columns].repeat(self.scale, 0).repeat(self.scale, 1)
        if not written.any():
            return
        difference = pixels[self._large(line, corner)].astype(np.float32) - self.pixels[self._large(line)]
        levels = 255 / _peak(self.pixels.dtype)
        self.seam_error = max(self.seam_error, float(np.abs(difference[written]).max()) * levels)

    def _large(self, box: _Box, corner: tuple[int, int] = (0, 0)) -> tuple[slice, slice]:
        s, (top, left) = self.scale, corner
        return (
            slice((box.top - top) * s, (box.bottom - top) * s),
            slice((box.left - left) * s, (box.right - left) * s),
        )


def _attempt(enlarge: Enlarge, windows: list[NDArray[Any]], scale: int) -> list[NDArray[Any]] | None:
    """Enlarge windows of one size; None if memory ran out."""
    try:
        lr = torch.cat([_to_float(window) for window in windows])
        sr = enlarge(lr)
        check_size(sr, lr, scale)
        if not torch.isfinite(sr).all():  # rounding would turn it into black
            raise PluginError("the generator's output is not finite.")
        return [_to_pixels(one, windows[0].dtype) for one in sr]
    except Exception as error:
        if not (is_out_of_memory(error) or is_out_of_memory(error.__cause__)):
            raise
    return None  # out of the except clause, so that the traceback no longer holds what filled the memory


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception says that a device or the process has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error).lower()
    phrases = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(phrase in said for phrase in phrases)


def _peak(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1


def _to_float(window: NDArray[Any]) -> torch.Tensor:
    """Return (H, W, C) as (1, C, H, W) float32 in [0, 1]."""
    values = window.transpose(2, 0, 1).astype(np.float32, order="C") / np.float32(_peak(window.dtype))
    return torch.from_numpy(values)[None]


def _to_pixels(sr: torch.Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return (C, H, W) in [0, 1] as (H, W, C); clamped and rounded to the nearest level if that has levels."""
    values = sr.permute(1, 2, 0)
    if np.issubdtype(dtype, np.integer):
        peak = _peak(dtype)
        values = values.mul(peak).clamp(0, peak).round().to(torch.uint8 if peak == 255 else torch.int32)
    return values.cpu().numpy().astype(dtype, copy=False)
