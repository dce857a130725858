"""Weight files: safetensors with the full configuration inside, found by name, checked by hash, never unpickled.

Backbones (VGG19, AlexNet, SqueezeNet) are looked for in the weights folders; entries' own weights lie beside
their zoo file.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .errors import MissingWeightsError, TrainingError, WeightsError
from .files import replacing
from .pickles import MAX_BYTES, load_pickle, refuse_opaque, stand_in
from .places import weights_folders
from .specs import WeightFile

METADATA_KEY = "srzoo"
"""Key in a safetensors header under which the JSON description of a checkpoint stands."""


def find_backbone(alternatives: Sequence[WeightFile], owner: str) -> tuple[Path, bytes]:
    """Return the first of several weight files that is on this machine, and its content, whose hash is right.

    Args:
        owner: what needs it, for the message.

    Raises:
        MissingWeightsError: none is there; says which file to put where.
        WeightsError: one is there, but damaged.
    """
    folders = weights_folders()
    for wanted in alternatives:
        for folder in folders:
            path = folder / wanted.filename
            if path.is_file():
                return path, checked_bytes(path, wanted.sha256)[0]
    names = " or ".join(wanted.filename + (f" ({wanted.url})" if wanted.url else "") for wanted in alternatives)
    fetched = next((wanted.filename for wanted in alternatives if wanted.url), "")
    fetch = f"'srzoo weights pull {fetched}' gets it. " if fetched else ""
    raise MissingWeightsError(
        f"{owner} not available: put {names} into {folders[0]}. {fetch}"
        "Folders searched: " + ", ".join(str(folder) for folder in folders) + " (SRZOO_WEIGHTS adds others)."
    )


def load_backbone(alternatives: Sequence[WeightFile], owner: str) -> dict[str, torch.Tensor]:
    """Return the tensors of what :func:`find_backbone` finds.

    Raises:
        MissingWeightsError, WeightsError: see :func:`find_backbone` and :func:`load_tensors`.
    """
    return load_tensors(*find_backbone(alternatives, owner))


def check_hash(path: Path, expected: str) -> None:
    """Check a file against a SHA-256 or its first digits.

    Raises:
        WeightsError: the content differs.
    """
    _compare(path, file_sha256(path), expected)


def _compare(path: Path, found: str, expected: str) -> None:
    if not expected or not found.startswith(expected.lower()):
        raise WeightsError(
            f"{path} is damaged or another file: its SHA-256 begins {found[:16]}, expected {expected[:16]}. "
            "Delete it and get it again."
        )


def checked_bytes(path: Path, expected: str | None = None) -> tuple[bytes, str]:
    """Return the content of a file and its SHA-256, which is the expected one where there is one.

    What is loaded from these bytes is what the hash is of, whatever becomes of the file meanwhile.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsError: it cannot be read, or its hash is another.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path} has more than {MAX_BYTES:,} bytes; such files are not read.")
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingWeightsError(f"There is no weight file {path}.") from None
    except (OSError, MemoryError) as error:
        raise WeightsError(f"Cannot read {path}: {error or 'it takes more memory than there is'}.") from None
    found = hashlib.sha256(content).hexdigest()
    if expected is not None:
        _compare(path, found, expected)
    return content, found


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; remembered as long as its size and time of change stay."""
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error}.") from error
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_tensors(path: Path, content: bytes | None = None) -> dict[str, torch.Tensor]:
    """Read a state dict from ``.safetensors`` or, without executing anything, from a torch pickle.

    Args:
        content: the bytes of the file, where they have been read; see :func:`checked_bytes`.

    Raises:
        WeightsError: the file is damaged, or a pickle that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return read_checkpoint(path, content)[0]
    loaded = load_pickle(path, content)
    refuse_opaque(path, [loaded, *(loaded.values() if isinstance(loaded, dict) else ())])
    if not isinstance(loaded, dict) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise WeightsError(f"{path} is not a state dict of tensors.")
    return loaded


