"""How far a study has come, for the person who runs it: raters, drop-outs, export."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median

from .plan import REPEAT
from .ratings import Rater, Rating
from .study import Study

DROPPED_AFTER = 24 * 3600
"""Seconds without an answer after which a rater who has not finished counts as dropped out."""
STATES = ("invited", "rating", "finished", "dropped out", "forgotten")

CSV_COLUMNS = (
    "rater", "position", "kind", "dataset", "image", "version", "other_version", "value", "revision", "counts",
    "milliseconds", "pixel_ratio", "time",
)  # fmt: skip


@dataclass(frozen=True)
class RaterProgress:
    """One rater.

    Attributes:
        number: from 1.
        state: one of ``STATES``.
        seconds: median time of an answer; None without any.
        same: share of repeats that were answered as before (in rating studies within one grade); None without any.
        seen: last answer, as text.
    """

    number: int
    name: str
    link: str
    state: str
    done: int
    total: int
    seconds: float | None
    same: float | None
    seen: str


def progress_rows(study: Study, raters: Sequence[Rater], ratings: Sequence[Rating]) -> list[RaterProgress]:
    """Return every rater's progress, by number."""
    by_rater: dict[int, list[Rating]] = {}
    for rating in ratings:
        by_rater.setdefault(rating.rater, []).append(rating)
    rows = []
    for rater in raters:
        own = by_rater.get(rater.id, [])
        times = [rating.milliseconds for rating in own if rating.milliseconds is not None]
        rows.append(
            RaterProgress(
                rater.slot + 1,
                rater.name,
                f"/r/{rater.token}" if rater.token else "",
                state_of(rater),
                rater.done,
                len(rater.plan),
                median(times) / 1000 if times else None,
                consistency(rater, own),
                _moment(rater.seen) if rater.seen else "",
            )
        )
    return rows


def state_of(rater: Rater) -> str:
    """Return where a rater stands, one of ``STATES``."""
    if rater.finished:
        return "finished"
    if not rater.token:
        return "forgotten"
    if rater.begun is None:
        return "invited"
    last = rater.seen or rater.begun
    return "dropped out" if time.time() - last / 1000 > DROPPED_AFTER else "rating"


def count_states(rows: Sequence[RaterProgress]) -> dict[str, int]:
    """Return how many raters are in each state."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


def consistency(rater: Rater, ratings: Sequence[Rating]) -> float | None:
    """Return the share of repeats answered as the first time, grades within one of each other; None without any."""
    values = {rating.position: rating.value for rating in ratings}
    same = []
    for position, trial in enumerate(rater.plan):
        if trial.kind != REPEAT or position not in values:
            continue
        first = next(
            p for p, t in enumerate(rater.plan)
            if t.kind == "trial" and t.image == trial.image and sorted(t.versions) == sorted(trial.versions)
        )  # fmt: skip
        if first in values:
            pair = len(trial.versions) == 2  # shown with its sides exchanged
            before = 3 - values[first] if pair else values[first]
            same.append(abs(values[position] - before) <= (0 if pair else 1))
    return sum(same) / len(same) if same else None


def export_csv(study: Study, raters: Sequence[Rater], history: Sequence[Rating]) -> str:
    """Return every answer with all its revisions as CSV, without names of raters.

    ``counts`` is 1 for the revision that counts. Of a pair, ``version`` is the left one, ``other_version`` the right
    one, and ``value`` 1 or 2 for the one chosen.
    """
    by_id = {rater.id: rater for rater in raters}
    last = {(rating.rater, rating.position): rating.revision for rating in history}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for rating in history:
        rater = by_id[rating.rater]
        trial = rater.plan[rating.position]
        if trial.kind == "example":
            dataset, image, names = "calibration", str(trial.image), [("lowest", "highest")[v] for v in trial.versions]
        else:
            shown = study.images[trial.image]
            dataset, image, names = shown.dataset, shown.image, [study.versions[v].label for v in trial.versions]
        writer.writerow(
            [
                rater.slot + 1, rating.position, trial.kind, _cell(dataset), _cell(image), _cell(names[0]),
                _cell(names[1]) if len(names) > 1 else "", rating.value, rating.revision,
                int(last[rating.rater, rating.position] == rating.revision), rating.milliseconds, rating.pixel_ratio,
                _moment(rating.time),
            ]
        )  # fmt: skip
    return buffer.getvalue()


def _cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat(timespec="seconds")
