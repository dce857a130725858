"""Decoded training images, with their low-resolution counterparts.

Decoding a file takes far longer than cutting a patch out of it. So every image is decoded once, into one file a set
that later runs, worker processes and ranks map into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import get_worker_info

from .data import ImageItem
from .errors import DataError
from .files import ABANDONED, replacing
from .images import UInt8Array, crop_to_multiple, downscale_bicubic, shrink_bicubic

Pair: TypeAlias = tuple[UInt8Array, UInt8Array]
"""Low- and high-resolution image, (h, w, 3) and (scale*h, scale*w, 3)."""

_FORMAT = 1  # of the cache files; a change of what they hold must raise it


def decode_pair(item: ImageItem, scale: int, factor: float = 1.0) -> Pair:
    """Return an image and its low-resolution counterpart, shrunk by a factor first.

    Raises:
        DataError: a file cannot be read, or the pair does not fit together.
    """
    if factor == 1:
        lr, hr, _ = item.read_pair(scale)
        return lr, hr
    whole, _ = item.read_hr()
    hr = crop_to_multiple(shrink_bicubic(whole, factor), scale)
    return downscale_bicubic(hr, scale), hr


class MemoryStore:
    """Decoded pairs in memory up to a number of bytes; the least recently used go first.

    Args:
        max_bytes: of one process, or of all workers of a loader together, each of which has pairs of its own.
    """

    def __init__(self, items: Sequence[ImageItem], scale: int, max_bytes: int) -> None:
        self._items, self._scale, self._max_bytes = items, scale, max_bytes
        self._bytes = 0
        self._pairs: OrderedDict[tuple[int, float], Pair] = OrderedDict()

    def name(self, index: int) -> str:
        """Return the name of an image in its set."""
        return self._items[index].name

    def get(self, index: int, factor: float) -> Pair:
        """Return a pair, decoding it if need be."""
        key = index, factor
        if key in self._pairs:
            self._pairs.move_to_end(key)
            return self._pairs[key]
        pair = decode_pair(self._items[index], self._scale, factor)
        self._bytes += pair[0].nbytes + pair[1].nbytes
        self._pairs[key] = pair
        worker = get_worker_info()
        limit = self._max_bytes // (worker.num_workers if worker is not None else 1)
        while self._bytes > limit and len(self._pairs) > 1:
            _, old = self._pairs.popitem(last=False)
            self._bytes -= old[0].nbytes + old[1].nbytes
        return pair


class MappedStore:
    """Decoded pairs of one set in files that are mapped into memory, one file a factor.

    A file is named after the paths, sizes and modification times of all its images, so one that is out of date
    is never found. It is written under another name first: a run that is killed leaves no half of one.
    """

    def __init__(self, items: Sequence[ImageItem], scale: int, folder: Path) -> None:
        self._items, self._scale, self._folder = items, scale, folder
        self._open: dict[float, tuple[np.memmap[Any, np.dtype[np.uint8]], list[tuple[int, int, int]]]] = {}

    def __getstate__(self) -> dict[str, Any]:  # worker processes map the files themselves
        return {**self.__dict__, "_open": {}}

    def path(self, factor: float) -> Path:
        """Return the file of a factor."""
        files = [file for item in self._items for file in (item.hr, item.lr.get(self._scale)) if file is not None]
        stamps = []
        for file in files:
            assert isinstance(file, Path)
            status = file.stat()
            stamps.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
        identity = json.dumps([_FORMAT, self._scale, factor, stamps])
        return self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.rgb"

    def build(self, factor: float, progress: Callable[[], None]) -> None:
        """Decode every image into the file of a factor, unless it is there; ``progress`` is called for each.

        Raises:
            DataError: an image cannot be read.
            OSError: the file cannot be written.
        """
        path = self.path(factor)
        if self._index(path) is not None:
            for _ in self._items:
                progress()
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("*.writing"):  # of processes that were killed
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > ABANDONED:
                    old.unlink()
        places, offset = [], 0
        try:
            with replacing(path) as temporary, open(temporary, "wb") as file, ThreadPoolExecutor() as pool:
                window = 4 * (os.cpu_count() or 1)  # decoded images that may wait to be written
                for first in range(0, len(self._items), window):
                    chunk = self._items[first : first + window]
                    for lr, hr in pool.map(lambda item: decode_pair(item, self._scale, factor), chunk):
                        places.append([offset, lr.shape[0], lr.shape[1]])
                        file.write(np.ascontiguousarray(lr).data)
                        file.write(np.ascontiguousarray(hr).data)
                        offset += lr.nbytes + hr.nbytes
                        progress()
            with replacing(path.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps({"bytes": offset, "places": places}))
        except OSError:
            if self._index(path) is None:  # else another process built the same meanwhile
                raise

    def is_built(self, factor: float) -> bool:
        """Whether the file of a factor is there and whole."""
        return self._index(self.path(factor)) is not None

    def _index(self, path: Path) -> list[tuple[int, int, int]] | None:
        """Return offset, height and width of every low-resolution image in a file, or None if it is not whole."""
        try:
            index = json.loads(path.with_suffix(".json").read_text())
            places = [(int(offset), int(height), int(width)) for offset, height, width in index["places"]]
            sizes = [3 * height * width * (1 + self._scale**2) for _, height, width in places]
            starts = list(itertools.accumulate(sizes, initial=0))
            whole = starts == [*(offset for offset, _, _ in places), path.stat().st_size]
            return places if whole and len(places) == len(self._items) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def name(self, index: int) -> str:
        """Return the name of an image in its set."""
        return self._items[index].name

    def get(self, index: int, factor: float) -> Pair:
        """Return views of a pair.

        Raises:
            DataError: the file has been changed or removed since it was built.
        """
        if factor not in self._open:
            path = self.path(factor)
            found = self._index(path)
            if found is None:
                raise DataError(f"the cached images {path}, or the files they were made of, changed; start again.")
            self._open[factor] = (np.memmap(path, np.uint8, "r"), found)
        pixels, places = self._open[factor]
        offset, height, width = places[index]
        middle = offset + height * width * 3
        end = middle + height * width * 3 * self._scale**2
        lr = pixels[offset:middle].reshape(height, width, 3)
        hr = pixels[middle:end].reshape(height * self._scale, width * self._scale, 3)
        return lr, hr


def cache_folder() -> Path:
    """Return where decoded images are kept: ``SRZOO_CACHE``, or ``srzoo/images`` in the user's cache."""
    given = os.environ.get("SRZOO_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else user / "srzoo" / "images"


def cache_limit() -> int:
    """Return how many bytes the decoded images of one set may take: ``SRZOO_CACHE_GIB``, 32 by default.

    Raises:
        DataError: the variable is no number.
    """
    text = os.environ.get("SRZOO_CACHE_GIB", "32")
    try:
        return int(float(text) * 2**30)
    except (ValueError, OverflowError):
        raise DataError(f"SRZOO_CACHE_GIB is {text!r}; write a number of GiB, or 0 for no cache.") from None
