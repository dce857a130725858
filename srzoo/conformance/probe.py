"""What importing a plugin does to the process, seen from one of its own.

First the plugin is loaded and its hooks are asked, as every ``srzoo list`` does; then the modules of its factories are
imported, as building a component does. At last all of its own modules are imported once more, now that the libraries
are there: what that takes and changes is the plugin's alone. What each of the three does is printed as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import locale
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import srzoo

from ..plugins import FAULTS, GROUP, PluginRecord, discover
from ..registry import SLOW
from .watch import ENVIRONMENT, Patch, changes, contents, mentioned, watched

HEAVY = ("torch", "torchvision", "timm", "tensorflow", "jax", "accelerate", "skimage", "matplotlib")
"""Libraries that take longer to import than all of the zoo takes to list."""


def main(plugins: Sequence[tuple[str, str]], factories: bool) -> None:
    """Probe plugins in turn, in an empty folder, and print what was seen: one JSON object a plugin."""
    for number in (signal.SIGTERM, signal.SIGINT):  # what the process before ignores is handed down
        signal.signal(number, signal.SIG_DFL)
    seen = [_ask_hooks(name, distribution) for name, distribution in plugins]
    if factories:
        _import_factories(seen)
    os.write(1, json.dumps([found for _, found, _ in seen]).encode() + b"\n")  # a plugin may have replaced print
    os._exit(0)  # and left threads that would be waited for, and print


def _import_factories(seen: Sequence[tuple[PluginRecord, dict[str, Any], dict[str, Patch]]]) -> None:
    import numpy  # noqa: F401 (what srzoo needs anyway; that it sets itself up is not the plugin's doing)
    import safetensors.torch  # noqa: F401
    import torchvision.transforms.functional  # noqa: F401

    from .settings import kept

    own = [f"srzoo.{module.name}" for module in pkgutil.iter_modules(srzoo.__path__)]
    for record, found, patches in seen:
        names = _own(record)
        for module in mentioned(names, ("timm", *own)):  # to know what they hold before the plugin can change it
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        before = contents()
        with kept(), _captured() as printed, _watched(_states) as changed, watched(names) as done:
            _import_all(record)
        patches = {**changes(before, names), **patches}
        done += [place for place, patch in patches.items() if patch.is_of(names)]
        found["own_seconds"], again = _import_again(record, names, patches)
        if found["own_seconds"] > SLOW:  # a busy machine is not the plugin's fault
            found["own_seconds"] = min(found["own_seconds"], _import_again(record, names, {})[0])
        known = {*found["effects"], *changed, *done, *again}  # what the hooks' module does, it does again
        if any(name.startswith(f"{ENVIRONMENT} ") for name in known):
            again = [name for name in again if name != f"{ENVIRONMENT}s"]
        news = [name for name in dict.fromkeys([*changed, *done, *again]) if name not in found["effects"]]
        found["effects_of_factories"] = [*news, *_said(printed)]


def _import_again(record: PluginRecord, names: Sequence[str], patches: dict[str, Patch]) -> tuple[float, list[str]]:
    """Import a plugin's own modules anew; return the seconds that takes, and what it changes.

    Args:
        patches: what was replaced when they were imported first, by them or by libraries. It is put back before, and so
            what is replaced again is the plugin's doing, whatever by.
    """
    from .settings import kept

    for module in [module for module in sys.modules if module.partition(".")[0] in names]:
        del sys.modules[module]
    for patch in patches.values():
        patch.undo()
    before = contents()
    given = {name: os.environ.pop(name) for name in set(_defaulted(names))}
    with _captured(), kept() as settings, watched(names) as done, _watched(lambda: _imports(names)) as changed:
        start = time.perf_counter()
        _import_all(record)
        seconds = time.perf_counter() - start
    os.environ.update(given)
    again = changes(before, names)
    for patch in again.values():
        patch.undo()
    for place, patch in patches.items():
        if place not in again and not patch.is_of(names):
            patch.redo()
    return seconds, [*done, *settings, *changed, *again]


def _defaulted(names: Sequence[str]) -> list[str]:
    """Return the environment variables there are that the source of some packages sets where there is none.

    The process that starts this one may have them from the very plugin.
    """
    words = {f"setdefault({quote}{name}{quote}": name for name in os.environ for quote in "\"'"}
    return [words[word] for word in mentioned(names, words)]


def _imports(names: Sequence[str]) -> dict[str, Any]:
    """Return what is imported and how, beside a plugin's own modules."""
    others = {f"sys.modules[{name!r}]": id(module) for name, module in sys.modules.items() if _top(name) not in names}
    return {"sys.meta_path": list(sys.meta_path), **others}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _own(record: PluginRecord) -> list[str]:
    """Return the top-level modules of a plugin, as far as they are no library's."""
    modules = [record.module, *(spec.factory for spec in record.specs if isinstance(spec.factory, str))]
    tops = dict.fromkeys(module.partition(":")[0].partition(".")[0] for module in modules)
    return [top for top in tops if top not in (*HEAVY, "srzoo", "numpy") and top not in sys.stdlib_module_names]


