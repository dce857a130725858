"""Reading files of ``torch.save`` that strangers made: nothing in them runs, and nothing grows beyond bounds.

``torch.load(weights_only=True)`` executes nothing. It does not bound what a small file may grow to, so the archive is
looked at before it is unpacked, and every tensor before it is used.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .errors import MissingWeightsError, WeightsError

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
_HARMLESS = 16 << 20  # what any file may unpack to


def load_pickle(path: Path) -> Any:
    """Return what a file of ``torch.save`` holds: tensors, numbers and text in dictionaries and lists.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsError: it is damaged, no file of ``torch.save``, holds anything that would have to be executed, or would
            unpack to far more than its size.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the file was written, which its reader cannot change
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here
        raise WeightsError(f"{path} cannot be loaded as plain tensors: {_reason(error)}") from None
    for tensor in _tensors(loaded, path):
        _check_tensor(tensor, path)
    return loaded


def _reason(error: Exception) -> str:
    text = str(error)
    if "weights_only" in text or "WeightsUnpickler" in text:
        text = next((line for line in text.splitlines() if "Unsupported" in line or "GLOBAL" in line), text)
        what = " ".join(text.split())[:200].strip()
        return f"it holds objects other than tensors, which would have to be executed ({what})."
    return (text.splitlines()[0] if text else type(error).__name__)[:300]


def _check_file(path: Path) -> None:
    if not path.exists():
        raise MissingWeightsError(f"There is no weight file {path}.")
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file.")
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error}.") from None
    if size > MAX_BYTES:
        raise WeightsError(f"{path} has {size:,} bytes; files of more than {MAX_BYTES:,} are not read.")
    if start == _ZIP:
        _check_archive(path, size)
    elif start[:2] != _PICKLE:  # that of torch before 1.6 holds its tensors as they are
        raise WeightsError(f"{path} cannot be loaded as plain tensors: it is no file that torch.save writes.")


def _check_archive(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be loaded as plain tensors: it is cut off or damaged ({error}).") from None
    if len(records) > MAX_RECORDS:
        raise WeightsError(f"{path} holds {len(records):,} records; more than {MAX_RECORDS:,} are not read.")
    unpacked = sum(record.file_size for record in records)
    if unpacked > max(MAX_GROWTH * size, _HARMLESS):
        raise WeightsError(
            f"{path} would unpack from {size:,} bytes to {unpacked:,}. torch.save does not compress, so this is not a "
            "file that it wrote; it is not unpacked."
        )
    for record in records:
        if record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE:
            raise WeightsError(
                f"{path}: the structure around its tensors takes {record.file_size:,} bytes; more than {MAX_PICKLE:,} "
                "are not read."
            )


def _tensors(loaded: Any, path: Path) -> Iterator[torch.Tensor]:
    """Yield every tensor in nested dictionaries and lists; shared or circular parts do not multiply."""
    waiting, seen, count = [(loaded, 0)], set(), 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_ITEMS:
            raise WeightsError(f"{path} holds more than {MAX_ITEMS:,} values; such files are not read.")
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            if depth > MAX_DEPTH:
                raise WeightsError(f"{path} is nested more than {MAX_DEPTH} levels deep; such files are not read.")
            seen.add(id(value))
            below = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in below]


def _check_tensor(tensor: torch.Tensor, path: Path) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = tensor.device.type if tensor.device.type != "cpu" else "sparse or quantised"
        raise WeightsError(f"{path} holds {kind} tensors; only plain ones are read.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise WeightsError(
            f"{path}: a tensor of shape {tuple(tensor.shape)} shows the same values over and over; such tensors, which "
            "would take far more memory than the file, are not read."
        )
