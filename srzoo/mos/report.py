"""The report of a study: what people said, how far they agree, who was left out, and what it agrees with."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, InputError
from . import analysis, pairs
from .analysis import Difference, Opinion, Screening
from .answers import Choices, FloatArray, Grades, read_choices, read_grades
from .correlation import Correlation, Opinions, correlations
from .pairs import PairScreening, Preference
from .progress import state_of
from .ratings import Rater, Rating, open_ratings
from .scores import METRICS, Benchmark, enter_scores, read_benchmark, rewrite_page
from .study import Study, load_study

ALL = "all"
"""What the table over all datasets is called."""


@dataclass(frozen=True)
class Standing:
    """One version in a table, best first.

    Attributes:
        version: index into the study's versions.
        opinion: of a rating study; None for pairs.
        preference: of a pair study; None for ratings.
    """

    version: int
    label: str
    opinion: Opinion | None = None
    preference: Preference | None = None

    @property
    def value(self) -> float:
        """What it is ranked by: the mean opinion score, or Bradley-Terry's."""
        return self.opinion.mean if self.opinion is not None else self.preference.score if self.preference else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the value at 95 %."""
        found = self.opinion or self.preference
        return (found.low, found.high) if found is not None else (math.nan, math.nan)


@dataclass(frozen=True)
class Table:
    """One dataset, or all together."""

    dataset: str
    images: int
    raters: int
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class StudyReport:
    """All that the report says.

    Attributes:
        states: how many raters are in each state.
        answered: how many answered anything, of whom ``kept`` are counted.
        answers: of those who are kept, without examples, repeats and answers that were changed since.
        agreement: Krippendorff's alpha between those who are kept, by level of measurement.
        screenings: of all who answered.
        screened: whether who was rejected is left out.
        repeats: mean share of repeats answered alike; NaN without any.
        opinions: mean opinion of every image, or share of comparisons won.
        notes: sentences on what limits the conclusions.
    """

    study: Study
    states: Mapping[str, int]
    answered: int
    kept: int
    answers: int
    agreement: Mapping[str, float]
    screenings: Sequence[Screening | PairScreening]
    screened: bool
    repeats: float
    tables: tuple[Table, ...]
    opinions: Opinions
    correlations: tuple[Correlation, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """What the opinion is called among metrics."""
        return METRICS[self.study.mode]


def make_report(
    study: Study,
    raters: Sequence[Rater],
    ratings: Sequence[Rating],
    benchmark: Benchmark | None = None,
    *,
    screened: bool = True,
) -> StudyReport:
    """Return the report of a study.

    Args:
        ratings: those that count.
        benchmark: automatic scores to correlate with.
        screened: leave out raters whom the screening rejects.

    Raises:
        InputError: nobody has answered anything yet.
    """
    grades: Grades | None = None
    choices: Choices | None = None
    found: Grades | Choices
    screenings: Sequence[Screening | PairScreening]
    if not ratings:
        raise InputError("Nobody has answered anything yet; 'srzoo mos serve' asks people.")
    if study.mode == "rating":
        found = grades = read_grades(study, raters, ratings)
        screenings = analysis.screen(grades)
    else:
        found = choices = read_choices(study, raters, ratings)
        screenings = pairs.screen(choices)
    if not found.raters:
        raise InputError("Nobody has come beyond the examples yet, which do not count.")
    kept = [not (screened and screening.rejected) for screening in screenings]
    if not any(kept):
        raise InputError("The screening rejects every rater, so there is nothing to report; look with --no-screening.")
    if grades is not None:
        grades = grades.of(kept)
        answers = int(np.sum(~np.isnan(grades.values)))
        tables, agreement = _grade_tables(study, grades), analysis.agreement(grades)
        per_image = analysis.image_means(grades)
        repeats = grades.repeats
    else:
        assert choices is not None
        choices = choices.of(kept)
        answers = len(choices.values)
        tables, agreement = _pair_tables(study, choices), {"nominal": pairs.agreement(choices)}
        per_image = pairs.image_shares(choices, len(study.images), len(study.versions))
        repeats = choices.repeats
    opinions = _opinions(study, per_image)
    related = correlations(opinions, benchmark.rows, _directions(benchmark)) if benchmark is not None else []
    return StudyReport(
        study,
        Counter(state_of(rater) for rater in raters),
        len(kept),
        sum(kept),
        answers,
        agreement,
        screenings,
        screened,
        _mean(repeats),
        tuple(tables),
        opinions,
        tuple(related),
        tuple(_notes(study, sum(kept), benchmark)),
    )


def _grade_tables(study: Study, grades: Grades) -> list[Table]:
    tables = []
    for dataset, images in _groups(study).items():
        found = analysis.opinions(grades, images)
        standings = [Standing(v, study.versions[v].label, opinion=found[v]) for v in study.rated]
        heard = int((~np.isnan(grades.values[:, images, :])).any(axis=(1, 2)).sum())
        separated = analysis.differences(grades, images, [s.version for s in _ranked(standings)])
        tables.append(Table(dataset, len(images), heard, tuple(_ranked(standings)), tuple(separated)))
    return tables


def _pair_tables(study: Study, choices: Choices) -> list[Table]:
    tables = []
    for dataset, images in _groups(study).items():
        found = pairs.preferences(choices, images, len(study.versions))
        standings = [Standing(v, study.versions[v].label, preference=found[v]) for v in study.rated]
        heard = len({choice.rater for choice in choices.values if choice.image in set(images)})
        separated = pairs.differences(choices, images, [s.version for s in _ranked(standings)])
        tables.append(Table(dataset, len(images), heard, tuple(_ranked(standings)), tuple(separated)))
    return tables


def _groups(study: Study) -> dict[str, list[int]]:
    """Return dataset to its images; of several also all together."""
    groups: dict[str, list[int]] = {}
    for index, shown in enumerate(study.images):
        groups.setdefault(shown.dataset, []).append(index)
    return groups if len(groups) == 1 else {**groups, ALL: list(range(len(study.images)))}


def _ranked(standings: Sequence[Standing]) -> list[Standing]:
    return sorted(standings, key=lambda s: (math.isnan(s.value), -s.value))


def _mean(values: FloatArray) -> float:
    defined = values[values == values]
    return float(defined.mean()) if defined.size else math.nan


def _opinions(study: Study, values: FloatArray) -> Opinions:
    return {
        (study.versions[v].label, shown.dataset, shown.image): float(values[index, v])
        for index, shown in enumerate(study.images)
        for v in study.rated
    }


def _directions(benchmark: Benchmark) -> dict[str, bool]:
    return {name: up for name, up in benchmark.merged.directions.items() if name not in METRICS.values()}


def _notes(study: Study, raters: int, benchmark: Benchmark | None) -> list[str]:
    notes = list(benchmark.left_out) if benchmark is not None else []
    if raters < 8:
        notes.append(
            f"{raters} {'rater is' if raters == 1 else 'raters are'} few: intervals are rough, and the screening can "
            "hardly tell who does not look."
        )
    needed = analysis.raters_needed(math.comb(len(study.rated), 2))
    if raters < needed:
        notes.append(
            f"Tests between all pairs of {len(study.rated)} versions need {needed} raters; with {raters} no difference "
            "could pass one, so that none is made. The intervals of the differences stand."
        )
    cut = sum(not shown.whole for shown in study.images)
    if cut:
        notes.append(f"Of {cut} of {len(study.images)} images a part was shown; automatic metrics are of the whole.")
    return notes


# --- writing it down ----------------------------------------------------------------------------------------


def report(
    folder: str | Path,
    *,
    benchmark: str | Path | None = None,
    screened: bool = True,
    protocol: str = "y",
) -> StudyReport:
    """Report a study: write ``report.html``, ``mos.csv`` and ``results.sqlite`` into its folder.

    Args:
        benchmark: folder of ``srzoo bench`` with the same entries on the same data: its metrics are correlated with the
            opinions, which enter its store and page.
        screened: leave out raters whom the screening rejects.
        protocol: that the opinions are stored under where there is no benchmark.

    Raises:
        InputError: there is no such study or benchmark, or nobody has answered yet.
        DataError: something cannot be read or written.
    """
    from .report_page import write_report

    study, secret = load_study(folder)
    ratings = open_ratings(folder, study, secret)
    try:
        raters, answers = ratings.raters(), ratings.ratings()
    finally:
        ratings.close()
    bench = read_benchmark(study, Path(benchmark)) if benchmark is not None else None
    found = make_report(study, raters, answers, bench, screened=screened)
    heard = {table.dataset: table.raters for table in found.tables if table.dataset != ALL}
    enter_scores(study, found.opinions, heard, Path(folder), bench.merged.protocol if bench else protocol)
    if bench is not None:
        enter_scores(study, found.opinions, heard, bench.folder, bench.merged.protocol)
        rewrite_page(bench.folder, [f"{found.metric}: {study.title}, opinion of {found.kept} raters."])
    try:
        (Path(folder) / "mos.csv").write_text(report_csv(found), encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {Path(folder) / 'mos.csv'}: {error}.") from error
    write_report(Path(folder) / "report.html", found)
    return found


def report_csv(found: StudyReport) -> str:
    """Return the tables as CSV, one row a version and dataset; of pairs the score is Bradley-Terry's."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    is_pair = found.study.mode == "pair"
    score = "bradley_terry" if is_pair else "mos"
    writer.writerow(["dataset", "version", score, "low", "high", "share_won", "raters", "images", "answers"])
    for table in found.tables:
        for standing in table.standings:
            opinion = standing.opinion or standing.preference
            assert opinion is not None
            share = standing.preference.share if standing.preference is not None else math.nan
            numbers = ["" if math.isnan(x) else repr(round(x, 6)) for x in (standing.value, *standing.interval, share)]
            writer.writerow([table.dataset, standing.label, *numbers, table.raters, table.images, opinion.answers])
    return buffer.getvalue()
