"""What changes did, drawn as a forest plot: a row a change and dataset, a column a metric. Needs no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..files import replacing
from ..plots import BETTER, INK, LINE, MUTED, WORSE, inline_svg
from ..statistics import CONFIDENCE
from .results import Change

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE_COLOURS = {"ink": INK, "muted": MUTED, "line": LINE, "better": BETTER, "worse": WORSE}
PRINT_COLOURS = {"ink": "#1b1f27", "muted": "#5a6270", "line": "#dfe3e8", "better": "#0b7f58", "worse": "#c81e1e"}
ROW, HEADING, WIDTH, MARGIN = 0.2, 1.5, 13.0, 1.1
"""Height of a row in inches and of a heading in rows, width of the plot, height of what stands above and below it."""
LONGEST = 56
"""Characters of a heading."""

Colours = Mapping[str, str]


def forest_svg(changes: Sequence[Change], directions: Mapping[str, bool], identifier: str, title: str) -> str:
    """Return the plot as an SVG element for the page; an empty string where there is nothing to draw.

    Args:
        directions: metric to whether higher is better; its order is that of the columns.
        identifier: letters and digits, another for every plot of a page.
        title: what a screen reader says.
    """
    drawn = _drawn(changes)
    if not drawn:
        return ""
    notes = {_gid(index): _note(change) for index, change in enumerate(drawn)}
    size = WIDTH, _height(drawn)
    return inline_svg(lambda figure: _draw(figure, drawn, directions, PAGE_COLOURS), size, notes, identifier, title)


def write_forest(changes: Sequence[Change], directions: Mapping[str, bool], path: Path) -> None:
    """Write the plot as PNG; where there is nothing to draw, none is left.

    Raises:
        DataError: it cannot be written.
    """
    drawn = _drawn(changes)
    if not drawn:
        path.unlink(missing_ok=True)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, _height(drawn)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure, drawn, directions, PRINT_COLOURS)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=130, format="png")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}.") from error


def _drawn(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if math.isfinite(change.comparison.difference)]


def _gid(index: int) -> str:
    return f"change{index}"


def _note(change: Change) -> str:
    over = f", over seeds {change.arithmetic_over_seeds}" if change.over_seeds else ""
    where = f"{change.metric} on {change.dataset}"
    return f"{_heading(change)}; {where}: {change.arithmetic}{over}, {change.verdict}"


def _heading(change: Change) -> str:
    pair = f"{change.first} against {change.second}"
    return f"{pair}: {change.what}" if change.what else pair


def _rows(changes: Sequence[Change]) -> tuple[dict[tuple[str, str, str], float], dict[str, float]]:
    """Return places from the top, in rows: of each change on each dataset, and of each change's heading."""
    places: dict[tuple[str, str, str], float] = {}
    headings: dict[str, float] = {}
    place = 0.0
    for pair in dict.fromkeys((change.first, change.second) for change in changes):
        own = [change for change in changes if (change.first, change.second) == pair]
        place += HEADING
        headings[_heading(own[0])] = place
        for dataset in dict.fromkeys(change.dataset for change in own):
            place += 1
            places[pair[0], pair[1], dataset] = place
    return places, headings


def _height(changes: Sequence[Change]) -> float:
    places, _ = _rows(changes)
    return MARGIN + ROW * (max(places.values()) + 1)


def _draw(figure: Figure, changes: Sequence[Change], directions: Mapping[str, bool], colours: Colours) -> None:
    metrics = [metric for metric in directions if any(change.metric == metric for change in changes)]
    places, headings = _rows(changes)
    panels: list[Axes] = list(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0])
    for metric, axes in zip(metrics, panels, strict=True):
        _dress(axes, metric, directions[metric], colours)
        for heading in headings.values():
            axes.axhline(heading - 0.75, color=colours["line"], linewidth=0.8, zorder=1)
        for index, change in enumerate(changes):
            if change.metric == metric:
                _mark(axes, change, places[change.first, change.second, change.dataset], _gid(index), colours)
    ticks = [(place, dataset, False) for (_, _, dataset), place in places.items()]
    ticks += [(place, textwrap.shorten(text, LONGEST, placeholder=" ..."), True) for text, place in headings.items()]
    panels[0].set_yticks([place for place, _, _ in ticks], [text for _, text, _ in ticks], parse_math=False)
    for label, (_, _, is_heading) in zip(panels[0].get_yticklabels(), ticks, strict=True):
        label.set(color=colours["ink" if is_heading else "muted"], fontweight="bold" if is_heading else "normal")
    panels[0].set_ylim(max(places.values()) + 0.8, 0.5)  # shared; the first change on top
    _explain(figure, any(change.by_seed for change in changes), colours)


def _dress(axes: Axes, metric: str, higher_is_better: bool, colours: Colours) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.axvline(0, color=colours["muted"], linewidth=1, zorder=2)
    axes.grid(axis="x", color=colours["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=colours["muted"])
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=False))
    axes.margins(x=0.08)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(metric, color=colours["ink"], fontsize="medium", fontweight="bold", parse_math=False)
    axes.set_xlabel("better →" if higher_is_better else "← better", color=colours["muted"], fontstyle="italic")


def _mark(axes: Axes, change: Change, place: float, gid: str, colours: Colours) -> None:
    """Draw one difference: a band for the interval over images, a line for that over seeds, and each seed."""
    is_certain = change.verdict in ("better", "worse")
    colour = colours[change.verdict if is_certain else "muted"]
    found = change.comparison
    if math.isfinite(found.low + found.high):
        axes.plot(
            [found.low, found.high], [place] * 2, color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt", zorder=3
        )
    if change.over_seeds is not None and math.isfinite(sum(change.over_seeds)):
        axes.plot(change.over_seeds, [place] * 2, color=colour, linewidth=1.1, zorder=4)
    if len(change.by_seed) > 1:
        axes.plot(change.by_seed, [place] * len(change.by_seed), "|", color=colour, markersize=7, zorder=4)
    (dot,) = axes.plot(
        found.difference,
        place,
        "o",
        markersize=6,
        color=colour,
        markerfacecolor=colour if is_certain else "none",
        markeredgewidth=1.3,
        zorder=5,
    )
    dot.set_gid(gid)


def _explain(figure: Figure, several_seeds: bool, colours: Colours) -> None:
    from matplotlib.lines import Line2D

    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6}
    ink = colours["muted"]
    marks = [
        (Line2D([], [], color=colours["better"], **dot), "better"),
        (Line2D([], [], color=colours["worse"], **dot), "worse"),
        (Line2D([], [], color=ink, markerfacecolor="none", **dot), "negligible, or not shown"),
        (Line2D([], [], color=ink, linewidth=6, alpha=0.3), f"{percent} interval over images"),
    ]
    if several_seeds:
        marks.append((Line2D([], [], color=ink, linewidth=1.1), f"{percent} interval over seeds"))
        marks.append((Line2D([], [], color=ink, linestyle="none", marker="|", markersize=7), "one seed"))
    figure.legend(
        [mark for mark, _ in marks],
        [text for _, text in marks],
        loc="outside lower center",
        ncols=len(marks),
        frameon=False,
        labelcolor=ink,
        fontsize="small",
        title="The column named first minus the other",
        title_fontproperties={"size": "small"},
    ).get_title().set_color(ink)
