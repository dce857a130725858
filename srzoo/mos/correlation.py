"""How well each automatic metric agrees with what people said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..report import Row
from ..statistics import RANDOM_SEED
from .analysis import expanded_interval
from .answers import FloatArray

RESAMPLES = 999
MIN_POINTS = 4
"""With fewer, a rank correlation says nothing."""

Opinions = Mapping[tuple[str, str, str], float]
"""(version, dataset, image) to the mean opinion."""


@dataclass(frozen=True)
class Correlation:
    """One metric on one dataset, against the opinion of people.

    Attributes:
        level: ``versions``: the means of the versions over images; ``images``: every version of every image.
        spearman, kendall: rank correlations (Kendall's tau-b); NaN where undefined. A metric of which lower is better
            agrees perfectly at -1.
        low, high: bootstrap interval of Spearman's, by resampling images; NaN where undefined.
        points: how many.
    """

    metric: str
    dataset: str
    level: str
    higher_is_better: bool
    spearman: float
    kendall: float
    low: float
    high: float
    points: int


def correlations(opinions: Opinions, rows: Sequence[Row], directions: Mapping[str, bool]) -> list[Correlation]:
    """Return the correlation of every metric with the opinion, by dataset, over what both have.

    Args:
        opinions: NaN where nobody was asked.
        rows: automatic scores of the same outputs.
        directions: metric to whether higher is better.
    """
    found = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        for metric, up in directions.items():
            table = _table(opinions, [row for row in rows if row.dataset == dataset and row.metric == metric])
            if table is None:
                continue
            for level in ("versions", "images"):
                spearman, kendall, points = _coefficients(*_points(*table, level))
                low, high = _interval(table, level)
                found.append(Correlation(metric, dataset, level, up, spearman, kendall, low, high, points))
    return found


def _table(opinions: Opinions, rows: Sequence[Row]) -> tuple[FloatArray, FloatArray] | None:
    """Return opinions and scores, (images, versions) each; NaN in both where one is missing."""
    scores = {(row.entry, row.dataset, row.image): row.value for row in rows if math.isfinite(row.value)}
    both = [key for key in scores if not math.isnan(opinions.get(key, math.nan))]
    versions = sorted({key[0] for key in both})
    images = sorted({key[2] for key in both})
    if not both:
        return None
    people, metric = np.full((2, len(images), len(versions)), np.nan)
    for key in both:
        place = images.index(key[2]), versions.index(key[0])
        people[place], metric[place] = opinions[key], scores[key]
    return people, metric


def _points(people: FloatArray, metric: FloatArray, level: str) -> tuple[FloatArray, FloatArray]:
    if level == "versions":
        whole = ~np.isnan(people).any(axis=0)  # means over different images would not be comparable
        return people[:, whole].mean(axis=0), metric[:, whole].mean(axis=0)
    given = ~np.isnan(people)
    return people[given], metric[given]


def _coefficients(people: FloatArray, metric: FloatArray) -> tuple[float, float, int]:
    from scipy import stats

    if people.size < MIN_POINTS or np.ptp(people) == 0 or np.ptp(metric) == 0:
        return math.nan, math.nan, people.size
    return (
        float(stats.spearmanr(people, metric).statistic),
        float(stats.kendalltau(people, metric).statistic),
        people.size,
    )


def _interval(table: tuple[FloatArray, FloatArray], level: str) -> tuple[float, float]:
    people, metric = table
    images = people.shape[0]
    if images < 2:
        return math.nan, math.nan
    random = np.random.default_rng(RANDOM_SEED)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, images, images)
        drawn.append(_spearman(*_points(people[chosen], metric[chosen], level)))
    return expanded_interval(np.array(drawn), images)


def _spearman(first: FloatArray, second: FloatArray) -> float:
    from scipy.stats import rankdata

    if first.size < MIN_POINTS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
