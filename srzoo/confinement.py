"""A zoo file reaches no path outside its own folder: whoever wrote it may be a stranger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import EntryError
from .yamlio import Node

FREE_TEXT = ("summary", "paper", "command", "device", "date", "licence", "url")
"""Keys whose values are for people to read, and are never opened."""


def leaves_its_folder(text: str) -> bool:
    """Whether a text, taken as a path, may lead out of the folder that it is relative to."""
    path = text.strip().replace("\\", "/")
    drive = re.match(r"[A-Za-z]:(/|$)", path) is not None
    return path.startswith(("/", "~")) or drive or ".." in path.split("/") or "\0" in path


def check_paths(entry: str, node: Node) -> None:
    """Check that no key and no value of an entry, as it is written in its file, leads out of the folder.

    Whatever plugin a value is meant for, the user may give the same value on the command line.

    Raises:
        EntryError: one does; names file, line and key.
    """
    for key, text, where in _texts(node, ()):
        if leaves_its_folder(text) and ".".join(key) != "weights.file":  # which has its own rule, and message
            raise EntryError(
                f"{where}: entry {entry!r}: {'.'.join(key)}: a zoo file may name no path outside its folder, such as "
                f"{text[:80]!r}. Give it on the command line, {'.'.join(key)}=PATH or --data PATH, or put a dataset "
                "under SRZOO_DATA and write its name."
            )


def _texts(node: Node, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if isinstance(node.content, dict):
        for name, below in node.content.items():
            if name in FREE_TEXT:
                continue
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
