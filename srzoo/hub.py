"""Models between people: pushed to and pulled from the Hugging Face Hub, or a folder that serves as one.

A model is a folder of three files: ``zoo.yaml`` with one entry, the weights it names by hash, and a model card. Nothing
else is fetched, and nothing gets its name before its hash is right.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from .confinement import lies_within
from .entry import Entry
from .errors import DataError, InputError, WeightsError
from .exporting import export
from .files import acquired
from .offline import is_offline
from .pretrained import load_model
from .staging import staged
from .weights import check_hash
from .zoo import shared_entry

FILES = ("zoo.yaml", "README.md")
"""What belongs to a model beside its weights."""
MAX_TEXT = 1 << 20
"""Bytes of a zoo file or a card that are taken."""

Fetch = Callable[[str], Path]


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        was_there: whether the folder held it already.
    """

    folder: Path
    entry: Entry
    was_there: bool


PATIENCE = 600.0
"""Seconds that a pull waits for another one into the same folder to put its files in place, which takes one."""


def push(model: str | Path, target: str, *, licence: str = "", private: bool = False) -> str:
    """Send a model to the Hub, or write it into a folder: weights, zoo file and model card.

    Args:
        model: a zoo entry, a checkpoint file or the folder of a run.
        target: ``owner/name`` on the Hub, or a path: absolute, or beginning with ``.`` or ``~``.
        licence: of the weights, where the zoo does not say.
        private: whether a repository that is made new is private.

    Returns:
        the address of what was written.

    Raises:
        InputError: ``SRZOO_OFFLINE`` is set, or there are no weights to send.
        WeightsError: the Hub refuses, or cannot be reached.
    """
    loaded = load_model(model)
    if is_folder(target):
        folder = Path(target).expanduser()
        export(loaded, folder, "safetensors", licence=licence)
        return str(folder)
    _refuse_offline(target)
    import huggingface_hub

    with tempfile.TemporaryDirectory() as temporary, _reported(target, "sent to"):
        export(loaded, temporary, "safetensors", licence=licence)
        api = huggingface_hub.HfApi()
        api.create_repo(target, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=target,
            folder_path=temporary,
            allow_patterns=[*FILES, "*.safetensors"],
            commit_message="srzoo push",
        )
    return str(commit.commit_url)


def pull(source: str, to: str | Path | None = None, *, revision: str | None = None) -> Pulled:
    """Fetch a model from the Hub, or from a folder, into a folder that then stands for it in every command.

    Files arrive under temporary names and get theirs once the hash is right, the zoo file last; so a folder with a zoo
    file is whole, whatever is interrupted. Several processes may pull into it at once; the first decides what it holds.

    Args:
        source: ``owner/name`` on the Hub, or a path; see :func:`push`.
        to: the folder; ``models/NAME`` by default.
        revision: branch, tag or commit on the Hub.

    Raises:
        InputError: ``SRZOO_OFFLINE`` is set, the source holds no model, or the folder holds another one.
        EntryError: its zoo file is not valid, or needs plugins that are not installed.
        WeightsError: it cannot be fetched, or the weights are not what the zoo file says.
    """
    local = is_folder(source)
    name = (Path(source).expanduser().resolve().name if local else source.rpartition("/")[2]) or "model"
    folder = Path(to) if to is not None else Path("models") / name
    fetch = _from_folder(Path(source).expanduser()) if local else _from_hub(source, revision)
    with staged(folder, "pull", shown=source) as staging:
        return _pulled(fetch, folder, staging, source)