def load_features(module: nn.Module, alternatives: Sequence[WeightFile], owner: str) -> None:
    """Load the ``features.*`` tensors of a torchvision classifier into its convolutional part.

    Raises:
        MissingWeightsError, WeightsError: see :func:`find_backbone` and :func:`load_into`.
    """
    path, content = find_backbone(alternatives, owner)
    tensors = load_tensors(path, content)
    own = {name.removeprefix("features."): t for name, t in tensors.items() if name.startswith("features.")}
    load_into(module, own, str(path))


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """Write a safetensors file whole or not at all, with a JSON description in its header.

    Raises:
        TrainingError: it cannot be written; a file that was there before is left as it was.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.touch()  # safetensors lets the owner alone read its files; this one gets a file's usual rights
            mode = temporary.stat().st_mode
            save_file(plain, temporary, {METADATA_KEY: json.dumps(description, sort_keys=True)})
            temporary.chmod(mode)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"Cannot write {path}: {error}. What was there before is untouched.") from error


def read_checkpoint(path: Path, content: bytes | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return ``(tensors, description)`` of a safetensors file; the description is empty if srzoo did not write it.

    Args:
        content: the bytes of the file, where they have been read; see :func:`checked_bytes`.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        tensors, metadata = _mapped(path) if content is None else _unpacked(content)
        description = json.loads(metadata.get(METADATA_KEY, "{}"))
    except FileNotFoundError:
        raise MissingWeightsError(f"There is no weight file {path}.") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:  # the last of a description nested absurdly
        wrong = (
            stand_in(_start(path) if content is None else content)
            or f"is not a whole safetensors file: {error}. Get it again"
        )
        raise WeightsError(f"{path} {wrong}.") from None
    return tensors, description if isinstance(description, dict) else {}


def _start(path: Path) -> bytes:
    """Return how a file begins, or something where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError:
        return b"unreadable"


def _mapped(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)


def _unpacked(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors = safetensors.torch.load(content)  # which checks the header before it is read below
    size = int.from_bytes(content[:8], "little")
    return tensors, json.loads(content[8 : 8 + size]).get("__metadata__", {})


def check_fit(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], source: str) -> None:
    """Check that two state dicts have the same names and shapes, and floating-point numbers at the same places.

    Raises:
        WeightsError: they differ; lists the first of what differs.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    shapes = [
        f"{name} is {tuple(found[name].shape)} there and {tuple(wanted[name].shape)} here"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} is {str(found[name].dtype)[6:]} there and {str(wanted[name].dtype)[6:]} here"
        for name in wanted
        if name in found and found[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(wanted)} tensors are missing ({some_of(missing)})")
    if extra:
        faults.append(f"{len(extra)} are not known here ({some_of(extra)})")
    if shapes:
        faults.append(f"{len(shapes)} have another shape ({some_of(shapes)})")
    if kinds:
        faults.append(f"{len(kinds)} are of another type ({some_of(kinds)})")
    if faults:
        raise WeightsError(f"{source} belongs to another model: {'; '.join(faults)}.")


def load_into(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dict strictly, converting its floating-point type to the module's.

    Raises:
        WeightsError: names or shapes differ, or a value is not finite; lists the first of them.
    """
    own = module.state_dict()
    check_fit(tensors, own, source)
    check_finite(tensors, source)
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def check_finite(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Check that no value is infinite or NaN.

    Raises:
        WeightsError: one is; names the first tensors.
    """
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if broken:
        raise WeightsError(f"{source} holds values that are not finite in {some_of(broken)}.")


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first of several names, for a message; they may be a stranger's, so they are cut and shown plainly."""
    shown = [name if name.isprintable() and len(name) <= 120 else repr(name[:120]) for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")


def check_composition(description: Mapping[str, Any], composition: Mapping[str, Any], source: str) -> None:
    """Check that a checkpoint was trained with the composition it is loaded into.

    Shapes alone cannot tell a ReLU from a leaky ReLU; the configuration in the file can. An option that the file
    does not mention came into being after it was written and is taken to have a default that changes nothing.

    Raises:
        WeightsError: they differ; names each difference.
    """
    trained = description.get("composition")
    if trained is None or trained == composition:
        return
    found = [
        f"{key}: {shown(left)} in the file, {shown(right)} here"
        for key, left, right in differences(trained, composition)
        if left is not ABSENT
    ]
    if not found:
        return
    raise WeightsError(
        f"{source} was trained as another composition (entry {description.get('entry', '?')!r}): "
        + "; ".join(found)
        + "."
    )


ABSENT = object()
"""Stands for a key that one side does not have."""


def shown(value: Any) -> str:
    """Return a value of :func:`differences` for a message."""
    return "nothing" if value is ABSENT else repr(value)


def differences(left: Any, right: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return ``(dotted key, left, right)`` wherever two nested mappings differ; ``ABSENT`` for a missing key."""
    if not (isinstance(left, Mapping) and isinstance(right, Mapping)):
        return [] if left == right else [(prefix, left, right)]
    found = []
    for key in sorted({*left, *right}):
        found += differences(left.get(key, ABSENT), right.get(key, ABSENT), f"{prefix}.{key}" if prefix else key)
    return found
