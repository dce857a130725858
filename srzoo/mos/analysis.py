"""What may be concluded from grades: opinion scores with intervals, agreement, screening, tests.

A mean opinion score is the mean over images of the mean over raters. What it is uncertain by is which people were
asked: raters differ in how they use the scale, so that the answers of one rater belong together. Intervals therefore
resample *raters*, with all their answers; the images are those of the data set.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..statistics import LEVEL, RANDOM_SEED, RESAMPLES, expanded_level, holm
from .answers import FloatArray, Grades

_EXACT = 13
"""Up to so many raters all 2^n signs are tried, as scipy does; with more it approximates by the normal distribution."""
MIN_ANSWERS = 10
"""With fewer, whether a rater's answers are related to those of the others is not judged."""
CHANCE = 0.01
"""Level of both tests that decide it."""


@dataclass(frozen=True)
class Opinion:
    """The opinion about one version.

    Attributes:
        mean: NaN where nobody was asked.
        low, high: 95 % bootstrap interval over raters; NaN with fewer than two.
        shares: of the answers, for each grade from 1 to 5.
        answers: how many there are.
    """

    mean: float
    low: float
    high: float
    shares: tuple[float, ...]
    answers: int


@dataclass(frozen=True)
class Difference:
    """Two versions, compared rater by rater.

    Attributes:
        first, second: indices of versions.
        mean: of ``first - second``, over raters.
        low, high: its bootstrap interval over raters.
        p: Wilcoxon's signed-rank test on the raters' differences, two-sided; None with fewer than
            :func:`raters_needed`.
        p_holm: adjusted by Holm's method for all pairs of the table.
    """

    first: int
    second: int
    mean: float
    low: float
    high: float
    p: float | None
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """The adjusted p value as text, or why there is none."""
        if self.p_holm is None:
            return "too few raters"
        return "p < 0.001" if self.p_holm < 0.001 else f"p = {self.p_holm:.3f}"

    @property
    def told_apart(self) -> bool:
        """Whether the test tells the two apart at ``LEVEL``."""
        return self.p_holm is not None and self.p_holm < LEVEL


@dataclass(frozen=True)
class Screening:
    """How one rater's answers stand to those of all.

    Attributes:
        rater: number from 1.
        above, below: answers beyond the limits of ITU-R BT.500 around the mean of all, P and Q there.
        answers: how many were counted.
        correlation: Spearman's, with the mean of the other raters over stimuli; NaN where it is undefined.
        p: probability of such a correlation by chance, one-sided; NaN with fewer than ``MIN_ANSWERS``.
        p_typical: probability of so small a correlation in somebody who is related to the others as the median rater
            is, one-sided; NaN where ``p`` is, or with fewer than two raters.
        repeats: share of repeats answered alike; NaN without any.
    """

    rater: int
    above: int
    below: int
    answers: int
    correlation: float
    p: float
    p_typical: float
    repeats: float

    @property
    def inconsistent(self) -> bool:
        """What ITU-R BT.500 rejects: many answers far from the mean, about as often above as below."""
        outside = self.above + self.below
        return outside > 0.05 * self.answers and abs(self.above - self.below) < 0.3 * outside

    @property
    def unrelated(self) -> bool:
        """Whether the answers go with those of somebody who does not look, and not with those of a typical rater.

        The first alone would say little of few answers, which cannot be told from chance whoever gave them.
        """
        return self.p >= CHANCE and self.p_typical < CHANCE

    @property
    def rejected(self) -> bool:
        """Whether either of the two holds."""
        return self.inconsistent or self.unrelated

    @property
    def reason(self) -> str:
        """Why the rater is rejected, or an empty text."""
        reasons = ["inconsistent (BT.500)"] if self.inconsistent else []
        return ", ".join([*reasons, "unrelated to the others"] if self.unrelated else reasons)


# --- scores -------------------------------------------------------------------------------------------------


def opinions(grades: Grades, images: Sequence[int]) -> list[Opinion]:
    """Return the opinion about each version over some images.

    The interval is the percentile interval at the level of :func:`srzoo.statistics.expanded_level`: a plain one is too
    narrow for few raters.
    """
    values = grades.values[:, list(images), :]
    resampled = _resampled_means(values)
    found = []
    for version in range(values.shape[2]):
        own = values[:, :, version]
        given = own[~np.isnan(own)]
        low, high = expanded_interval(resampled[:, version], len(grades.raters))
        counts = [int(np.sum(given == grade)) for grade in range(1, 6)]
        shares = tuple(count / given.size if given.size else 0.0 for count in counts)
        found.append(Opinion(_mean_of_means(own), low, high, shares, given.size))
    return found