def _import_all(record: PluginRecord) -> None:
    modules = [spec.factory.partition(":")[0] for spec in record.specs if isinstance(spec.factory, str)]
    for module in (record.module.partition(":")[0], *modules):
        with contextlib.suppress(*FAULTS):  # building it tells what is wrong
            importlib.import_module(module)


def _ask_hooks(name: str, distribution: str) -> tuple[PluginRecord, dict[str, Any], dict[str, Patch]]:
    points = [
        point
        for point in metadata.entry_points(group=GROUP)
        if point.name == name and point.dist is not None and point.dist.name.lower() == distribution
    ]
    loaded = set(sys.modules)
    names = [point.value.partition(":")[0].partition(".")[0] for point in points]
    before = contents()
    with _captured() as printed, _watched(_state) as changed, watched(names) as done:
        (record,) = discover(points)
    patches = changes(before, names)
    done += [place for place, patch in patches.items() if patch.is_of(names)]
    heavy = sorted(set(HEAVY) & (set(sys.modules) - loaded))
    effects = list(dict.fromkeys([*changed, *done, *_said(printed)]))
    return record, {"seconds": record.seconds, "heavy": heavy, "effects": effects}, patches


def _state() -> dict[str, Any]:
    """Return what an import must leave alone."""
    import random

    numpy = sys.modules.get("numpy")
    return {
        "the working folder": (os.getcwd(), sorted(os.listdir())),
        **{f"{ENVIRONMENT} {name}": value for name, value in os.environ.items()},
        "sys.path": list(sys.path),
        "the threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "garbage collection": gc.isenabled(),
        "the mask of new files' permissions": _umask(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "sys.excepthook": sys.excepthook,
        "Python's random state": random.getstate(),
        **({"NumPy's random state": str(numpy.random.get_state())} if numpy is not None else {}),
    }


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _states() -> dict[str, Any]:
    """Return what an import must leave alone once torch is there; settings are seen when it is imported once more."""
    import multiprocessing

    import torch
    from PIL import Image, ImageFile

    return {
        **_state(),
        "torch's number of threads between operators": torch.get_num_interop_threads(),
        "torch's random state": torch.random.get_rng_state().tolist(),
        "Pillow's limits": (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS),
        "the start method of processes": multiprocessing.get_start_method(allow_none=True),
    }


@contextlib.contextmanager
def _watched(state: Any) -> Iterator[list[str]]:
    """Yield a list that ends up with the name of everything that changed."""
    changed: list[str] = []
    before = state()
    yield changed
    after = state()
    names = [name for name in {**before, **after} if name.startswith(ENVIRONMENT) or (name in before and name in after)]
    changed += [name for name in names if before.get(name) != after.get(name)]


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Yield a list that ends up with all that is printed meanwhile, by C libraries too."""
    text: list[str] = []
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))


def _said(printed: list[str]) -> list[str]:
    text = " ".join("".join(printed).split())
    return [f"the terminal ({text[:60]!r})"] if text else []


def run(*plugins: tuple[str, str], factories: bool = True, timeout: float = 120.0) -> list[dict[str, Any]]:
    """Probe plugins, given as name and distribution, in a process of their own.

    Args:
        factories: whether the modules of their factories are imported too, which takes torch's seconds.

    Raises:
        TimeoutError: it takes longer than ``timeout`` seconds.
        RuntimeError: the process ended without a report; says what it printed last.
    """
    environment = {key: value for key, value in os.environ.items() if key != "SRZOO_PLUGINS"}
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    environment["PYTHONPATH"] = os.pathsep.join(paths)  # what this process can import, that one can
    words = [str(int(factories)), *(word for plugin in plugins for word in plugin)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", __name__, *words],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"its import and its hooks take more than {timeout:.0f} s.") from None
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = " ".join(done.stderr.split())[-300:] or "nothing"
        raise RuntimeError(f"the process that imports it ended with {done.returncode} and said {last}") from None
    return found


if __name__ == "__main__":
    main(list(zip(sys.argv[2::2], sys.argv[3::2], strict=True)), sys.argv[1] == "1")
