"""What a forward pass takes: time and memory, measured."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


@dataclass(frozen=True)
class Latency:
    """Times of one call in milliseconds, over ``repeats`` repeats after a warm-up."""

    median: float
    quartile_low: float
    quartile_high: float
    repeats: int


ROUNDS = 5
"""Rounds in which calls that are compared take turns."""
SPIN_UP = 0.2
"""Seconds that a GPU is kept busy before a turn."""


def measure_latencies(
    calls: Sequence[Callable[[], object]], device: torch.device, budget: float = 3.0
) -> list[Latency]:
    """Time calls in turn, synchronised with the device before and after each.

    They take turns in rounds over the whole time, so that whatever else the machine does meanwhile slows all of them
    alike, and shows in the quartiles. Timed one after the other, each for a moment, the slower of two networks could
    come out as the faster, with narrow quartiles for both.

    Args:
        budget: seconds for each call, after which it takes no further turn; at least 3 and at most 20 repeats are
            timed.
    """
    times: list[list[float]] = [[] for _ in calls]
    spent = [0.0] * len(calls)
    for _ in range(ROUNDS):
        for number, call in enumerate(calls):
            if len(times[number]) < 3 or spent[number] < budget:
                spent[number] += _take_turn(call, device, budget / ROUNDS, times[number])
    return [_summary(found) for found in times]


def _take_turn(call: Callable[[], object], device: torch.device, budget: float, times: list[float]) -> float:
    """Add up to four times in milliseconds to those of a call; return the seconds that the turn took.

    A turn begins with warm-up: the first with two calls, later ones with one, unless that takes a good part of the
    budget; what another call left in the caches is nothing beside it then. One that takes several turns' time needs
    none, since what is done but once is nothing beside it either. A GPU, which lowers its clock when it has
    nothing to do, is kept busy for ``SPIN_UP`` first.
    """
    if device.type != "cpu":
        _keep_busy(call, device, min(SPIN_UP, budget / 2))
    start = time.perf_counter()
    warm_up = 1 if times else 2
    for repeat in range(warm_up + 4):
        _synchronise(device)
        before = time.perf_counter()
        call()
        _synchronise(device)
        now = time.perf_counter()
        is_slow = now - before > budget / 4
        if repeat >= warm_up or (is_slow and (times or repeat > 0)) or now - before > ROUNDS * budget:
            times.append(1000 * (now - before))
            if now - start > budget:
                break
    return time.perf_counter() - start


def _keep_busy(call: Callable[[], object], device: torch.device, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        call()
        _synchronise(device)


def _summary(times: Sequence[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, len(times))


def measure_peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that a call's tensors took at a time, beyond what was there before it.

    On CUDA as torch's allocator counts it; on CPUs, where it does not count, as the sum over tensors.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        peak: int = torch.cuda.max_memory_allocated(device) - before
        return peak
    with _TensorMemory() as memory:
        call()
    return int(memory.peak)


class _TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make until they are freed; torch keeps no such count for CPUs.

    What a kernel takes for itself, such as a copy in another memory layout, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.taken = self.peak = 0
        self._living: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._note, output)
        return output

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._living:
            self._living.add(storage._cdata)
            self.taken += storage.nbytes()
            self.peak = max(self.peak, self.taken)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, storage: int, size: int) -> None:
        self._living.discard(storage)
        self.taken -= size


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