def image_means(grades: Grades) -> FloatArray:
    """Return the mean over raters, (images, versions); NaN where nobody was asked."""
    return _nanmean(grades.values, axis=0)


def expanded_interval(resampled: FloatArray, samples: int) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled means of so many samples; see :func:`opinions`."""
    defined = resampled[~np.isnan(resampled)]
    if samples < 2 or not defined.size:
        return math.nan, math.nan
    tail = (1 - expanded_level(samples)) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def rater_weights(raters: int, resamples: int = RESAMPLES) -> npt.NDArray[np.int64]:
    """Return how often each rater occurs in each resample, (resamples, raters)."""
    random = np.random.default_rng(RANDOM_SEED)
    return random.multinomial(raters, np.full(raters, 1 / raters), size=resamples)


def _resampled_means(values: FloatArray) -> FloatArray:
    """Return the mean over images of the mean over raters in every resample, (resamples, versions)."""
    raters, images, versions = values.shape
    if not raters:
        return np.full((1, versions), np.nan)
    weights = rater_weights(raters).astype(np.float64)
    flat = values.reshape(raters, images * versions)
    given = ~np.isnan(flat)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ np.where(given, flat, 0.0)) / (weights @ given)
    return _nanmean(means.reshape(-1, images, versions), axis=1)


def _mean_of_means(values: FloatArray) -> float:
    """Return the mean over images of the mean over raters; values (raters, images)."""
    return float(_nanmean(_nanmean(values, axis=0), axis=0))


def _nanmean(values: FloatArray, axis: int) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean over nothing, which is NaN
        result: FloatArray = np.nanmean(values, axis=axis)
    return result


# --- tests --------------------------------------------------------------------------------------------------


def differences(grades: Grades, images: Sequence[int], versions: Sequence[int]) -> list[Difference]:
    """Return what separates every two versions: rater by rater, over the images that a rater saw both of."""
    values = grades.values[:, list(images), :]
    pairs = list(combinations(versions, 2))
    by_rater = [_nanmean(values[:, :, a] - values[:, :, b], axis=1) for a, b in pairs]
    return tested(pairs, [d[~np.isnan(d)] for d in by_rater])


def tested(pairs: Sequence[tuple[int, int]], by_rater: Sequence[FloatArray]) -> list[Difference]:
    """Return the differences with intervals and tests, given one value for each rater."""
    needed = raters_needed(len(pairs))
    p_values = [_signed_rank(values) if values.size >= needed else None for values in by_rater]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    found = []
    for (first, second), values, p in zip(pairs, by_rater, p_values, strict=True):
        low = high = mean = math.nan
        if values.size:
            mean = float(values.mean())
            low, high = expanded_interval(rater_weights(values.size) @ values / values.size, values.size)
        found.append(Difference(first, second, mean, low, high, p, None if p is None else next(adjusted)))
    return found


def raters_needed(pairs: int) -> int:
    """Return how many raters so many comparisons need; with fewer no test can tell anything apart, whatever they say.

    Where all n raters agree on the order, the signed-rank test gives 2 / 2^n, which Holm's method multiplies by the
    number of comparisons: 6 raters for two versions, 10 for six, 12 for SRGAN's twelve.
    """
    return math.floor(1 + math.log2(max(pairs, 1) / LEVEL)) + 1


def _signed_rank(values: FloatArray) -> float:
    """Return the p value of Wilcoxon's test, equal raters left out.

    Means of grades are often tied, where scipy's exact test flips the signs one by one; what is summed here is the
    same.
    """
    from scipy import stats

    unequal = np.round(values[np.abs(values) > 1e-9], 9)  # what differs by rounding alone is tied
    if unequal.size < 2 or unequal.size > _EXACT:
        return float(stats.wilcoxon(unequal).pvalue) if unequal.size else 1.0
    signed_ranks = np.sign(unequal) * stats.rankdata(np.abs(unequal))
    found = stats.permutation_test(
        (signed_ranks,), np.sum, permutation_type="samples", vectorized=True, n_resamples=2**_EXACT
    )
    return float(found.pvalue)


# --- raters -------------------------------------------------------------------------------------------------


def agreement(grades: Grades) -> dict[str, float]:
    """Return Krippendorff's alpha between raters over all stimuli, by level of measurement; NaN where undefined.

    1 is perfect agreement, 0 what chance gives (K. Krippendorff, Content Analysis, 4th ed., ch. 12).
    """
    return {level: alpha(_stimuli(grades.values), level) for level in ("ordinal", "interval")}


def alpha(table: FloatArray, level: str) -> float:
    """Return Krippendorff's alpha of a table (raters, units) with NaN where there is no answer; NaN if undefined."""
    import krippendorff

    if table.shape[0] < 2 or np.unique(table[~np.isnan(table)]).size < 2 or ((~np.isnan(table)).sum(0) < 2).all():
        return math.nan
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))  # type: ignore[arg-type]


