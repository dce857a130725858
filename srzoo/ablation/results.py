"""From rows of scores to what an ablation says: means with intervals, and what each change did. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from ..report import Row, format_value, signed_interval
from ..statistics import CONFIDENCE, LEVEL, Comparison, compare_pairs, mean_interval, select
from ..store import CostRow
from .plan import Plan, Planned, Run


@dataclass(frozen=True)
class Value:
    """A column's score on a dataset.

    Attributes:
        mean: over images and seeds.
        low, high: interval at ``CONFIDENCE``: Student's over the seeds' means where several were planned, else the
            bootstrap's over images. NaN where it is undefined.
        deviation: standard deviation of the seeds' means; NaN for one seed.
        seeds: that have a score.
    """

    mean: float
    low: float
    high: float
    deviation: float
    seeds: int
    images: int


@dataclass(frozen=True)
class StepCost:
    """What one training step of a generator takes: forward and backward, at its batch and precision.

    Attributes:
        milliseconds: median over repeats; the quartiles are those of the repeats.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    milliseconds: float
    quartile_low: float
    quartile_high: float
    peak_bytes: int
    precision: str


@dataclass(frozen=True)
class Change:
    """What one column's change did to one metric on one dataset.

    Attributes:
        first, second: the column, and the one it is compared with: label of a column, or of an earlier stage.
        what: the change in the words of the table's head.
        comparison: of the two, image by image, each image's score averaged over the seeds that both have;
            ``difference`` is first minus second.
        seeds: planned for each of the two.
        by_seed: where several were planned: the difference of the two means, for each seed that both have.
        higher_is_better: the metric's direction.
        tolerance: difference that another machine makes for the same weights; see :class:`srzoo.MetricSpec`.
    """

    first: str
    second: str
    what: str
    dataset: str
    metric: str
    comparison: Comparison
    seeds: int
    by_seed: tuple[float, ...]
    higher_is_better: bool
    tolerance: float = 0.0

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """Student's interval of the mean over seeds of the difference; None with fewer than two."""
        return student_interval(self.by_seed) if len(self.by_seed) > 1 else None

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where interval and test both say so, else ``not shown`` or ``not tested``.

        Over several seeds their interval has to say so as well; where runs failed, there may be ``too few seeds``. What
        they say of a difference within the metric's tolerance is ``negligible``: many images make a difference certain
        that nobody will ever see.
        """
        found = self.comparison
        if found.p_holm is None:
            return "not tested"
        if self.seeds > 1 and self.over_seeds is None:
            return "too few seeds"
        ends = [interval for interval in ((found.low, found.high), self.over_seeds) if interval is not None]
        if found.p_holm >= LEVEL or not all(low > 0 or high < 0 for low, high in ends):
            return "not shown"
        if len({low > 0 for low, _ in ends}) > 1:
            return "not shown"
        if abs(found.difference) <= self.tolerance:
            return "negligible"
        return "better" if (ends[0][0] > 0) == self.higher_is_better else "worse"

    @property
    def arithmetic(self) -> str:
        """Difference with its interval, in as many digits as its size asks for."""
        found = self.comparison
        return signed_interval(found.difference, found.low, found.high)

    @property
    def arithmetic_over_seeds(self) -> str:
        """Mean over seeds with its interval in the same form; an empty string with fewer than two."""
        return signed_interval(float(np.mean(self.by_seed)), *self.over_seeds) if self.over_seeds is not None else ""


@dataclass(frozen=True)
class Findings:
    """All that the table and the page are made of.

    Attributes:
        directions: metric to whether higher is better.
        values: ``(label, dataset, metric)`` to score, also of earlier stages.
        changes: of each column to the one it is compared with.
        starts: of each column to the stage that it started from.
        costs, steps: label to what a forward pass and a training step take.
        seconds: label to the time that training took, all its stages.
        shown: label to the run whose costs, time and outputs are shown: that of the first seed which has scores.
        trained_on: the devices that the shown runs and the stages they started from were trained on.
        failed: label and seed, counted from 0, of the runs that have no scores, to the reason.
        notes: sentences for the end.
    """

    plan: Plan
    datasets: dict[str, int]
    directions: dict[str, bool]
    values: dict[tuple[str, str, str], Value]
    changes: list[Change]
    starts: list[Change]
    costs: dict[str, CostRow]
    steps: dict[str, StepCost]
    seconds: dict[str, float]
    shown: dict[str, Run]
    trained_on: list[str]
    failed: dict[tuple[str, int], str]
    device: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> dict[str, str]:
        """What failed in words, such as ``5`` or, of several seeds, ``5, seed 1``, to the reason."""
        several = self.plan.seeds > 1
        return {f"{label}, seed {seed}" if several else label: reason for (label, seed), reason in self.failed.items()}


def earlier_stages(plan: Plan) -> dict[str, tuple[Run, ...]]:
    """Return the stages that columns start from, by the labels of these columns; one run for each seed."""
    sharing: dict[tuple[str, ...], list[str]] = {}
    runs: dict[tuple[str, ...], tuple[Run, ...]] = {}
    for planned in plan.trained:
        parents = tuple(run.parent for run in planned.runs if run.parent is not None)
        if parents:
            key = tuple(run.name for run in parents)
            sharing.setdefault(key, []).append(planned.label)
            runs[key] = parents
    return {f"{runs[key][0].stage} stage of {_shortly(labels)}": runs[key] for key, labels in sharing.items()}


def _shortly(labels: Sequence[str]) -> str:
    """Return labels joined; of four and more that count on, the first and the last."""
    numbers = [int(label) for label in labels if label.isdecimal()]
    counts_on = len(numbers) == len(labels) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{labels[0]} to {labels[-1]}" if counts_on else ", ".join(labels)


def what_changed(plan: Plan, planned: Planned) -> str:
    """Return a column's change in the words of the table's head, or by its keys where the head does not show it."""
    other = plan.against(planned)
    if other is None:
        return ""
    rows = zip(plan.rows, other.cells, planned.cells, strict=True)
    shown = [f"{row}: {before} → {after}" for row, before, after in rows if before != after]
    keys = [f"{key}: {_plain(before)} → {_plain(after)}" for key, before, after in planned.difference]
    return "; ".join(shown or keys) or "nothing"


def _plain(value: object) -> str:
    return "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def averaged(rows: Sequence[Row], members: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return rows of labels in place of runs: each image's score is the mean over the runs of a label.

    Args:
        members: label to the names of its runs; an image counts where all of them that have scores have it.
    """
    by_run: dict[str, dict[tuple[str, str, str, str], float]] = {}
    for row in rows:
        by_run.setdefault(row.entry, {})[row.dataset, row.image, row.metric, row.protocol] = row.value
    found = []
    for label, names in members.items():
        tables = [by_run[name] for name in names if name in by_run]
        for key in tables[0] if tables else ():
            if all(key in table for table in tables):
                found.append(Row(label, *key, math.fsum(table[key] for table in tables) / len(tables)))
    return found


