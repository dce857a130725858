"""What a generator costs: parameters and multiply-adds, counted once and remembered."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from .composition import composition_digest
from .recipe import Entry

HR_SIZE = (720, 1280)
"""Height and width of the output that multiply-adds are stated for, as in the field's tables."""


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass.

    Attributes:
        parameters: trainable and fixed weights, buffers left out.
        multiply_adds: for one image of ``HR_SIZE``, counted by torch.
    """

    parameters: int
    multiply_adds: int


def remembered_cost(entry: Entry) -> Cost | None:
    """Return the cost of a composition if it was counted before on this machine; needs no torch."""
    try:
        found = json.loads(_cache_file(entry).read_text())
        return Cost(int(found["parameters"]), int(found["multiply_adds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cost_of(entry: Entry) -> Cost:
    """Return the cost of an entry's generator, counting it without memory or arithmetic if it is not known yet.

    Raises:
        CompositionError: the entry does not compose.
    """
    cost = remembered_cost(entry)
    if cost is not None:
        return cost
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from .compose import build_generator

    with torch.device("meta"), torch.no_grad():
        generator = build_generator(entry).eval()
        height, width = (side // entry.scale for side in HR_SIZE)
        with FlopCounterMode(display=False) as counter:
            generator(torch.empty(1, 3, height, width))
    cost = Cost(sum(p.numel() for p in generator.parameters()), counter.get_total_flops() // 2)
    _remember(entry, cost)
    return cost


def _remember(entry: Entry, cost: Cost) -> None:
    path = _cache_file(entry)
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(cost)))
        os.replace(temporary, path)
    except OSError:  # a cache that cannot be written is no reason to fail
        temporary.unlink(missing_ok=True)


def _cache_file(entry: Entry) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "srzoo" / "costs" / f"{composition_digest(entry)[:32]}.json"