def screen(grades: Grades) -> list[Screening]:
    """Return every rater's screening, by two rules that are each applied once, to all raters at the same time.

    ITU-R BT.500 (Annex 1, screening of observers by kurtosis): for each stimulus the limits lie two standard deviations
    from the mean of all raters where the answers look normal (kurtosis between 2 and 4), else sqrt(20). Rejected is who
    answers beyond them in more than 5 of 100 cases, about as often above as below (a difference of less than 0.3 of
    their number); somebody who is strict throughout is kept. With five raters or fewer nobody can be that far from a
    mean that includes the own answer, and where raters differ much a random clicker hides in the spread: in simulations
    the rule finds 3 of 10. So that a second rule is needed, which is ours: rejected is whose answers do not rise with
    the mean of the others more than by chance (Spearman's correlation, one-sided, at the level of ``CHANCE``), and less
    than those of the median rater do (by Fisher's transformation, at the same level). Of 100 random clickers one passes
    the former, and of 100 raters like the median one the latter rejects one.
    """
    table = _stimuli(grades.values)
    means, deviations, limits = _limits(table)
    found = []
    for index, number in enumerate(grades.raters):
        own = table[index]
        counted = ~np.isnan(own) & (deviations > 0)
        above = int(np.sum(own[counted] >= (means + limits)[counted]))
        below = int(np.sum(own[counted] <= (means - limits)[counted]))
        others = _nanmean(np.delete(table, index, axis=0), axis=0) if table.shape[0] > 1 else np.full_like(own, np.nan)
        answers = int(np.sum(~np.isnan(own)))
        correlation, p = _relation(own, others)
        found.append(Screening(number, above, below, answers, correlation, p, math.nan, float(grades.repeats[index])))
    return _compared_with_the_median(found)


def _compared_with_the_median(found: Sequence[Screening]) -> list[Screening]:
    """Fill in ``p_typical``: the other raters' median correlation is what a rater of this panel has."""
    from scipy import stats

    done = []
    for index, own in enumerate(found):
        p = math.nan
        others = [s.correlation for s in (*found[:index], *found[index + 1 :]) if not math.isnan(s.correlation)]
        if others and not math.isnan(own.p):
            correlation = 0.0 if math.isnan(own.correlation) else own.correlation
            ours, theirs = np.arctanh(np.clip([correlation, np.median(others)], -0.999, 0.999))
            # of Spearman's correlation (Fieller, Hartley and Pearson, Biometrika 44, 1957)
            p = float(stats.norm.cdf((ours - theirs) * math.sqrt((own.answers - 3) / 1.06)))
        done.append(replace(own, p_typical=p))
    return done


def _limits(table: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, standard deviation and distance of the limits of every stimulus."""
    means = _nanmean(table, axis=0)
    centred = table - means
    second, fourth = _nanmean(centred**2, axis=0), _nanmean(centred**4, axis=0)
    count = np.sum(~np.isnan(table), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kurtosis = fourth / second**2
        deviations = np.sqrt(second * count / (count - 1))
    deviations = np.nan_to_num(deviations, posinf=0.0)
    normal = (kurtosis >= 2) & (kurtosis <= 4)
    return means, deviations, np.where(normal, 2.0, math.sqrt(20)) * deviations


def _relation(own: FloatArray, others: FloatArray) -> tuple[float, float]:
    """Return Spearman's correlation and its one-sided p value; NaN where there is too little to tell."""
    from scipy import stats

    both = ~np.isnan(own) & ~np.isnan(others)
    if both.sum() < MIN_ANSWERS or np.ptp(others[both]) == 0:
        return math.nan, math.nan
    if np.ptp(own[both]) == 0:  # the same grade for everything
        return math.nan, 1.0
    found = stats.spearmanr(own[both], others[both], alternative="greater")
    return float(found.statistic), float(found.pvalue)


def _stimuli(values: FloatArray) -> FloatArray:
    """Return (raters, images, versions) as (raters, stimuli)."""
    return values.reshape(values.shape[0], values.shape[1] * values.shape[2])
