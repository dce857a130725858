"""The report of a study as one HTML file that asks for nothing over a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..page import TEMPLATES as SHARED
from ..statistics import RESAMPLES
from . import pairs
from .analysis import CHANCE, MIN_ANSWERS
from .report import ALL, StudyReport, Table
from .study import SCALE

TEMPLATES = Path(__file__).parent / "templates"

COLUMN, CELL = 64.0, 40.0
"""Width of a version and height of a grade in the plot, in the units of its view box."""
LEFT, TOP, BELOW = 96.0, 12.0, 118.0


@dataclass(frozen=True)
class Bar:
    """One version in the plot of the distribution.

    Attributes:
        x: middle of the column.
        cells: (y of the upper edge, opacity, share as text) of each grade.
        mean, low, high: heights in the view box; None where undefined.
    """

    label: str
    x: float
    cells: tuple[tuple[float, float, str], ...]
    mean: float | None
    low: float | None
    high: float | None
    note: str


@dataclass(frozen=True)
class Plot:
    """The distribution of grades for every version, in the manner of SRGAN's figure 5 (arXiv:1609.04802)."""

    width: float
    height: float
    bottom: float
    bars: tuple[Bar, ...]
    grades: tuple[tuple[float, str], ...]


def write_report(path: Path, report: StudyReport) -> Path:
    """Write the page and return its path.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.write_text(render_report(report), encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write the report to {path}: {error}.") from error
    return path


def render_report(report: StudyReport) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "signed": _signed, "interval": _interval, "percent": _percent}
    return environment.get_template("report.html.j2").render(
        report=report,
        study=report.study,
        labels=[version.label for version in report.study.versions],
        plots={table.dataset: distribution(table) for table in report.tables if report.study.mode == "rating"},
        whiskers={table.dataset: _whiskers(table) for table in report.tables},
        all_name=ALL,
        resamples=pairs.RESAMPLES if report.study.mode == "pair" else RESAMPLES,
        prior=pairs.PRIOR,
        chance=CHANCE,
        min_answers=MIN_ANSWERS,
        style=Markup((SHARED / "report.css").read_text(encoding="utf-8")),
    )


def distribution(table: Table) -> Plot:
    """Return the plot of a table's grades, the lowest mean left."""
    bottom = TOP + 5 * CELL

    def height(value: float) -> float:
        return bottom - (value - 0.5) * CELL

    bars = []
    for place, standing in enumerate(reversed(table.standings)):
        opinion = standing.opinion
        assert opinion is not None
        most = max(opinion.shares) or 1.0
        cells = tuple(
            (height(grade + 0.5), share / most, f"{grade}, {SCALE[grade]}: {share:.0%}")
            for grade, share in enumerate(opinion.shares, start=1)
        )
        ends = [None if math.isnan(x) else height(x) for x in (opinion.mean, opinion.low, opinion.high)]
        x = LEFT + (place + 0.5) * COLUMN
        bars.append(
            Bar(standing.label, x, cells, ends[0], ends[1], ends[2], f"{standing.label}: {_number(opinion.mean)}")
        )
    grades = tuple((height(grade), f"{grade} {word}") for grade, word in SCALE.items())
    return Plot(LEFT + len(bars) * COLUMN + 12, bottom + BELOW, bottom, tuple(bars), grades)


def _whiskers(table: Table) -> list[tuple[float, float, float] | None]:
    """Return low end, value and high end of every standing in [0, 100] of the span of all."""
    ends = [x for s in table.standings for x in (*s.interval, s.value) if not math.isnan(x)]
    least, span = min(ends, default=0.0), (max(ends, default=0.0) - min(ends, default=0.0)) or 1.0
    found: list[tuple[float, float, float] | None] = []
    for standing in table.standings:
        values = (standing.interval[0], standing.value, standing.interval[1])
        low, value, high = (100 * (x - least) / span for x in values)
        found.append(None if any(map(math.isnan, values)) else (low, value, high))
    return found


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


def _interval(ends: tuple[float, float]) -> str:
    return "" if math.isnan(ends[0]) else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"
