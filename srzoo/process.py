"""What a training run needs of its process: the state of every random generator, and signals."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's global generators, CUDA's included.

    Workers that read data need none: each sample is a pure function of its number.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set every global generator to what :func:`random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def same_random_state(left: Any, right: Any) -> bool:
    """Whether two states that :func:`random_state` returned are equal: nothing was drawn between them."""
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same_random_state(left[key], right[key]) for key in left)
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all(map(same_random_state, left, right))
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    return bool(left == right)


class SignalWatch:
    """Within this context, SIGTERM and the first SIGINT (Ctrl-C) are noted instead of ending the process.

    Launchers and clusters send SIGTERM more than once; a second Ctrl-C is somebody who does not want to wait, and
    does what it always did. Outside the main thread, where Python cannot handle signals, nothing changes.

    Attributes:
        received: name of the signal, or an empty string.
    """

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "SIGINT":
            signal.signal(number, self._before[number])
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def ignore_signals(worker: int = 0) -> None:
    """Leave SIGTERM and SIGINT to the process that a data-loading worker belongs to; it ends its workers itself."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
