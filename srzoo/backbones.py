"""The pretrained backbones that metrics and extractors need: which there are, where they lie, and getting them.

Nothing is ever fetched unasked: a component whose backbone is missing says so, and ``srzoo weights`` gets it. So it is
with the weights of an entry whose zoo file gives an address.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .entry import Entry
from .errors import InputError, UnknownNameError, WeightsError, did_you_mean
from .files import replacing
from .offline import is_offline
from .pickles import MAX_BYTES
from .places import fetched_path, weights_folders
from .registry import Component, get_registry
from .specs import KINDS, WeightFile
from .weights import check_hash, file_sha256
from .zoo import get_zoo

TIMEOUT = 60.0
"""Seconds that a server may be silent for."""


@dataclass(frozen=True)
class Backbone:
    """A file that components need.

    Attributes:
        needed_by: components, ``metric/lpips_vgg`` and the like.
        alternatives: names of other files that serve as well.
        path: where it lies, or None.
    """

    file: WeightFile
    needed_by: tuple[str, ...]
    alternatives: tuple[str, ...]
    path: Path | None

    def check(self) -> None:
        """Recompute the hash of the file, if it is there.

        Raises:
            WeightsError: it is damaged, or another file.
        """
        if self.path is not None:
            check_hash(self.path, self.file.sha256)


def backbones() -> list[Backbone]:
    """Return every file that a registered component names, in the order of their names."""
    files: dict[str, WeightFile] = {}
    needed: dict[str, list[str]] = {}
    others: dict[str, set[str]] = {}
    for component, alternatives in _declared():
        for file in alternatives:
            files[file.filename] = file
            called = f"{component.kind}/{get_registry().called(component.spec)}"
            needed.setdefault(file.filename, []).append(called)
            others.setdefault(file.filename, set()).update(other.filename for other in alternatives)
    return [
        Backbone(files[name], tuple(needed[name]), tuple(sorted(others[name] - {name})), _find(name))
        for name in sorted(files)
    ]


def _declared() -> Iterator[tuple[Component, tuple[WeightFile, ...]]]:
    for kind in KINDS:
        for component in get_registry().find(kind):
            alternatives = getattr(component.spec, "weights", ())
            if alternatives:
                yield component, alternatives


def _find(filename: str) -> Path | None:
    return next((folder / filename for folder in weights_folders() if (folder / filename).is_file()), None)


def choose(name: str) -> list[Backbone]:
    """Return the files that a name stands for: a file, or a component, of which the first alternative is enough.

    Raises:
        UnknownNameError: nothing needs a file of this name, and no component of this name needs one.
    """
    known = {backbone.file.filename: backbone for backbone in backbones()}
    if name in known:
        return [known[name]]
    meant = {
        f"{component.kind}/{component.full_name}": files[0].filename
        for component, files in _declared()
        if name.removeprefix(f"{component.kind}/") in (component.name, component.full_name)
    }
    if len(set(meant.values())) > 1:
        raise InputError(f"Several components are called {name!r}; write {' or '.join(map(repr, meant))}.")
    for filename in meant.values():
        return [known[filename]]
    names = [*known, *(component.name for component, _ in _declared()), *get_zoo().names()]
    raise UnknownNameError(
        f"No component needs weights called {name!r}, and no entry is.{did_you_mean(name, names)} 'srzoo weights list' "
        "shows what components need, 'srzoo list' the zoo."
    )


def pull(backbone: Backbone, show_progress: bool = True) -> Path:
    """Download a backbone into the first weights folder, unless it is there already; kept only if its hash is right.

    Raises:
        InputError: ``SRZOO_OFFLINE`` is set, or the file has no address.
        WeightsError: it cannot be downloaded or stored, or is not what it should be.
    """
    if backbone.path is not None:
        backbone.check()
        return backbone.path
    target = weights_folders()[0] / backbone.file.filename
    by_hand = f"Get it by other means, then: srzoo weights add {backbone.file.filename}"
    if not backbone.file.url:
        raise InputError(f"{backbone.file.filename} has no address to fetch it from. {by_hand}")
    _download(backbone.file.url, backbone.file.sha256, target, by_hand, show_progress)
    return target


def pull_entry(entry: Entry, beside: Path, show_progress: bool = True) -> Path:
    """Download an entry's weights from the address in its zoo file; kept only if their hash is right.

    They go into the first weights folder, under their hash: a zoo file may lie where nothing can be written, and
    several may name the same file.

    Args:
        beside: where they would lie beside the zoo file, for the message.

    Raises:
        InputError: ``SRZOO_OFFLINE`` is set, or the entry has no address, or one that is not of the web.
        WeightsError: see :func:`pull`.
    """
    assert entry.weights is not None
    url, by_hand = entry.weights.url, f"Get it by other means, and put it to {beside}."
    if not url.startswith(("https://", "http://")):
        given = f"the address {url!r}, which is none of the web" if url else "no address"
        raise InputError(f"entry {entry.name!r} has {given} to fetch its weights from. {by_hand}")
    target = fetched_path(entry.weights.sha256, weights_folders()[0])
    _download(url, entry.weights.sha256, target, by_hand, show_progress)
    return target


def _download(url: str, sha256: str, target: Path, by_hand: str, show_progress: bool) -> None:
    if is_offline():
        raise InputError(f"SRZOO_OFFLINE is set, so {url} is not fetched. {by_hand}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder; remove it")
        with replacing(target) as temporary:
            found = _fetch(url, temporary, show_progress)
            if not sha256 or not found.startswith(sha256.lower()):
                raise ValueError(f"invalid hash: its SHA-256 begins {found[:16]}, expected {sha256[:16]}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(f"Cannot get {url}: {error or type(error).__name__}. {by_hand}") from error


def _fetch(url: str, path: Path, show_progress: bool) -> str:
    """Write what an address gives into a new file; returns its SHA-256."""
    from rich.progress import Progress

    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "srzoo"})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT) as response,
        open(path, "xb") as file,
        Progress(disable=not show_progress, transient=True) as progress,
    ):
        told = response.headers.get("Content-Length", "")
        length = int(told) if told.isdecimal() else None
        bar = progress.add_task(path.name.split(".")[1], total=length)
        while chunk := response.read(1 << 20):
            done += len(chunk)
            if done > MAX_BYTES:
                raise ValueError(f"it gives more than {MAX_BYTES:,} bytes")
            file.write(chunk)
            digest.update(chunk)
            progress.update(bar, completed=done)
        if length is not None and done < length:
            raise ValueError(f"the connection broke off after {done:,} of {length:,} bytes")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def add(path: Path) -> Path:
    """Copy a file that somebody got by other means into the first weights folder, if it is a known backbone.

    Raises:
        WeightsError: it is none, by its hash, or cannot be copied.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    digest = file_sha256(path)
    match = next((b for b in backbones() if digest.startswith(b.file.sha256.lower())), None)
    if match is None:
        same = next((b for b in backbones() if b.file.filename == path.name), None)
        expected = f"; {same.file.filename} has {same.file.sha256[:16]}..., so it is damaged" if same else ""
        raise WeightsError(
            f"{path} is no backbone that a component needs: its SHA-256 begins {digest[:16]}{expected}. "
            "'srzoo weights list' shows what is needed."
        )
    target = weights_folders()[0] / match.file.filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            shutil.copyfile(path, temporary)
            check_hash(temporary, match.file.sha256)  # of what is kept
    except OSError as error:
        raise WeightsError(f"Cannot write {target}: {error}.") from error
    return target