def score(rows: Sequence[Row], label: str, names: Sequence[str], means: Sequence[Row]) -> Value:
    """Return a column's score.

    Args:
        rows: of its runs ``names``, one for each seed, on one dataset by one metric; a seed that failed has none.
        means: the same averaged over them.
    """
    estimate = mean_interval(means, label)
    known = _means_by_run(rows)
    by_seed = [known[name] for name in names if name in known]
    low, high, deviation = estimate.low, estimate.high, math.nan
    if len(names) > 1:  # an interval over images, beside others over seeds, would be taken for one of these
        low = high = math.nan
    if len(by_seed) > 1:
        low, high = student_interval(by_seed)
        deviation = float(np.std(by_seed, ddof=1))
    return Value(estimate.mean, low, high, deviation, len(by_seed), estimate.images)


def _means_by_run(rows: Sequence[Row]) -> dict[str, float]:
    """Return each run's mean over images, as far as it has one."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if not math.isnan(row.value):
            values.setdefault(row.entry, []).append(row.value)
    return {name: math.fsum(own) / len(own) for name, own in values.items()}


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of the mean of at least two values; NaN where one is not finite."""
    from scipy import stats

    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    if not math.isfinite(mean + error):
        return math.nan, math.nan
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def find_changes(
    plan: Plan,
    rows: Sequence[Row],
    members: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str, str]],
    directions: Mapping[str, bool],
    tolerances: Mapping[str, float] = MappingProxyType({}),
) -> list[Change]:
    """Return what changes did, by dataset and metric.

    Args:
        rows: of all runs that have scores.
        members: label to its runs, one for each seed. Two labels are compared on the seeds that both have.
        pairs: first, second, and what was changed.
        tolerances: metric to the difference up to which a change is negligible.
    """
    found = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        for metric, up in directions.items():
            own = select(rows, dataset, metric)
            known = _means_by_run(own)
            asked = [(pair, both) for pair in pairs if (both := _seeds_of_both(members, pair[0], pair[1], known))]
            sides = {}
            for number, (_, both) in enumerate(asked):  # a label may stand here for other seeds than in another pair
                sides[f"first {number}"], sides[f"second {number}"] = zip(*both, strict=True)
            names = [(f"first {number}", f"second {number}") for number in range(len(asked))]
            compared = compare_pairs(averaged(own, sides), names)
            for ((first, second, what), both), comparison in zip(asked, compared, strict=True):
                by_seed = tuple(known[one] - known[other] for one, other in both) if plan.seeds > 1 else ()
                comparison = replace(comparison, first=first, second=second)
                within = tolerances.get(metric, 0.0)
                found.append(Change(first, second, what, dataset, metric, comparison, plan.seeds, by_seed, up, within))
    return found


def _seeds_of_both(
    members: Mapping[str, Sequence[str]], first: str, second: str, known: Collection[str]
) -> list[tuple[str, str]]:
    """Return the runs of two labels that have one seed, for each seed of which both runs have scores."""
    if first not in members or second not in members:
        return []
    runs = zip(members[first], members[second], strict=True)
    return [(one, other) for one, other in runs if one in known and other in known]


def interval_text(value: Value) -> str:
    """Return a score's interval, or an empty string where it has none."""
    return "" if math.isnan(value.low) else f"{format_value(value.low)} to {format_value(value.high)}"


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``12 min``, ``3 h 20 min``, ``9 days``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours / 24:.0f} days"
