"""What models take on a device: time, memory, parameters and multiply-adds, measured side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch

from .costs import cost_of, count
from .errors import SrzooError
from .inference import device_name, run_generator
from .latency import measure_latencies, measure_peak_memory
from .pretrained import Model
from .ready import generator_spec
from .store import CostRow, Subject


def measure_costs(
    asked: Mapping[str, tuple[Subject, Model]], size: int, device: torch.device
) -> tuple[dict[str, CostRow], dict[str, str]]:
    """Measure models at an input size; those of one composition, whose weights alone differ, once for all.

    Args:
        asked: label to the model, prepared for the device, and what it is known by.
        size: side of the square low-resolution input in pixels.

    Returns:
        Label to what the model costs, and label to the reason where it failed.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, (subject, _) in asked.items():
        alike.setdefault((subject.configuration, subject.precision), []).append(name)
    passes = [_Pass(asked[members[0]][1], device, size) for members in alike.values()]
    latencies = measure_latencies(passes, device)
    costs: dict[str, CostRow] = {}
    failed: dict[str, str] = {}
    for members, call, latency in zip(alike.values(), passes, latencies, strict=True):
        peak = measure_peak_memory(call, device)
        if call.problem:
            failed |= dict.fromkeys(members, call.problem)
            continue
        # what was built from a file alone cannot be built again for its cost to be looked up
        is_file = generator_spec(call.model.entry).reads
        multiply_adds: int | None = None
        with contextlib.suppress(SrzooError):  # where it cannot be counted, it has been timed all the same
            counted = count(call.model.generator, call.model.entry.scale) if is_file else cost_of(call.model.entry)
            multiply_adds = counted.multiply_adds
        parameters = sum(parameter.numel() for parameter in call.model.generator.parameters())
        for name in members:
            subject, _ = asked[name]
            costs[name] = CostRow(
                subject.entry,
                size,
                latency.median,
                latency.quartile_low,
                latency.quartile_high,
                peak,
                parameters,
                multiply_adds,
                subject.precision,
                device_name(device),
            )
    return {name: costs[name] for name in asked if name in costs}, failed


class _Pass:
    """A forward pass of a model on one square low-resolution input; one that fails is not tried again.

    Attributes:
        problem: what it failed with, or an empty string.
    """

    def __init__(self, model: Model, device: torch.device, size: int) -> None:
        self.model, self.problem = model, ""
        self._image = torch.rand(1, 3, size, size, device=device)

    def __call__(self) -> None:
        if self.problem:
            return
        try:
            run_generator(self.model.generator, self._image, self.model.entry.scale, self.model.size_multiple)
        except SrzooError as error:
            self.problem = str(error)
