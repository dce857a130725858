"""What belongs to the user's program: random generators and settings of the process, read, compared and put back."""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch._tensor_str import PRINT_OPTS
from torch.nn.modules import module as modules

GENERATORS: dict[str, tuple[Callable[[int], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "torch": (torch.manual_seed, torch.random.get_rng_state, torch.random.set_rng_state),
    "NumPy": (np.random.seed, np.random.get_state, np.random.set_state),
    "Python": (random.seed, random.getstate, random.setstate),
}
"""Random generators of the process: how each is seeded, read and put back."""


def _of(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _write_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()  # or what was suppressed once stays so


def _write_environment(values: dict[str, str]) -> None:
    for name in set(os.environ) - set(values):
        del os.environ[name]
    os.environ.update(values)


_HOOKS = [value for name, value in vars(modules).items() if name.startswith("_global_") and isinstance(value, dict)]
"""Hooks of every module there is, by kind."""


def _write_hooks(values: list[dict[Any, Any]]) -> None:
    for hooks, value in zip(_HOOKS, values, strict=True):
        hooks.clear()
        hooks.update(value)


def _write_safe_globals(values: list[Any]) -> None:
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(values)


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "torch's matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's default device": (
        lambda: getattr(getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), "device", None),
        torch.set_default_device,
    ),
    "torch.backends.cudnn.benchmark": _of(torch.backends.cudnn, "benchmark"),
    "torch.backends.cudnn.deterministic": _of(torch.backends.cudnn, "deterministic"),
    "torch.backends.cudnn.enabled": _of(torch.backends.cudnn, "enabled"),
    "torch.backends.cudnn.allow_tf32": _of(torch.backends.cudnn, "allow_tf32"),
    "torch.backends.mkldnn.enabled": _of(torch.backends.mkldnn, "enabled"),
    "torch's flushing of denormal numbers": (_flushes_denormals, torch.set_flush_denormal),
    "torch's hooks of all modules": (lambda: [dict(hooks) for hooks in _HOOKS], _write_hooks),
    "what torch.load trusts": (torch.serialization.get_safe_globals, _write_safe_globals),
    "how processes share tensors": (
        torch.multiprocessing.get_sharing_strategy,
        torch.multiprocessing.set_sharing_strategy,
    ),
    "how torch prints": (lambda: dict(vars(PRINT_OPTS)), lambda value: vars(PRINT_OPTS).update(value)),
    "how NumPy prints": (np.get_printoptions, lambda value: np.set_printoptions(**value)),
    "the default timeout of sockets": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "NumPy's handling of errors": (np.geterr, lambda value: np.seterr(**value)),
    "the filters of warnings": (lambda: list(warnings.filters), _write_filters),
    "the level of the root logger": (lambda: logging.root.level, logging.root.setLevel),
    "the handlers of the root logger": (
        lambda: list(logging.root.handlers),
        lambda value: logging.root.handlers.__setitem__(slice(None), value),
    ),
    "the environment variables": (lambda: dict(os.environ), _write_environment),
    "the working folder": (os.getcwd, os.chdir),
    "sys.path": (lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
    "sys.stdout": _of(sys, "stdout"),
    "sys.excepthook": _of(sys, "excepthook"),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
}
"""How each is read and put back."""


def begin(seed: int) -> None:
    """Seed every random generator of the process, as a run does."""
    for write, _, _ in GENERATORS.values():
        write(seed)


@contextmanager
def kept() -> Iterator[list[str]]:
    """Put settings and random generators back at the end; yield a list of the settings that were changed meanwhile."""
    states = {name: read() for name, (_, read, _) in GENERATORS.items()}
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, (read, write) in SETTINGS.items():
            if read() != before[name]:
                changed.append(name)
                write(before[name])
        for name, (_, _, restore) in GENERATORS.items():
            restore(states[name])
