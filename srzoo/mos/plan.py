"""In which order a rater sees what: random, balanced over raters, the same whenever it is asked for.

The alternatives of an image (its versions, or its pairs of versions) and the images form a cyclic Latin square: a
rater's session is a row of *blocks*, in each of which every alternative appears with another image (or, where there
are more alternatives than images, every image with another alternative). From rater to rater the blocks rotate, so
that over as many raters as there are blocks every stimulus stands in each of them once: neither fatigue nor practice
favours one. Which shifts the square has, and the order within a block, are random.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from .study import Study

MIN_GAP = 8
"""A repeat stands at least so many places after what it repeats, where the session is long enough."""

Kind = Literal["example", "trial", "repeat"]
EXAMPLE, TRIAL, REPEAT = "example", "trial", "repeat"


@dataclass(frozen=True)
class Trial:
    """One thing to answer.

    Attributes:
        kind: ``example`` (calibration), ``trial``, or ``repeat`` of an earlier trial.
        image: index into the study's images, or of an example into its calibration images.
        versions: index of the version shown, or of the two, left first; of an example 0 is the lowest, 1 the highest.
    """

    kind: Kind
    image: int
    versions: tuple[int, ...]

    @property
    def expected(self) -> int | None:
        """What an example is to teach: 1 or 5, or the side (1 or 2) of the better one; None for all others."""
        if self.kind != EXAMPLE:
            return None
        if len(self.versions) == 2:
            return 1 if self.versions[0] == 1 else 2
        return 5 if self.versions[0] == 1 else 1


def make_plan(study: Study, slot: int) -> list[Trial]:
    """Return the session of the rater with this number, counted from 0: examples first, then trials and repeats."""
    random = Random(f"{study.seed} rater {slot}")
    trials = _trials(study, slot, random)
    repeated = _with_repeats(trials, min(study.repeats, len(trials)), random)
    return [*_examples(study, random), *repeated]


def alternatives(study: Study) -> list[tuple[int, ...]]:
    """Return what is asked about each image: its versions, or its pairs of versions."""
    if study.mode == "pair":
        return list(itertools.combinations(study.rated, 2))
    return [(version,) for version in study.rated]


def session_length(study: Study) -> int:
    """Return how many answers are asked of a rater, examples included."""
    return len(make_plan(study, 0))


def _trials(study: Study, slot: int, random: Random) -> list[Trial]:
    units = alternatives(study)
    images = len(study.images)
    blocks = max(images, len(units))
    cycle, place = divmod(slot, blocks)
    shared = Random(f"{study.seed} cycle {cycle}")  # by all raters who together see everything everywhere once
    shifts = shared.sample(range(blocks), min(images, len(units)))
    rotation = shared.sample(range(blocks), blocks)[place]
    found: list[Trial] = []
    for step in range(blocks):
        block = (rotation + step) % blocks
        if len(units) <= images:
            cells = [((block + shift) % blocks, unit) for unit, shift in enumerate(shifts)]
        else:
            cells = [(image, (block + shift) % blocks) for image, shift in enumerate(shifts)]
        random.shuffle(cells)
        if found and len(cells) > 1 and cells[0][0] == found[-1].image:  # no image directly after itself
            cells.append(cells.pop(0))
        found += [Trial("trial", image, _sides(study, slot, image, units[unit])) for image, unit in cells]
    return found if study.trials is None else found[: study.trials]


def _sides(study: Study, slot: int, image: int, unit: tuple[int, ...]) -> tuple[int, ...]:
    """Return a pair in the order shown: of two raters in a row each sees it the other way round."""
    if len(unit) == 1:
        return unit
    first = Random(f"{study.seed} sides {slot // 2} {image} {unit}").randrange(2)
    return unit if (first + slot) % 2 else unit[::-1]


def _with_repeats(trials: Sequence[Trial], count: int, random: Random) -> list[Trial]:
    """Return the trials with some of the first shown again later; of a pair, with its sides exchanged."""
    found = list(trials)
    early = max(1, len(trials) - MIN_GAP)
    for original in random.sample(list(trials[:early]), min(count, early)):
        repeat = Trial("repeat", original.image, original.versions[::-1])
        least = min(found.index(original) + MIN_GAP, len(found))
        places = list(range(least, len(found) + 1))
        random.shuffle(places)
        free = [p for p in places if original.image not in {t.image for t in found[max(0, p - 1) : p + 1]}]
        found.insert((free or places)[0], repeat)
    return found


def _examples(study: Study, random: Random) -> list[Trial]:
    if not study.calibration:
        return []
    kinds = [(0,), (1,)] if study.mode == "rating" else [(0, 1), (1, 0)]
    found = [Trial("example", index // 2 % len(study.calibration), kinds[index % 2]) for index in range(study.examples)]
    random.shuffle(found)
    return found
