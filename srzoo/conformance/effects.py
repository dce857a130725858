"""A check of what building and using a component leaves changed in the process: nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .options import COMPONENTS, use
from .outcome import listed, promise, require
from .subject import Subject

GENERATORS: dict[str, tuple[Callable[[int], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "torch": (torch.manual_seed, torch.random.get_rng_state, torch.random.set_rng_state),
    "NumPy": (np.random.seed, np.random.get_state, np.random.set_state),
    "Python": (random.seed, random.getstate, random.setstate),
}
"""Random generators of the process: how each is seeded, read and put back."""

SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "torch's matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch.backends.cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
}
"""What belongs to the user's program, and how it is read and put back."""


@promise("pure-build", *COMPONENTS)
def pure_build(subject: Subject) -> None:
    """Building and using it seeds no random generator and changes no setting of the process.

    Drawing random numbers is fine. One that seeds ends in the same state wherever it began, and so gives every network
    that is built after it, and every run of another seed, the same numbers.
    """
    make = subject.bound()
    with _put_back() as changed:
        ends = []
        for seed in (1, 2):
            for begin, _, _ in GENERATORS.values():
                begin(seed)
            use(subject, make())
            ends.append({name: str(read()) for name, (_, read, _) in GENERATORS.items()})
    seeded = [name for name in GENERATORS if ends[0][name] == ends[1][name]]
    require(
        not seeded,
        f"building or using it seeds the random generator of {listed(seeded)}, and with it whatever the process draws "
        "next; draw from a generator of your own, such as torch.Generator().manual_seed(0).",
    )
    require(not changed, f"building or using it changes {listed(changed)}, which is the user's to set.")


@contextmanager
def _put_back() -> Iterator[list[str]]:
    """Yield a list that ends up with the settings that were changed; they and the random generators are put back."""
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


CHECKS = (pure_build,)
