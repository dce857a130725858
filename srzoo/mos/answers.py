"""Ratings as arrays: what every rater said about every version of every image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .plan import TRIAL
from .progress import consistency
from .ratings import Rater, Rating
from .study import Study

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grades:
    """Answers of a rating study; repeats and examples are left out.

    Attributes:
        raters: numbers, from 1, of those who answered anything.
        values: (raters, images, versions), 1 to 5; NaN where a rater was not asked or did not get so far.
        repeats: share of each rater's repeats within one grade of the first answer; NaN without any.
    """

    raters: tuple[int, ...]
    values: FloatArray
    repeats: FloatArray

    def of(self, raters: Sequence[bool]) -> Grades:
        """Return the answers of some raters, by a flag for each."""
        chosen = np.asarray(raters, dtype=bool)
        return Grades(_kept(self.raters, raters), self.values[chosen], self.repeats[chosen])


@dataclass(frozen=True)
class Choice:
    """One answer to a pair: a rater (index), an image, and the versions that won and lost."""

    rater: int
    image: int
    winner: int
    loser: int


@dataclass(frozen=True)
class Choices:
    """Answers of a pair study; repeats and examples are left out.

    Attributes:
        raters, repeats: as in :class:`Grades`.
        left: share of each rater's answers that were for the left one.
    """

    raters: tuple[int, ...]
    values: tuple[Choice, ...]
    repeats: FloatArray
    left: FloatArray

    def of(self, raters: Sequence[bool]) -> Choices:
        """Return the answers of some raters, by a flag for each."""
        chosen = np.asarray(raters, dtype=bool)
        new = {old: index for index, old in enumerate(np.flatnonzero(chosen).tolist())}
        values = tuple(replace(choice, rater=new[choice.rater]) for choice in self.values if choice.rater in new)
        return Choices(_kept(self.raters, raters), values, self.repeats[chosen], self.left[chosen])


def read_grades(study: Study, raters: Iterable[Rater], ratings: Iterable[Rating]) -> Grades:
    """Return the answers that count of a rating study."""
    answered, own = _by_rater(raters, ratings)
    values = np.full((len(answered), len(study.images), len(study.versions)), np.nan)
    for index, rater in enumerate(answered):
        for rating in own[rater.id]:
            trial = rater.plan[rating.position]
            if trial.kind == TRIAL:
                values[index, trial.image, trial.versions[0]] = rating.value
    return Grades(tuple(rater.slot + 1 for rater in answered), values, _consistencies(answered, own))


def read_choices(study: Study, raters: Iterable[Rater], ratings: Iterable[Rating]) -> Choices:
    """Return the answers that count of a pair study."""
    answered, own = _by_rater(raters, ratings)
    values, left = [], []
    for index, rater in enumerate(answered):
        trials = [(rater.plan[rating.position], rating.value) for rating in own[rater.id]]
        trials = [(trial, value) for trial, value in trials if trial.kind == TRIAL]
        left.append(np.mean([value == 1 for _, value in trials]))
        for trial, value in trials:
            winner, loser = trial.versions if value == 1 else trial.versions[::-1]
            values.append(Choice(index, trial.image, winner, loser))
    numbers = tuple(rater.slot + 1 for rater in answered)
    return Choices(numbers, tuple(values), _consistencies(answered, own), np.array(left, dtype=np.float64))


def _by_rater(raters: Iterable[Rater], ratings: Iterable[Rating]) -> tuple[list[Rater], dict[int, list[Rating]]]:
    """Return the raters who answered a trial, and their answers."""
    own: dict[int, list[Rating]] = {}
    for rating in ratings:
        own.setdefault(rating.rater, []).append(rating)
    answered = [rater for rater in raters if any(rater.plan[r.position].kind == TRIAL for r in own.get(rater.id, ()))]
    return answered, own


def _consistencies(raters: Sequence[Rater], own: dict[int, list[Rating]]) -> FloatArray:
    shares = [consistency(rater, own[rater.id]) for rater in raters]
    return np.array([np.nan if share is None else share for share in shares], dtype=np.float64)


def _kept(numbers: Sequence[int], raters: Sequence[bool]) -> tuple[int, ...]:
    return tuple(number for number, chosen in zip(numbers, raters, strict=True) if chosen)
