"""What the code of a plugin does while it is imported, beside what it changes: files, network, processes, patches.

Python tells an audit hook of each of these as it happens. An event is the plugin's if the innermost frame that is not
of Python's own library is the plugin's: what the libraries do that it imports is theirs.
"""

from __future__ import annotations

import operator
import os
import sys
import sysconfig
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
    *("torchvision.transforms", "torchvision.transforms.functional", "timm", "timm.models", "timm.layers"),
    *("safetensors", "safetensors.torch", "socket", "subprocess", "threading", "srzoo"),
)
"""Modules in which nothing is to be replaced; nor in those of srzoo."""

ENVIRONMENT = "the environment variable"

_STDLIB = sysconfig.get_paths()["stdlib"]
_watching: list[_Events] = []
_installed: list[bool] = []


class _Events:
    def __init__(self, roots: Collection[str]) -> None:
        self.roots = tuple(roots)
        self.files: list[str] = []
        self.others: list[str] = []
        self.variables: dict[str, str | None] = {}

    def told(self) -> list[str]:
        """Return what was done, in words; a file or variable that is gone again is nobody's concern."""
        files = [f"the file {path}" for path in self.files if os.path.exists(path)]
        kept = [name for name, value in self.variables.items() if os.environ.get(name) == value]
        return list(dict.fromkeys([*files, *(f"{ENVIRONMENT} {name}" for name in kept), *self.others]))


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
    elif event in ("os.putenv", "os.unsetenv") and _is_by(events.roots):
        name, value = (*map(os.fsdecode, arguments), None)[:2]  # even of what was there before: of a process before it
        events.variables.setdefault(str(name), value)
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
    """Yield a list that ends up with what the code of some packages did.

    Args:
        names: top-level packages and modules of a plugin.
    """
    if not _installed:  # there is no way to take one off again, so this is for a process of its own
        sys.addaudithook(_hook)
        _installed.append(True)
    done: list[str] = []
    events = _Events(_roots(names))
    _watching.append(events)
    try:
        yield done
    finally:
        _watching.pop()
        done += events.told()


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


def mentioned(names: Collection[str], words: Collection[str]) -> list[str]:
    """Return those of some words that the source of some packages has."""
    roots = [Path(root) for root in _roots(names)]
    files = [file for root in roots for file in (root.rglob("*.py") if root.is_dir() else [root])]
    texts = [file.read_text(encoding="utf-8", errors="ignore") for file in files if file.is_file()]
    return [word for word in words if any(word in text for text in texts)]


# --- what was replaced --------------------------------------------------------------------------------------

Contents = dict[str, tuple[Any, dict[str, Any]]]
"""Dotted name of a module or class to what it is and what it holds."""
_MISSING = object()


@dataclass(frozen=True)
class Patch:
    """A function, class or method that is another now, or that hides one which is found elsewhere.

    Attributes:
        owner: the module or class that has it.
        before: what it was there, if it was.
    """

    owner: Any
    attribute: str
    before: Any
    now: Any

    def undo(self) -> None:
        """Put back what was there before."""
        self._put(self.before)

    def redo(self) -> None:
        """Put there what was found."""
        self._put(self.now)

    def _put(self, value: Any) -> None:
        with suppress(AttributeError, TypeError):
            if value is _MISSING:
                delattr(self.owner, self.attribute)
            else:
                setattr(self.owner, self.attribute, value)

    def is_of(self, names: Collection[str]) -> bool:
        """Whether what was found was made by some packages."""
        return _is_of(self.now, names)


def contents() -> Contents:
    """Return the functions and classes of well-known modules, and of their own classes the methods."""
    found: Contents = {}
    own = [name for name in sys.modules if name.startswith("srzoo.") and not name.startswith("srzoo.conformance")]
    for name in (*PATCHED, *own):
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType):
            continue
        found[name] = (module, dict(vars(module)))
        for value in found[name][1].values():
            if isinstance(value, type) and value.__module__.startswith(name):
                place = f"{value.__module__}.{value.__qualname__}"
                if place not in found:
                    found[place] = (value, dict(vars(value)))
    return found


def changes(before: Contents, names: Collection[str]) -> dict[str, Patch]:
    """Return what is another now, by dotted name; of what is new, what hides something or was made by some packages."""
    found = {}
    for place, (owner, old) in before.items():
        now = vars(owner)
        if len(now) == len(old) and all(map(operator.is_, now.values(), old.values())):
            continue  # as nearly all of them
        for attribute, value in old.items():
            if now.get(attribute, _MISSING) is not value and _is_routine(value):
                found[f"{place}.{attribute}"] = Patch(owner, attribute, value, now.get(attribute, _MISSING))
        for attribute in now.keys() - old.keys():
            value = now[attribute]
            if _is_routine(value) and (_hides(owner, attribute) or _is_of(value, names)):
                found[f"{place}.{attribute}"] = Patch(owner, attribute, _MISSING, value)
    return found


def _is_routine(value: Any) -> bool:
    return callable(value) or hasattr(type(value), "__get__")


def _hides(owner: Any, attribute: str) -> bool:
    """Whether its name was found elsewhere: in a base class, or by a module that imports it when asked."""
    if isinstance(owner, type):
        return any(attribute in vars(base) for base in owner.__mro__[1:])
    return owner.__name__ == "srzoo" and attribute in owner.__all__


def _is_of(value: Any, names: Collection[str]) -> bool:
    """Whether a function or class was made by some packages; whoever wraps one by ``partial`` keeps no name."""
    if isinstance(value, partial):
        return True
    value = getattr(value, "__func__", getattr(value, "fget", value))
    home = getattr(value, "__globals__", {}).get("__name__") or getattr(value, "__module__", "") or ""
    return str(home).partition(".")[0] in names
