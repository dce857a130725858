"""Which of the times that runs measured may be compared: those of one input size, on one device. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .store import CostRow


@dataclass(frozen=True)
class Timing:
    """Costs of one input size and device, and the others that stand beside them.

    Attributes:
        size: side of the square low-resolution input; 0 where nothing was measured.
        device: in words, for a CPU with the number of threads.
        compared: label to its cost there; one that was measured elsewhere only has no time.
        measured: label to its costs at every input size on that device, the compared one first.
    """

    size: int = 0
    device: str = ""
    compared: dict[str, CostRow] = field(default_factory=dict)
    measured: dict[str, list[CostRow]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """In words what was timed, where, and for whom it was not; an empty text where nothing was."""
        if not self.size:
            return ""
        lacking = [label for label, cost in self.compared.items() if math.isnan(cost.milliseconds)]
        others = f"; not measured so: {', '.join(lacking)}" if lacking else ""
        return f"ms: median for one {self.size}x{self.size} input, {self.device}{others}"


def compared_times(costs: Mapping[str, Sequence[CostRow]]) -> Timing:
    """Return the costs that may be compared: at the size and on the device of the newest one.

    Args:
        costs: label to all that is known of it, older ones of a size and device before newer ones.
    """
    every = [cost for found in costs.values() for cost in found]
    if not every:
        return Timing()
    newest = max(reversed(every), key=lambda cost: cost.time)  # of one second, what was read last
    timing = Timing(newest.size, newest.device)
    for label, found in costs.items():
        own = {cost.size: cost for cost in found if cost.device == newest.device}
        unknown = replace(found[-1], milliseconds=math.nan, quartile_low=math.nan, quartile_high=math.nan)
        timing.compared[label] = own.get(newest.size, unknown)
        if own:
            timing.measured[label] = sorted(own.values(), key=lambda cost: (cost.size != newest.size, cost.size))
    return timing
