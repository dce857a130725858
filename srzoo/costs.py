"""What a generator costs: parameters and multiply-adds, counted once and remembered."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .composition import composition_digest
from .entry import Entry
from .errors import PluginError, SrzooError
from .files import replacing
from .plugins import FAULTS

if TYPE_CHECKING:
    from torch import nn

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
    """Return the cost of what an entry computes, counting it if it is not known yet; see :func:`count`.

    Raises:
        CompositionError: the entry does not compose.
        PluginError: its network cannot be run.
    """
    cost = remembered_cost(entry)
    if cost is not None:
        return cost
    import torch

    from .compose import build_generator, output_network

    try:
        with torch.device("meta"):
            network = output_network(entry, build_generator(entry).eval())
        cost = count(network, entry.scale)
    except SrzooError:  # it looks at values, which there are none of
        cost = count(output_network(entry, build_generator(entry).eval()), entry.scale)
    _remember(entry, cost)
    return cost


def count(generator: nn.Module, scale: int) -> Cost:
    """Return the cost of a generator, counted without memory or arithmetic where it can be; it is left as it is.

    Raises:
        PluginError: it cannot be run.
    """
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parameters = sum(p.numel() for p in generator.parameters())
    height, width = (side // scale for side in HR_SIZE)
    try:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            copy.deepcopy(generator).to("meta").eval()(torch.empty(1, 3, height, width))
        return Cost(parameters, counter.get_total_flops() // 2)
    except FAULTS:  # it looks at values, which there are none of
        pass
    parameter = next(generator.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    small = 64
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            generator(torch.rand(1, 3, small, small, device=device))
    except FAULTS as error:
        raise PluginError(f"the generator failed on an input of {small}x{small}: {error}.") from error
    return Cost(parameters, counter.get_total_flops() // 2 * height * width // small**2)


def _remember(entry: Entry, cost: Cost) -> None:
    path = _cache_file(entry)
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(cost)))


def _cache_file(entry: Entry) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "srzoo" / "costs" / f"{composition_digest(entry)[:32]}.json"
