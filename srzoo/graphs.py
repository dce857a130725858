"""Training steps recorded as CUDA graphs.

A step of a deep generator is thousands of small kernels. Launched one by one from Python they keep a modern GPU
waiting most of the time. A CUDA graph launches all of them at once, with the same kernels on the same memory, so the
numbers are those of the step that was recorded (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).
"""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from timm.optim.muon import Muon

from .errors import RecipeWarning
from .plugins import FAULTS, describe_exception
from .recipe import Training
from .stages import Parts
from .step import Gradients, Step

SWITCH = "SRZOO_CUDA_GRAPHS"
"""Environment variable; 0 has every operation launched by itself."""

WARM_UP = 3
"""Steps of a kind that are taken as they are before one is recorded: libraries choose their algorithms in them, and
optimizers make their state."""

KINDS = 4
"""Kinds of steps that are recorded: with and without a lazy penalty, for instance. Where there are more, as while a
weight is ramped up, further ones are launched operation by operation."""


class Recorder(Protocol):
    """Records what a function launches, and replays it."""

    def aside(self) -> AbstractContextManager[None]:
        """Return the context that a function is warmed up in."""

    def watching(self) -> AbstractContextManager[list[str]]:
        """Return a context that gives a list of the places in it that wait for the device."""

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Call a function without having its work done; returns its result, and what does the work, any time."""


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory, on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Yield a list that ends up with what waits for the device in this context, which a graph cannot."""
        found: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for warning in caught:
            if "synchronizing CUDA operation" in str(warning.message):
                found.append(f"{warning.filename}, line {warning.lineno}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run on the stream that is recorded from, in order with everything else."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """See :class:`Recorder`. Other threads, such as the one that pins batches, go on with their work meanwhile."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                result = function()
        finally:
            torch.cuda.set_stream(current)  # where recording fails, torch leaves its own
        self._pool = self._pool or graph.pool()
        return result, graph.replay


@dataclass
class _Recording:
    """One kind of step: its work, where that leaves gradients, and the updates from there."""

    replay: Callable[[], None]
    result: Gradients
    gradients: dict[torch.nn.Parameter, torch.Tensor]
    places: list[int]
    update: Callable[[], None] | None = None
    rates: list[_Rate] = field(default_factory=list)


@dataclass
class _Rate:
    """A learning rate that lies on the device, where a recorded update reads it."""

    group: dict[str, Any]
    tensor: torch.Tensor
    value: float

    def follow(self) -> None:
        """Take over what a schedule has set since."""
        if self.group["lr"] != self.value:
            self.value = self.group["lr"]
            self.tensor.fill_(self.value)


class GraphedStep(Step):
    """A step whose work is launched at once, from the fourth of its kind on.

    What a plugin does in Python is done while a step is recorded, and not again: a part that draws from the global
    random generators of the CPU is noticed, and its steps are launched operation by operation, as are steps that cannot
    be recorded since they wait for the device in between. Random numbers of the device are drawn anew in every replay.

    Args:
        recorder: of CUDA graphs by default.
        others: see :class:`srzoo.step.Step`.
    """

    def __init__(self, *others: Any, recorder: Recorder | None = None) -> None:
        super().__init__(*others)
        self._recorder = recorder or CudaRecorder(self.accelerator.device)
        self._inputs: dict[str, torch.Tensor] = {}
        self._recordings: dict[Any, _Recording] = {}
        self._seen: Counter[Any] = Counter()
        self._current: _Recording | None = None
        self._refused = False
        self._updates_refused = False

    def gradients(
        self, batch: Mapping[str, torch.Tensor], step: int, *, train_generator: bool, measure: bool
    ) -> Gradients:
        """See :meth:`srzoo.step.Step.gradients`; recorded steps always measure."""
        kind = (train_generator, self.parts.task.kind_of(step))
        self._current = self._recordings.get(kind)
        if self._current is not None and self._current.places != self._places():
            self._recordings.clear()  # something has moved weights; what is recorded works on where they were
            self._seen.clear()
            self._current = None
        if self._current is None and self._is_due(kind):
            self._current = self._record(kind, batch, step)
        if self._current is None:
            return self._warm_up(kind, batch, step, train_generator, measure)
        for key, images in batch.items():
            self._inputs[key].copy_(images, non_blocking=True)
        self._current.replay()
        for parameter in self._parameters():
            parameter.grad = self._current.gradients.get(parameter)
        return self._current.result

    def _warm_up(
        self, kind: Any, batch: Mapping[str, torch.Tensor], step: int, train_generator: bool, measure: bool
    ) -> Gradients:
        """Take a step as it is, and see whether one like it can be recorded."""
        numbers = _numbers_of_the_host()
        is_last = not self._refused and self._seen[kind] == WARM_UP  # what is done but once is done by then
        with self._recorder.aside(), self._recorder.watching() if is_last else nullcontext([]) as waits:
            result = super().gradients(batch, step, train_generator=train_generator, measure=measure)
        if not self._refused and _numbers_of_the_host() != numbers:
            self._refuse("a part of it draws random numbers on the CPU, which would be the same in every step")
        elif waits:
            self._refuse(f"it waits for the device in {waits[0]}, for a value of a tensor or to copy one from the CPU")
        return result

    def update(self, train_generator: bool) -> None:
        """See :meth:`srzoo.step.Step.update`."""
        recording = self._current
        if recording is not None and recording.update is not None:
            for rate in recording.rates:
                rate.follow()
            recording.update()
        else:
            with self._recorder.aside():
                super().update(train_generator)
            if recording is not None:
                self._record_update(recording, train_generator)

    def _is_due(self, kind: Any) -> bool:
        if self._refused or len(self._recordings) == KINDS:
            return False
        if len(self._seen) > 64:  # of ramped weights, which are never seen again
            self._seen.clear()
        self._seen[kind] += 1
        return self._seen[kind] > WARM_UP

    def _record(self, kind: Any, batch: Mapping[str, torch.Tensor], step: int) -> _Recording | None:
        if not self._inputs:
            self._inputs = {key: torch.empty_like(images) for key, images in batch.items()}
        optimizers = self.parts.optimizers(with_generator=True)
        for _, optimizer, _ in optimizers:
            optimizer.zero_grad(set_to_none=True)
        try:
            result, replay = self._recorder.record(
                lambda: Step.gradients(self, self._inputs, step, train_generator=kind[0], measure=True)
            )
        except FAULTS as error:  # of a plugin or CUDA; what is no matter of recording is raised by the next step
            self._refuse(describe_exception(error))
            return None
        gradients = {parameter: parameter.grad for parameter in self._parameters() if parameter.grad is not None}
        self._recordings[kind] = _Recording(replay, result, gradients, self._places())
        return self._recordings[kind]

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for _, _, network in self.parts.optimizers(with_generator=True):
            yield from network.parameters()

    def _places(self) -> list[int]:
        """Return where weights and buffers lie."""
        networks = [network for _, _, network in self.parts.optimizers(with_generator=True)]
        return [t.data_ptr() for network in networks for t in (*network.parameters(), *network.buffers())]

    def _record_update(self, recording: _Recording, train_generator: bool) -> None:
        """Record the optimizers' steps on a recording's gradients, if they can read their rates from the device."""
        optimizers = [optimizer for _, optimizer, _ in self.parts.optimizers(train_generator)]
        if self._refused or self._updates_refused or not all(_reads_rates(optimizer) for optimizer in optimizers):
            return
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        device = self.accelerator.device

        def update() -> None:
            for optimizer in optimizers:
                optimizer.step()

        rates = [_Rate(group, torch.tensor(group["lr"], device=device), group["lr"]) for group in groups]
        for rate in rates:
            rate.group.update(lr=rate.tensor, capturable=True)
        for optimizer in optimizers:
            _count_on_the_device(optimizer)
        try:
            _, recording.update = self._recorder.record(update)
        except FAULTS as error:
            self._updates_refused = True  # the gradients, which are most of the work, stay recorded
            _warn_of_launches("updates", describe_exception(error))
        finally:
            for rate in rates:
                rate.group.update(lr=rate.value, capturable=False)
        recording.rates = rates

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._recordings.clear()
        self._current = None
        _warn_of_launches("training steps", reason)


def _warn_of_launches(what: str, reason: str) -> None:
    warnings.warn(
        f"{what} are launched operation by operation, which is slower: {reason}. "
        f"{SWITCH}=0 has it so without this warning.",
        RecipeWarning,
        stacklevel=7,
    )


def step_of(
    parts: Parts, recipe: Training, clip: float | None, accelerator: Accelerator, scaler: torch.amp.GradScaler
) -> Step:
    """Return how a stage takes its steps: recorded on a CUDA device of one process' own, else as they are.

    Steps are not recorded in fp16, whose scaler leaves some out, nor of compiled generators, nor where two runs have to
    agree in every bit: a recorded update reads its learning rate in float32, and which updates are recorded depends on
    where a run was resumed.
    """
    recorded = (
        accelerator.device.type == "cuda"
        and accelerator.num_processes == 1
        and not scaler.is_enabled()
        and not recipe.compile
        and not recipe.deterministic
        and os.environ.get(SWITCH, "1") != "0"
    )
    return (GraphedStep if recorded else Step)(parts, recipe, clip, accelerator, scaler)


def _reads_rates(optimizer: Any) -> bool:
    groups: Sequence[dict[str, Any]] = optimizer.param_groups
    if type(optimizer) is Muon:  # whose dozens of small products a matrix are most of a step if launched one by one
        return all("capturable" in group for group in groups)  # of timm's newer releases
    return type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) and all(group.get("fused") for group in groups)


def _count_on_the_device(optimizer: torch.optim.Optimizer) -> None:
    """Move the numbers of the steps taken, which are on the CPU until updates are recorded, to their parameters."""
    for parameter, state in optimizer.state.items():
        if isinstance(count := state.get("step"), torch.Tensor):
            state["step"] = count.to(parameter.device)


def _numbers_of_the_host() -> tuple[Any, ...]:
    """Return the state of the CPU's random generators."""
    _, keys, position, *_ = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(keys).tobytes(), position, torch.get_rng_state().numpy().tobytes()
