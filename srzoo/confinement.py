"""A zoo file reaches no path outside its own folder: whoever wrote it may be a stranger."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from .errors import EntryError
from .yamlio import Node

FREE_TEXT = (
    *(("summary",), ("paper",), ("weights", "url"), ("weights", "licence")),
    *(("recorded", "command"), ("recorded", "device"), ("recorded", "date")),
)
"""Keys of an entry whose values are for people to read, and are never opened."""
OPENED = ("generator", "discriminator", "training")
"""Keys below which a plugin or a recipe may take a value for a path."""
ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt")
"""Of files with weights."""
ENSEMBLE = "+"
"""What stands after a model's name for its self-ensemble."""


class Name(str):
    """A name that a zoo file gives, of a dataset or an entry: a folder that happens to be called so is not meant."""


def leaves_its_folder(text: str) -> bool:
    """Whether a text, taken as a path, may lead out of the folder that it is relative to."""
    path = text.strip().replace("\\", "/")
    drive = re.match(r"[A-Za-z]:", path) is not None
    local = re.match(r"[\w+.-]+:[/~.]", path) is not None and re.match(r"https?://", path) is None
    return path.startswith(("/", "~")) or drive or local or ".." in path.split("/") or "\0" in path


def check_paths(entry: str, node: Node, entries: Container[str] | None = None, written_in: str = "a zoo file") -> None:
    """Check that no key and no value of an entry, as it is written in its file, leads out of the folder.

    Whatever plugin a value is meant for, the user may give the same value on the command line.

    Args:
        entries: the zoo, where ``owner/name`` may be told from a path.
        written_in: what the entry is written in, for the message.

    Raises:
        EntryError: one does; names file, line and key.
    """
    for key, text, where in _texts(node, ()):
        dotted = ".".join(key)
        parts = tuple(dotted.split("."))
        if parts in FREE_TEXT or parts == ("weights", "file"):  # which has its own rule, and message
            continue
        if leaves_its_folder(text) or (parts[0] in OPENED and lies_here(text)):
            raise EntryError(
                f"{where}: entry {entry[:80]!r}: {dotted}: {written_in} may name no path outside its folder, such as "
                f"{text[:80]!r}. Give it on the command line, {dotted}=PATH or --data PATH, or put a dataset "
                "under SRZOO_DATA and write its name."
            )
        names_entry = parts in (("training", "start_from"), ("training", "teacher"))
        if names_entry and entries is not None and "/" in text and text.removesuffix(ENSEMBLE) not in entries:
            raise EntryError(
                f"{where}: entry {entry!r}: {dotted}: no entry is called {text[:80]!r}. Write the name of an entry, or "
                f"give a file or folder on the command line, {dotted}=PATH."
            )


def confined(node: Node, scope: str) -> Node:
    """Return an entry as it is written in its file, all of it marked as said by a zoo file of a distribution."""
    return _marked(node, True, scope)


def scoped(node: Node, scope: str) -> Node:
    """Return what a distribution's file says with bare names meaning its own parts first; it may name paths."""
    return _marked(node, node.confined, scope)


def _marked(node: Node, is_confined: bool, scope: str) -> Node:
    content = node.content
    if isinstance(content, dict):
        content = {key: _marked(below, is_confined, scope) for key, below in content.items()}
    elif isinstance(content, list):
        content = [_marked(below, is_confined, scope) for below in content]
    return Node(content, node.where, is_confined, scope)


def is_confined(node: Node) -> bool:
    """Whether a zoo file says a value, or any part of it."""
    below = node.content.values() if isinstance(node.content, dict) else node.content
    return node.confined or (isinstance(node.content, (dict, list)) and any(map(is_confined, below)))


def lies_here(text: str) -> bool:
    """Whether a text, taken as a path, would be looked for in the folder that the user happens to be in."""
    path = text.strip().replace("\\", "/")
    return path == "." or path.startswith("./") or path.endswith(ENDINGS)


def without_path(text: str) -> str:
    """Return what a zoo file may hold in place of a path: its last part, without the ending of a weight file."""
    name = Path(text.strip().replace("\\", "/")).name
    ending = next((e for e in ENDINGS if name.endswith(e)), "")
    return name.removesuffix(ending).lstrip("~.") or "unnamed"


def _texts(node: Node, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if isinstance(node.content, dict):
        for name, below in node.content.items():
            if isinstance(name, str):
                yield key, name, below.where
            yield from _texts(below, (*key, str(name)[:80]))
    elif isinstance(node.content, list):
        for below in node.content:
            yield from _texts(below, key)
    elif isinstance(node.content, str):
        yield key, node.content, node.where


def lies_within(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies below one of several folders once links are followed."""
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in folders)
