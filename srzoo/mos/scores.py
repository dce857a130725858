"""Opinions as rows of the benchmark's store, so that a leaderboard ranks them beside automatic metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .. import __version__
from ..composition import plugin_versions
from ..coverage import comparable
from ..errors import DataError, InputError
from ..leaderboard import leaderboard_markdown, leaderboards
from ..merged import Merged, merge
from ..page import PageData, page_costs, write_page
from ..precisions import automatic, float32_of, precision_losses
from ..remarks import PEOPLE
from ..report import Row, panel_notes
from ..results import read_scores
from ..statistics import group_seeds
from ..store import Environment, Question, Store, Subject
from .correlation import Opinions
from .study import Shown, Study, Version

METRICS = {"rating": "mos", "pair": "preference"}
"""What the opinion is called among metrics: the mean opinion score, or the share of comparisons won."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the study's versions.

    Attributes:
        rows: automatic scores, of the very same models on the very same images.
        left_out: sentences on what was not.
    """

    folder: Path
    merged: Merged
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]


def read_benchmark(study: Study, folder: Path) -> Benchmark:
    """Return what a benchmark says of the study's versions.

    Raises:
        InputError: the folder holds no results, or those of several protocols.
    """
    merged = merge([folder])
    versions = {v.label: v for v in study.versions if not v.is_reference}
    images = {(shown.dataset, shown.image): shown for shown in study.images}
    rows, left_out = [], {}
    for score in merged.scores:
        known, shown = versions.get(score.entry), images.get((score.dataset, score.image))
        if known is None or shown is None or score.precision != "fp32" or score.metric in METRICS.values():
            continue
        if (score.configuration, score.weights) != (known.configuration, known.weights):
            left_out[score.entry] = f"{folder} has other weights or another composition of {score.entry}; left out."
        elif score.image_digest != shown.image_digest:
            left_out[score.dataset] = f"{folder} has other images under the name {score.dataset}; left out."
        else:
            rows.append(Row(score.entry, score.dataset, score.image, score.metric, score.protocol, score.value))
    missing = [label for label in versions if label not in left_out and label not in {row.entry for row in rows}]
    notes = [*left_out.values()]
    if missing:
        notes.append(f"{folder} has no scores of {', '.join(missing)} on the study's images.")
    return Benchmark(folder, merged, tuple(rows), tuple(notes))


def enter_scores(study: Study, opinions: Opinions, raters: Mapping[str, int], folder: Path, protocol: str) -> None:
    """Add the opinions about all versions but the original to the store in a folder.

    Args:
        raters: dataset to how many people were heard.
        protocol: that they are ranked under, beside other metrics.

    Raises:
        DataError: it cannot be written.
    """
    environment = Environment(__version__, plugin_versions(), version("torch"), PEOPLE, 0)
    metric = METRICS[study.mode]
    others = _other_models(study, folder)
    with Store(folder, environment) as store:
        for known in study.versions:
            if known.is_reference:
                continue
            subject = _subject(study, known)
            if known.label not in others:
                store.present(subject)
            for shown in study.images:
                value = opinions.get((known.label, shown.dataset, shown.image), math.nan)
                question = _question(shown, protocol)
                store.add(subject, question, {metric: value}, {metric: f"{metric}/{study.id}"}, {metric: True})
        for dataset, count in raters.items():
            store.add_panel(metric, dataset, protocol, count, study.id)


def _other_models(study: Study, folder: Path) -> set[str]:
    """Return the versions whose names mean other models in a folder's benchmark."""
    try:
        scores = read_scores(folder)
    except InputError:
        return set()
    mine = {known.label: (known.configuration, known.weights) for known in study.versions}
    return {s.entry for s in scores if mine.get(s.entry, ("", "")) != (s.configuration, s.weights)}


def rewrite_page(folder: Path, notes: Sequence[str] = ()) -> Path:
    """Write the leaderboard and the report page of a benchmark anew, with all that its store holds now.

    Returns:
        the page's path.

    Raises:
        DataError: they cannot be written.
    """
    merged = merge([folder])
    datasets = {row.dataset for row in merged.rows}
    notes = [*notes, *merged.notes(datasets, merged.directions), *panel_notes(merged.panels)]
    timing = merged.timing
    data = PageData(
        merged.rows,
        merged.directions,
        page_costs(timing.measured, timing.compared),
        merged.protocol,
        timing.device,
        timing.size or PageData.latency_size,
        notes=notes,
        pictures=merged.pictures,
        recipes=merged.recipes or None,
        panels=merged.panels,
        bases=float32_of(merged.models),
    )
    text = leaderboard_markdown(
        leaderboards(merged.rows, merged.directions, timing.compared, merged.panels),
        merged.directions,
        merged.protocol,
        timing.device,
        data.latency_size,
        notes,
        group_seeds(merged.rows, merged.recipes),
        timing.measured,
        precision_losses(
            comparable(merged.rows, merged.directions).rows,
            automatic(merged.directions, merged.panels),
            data.bases,
            timing.measured,
        ),
    )
    try:
        (folder / "leaderboard.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {folder / 'leaderboard.md'}: {error}.") from error
    return write_page(folder / "report.html", data)


def _subject(study: Study, known: Version) -> Subject:
    return Subject(known.label, study.scale, known.configuration, known.weights, recipe=known.recipe, seed=known.seed)


def _question(shown: Shown, protocol: str) -> Question:
    return Question(shown.dataset, shown.dataset_digest, shown.image, shown.image_digest, protocol)
