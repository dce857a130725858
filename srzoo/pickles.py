"""Reading files of ``torch.save`` that strangers made: nothing in them runs, and nothing grows beyond bounds.

An archive is read by :mod:`zipfile` alone, so that what is looked at is what is loaded: two readers can be shown two
different archives in one file.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .errors import MissingWeightsError, WeightsError
from .unpickling import Opaque, UnreadableError, refused, unpickle

MAX_BYTES = 16 << 30
"""A file larger than this is refused; the largest generators of the field take less than 1 GiB."""
MAX_GROWTH = 4
"""How many times its size on disk a file may unpack to; torch.save does not compress."""
MAX_PICKLE = 64 << 20
"""Bytes of the structure around the tensors; the tensors themselves are records of their own."""
MAX_RECORDS = 100_000
MAX_DEPTH = 8
MAX_ITEMS = 1_000_000

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80\x02"
_LFS = b"version https://git-lfs."
_HARMLESS = 16 << 20  # what any file may unpack to
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What a file of torch before 1.6 begins with."""


def load_pickle(path: Path, content: bytes | None = None) -> Any:
    """Return what a file of ``torch.save`` holds: tensors, numbers and text in dictionaries, lists and tuples.

    Whatever would have to be executed is left as it is, with a placeholder in its stead: who takes values from here has
    to :func:`refuse_opaque` ones.

    Args:
        content: the bytes of the file, where they have been read and their hash compared.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsError: it is damaged, no file of ``torch.save``, or would unpack to far more than its size.
    """
    _check_file(path)
    try:
        with io.BytesIO(content) if content is not None else open(path, "rb") as file:
            loaded = _load(file)
            _check_nesting(loaded)
    except UnreadableError as error:
        raise WeightsError(f"{path} {error}.") from None
    except MemoryError:
        raise WeightsError(f"{path} takes more memory than there is.") from None
    except Exception as error:  # bytes that mean nothing fail in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        reason = reason if reason.isprintable() else ascii(reason)
        raise WeightsError(f"{path} cannot be loaded as plain tensors: it is cut off or damaged ({reason}).") from None
    return loaded


def refuse_opaque(path: Path, values: Iterable[Any]) -> None:
    """Refuse placeholders of :func:`load_pickle` among values.

    Raises:
        WeightsError: there is one; names it.
    """
    for value in values:
        if isinstance(value, Opaque):
            raise WeightsError(f"{path} {refused(value)}.")


def _check_file(path: Path) -> None:
    if not path.exists():
        raise MissingWeightsError(f"There is no weight file {path}.")
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file.")


def _load(file: BinaryIO) -> Any:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise UnreadableError(f"has {size:,} bytes; files of more than {MAX_BYTES:,} are not read")
    start = file.read(4)
    file.seek(0)
    if start == _ZIP:
        with zipfile.ZipFile(file) as archive:
            return _Archive(archive, size).load()
    if start[:2] == _PICKLE:
        return _Early(file, size).load()
    plain = "cannot be loaded as plain tensors: it is no file that torch.save writes"
    raise UnreadableError(stand_in(file.read(len(_LFS))) or plain)


def stand_in(start: bytes) -> str:
    """Return, as :class:`UnreadableError` has it, what stands in place of a file that begins so, or nothing."""
    if not start:
        return "is empty: it was not written, or not downloaded, to its end"
    if start.startswith(_LFS):
        return "is a Git LFS pointer, not the file itself; 'git lfs pull' in its repository gets that"
    return ""