def _pulled(fetch: Fetch, folder: Path, staging: Path, source: str) -> Pulled:
    _copy(fetch("zoo.yaml"), staging / "zoo.yaml", MAX_TEXT)
    entry, _ = shared_entry(staging)  # validated before anything large is fetched
    assert entry.weights is not None
    if "/" in entry.weights.file.replace("\\", "/") or entry.weights.file.startswith("."):
        raise InputError(f"{source}: its weight file {entry.weights.file!r} must lie beside its zoo file.")
    if not entry.weights.file.endswith(".safetensors"):  # nor be what the card is written over
        raise InputError(f"{source}: its weight file {entry.weights.file!r} must be a safetensors file, by its ending.")
    text = (staging / "zoo.yaml").read_bytes()
    _refuse_another(folder, text, source)
    target = folder / entry.weights.file
    if target.is_dir():
        raise InputError(
            f"{target} is a folder, where the weights belong; remove it, or give another folder with --to."
        )
    was_there = (
        (folder / "zoo.yaml").is_file() and lies_within(target, (folder,)) and _is_right(target, entry.weights.sha256)
    )
    if not was_there:
        _copy(fetch(entry.weights.file), staging / entry.weights.file, None)
        try:
            check_hash(staging / entry.weights.file, entry.weights.sha256)
        except WeightsError:
            raise WeightsError(
                f"{source}: its weights {entry.weights.file} are damaged or another file, not those that its zoo file "
                "names by hash, and were not kept; pull again, or ask its owner to push again."
            ) from None
        with contextlib.suppress(InputError):  # a model without a card is a model
            _copy(fetch("README.md"), staging / "README.md", MAX_TEXT)
        names = [name for name in (entry.weights.file, "README.md", "zoo.yaml") if (staging / name).is_file()]
        lock = filelock.FileLock(folder / ".lock")
        try:
            acquired(lock, PATIENCE)
        except filelock.Timeout:
            raise InputError(
                f"another srzoo pull holds {folder / '.lock'} and does not end; try again later."
            ) from None
        except OSError as error:
            raise InputError(f"{folder / '.lock'} cannot be locked: {error.strerror}; remove it.") from None
        try:
            _refuse_another(folder, text, source)  # that another process has pulled in the meantime
            for name in names:
                os.replace(staging / name, folder / name)
        finally:
            lock.release()
    return Pulled(folder, entry, was_there)


def _refuse_another(folder: Path, text: bytes, source: str) -> None:
    there = folder / "zoo.yaml"
    if there.is_file() and there.read_bytes() != text:
        own = "" if is_folder(source) else f", such as --to {folder.parent / source}"
        raise InputError(f"{folder} holds another model, or another version; give another folder with --to{own}.")


def _is_right(path: Path, sha256: str) -> bool:
    try:
        check_hash(path, sha256)
    except WeightsError:
        return False
    return True


def _copy(source: Path, target: Path, limit: int | None) -> None:
    if not source.is_file():
        raise DataError(f"{source} is no regular file.")
    if limit is not None and source.stat().st_size > limit:
        raise DataError(f"{source} has {source.stat().st_size:,} bytes; more than {limit:,} are not taken.")
    shutil.copyfile(source, target)


def is_folder(place: str) -> bool:
    """Whether a place to push to or pull from is a path and not a repository of the Hub."""
    return Path(place).is_absolute() or place.startswith((".", "~")) or place.count("/") != 1


def _from_folder(folder: Path) -> Fetch:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; a model on the Hub is written OWNER/NAME.")
    if not (folder / "zoo.yaml").is_file():
        raise DataError(f"{folder} holds no zoo.yaml, so it is no model that srzoo push wrote.")

    def fetch(name: str) -> Path:
        if not (folder / name).is_file():
            raise DataError(f"{folder} holds no {name}.")
        return folder / name

    return fetch


def _from_hub(repository: str, revision: str | None) -> Fetch:
    _refuse_offline(repository)

    def fetch(name: str) -> Path:
        import huggingface_hub

        with _reported(f"{repository}: {name}", "fetched from"):
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))

    return fetch


def _refuse_offline(repository: str) -> None:
    if is_offline():
        raise InputError(
            f"SRZOO_OFFLINE is set, so the Hub is not asked for {repository}; unset it to ask. A folder is written as "
            f"a path: ./{repository}"
        )


@contextlib.contextmanager
def _reported(what: str, done: str) -> Iterator[None]:
    """Turn what huggingface_hub raises, of several kinds and many lines, into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        hint = {401: " 'hf auth login' logs in.", 403: " 'hf auth login' logs in.", 404: " Is it there, and public?"}
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{what} cannot be {done} the Hub: {reason}.{hint.get(status or 0, '')}") from None
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{what} cannot be {done} the Hub: {reason}.") from None
