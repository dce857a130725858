"""What a path stands for, told without loading it: the folder of a run, a model that was pulled, a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic

from ..entry import Entry
from ..errors import InputError
from ..zoo import Source, shared_entry

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")
_LONGEST_HEADER = 1 << 24
"""Bytes of a safetensors header that are looked at."""


def entry_at(path: Path) -> tuple[Entry, Source] | None:
    """Return the entry that a run, a pulled folder or a checkpoint of srzoo's own holds, and where it stands.

    Raises:
        InputError: there is one, but it cannot be read, or several.
    """
    if (path / "zoo.yaml").is_file():
        entry, folders = shared_entry(path)
        return entry, _source(path / "zoo.yaml", folders)
    if (path / "entry.json").is_file():
        return _entry(path / "entry.json", _read_json(path / "entry.json")), _source(path / "entry.json")
    composition = _composition(path) if path.suffix == ".safetensors" and path.is_file() else None
    if composition is None:
        return None
    fields = {"name": path.stem, "summary": f"weights from {path.name}", **composition}
    return _entry(path, fields), _source(path)


def what_tells(path: Path) -> str:
    """Return a sentence on what tells more of a file that :func:`entry_at` has nothing of; empty if there is none."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        told = f"; write a checkpoint, e.g. {found[0]}" if found else ""
        return f"It is a folder that holds neither a run nor a pulled model{told}."
    if not path.is_file():
        return ""
    if path.suffix not in _CHECKPOINTS:
        return f"It is a file, but none that weights are kept in: these end in {', '.join(_CHECKPOINTS)}."
    if path.suffix == ".safetensors" and _header(path) is None:
        return "It is not a whole safetensors file; get it again."
    return (
        f"A checkpoint of another program does not say its composition; 'srzoo weights import {path}' makes one of "
        "srzoo's own, which does."
    )


def _source(path: Path, folders: tuple[Path, ...] = ()) -> Source:
    return Source(path, "local", "local", folders)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def _entry(path: Path, fields: Any) -> Entry:
    try:
        return Entry.model_validate(fields)
    except pydantic.ValidationError as error:
        raise InputError(f"{path} does not say what it is of: {error.errors()[0]['msg']}.") from None


def _composition(path: Path) -> dict[str, Any] | None:
    """Return the composition in the header of a safetensors file, without the tensors; None where there is none."""
    try:
        found = json.loads((_header(path) or {})["__metadata__"]["srzoo"])["composition"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _header(path: Path) -> dict[str, Any] | None:
    """Return the header of a safetensors file; None where it has none."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _LONGEST_HEADER else None
    except (OSError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None
