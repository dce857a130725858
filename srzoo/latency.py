"""What a forward pass takes: time and memory, measured."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
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


def measure_latency(call: Callable[[], object], device: torch.device, budget: float = 3.0) -> Latency:
    """Time a call, synchronised with the device before and after.

    Args:
        budget: seconds after which no further repeat is started; at least 3 and at most 20 are timed.
    """
    times: list[float] = []
    start = time.perf_counter()
    for repeat in range(22):
        _synchronise(device)
        before = time.perf_counter()
        call()
        _synchronise(device)
        if repeat > 1 or (repeat == 1 and time.perf_counter() - start > budget / 4):  # the first are warm-up
            times.append(1000 * (time.perf_counter() - before))
        if len(times) >= 3 and time.perf_counter() - start > budget:
            break
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
