"""What the code of a plugin does while it is imported, beside what it changes: files, network, processes, patches.

Python tells an audit hook of each of these as it happens. An event is the plugin's if the innermost frame that is not
of Python's own library is the plugin's: what the libraries do that it imports is theirs.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request")
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
PATCHED = (
    *("builtins", "os", "time", "random", "warnings", "logging", "json", "pickle", "urllib.request", "PIL.Image"),
    *("numpy", "numpy.linalg", "numpy.random", "torchvision", "torchvision.models", "torchvision.utils"),
    *("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.optim", "torch.autograd", "torch.cuda"),
    *("torch.amp", "torch.fft", "torch.hub", "torch.linalg", "torch.serialization", "torch.utils.data"),
)
"""Modules in which nothing is to be replaced; nor in those of srzoo."""

_STDLIB = sysconfig.get_paths()["stdlib"]
_watching: list[_Events] = []
_installed: list[bool] = []


class _Events:
    def __init__(self, roots: Collection[str]) -> None:
        self.roots = tuple(roots)
        self.files: list[str] = []
        self.others: list[str] = []

    def told(self) -> list[str]:
        """Return what was done, in words; a file that is gone again is nobody's concern."""
        files = [f"the file {path}" for path in self.files if os.path.exists(path)]
        return list(dict.fromkeys([*files, *self.others]))


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    events = _watching[-1]
    if event == "open":
        path, mode, flags = (*arguments, None, None)[:3]
        writes = any(letter in (mode or "") for letter in "wax+") or (isinstance(flags, int) and flags & WRITING)
        if writes and isinstance(path, (str, os.PathLike)) and _counts(str(path)) and _is_by(events.roots):
            events.files.append(os.path.abspath(path))
    elif event == "os.mkdir":
        if _counts(str(arguments[0])) and _is_by(events.roots):
            events.files.append(os.path.abspath(str(arguments[0])))
    elif event in ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree"):
        if _counts(str(arguments[0])) and _is_by(events.roots):
            events.others.append(f"the file {arguments[0]}, by {event}")
    elif event in NETWORK and _is_by(events.roots):
        events.others.append(f"the network, by {event}")
    elif event in PROCESSES and _is_by(events.roots):
        events.others.append(f"the processes, by starting {str(arguments[0])[:60]!r}")


def _counts(path: str) -> bool:
    return "__pycache__" not in path and not path.startswith("/dev/")


def _is_by(roots: Collection[str]) -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        own = file.startswith(_STDLIB) and "site-packages" not in file and "dist-packages" not in file
        if not (own or file.startswith("<")):
            return any(file == root or file.startswith(root + os.sep) for root in roots)
        frame = frame.f_back
    return False


@contextmanager
def watched(names: Collection[str]) -> Iterator[list[str]]:
    """Yield a list that ends up with what the code of some packages did, and what it replaced in others.

    Args:
        names: top-level packages and modules of a plugin.
    """
    if not _installed:  # there is no way to take one off again, so this is for a process of its own
        sys.addaudithook(_hook)
        _installed.append(True)
    done: list[str] = []
    events, before = _Events(_roots(names)), _contents()
    _watching.append(events)
    try:
        yield done
    finally:
        _watching.pop()
        done += events.told()
        done += _replaced(before, names)


def _roots(names: Collection[str]) -> set[str]:
    import importlib.util

    roots: set[str] = set()
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if found is not None and found.submodule_search_locations:
            roots |= {str(Path(place)) for place in found.submodule_search_locations}
        elif found is not None and found.origin:
            roots.add(found.origin)
    return roots


# --- what was replaced --------------------------------------------------------------------------------------


def _contents() -> dict[tuple[str, str], tuple[Any, dict[str, Any]]]:
    """Return the functions and classes of well-known modules, and of their own classes the methods."""
    found = {}
    own = [name for name in sys.modules if name.startswith("srzoo.") and not name.startswith("srzoo.conformance")]
    for name in (*PATCHED, *own):
        if not isinstance(sys.modules.get(name), ModuleType):
            continue
        for attribute, value in list(vars(sys.modules[name]).items()):
            if callable(value):
                members = isinstance(value, type) and value.__module__.startswith(name)
                found[name, attribute] = (value, dict(vars(value)) if members else {})
    return found


def _replaced(before: Mapping[tuple[str, str], tuple[Any, dict[str, Any]]], names: Collection[str]) -> list[str]:
    """Return the dotted names of what is another now, if the new one is of some packages."""
    found: dict[str, None] = {}
    for (module, attribute), (value, members) in before.items():
        now = vars(sys.modules[module]).get(attribute) if module in sys.modules else value
        if now is not value and _is_of(now, names):
            found[f"{module}.{attribute}"] = None
        for name, member in vars(value).items() if members else ():
            if member is not members.get(name) and _is_of(member, names):
                found[f"{value.__module__}.{value.__name__}.{name}"] = None
    return list(found)


def _is_of(value: Any, names: Collection[str]) -> bool:
    """Whether a function or class was made by some packages; whoever wraps one by ``partial`` keeps no name."""
    if isinstance(value, partial):
        return True
    value = getattr(value, "__func__", getattr(value, "fget", value))
    home = getattr(value, "__globals__", {}).get("__name__") or getattr(value, "__module__", "") or ""
    return str(home).partition(".")[0] in names
