"""What may be concluded from choices between two: Bradley-Terry scores with intervals, agreement, screening, tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .analysis import CHANCE, MIN_ANSWERS, Difference, alpha, expanded_interval, rater_weights, tested
from .answers import Choices, FloatArray

PRIOR = 0.1
"""Wins that every version has against every other beforehand, so that one which always wins has a finite score."""
RESAMPLES = 999
"""Of the bootstrap; each takes a fit."""


@dataclass(frozen=True)
class Preference:
    """The standing of one version.

    Attributes:
        score: Bradley-Terry's, natural logarithm, the mean of all being 0: a version wins against another with the
            probability 1 / (1 + exp(other - score)).
        low, high: bootstrap interval over raters; NaN with fewer than two.
        share: of its comparisons that it won; NaN without any.
        answers: in how many comparisons it was.
    """

    score: float
    low: float
    high: float
    share: float
    answers: int


@dataclass(frozen=True)
class PairScreening:
    """How one rater's choices stand to those of the others.

    Attributes:
        rater: number from 1.
        agreed: share of choices that were those of most of the others, where they were not divided equally.
        answers: how many were compared, with at least two others each.
        p: probability of agreeing so much by chance, clear pairs counting for more.
        p_typical: probability of agreeing so little where one chooses as the others do.
        left: share of choices for the left one.
        repeats: share of repeats answered alike.
    """

    rater: int
    agreed: float
    answers: int
    p: float
    p_typical: float
    left: float
    repeats: float

    @property
    def rejected(self) -> bool:
        """Whether agreement is not above chance, and below that of the others, both at the level of ``CHANCE``.

        The first alone would reject honest raters where versions hardly differ. Few answers are not judged.
        """
        return self.answers >= MIN_ANSWERS and self.p >= CHANCE and self.p_typical < CHANCE

    @property
    def reason(self) -> str:
        """Why the rater is rejected, or an empty text."""
        return "agrees with the others by chance only" if self.rejected else ""


def preferences(choices: Choices, images: Sequence[int], versions: int) -> list[Preference]:
    """Return the Bradley-Terry score of each version (Biometrika 39, 1952) over some images.

    Fitted by choix (I-LSR, Maystre and Grossglauser, NeurIPS 2015). The interval resamples raters with all their
    choices, and is expanded as in :func:`srzoo.mos.analysis.opinions`.
    """
    by_rater = wins_by_rater(choices, images, versions)
    total = by_rater.sum(axis=0)
    compared = [int(total[v].sum() + total[:, v].sum()) for v in range(versions)]
    asked = [v for v in range(versions) if compared[v]]
    scores = _fit(total, asked)
    raters = by_rater.shape[0]
    resampled = np.full((1, versions), np.nan)
    if raters > 1 and asked:
        weights = rater_weights(raters, RESAMPLES)
        resampled = np.stack([_fit(np.tensordot(weight, by_rater, 1), asked) for weight in weights])
    found = []
    for v in range(versions):
        low, high = expanded_interval(resampled[:, v], raters)
        share = float(total[v].sum()) / compared[v] if compared[v] else math.nan
        found.append(Preference(float(scores[v]), low, high, share, compared[v]))
    return found


def wins_by_rater(choices: Choices, images: Sequence[int], versions: int) -> FloatArray:
    """Return how often each version won against each other, (raters, winner, loser)."""
    wins = np.zeros((len(choices.raters), versions, versions))
    wanted = set(images)
    for choice in choices.values:
        if choice.image in wanted:
            wins[choice.rater, choice.winner, choice.loser] += 1
    return wins


def _fit(wins: FloatArray, asked: Sequence[int]) -> FloatArray:
    import choix

    scores = np.full(wins.shape[0], np.nan)
    if len(asked) > 1:
        small = wins[np.ix_(asked, asked)] + PRIOR * (1 - np.eye(len(asked)))
        scores[list(asked)] = choix.ilsr_pairwise_dense(small)
        scores -= np.nanmean(scores)
    return scores


def differences(choices: Choices, images: Sequence[int], versions: Sequence[int]) -> list[Difference]:
    """Return for every two versions how far the first's share of wins is above one half, rater by rater."""
    wins = wins_by_rater(choices, images, max(versions, default=-1) + 1)
    pairs = list(combinations(versions, 2))
    by_rater = []
    for first, second in pairs:
        won, lost = wins[:, first, second], wins[:, second, first]
        seen = won + lost > 0
        by_rater.append(won[seen] / (won + lost)[seen] - 0.5)
    return tested(pairs, by_rater)


def image_shares(choices: Choices, images: int, versions: int) -> FloatArray:
    """Return the share of comparisons won, (images, versions); NaN where there is none."""
    won, all_of = np.zeros((images, versions)), np.zeros((images, versions))
    for choice in choices.values:
        won[choice.image, choice.winner] += 1
        all_of[choice.image, [choice.winner, choice.loser]] += 1
    return np.where(all_of > 0, won / np.maximum(all_of, 1), np.nan)


def agreement(choices: Choices) -> float:
    """Return Krippendorff's alpha, nominal, over all pairs of all images; NaN where undefined."""
    return alpha(_table(choices), "nominal")


def screen(choices: Choices) -> list[PairScreening]:
    """Return every rater's screening: whether choices go with those of the others more than a coin would.

    ITU-R BT.500's rule is made for grades, so this one is ours: each choice counts for or against by how clear the
    others are about the pair. The sum is compared with that of a coin, and with that of somebody who chooses as each of
    the others does (normal approximations, one-sided).
    """
    from scipy import stats

    table = _table(choices)
    found = []
    for index, number in enumerate(choices.raters):
        others = np.delete(table, index, axis=0)
        asked = np.sum(~np.isnan(others), axis=0)
        clarity = np.nansum(others, axis=0) / np.maximum(asked, 1) - 0.5  # from -0.5 to 0.5, 0 where divided equally
        clear = ~np.isnan(table[index]) & (asked > 1) & (np.abs(clarity) > 1e-9)
        own, weight = table[index, clear] - 0.5, clarity[clear]
        count = int(clear.sum())
        p = p_typical = math.nan
        if count:
            total, deviation = float(np.sum(own * weight)), 0.5 * float(np.linalg.norm(weight))
            p = float(stats.norm.sf(total / deviation))
            # The others' shares scatter, by which the sum of their squares alone would expect too much.
            scatter = (0.25 - weight**2) / (asked[clear] - 1)
            p_typical = float(stats.norm.cdf((total - np.sum(weight**2 - scatter)) / deviation))
        share = float(np.mean(own * weight > 0)) if count else math.nan
        left, repeats = float(choices.left[index]), float(choices.repeats[index])
        found.append(PairScreening(number, share, count, p, p_typical, left, repeats))
    return found


def _table(choices: Choices) -> FloatArray:
    """Return (raters, pairs of all images): 1 where the version of the lower index won, 0 where the other did."""
    units: dict[tuple[int, int, int], int] = {}
    for choice in choices.values:
        units.setdefault((choice.image, *sorted((choice.winner, choice.loser))), len(units))  # type: ignore[arg-type]
    table = np.full((len(choices.raters), len(units)), np.nan)
    for choice in choices.values:
        low, high = sorted((choice.winner, choice.loser))
        table[choice.rater, units[choice.image, low, high]] = choice.winner < choice.loser
    return table
