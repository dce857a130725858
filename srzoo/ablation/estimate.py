"""What a training step takes here, and from that, before an ablation starts, how long it will train."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..compose import Term, build_discriminator, build_generator, build_terms
from ..composition import composition_digest
from ..entry import Entry
from ..files import replacing
from ..inference import REDUCED, best_device, device_name
from ..latency import measure_latencies, measure_peak_memory
from ..optim import precision_for
from ..teaching import teacher_of
from .plan import Run
from .results import StepCost

DISCRIMINATOR_PASSES = 7
"""Forward passes that a discriminator's step is worth: two batches forward, both backward at twice that, and one
backward to the generated images."""
REGULARISER_PASSES = 6
"""Of a penalty on the discriminator's gradient: forward, backward, and backward through the backward."""


class _Step:
    """A generator's forward and backward pass with a batch of its recipe, in the precision it trains in."""

    def __init__(self, entry: Entry) -> None:
        assert entry.training is not None
        recipe = entry.training
        self.device = best_device()
        self.generator: Any = build_generator(entry).to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = recipe.patch_size // entry.scale
        images = torch.rand(max(1, recipe.batch_size // recipe.accumulate), 3, side, side, device=self.device)
        self.images = images.to(memory_format=torch.channels_last)
        self.repeats = recipe.accumulate
        self.precision = precision_for(recipe.precision, self.device)

    def __call__(self) -> None:
        kind = REDUCED.get(self.precision)
        with nullcontext() if kind is None else torch.autocast(self.device.type, kind):
            loss = self.generator(self.images).float().square().mean()
        loss.backward()
        self.generator.zero_grad(set_to_none=True)


def measure_steps(entries: Sequence[Entry], budget: float = 2.0) -> list[StepCost]:
    """Measure a generator's forward and backward pass with a batch of its recipe, of several entries in turn.

    Args:
        budget: seconds for each, after which no further repeat is started.
    """
    steps = [_Step(entry) for entry in entries]
    latencies = measure_latencies(steps, best_device(), budget)
    return [
        StepCost(
            latency.median * step.repeats,
            latency.quartile_low * step.repeats,
            latency.quartile_high * step.repeats,
            measure_peak_memory(step, step.device),
            step.precision,
        )
        for step, latency in zip(steps, latencies, strict=True)
    ]


class StepCosts:
    """Measured training steps, remembered in a file of the ablation's folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _known(self) -> dict[str, dict[str, StepCost]]:
        try:
            known = json.loads(self._path.read_text())
            return {how: {key: StepCost(**cost) for key, cost in known[how].items()} for how in ("alone", "in turn")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or of an older version
            return {"alone": {}, "in turn": {}}

    def alone(self, entry: Entry) -> StepCost:
        """Return about what a step takes here, measured whatever else runs at the moment; good for an estimate."""
        key = _decisive(entry)
        found = self._known()["alone"].get(key)
        if found is None:
            (found,) = measure_steps([entry])
            self._write("alone", {**self._known()["alone"], key: found})  # others measured meanwhile
        return found

    def in_turn(self, entries: Mapping[str, Entry]) -> dict[str, StepCost]:
        """Return what the steps of entries take here, measured side by side so that they can be compared.

        Unless all are known from one such measurement, all are measured.
        """
        different = {_decisive(entry): entry for entry in entries.values()}
        found = self._known()["in turn"]
        if not different.keys() <= found.keys():
            found = dict(zip(different, measure_steps(list(different.values())), strict=True))
            self._write("in turn", found)
        return {label: found[_decisive(entry)] for label, entry in entries.items()}

    def _write(self, how: str, costs: Mapping[str, StepCost]) -> None:
        known = self._known() | {how: dict(costs)}
        content = {how: {key: asdict(cost) for key, cost in costs.items()} for how, costs in known.items()}
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def _decisive(entry: Entry) -> str:
    """Return all that a step's cost depends on in one line."""
    recipe = entry.training
    assert recipe is not None
    decisive = recipe.patch_size, recipe.batch_size, recipe.accumulate, recipe.precision
    here = device_name(best_device()), torch.__version__
    return f"{composition_digest(entry)[:16]} {' '.join(map(str, (*decisive, *here)))}"


def step_seconds(run: Run, terms: Sequence[Term], generator: StepCost) -> float:
    """Return what a step of a run will take: the generator as measured, the other networks by their arithmetic."""
    recipe = run.entry.training
    assert recipe is not None
    size = recipe.patch_size
    with torch.device("meta"), torch.no_grad():
        own = build_generator(run.entry).eval()
        side = size // run.entry.scale
        arithmetic = 3 * _flops(lambda: own(torch.empty(1, 3, side, side)))
    others = 0.0
    for term in terms:
        if term.role == "perceptual":
            with torch.no_grad():
                image = torch.zeros(1, 3, size, size)
                others += 1.5 * _flops(lambda term=term, image=image: term.loss(image, image))  # type: ignore[misc]
        elif term.role in ("adversarial", "regulariser"):
            with torch.device("meta"), torch.no_grad():
                discriminator = build_discriminator(run.entry, recipe.stages[run.stage]).eval()
                forward = _flops(lambda d=discriminator: d(torch.empty(1, 3, size, size)))  # type: ignore[misc]
            passes = DISCRIMINATOR_PASSES if term.role == "adversarial" else REGULARISER_PASSES / term.config.every
            others += passes * forward
    teacher = teacher_of(run.entry, torch.device("cpu"), nullcontext)
    if teacher is not None:
        others += _flops(lambda: teacher.added_to({"lr": torch.zeros(1, 3, side, side)}, 0))
    return generator.milliseconds / 1000 * (1 + others / arithmetic)


def _flops(call: Any) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def terms_of(run: Run) -> list[Term]:
    """Return the loss terms of a run; raises if a backbone is missing."""
    return build_terms(run.entry, run.stage)
