"""What a training step takes here, and from that, before an ablation starts, how long it will train."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from ..inference import REDUCED, best_device
from ..latency import measure_latency, measure_peak_memory
from ..optim import precision_for
from ..teaching import teacher_of
from .plan import Run
from .results import StepCost

DISCRIMINATOR_PASSES = 7
"""Forward passes that a discriminator's step is worth: two batches forward, both backward at twice that, and one
backward to the generated images."""
REGULARISER_PASSES = 6
"""Of a penalty on the discriminator's gradient: forward, backward, and backward through the backward."""


def measure_step(entry: Entry, budget: float = 2.0) -> StepCost:
    """Measure a generator's forward and backward pass with a batch of its recipe, in the precision it trains in.

    Args:
        budget: seconds after which no further repeat is started.
    """
    assert entry.training is not None
    device, recipe = best_device(), entry.training
    generator: Any = build_generator(entry).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    side = recipe.patch_size // entry.scale
    images = torch.rand(max(1, recipe.batch_size // recipe.accumulate), 3, side, side, device=device)
    images = images.to(memory_format=torch.channels_last)
    precision = precision_for(recipe.precision, device)
    kind = REDUCED.get(precision)

    def step() -> None:
        generator.zero_grad(set_to_none=True)
        with nullcontext() if kind is None else torch.autocast(device.type, kind):
            loss = generator(images).float().square().mean()
        loss.backward()

    latency = measure_latency(step, device, budget)
    generator.zero_grad(set_to_none=True)
    return StepCost(latency.median * recipe.accumulate, measure_peak_memory(step, device), precision)


class StepCosts:
    """Measured training steps, remembered in a file of the ablation's folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            self._known = {}

    def of(self, entry: Entry) -> StepCost:
        """Return what a step of an entry's generator takes here, measuring it if that is not known."""
        assert entry.training is not None
        device, recipe = best_device(), entry.training
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        )
        decisive = (recipe.patch_size, recipe.batch_size, recipe.accumulate, recipe.precision, name, torch.__version__)
        key = f"{composition_digest(entry)[:16]} {' '.join(map(str, decisive))}"
        if key not in self._known:
            self._known[key] = asdict(measure_step(entry))
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(self._known, indent=1) + "\n")
        return StepCost(**self._known[key])


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
