"""Checks of datasets: images under names, the same every time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..data import ImageSet
from .outcome import listed, promise, require
from .subject import Subject

READ = 3
"""How many images are read, the first and the last among them; a set may hold thousands."""
OPEN_FILES = "/proc/self/fd"
"""Lists the open files of the process, where the system has such a folder."""


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
    """Images are (H, W, 3) uint8, low-resolution ones fit, and no file stays open."""
    image_set = examine(subject.build())
    chosen = _some(image_set)
    for item in chosen:
        _read(item)
    before = _open_files()  # by now an archive is open that all of them lie in
    for item in chosen:
        _read(item)
    left = _open_files() - before
    require(left < len(chosen), f"reading {len(chosen)} images leaves {left} files open; close each, as 'with' does.")
    return f"{len(image_set)} images"


def _some(image_set: ImageSet) -> list[Any]:
    last = len(image_set) - 1
    return [image_set.items[index] for index in dict.fromkeys(last * step // (READ - 1) for step in range(READ))]


def _open_files() -> int:
    return len(os.listdir(OPEN_FILES)) if os.path.isdir(OPEN_FILES) else 0


@promise("distinct-names", "dataset")
def distinct_names(subject: Subject) -> None:
    """Every image has a name of its own."""
    names = [item.name for item in examine(subject.build())]
    wrong = [name for name in names if not (isinstance(name, str) and name.strip() and name.splitlines() == [name])]
    require(not wrong, f"{listed(map(repr, wrong))} is no name; it must be a line of text.")
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{listed(twice)} names more than one image; results are told apart by name.")


@promise("reproducible", "dataset")
def reproducible(subject: Subject) -> None:
    """The same images in the same order every time."""
    one, other = examine(subject.build()), examine(subject.build())
    require([i.name for i in one] == [i.name for i in other], "asked twice, it lists its images differently.")
    with _folders_backwards():
        backwards = examine(subject.build())
    same = [i.name for i in one] == [i.name for i in backwards]
    require(
        same, "its order is the one in which the file system lists a folder, another on each machine; sort the files."
    )
    for first, second in zip(_some(one), _some(other), strict=True):
        pixels = [_read(first), _read(first), _read(second)]
        same = all(np.array_equal(pixels[0], again) for again in pixels[1:])
        require(same, f"image {first.name!r} has other pixels the second time.")


class _Entries:
    """What ``os.scandir`` returns, of entries at hand."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: the folder was read to its end."""


@contextmanager
def _folders_backwards() -> Iterator[None]:
    """Let folders be listed in the opposite order, which is as good as any: no system promises one."""
    listdir, scandir = os.listdir, os.scandir

    def entries(*arguments: Any, **options: Any) -> _Entries:
        with scandir(*arguments, **options) as found:
            return _Entries(list(found)[::-1])

    def names(*arguments: Any, **options: Any) -> list[Any]:
        return list(listdir(*arguments, **options))[::-1]

    os.listdir = names  # type: ignore[assignment]
    os.scandir = entries  # type: ignore[assignment]
    try:
        yield
    finally:
        os.listdir, os.scandir = listdir, scandir


CHECKS = (
    readable,
    distinct_names,
    reproducible,
)
