"""What importing a plugin does to the process, seen from one of its own.

First the plugin is loaded and its hooks are asked, as every ``srzoo list`` does; then the modules of its factories are
imported, as building a component does. What each of the two changes is printed as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..plugins import GROUP, PluginRecord, discover

HEAVY = ("torch", "torchvision", "timm", "tensorflow", "jax", "accelerate", "skimage", "matplotlib")
"""Libraries that take longer to import than all of the zoo takes to list."""


def main(plugins: Sequence[tuple[str, str]], factories: bool) -> None:
    """Probe plugins in turn, in an empty folder, and print what was seen: one JSON object a plugin."""
    seen = [_ask_hooks(name, distribution) for name, distribution in plugins]
    if factories:
        _import_factories(seen)
    print(json.dumps([found for _, found in seen]))


def _import_factories(seen: Sequence[tuple[PluginRecord, dict[str, Any]]]) -> None:
    import numpy  # noqa: F401 (what srzoo needs anyway; that it sets itself up is not the plugin's doing)
    import torch
    import torchvision  # noqa: F401

    for record, found in seen:
        with _captured() as printed, _watched(lambda: {**_state(), **_torch_state(torch)}) as changed:
            for spec in record.specs:
                if isinstance(spec.factory, str):
                    with contextlib.suppress(Exception):  # building it tells what is wrong
                        importlib.import_module(spec.factory.partition(":")[0])
        found["effects_of_factories"] = [*changed, *_said(printed)]


def _ask_hooks(name: str, distribution: str) -> tuple[PluginRecord, dict[str, Any]]:
    points = [
        point
        for point in metadata.entry_points(group=GROUP)
        if point.name == name and point.dist is not None and point.dist.name.lower() == distribution
    ]
    loaded = set(sys.modules)
    with _captured() as printed, _watched(_state) as changed:
        (record,) = discover(points)
    heavy = sorted(set(HEAVY) & (set(sys.modules) - loaded))
    return record, {"seconds": record.seconds, "heavy": heavy, "effects": [*changed, *_said(printed)]}


def _state() -> dict[str, Any]:
    """Return what an import must leave alone."""
    import random

    numpy = sys.modules.get("numpy")
    return {
        "the working folder": (os.getcwd(), sorted(os.listdir())),
        **{f"the environment variable {name}": value for name, value in os.environ.items()},
        "sys.path": list(sys.path),
        "the threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "Python's random state": random.getstate(),
        **({"NumPy's random state": str(numpy.random.get_state())} if numpy is not None else {}),
    }


def _torch_state(torch: Any) -> dict[str, Any]:
    return {
        "torch's random state": torch.random.get_rng_state().tolist(),
        "torch's default type": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch's matmul precision": torch.get_float32_matmul_precision(),
    }


@contextlib.contextmanager
def _watched(state: Any) -> Iterator[list[str]]:
    """Yield a list that ends up with the name of everything that changed."""
    changed: list[str] = []
    before = state()
    yield changed
    after = state()
    environment = "the environment variable"
    names = [name for name in {**before, **after} if name.startswith(environment) or (name in before and name in after)]
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
