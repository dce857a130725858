"""Sets of images by name or folder."""

from __future__ import annotations

import filecmp
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .confinement import Name
from .errors import DataError, PluginError, SrzooError, UnknownNameError, did_you_mean
from .images import SUFFIXES, UInt8Array, crop_to_multiple, downscale_bicubic, read_rgb
from .offline import offline_if_asked
from .places import data_root
from .plugins import FAULTS, describe_exception
from .registry import get_registry


@dataclass(frozen=True)
class ImageItem:
    """One image of a set.

    Args:
        name: unique within the set; the ``image`` column of results.
        hr: the high-resolution file, or a function that returns ``(rgb (H, W, 3) uint8, grey)``.
        lr: scale to the low-resolution file that belongs to it; where there is none, one is made.
    """

    name: str
    hr: Path | Callable[[], tuple[UInt8Array, bool]]
    lr: Mapping[int, Path] = field(default_factory=dict)

    def read_hr(self) -> tuple[UInt8Array, bool]:
        """Return the whole high-resolution image and whether it is grey.

        Raises:
            DataError: a file cannot be read.
            PluginError: a function returns something else than (H, W, 3) uint8 and whether it is grey.
        """
        if isinstance(self.hr, Path):
            return read_rgb(self.hr)
        try:
            found = self.hr()
        except SrzooError:
            raise
        except FAULTS as error:
            raise PluginError(f"image {self.name!r} of a dataset failed: {describe_exception(error)}.") from error
        rgb = found[0] if isinstance(found, tuple) and len(found) == 2 else found
        if not isinstance(found, tuple) or getattr(rgb, "dtype", None) != "uint8" or rgb.shape[2:] != (3,):
            what = f"{rgb.dtype} of shape {tuple(rgb.shape)}" if hasattr(rgb, "shape") else type(rgb).__name__
            raise PluginError(
                f"image {self.name!r} of a dataset must be (H, W, 3) uint8 and whether it is grey, not {what}."
            )
        return found

    def read_pair(self, scale: int) -> tuple[UInt8Array, UInt8Array, bool]:
        """Return ``(lr, hr, grey)``, the reference cut to a multiple of the scale.

        The low-resolution file is used if the set has one for this scale; otherwise it is made as MATLAB does.

        Raises:
            DataError: a file cannot be read, or the two sizes do not belong together.
        """
        hr, grey = self.read_hr()
        hr = crop_to_multiple(hr, scale)
        if min(hr.shape[:2]) < scale:
            raise DataError(f"image {self.name!r} is smaller than the scale {scale}.")
        if scale not in self.lr:
            return downscale_bicubic(hr, scale), hr, grey
        lr, _ = read_rgb(self.lr[scale])
        if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
            raise DataError(
                f"{self.lr[scale]} is {lr.shape[1]}x{lr.shape[0]}, so x{scale} it does not match its reference "
                f"of {hr.shape[1]}x{hr.shape[0]}."
            )
        return lr, hr, grey

    def digest(self, scale: int) -> str:
        """Return a SHA-256 of what the pair is made from: the files, or the pixels of an image that is no file.

        Raises:
            DataError: a file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            if isinstance(self.hr, Path):
                digest.update(self.hr.read_bytes())
            else:
                hr, grey = self.read_hr()
                digest.update(f"{hr.shape} {grey}".encode() + hr.tobytes())
            if scale in self.lr:
                digest.update(self.lr[scale].read_bytes())
        except OSError as error:
            raise DataError(f"image {self.name!r} cannot be read: {error}.") from error
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """Images under one name.

    Args:
        name: the ``dataset`` column of results.
        items: the images in a fixed order.
    """

    name: str
    items: tuple[ImageItem, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[ImageItem]:
        return iter(self.items)


_PART = re.compile(r"(?P<name>.+)\[(?P<first>[0-9]*):(?P<last>[0-9]*)\]")


def load_image_set(name: str) -> ImageSet:
    """Return a dataset by registered name, by folder name under ``SRZOO_DATA``, or by path, in this order.

    ``./set5`` is always the path. What a zoo file gives, a :class:`~srzoo.confinement.Name`, is no path at all.

    A folder is high-resolution images, or holds ``HR/`` and optionally ``LR_x2/``, ``LR_x3/``, ``LR_x4/``
    or ``LR_x8/`` with files of the same names. ``NAME[:100]`` is the first hundred images of a set, in the order of
    their names, ``NAME[100:]`` the others.

    Raises:
        UnknownNameError: there is no such dataset or folder; says what there is.
        DataError: the folder holds no images, or HR and LR do not match.
    """
    is_name = isinstance(name, Name)
    part = _PART.fullmatch(name)
    if part is not None and (is_name or not Path(name).exists()):
        whole = load_image_set(type(name)(part["name"]))
        items = whole.items[int(part["first"] or 0) : int(part["last"]) if part["last"] else None]
        if not items:
            raise DataError(f"{name!r} holds no images: {part['name']} has {len(whole)}.")
        return ImageSet(whole.name + name[len(part["name"]) :], items)
    registry = get_registry()
    if any(name in (component.name, component.full_name) for component in registry.find("dataset")):
        component = registry.get("dataset", name)
        try:
            with offline_if_asked():
                image_set = component.spec.load()()
        except SrzooError:
            raise
        except FAULTS as error:
            raise PluginError(f"dataset {name!r} of {component.owner} failed: {describe_exception(error)}.") from error
        if not isinstance(image_set, ImageSet):
            raise PluginError(f"dataset {name!r} of {component.owner} must return a srzoo.data.ImageSet.")
        _refuse_repeated_names(image_set, f"dataset {name!r} of {component.owner}")
        return image_set
    root = data_root()
    written_as_path = Path(name).is_absolute() or name.startswith((".", "~"))
    if root is not None and (root / name).is_dir() and not written_as_path:
        return read_folder(root / name, name)
    if not is_name and Path(name).expanduser().is_dir():
        return read_folder(Path(name).expanduser(), Path(name).expanduser().resolve().name)
    known = dataset_names()
    where = f"under SRZOO_DATA ({root})" if root is not None else "(SRZOO_DATA is not set)"
    if is_name:
        raise UnknownNameError(
            f"No dataset is called {name!r} {where}, and a zoo file names no other folders."
            f"{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}. Put a folder of this name there; to "
            "train on another one, --data FOLDER, and training.validation.data=FOLDER."
        )
    raise UnknownNameError(
        f"No dataset is called {name!r} {where}, and there is no such folder.{did_you_mean(name, known)} "
        f"Known: {', '.join(known) or 'none'}. A folder of images, or one with HR/ and LR_x4/, works as well"
        f"{', and NAME[:3] or NAME[3:] is a part of a set' if '[' in name else ''}."
    )


def _refuse_repeated_names(image_set: ImageSet, where: str) -> None:
    seen: set[str] = set()
    for item in image_set:
        if item.name in seen:
            raise PluginError(f"{where} names more than one image {item.name!r}; names identify results.")
        seen.add(item.name)


def dataset_names() -> list[str]:
    """Return the datasets that are known by name: those that plugins register, then the folders under SRZOO_DATA."""
    root = data_root()
    folders = sorted(p.name for p in root.iterdir() if _looks_like_images(p)) if root and root.is_dir() else []
    return [*(component.name for component in get_registry().find("dataset")), *folders]


def shared_images(left: Sequence[ImageSet], right: Sequence[ImageSet]) -> list[str]:
    """Return ``set/image`` of the images of one list of sets that are in the other too.

    They are the same file, a copy of it under any name, or an image of the same set that is no file. A file is read
    only if one of the other side has its size.
    """
    theirs = [(image_set, item) for image_set in right for item in image_set]
    places = {_place(image_set, item) for image_set, item in theirs}
    by_size: dict[int, list[Path]] = {}
    for _, item in theirs:
        if isinstance(item.hr, Path):
            by_size.setdefault(_file_size(item.hr), []).append(item.hr)
    shared = []
    for image_set in left:
        for item in image_set:
            twins = by_size.get(_file_size(item.hr), []) if isinstance(item.hr, Path) else []
            if _place(image_set, item) in places or _has_copy(item.hr, twins):
                shared.append(f"{image_set.name}/{item.name}")
    return shared


def _place(image_set: ImageSet, item: ImageItem) -> object:
    return item.hr.resolve() if isinstance(item.hr, Path) else (image_set.name.partition("[")[0], item.name)


def image_record(sets: Sequence[ImageSet], scale: int) -> dict[str, Any]:
    """Return ``{"number": images, "digest": ...}``, by which other images are noticed without reading them.

    The digest is of their names in order, and of the sizes of the files that pairs of a scale are made from.
    """
    digest, number = hashlib.sha256(), 0
    for item in (item for image_set in sets for item in image_set):
        files = [file for file in (item.hr, item.lr.get(scale)) if isinstance(file, Path)]
        digest.update(f"{[item.name, *map(_file_size, files)]}".encode())
        number += 1
    return {"number": number, "digest": digest.hexdigest()[:16]}


def _file_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # reading it will tell
        return -1


def _has_copy(file: object, others: Sequence[Path]) -> bool:
    return isinstance(file, Path) and any(filecmp.cmp(file, other, shallow=False) for other in others)


def _looks_like_images(folder: Path) -> bool:
    return (folder / "HR").is_dir() or (folder.is_dir() and any(p.suffix.lower() in SUFFIXES for p in folder.iterdir()))


def read_folder(folder: Path, name: str) -> ImageSet:
    """Return the images of a folder in the order of their names. See :func:`load_image_set`."""
    hr_folder = folder / "HR" if (folder / "HR").is_dir() else folder
    files = _image_files(hr_folder)
    if not files:
        raise DataError(f"{hr_folder} holds no images ({', '.join(SUFFIXES)}).")
    lr_folders = {scale: folder / f"LR_x{scale}" for scale in (2, 3, 4, 8) if (folder / f"LR_x{scale}").is_dir()}
    if hr_folder == folder:
        return ImageSet(name, tuple(ImageItem(file.stem, file) for file in files))
    low: dict[int, dict[str, Path]] = {}
    for scale, lr_folder in lr_folders.items():
        low[scale] = {file.stem: file for file in _image_files(lr_folder)}
        missing = [file.stem for file in files if file.stem not in low[scale]]
        if missing:
            some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise DataError(f"{lr_folder} has no image for {some}.")
    return ImageSet(
        name,
        tuple(
            ImageItem(file.stem, file, {scale: by_stem[file.stem] for scale, by_stem in low.items()}) for file in files
        ),
    )


def _image_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise DataError(f"{stems[file.stem]} and {file} share a name; rename one, since names identify results.")
        stems[file.stem] = file
    return files


def digest_of(image_set: ImageSet, scale: int) -> str:
    """Return a SHA-256 over the names and decoded pixels of a set, whatever format and folder they are in."""
    digest = hashlib.sha256()
    for item in image_set:
        lr, hr, _ = item.read_pair(scale)
        digest.update(f"{item.name} {lr.shape} {hr.shape}".encode())
        digest.update(lr.tobytes())
        digest.update(hr.tobytes())
    return digest.hexdigest()