class _Archive:
    """A file of torch since 1.6: a pickle and the values of each tensor as records of an archive."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._values: dict[str, torch.Tensor] = {}
        records = archive.infolist()
        if len(records) > MAX_RECORDS:
            raise UnreadableError(f"holds {len(records):,} records; more than {MAX_RECORDS:,} are not read")
        unpacked = sum(record.file_size for record in records)
        if unpacked > max(MAX_GROWTH * size, _HARMLESS):
            raise UnreadableError(
                f"would unpack from {size:,} bytes to {unpacked:,}. torch.save does not compress, so this is not a "
                "file that it wrote; it is not unpacked"
            )
        self._root = self._find_root()

    def _find_root(self) -> str:
        names = self._archive.namelist()
        roots = [name[: -len("data.pkl")] for name in names if name.rpartition("/")[2] == "data.pkl"]
        if not roots:
            raise UnreadableError("cannot be loaded as plain tensors: it is an archive without a data.pkl")
        root = min(roots, key=len)
        if f"{root}constants.pkl" in names:
            raise UnreadableError("is a TorchScript program, which would have to be executed; save a state dict")
        if f"{root}byteorder" in names and self._read("byteorder", root) != sys.byteorder.encode():
            raise UnreadableError(f"was written on a machine of another byte order than this one, {sys.byteorder}")
        return root

    def _read(self, name: str, root: str) -> bytes:
        """Return a small record."""
        record = self._archive.getinfo(f"{root}{name}")
        if record.file_size > MAX_PICKLE:
            raise UnreadableError(f"has {record.file_size:,} bytes in {name}; more than {MAX_PICKLE:,} are not read")
        return self._archive.read(record)

    def load(self) -> Any:
        return unpickle(io.BytesIO(self._read("data.pkl", self._root)), self._storage)

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        if key not in self._values:
            record = self._archive.getinfo(f"{self._root}data/{key}")
            _check_size(count * dtype.itemsize, record.file_size)
            values = bytearray(record.file_size)
            with self._archive.open(record) as file:
                if _fill(file, values) != len(values) or file.read(1):
                    raise UnreadableError(f"has a damaged record data/{key}")
            self._values[key] = torch.frombuffer(values, dtype=torch.uint8) if values else torch.empty(0).byte()
        _check_size(count * dtype.itemsize, self._values[key].numel())
        return self._values[key].view(dtype)


class _Early:
    """A file of torch before 1.6: five pickles, then the values of each tensor."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._values: dict[str, tuple[torch.Tensor, torch.dtype]] = {}

    def load(self) -> Any:
        magic, protocol, system = (unpickle(self._file, self._storage) for _ in range(3))
        if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
            raise UnreadableError("cannot be loaded as plain tensors: it is a pickle, but none that torch.save writes")
        if system.get("little_endian") is not (sys.byteorder == "little"):
            raise UnreadableError(f"was written on a machine of another byte order than this one, {sys.byteorder}")
        loaded = unpickle(self._file, self._storage)
        keys = unpickle(self._file, self._storage)
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(self._values):
            raise UnreadableError("does not hold the values of its tensors")
        for key in keys:
            values, dtype = self._values[key]
            (count,) = struct.unpack("=q", self._file.read(8))
            _check_size(values.numel(), count * dtype.itemsize)
            if values.numel() and _fill(self._file, values.numpy()) != values.numel():
                raise UnreadableError("is cut off")
        return loaded

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        if key not in self._values:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise UnreadableError("is cut off, or has tensors larger than the file")
            self._values[key] = (torch.zeros(count * dtype.itemsize, dtype=torch.uint8), dtype)
        values, own = self._values[key]
        _check_size(count * dtype.itemsize, values.numel())
        if dtype != own:
            raise UnreadableError("gives the values of a tensor two types")
        return values.view(dtype)


def _check_size(told: int, found: int) -> None:
    if told != found:
        raise UnreadableError(f"has a tensor of {told:,} bytes for which it holds {found:,}")


def _fill(file: Any, target: Any) -> int:
    """Read until a buffer is full or the file ends; return how many bytes there were."""
    view, done = memoryview(target), 0
    while done < len(view) and (count := file.readinto(view[done : done + (16 << 20)])):
        done += count
    return done


def _check_nesting(loaded: Any) -> None:
    """Check how many values there are and how deep they lie; shared or circular parts do not multiply."""
    waiting, seen, count = [(loaded, 0)], set(), 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_ITEMS:
            raise UnreadableError(f"holds more than {MAX_ITEMS:,} values; such files are not read")
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            if depth > MAX_DEPTH:
                raise UnreadableError(f"is nested more than {MAX_DEPTH} levels deep; such files are not read")
            seen.add(id(value))
            below = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in below]
