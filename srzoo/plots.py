"""Plots as SVG to be put into a page: text stays text, colours come from the page's style sheet.

matplotlib writes a colour as a number, and a page has two themes. So every colour is drawn as a number that stands
for a variable of the style sheet, and replaced by it: ``--ink``, ``--muted``, ``--line``, ``--better``, ``--changed``
for what is worse, and ``--c0`` to ``--c7``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

COLOURS = 8
MARKERS = "os^D"
"""The marker changes once the colours are used up."""

INK, MUTED, LINE, BETTER, WORSE = (f"#0b0b{index:02x}" for index in range(1, 6))
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"}
_VARIABLES |= {BETTER: "var(--better)", WORSE: "var(--changed)"}
_VARIABLES |= {f"#0b0c{index:02x}": f"var(--c{index})" for index in range(COLOURS)}
_OFFSETS = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]


@dataclass(frozen=True)
class Point:
    """One entry.

    Attributes:
        label: stands beside the marker.
        index: decides colour and marker, so that an entry looks the same in every plot.
        share: area of the marker, in [0, 1] of the largest.
        note: shown when the pointer rests on the marker.
    """

    label: str
    x: float
    y: float
    index: int
    share: float
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """One axis: ``better`` is True where higher is better."""

    label: str
    better: bool
    logarithmic: bool = False


def scatter_svg(points: Sequence[Point], horizontal: Axis, vertical: Axis, identifier: str, title: str) -> str:
    """Return an SVG element with a labelled marker for each point; an empty string where no point is finite.

    Args:
        identifier: letters and digits, another for every plot of a page: it keeps their inner references apart.
        title: what a screen reader says.
    """
    positive = 0.0 if horizontal.logarithmic else -math.inf
    drawn = [point for point in points if math.isfinite(point.x + point.y) and point.x > positive]
    if not drawn:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _dress(axes, horizontal, vertical, [point.x for point in drawn])
        for point in drawn:
            marks = axes.scatter(
                point.x,
                point.y,
                s=36 + 380 * point.share,
                c=f"#0b0c{point.index % COLOURS:02x}",
                marker=MARKERS[point.index // COLOURS % len(MARKERS)],
                alpha=0.85,
                linewidths=0,
                zorder=3,
            )
            marks.set_gid(f"point{point.index}")
        _label(axes, drawn)

    notes = {f"point{point.index}": point.note or point.label for point in drawn}
    return inline_svg(draw, (5.4, 4.0), notes, identifier, title)


def inline_svg(
    draw: Callable[[Figure], None], size: tuple[float, float], notes: Mapping[str, str], identifier: str, title: str
) -> str:
    """Return what a function draws as an SVG element, fit to stand in HTML beside others.

    Args:
        draw: fills an empty figure of ``size`` inches, in the colours of this module.
        notes: identifier (matplotlib's gid) of a mark to what is shown when the pointer rests on it.
        identifier: letters and digits, another for every plot of a page: it keeps their inner references apart.
        title: what a screen reader says.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": identifier, "font.size": 10.5}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return _adapted(buffer.getvalue().decode("utf-8"), notes, identifier, title)


def _dress(axes: Axes, horizontal: Axis, vertical: Axis, positions: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    if horizontal.logarithmic:
        axes.set_xscale("log")
        wide = max(positions) > 50 * min(positions)  # three numbers a decade would run into each other
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.2, 0.16)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelcolor=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(horizontal.label, color=INK, parse_math=False)
    axes.set_ylabel(vertical.label, color=INK, parse_math=False)
    x, y = (0.985 if horizontal.better else 0.015), (0.975 if vertical.better else 0.025)
    arrow = {(True, True): "↗", (True, False): "↘", (False, True): "↖", (False, False): "↙"}
    axes.annotate(
        f"better {arrow[horizontal.better, vertical.better]}",
        (x, y),
        xycoords="axes fraction",
        ha="right" if horizontal.better else "left",
        va="top" if vertical.better else "bottom",
        color=MUTED,
        fontstyle="italic",
    )


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Put each label beside its marker, at the first of eight places where it hides least."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # the layout decides where the axes are
    renderer: Any = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    pixels = axes.transData.transform([(point.x, point.y) for point in points])
    scale = figure.dpi / 72
    radii = [math.sqrt(36 + 380 * point.share) / 2 * scale for point in points]
    taken = [_box(x - r, y - r, x + r, y + r) for (x, y), r in zip(pixels, radii, strict=True)]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent(renderer)
    for point, radius in zip(points, radii, strict=True):
        best, least = None, math.inf
        for dx, dy in _OFFSETS:
            reach = radius / scale + 4
            text = axes.annotate(
                point.label,
                (point.x, point.y),
                (dx * reach, dy * reach),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                color=INK,
                parse_math=False,
                zorder=4,
            )
            box = text.get_window_extent(renderer)
            outside = box.width * box.height - _overlap(box, frame)
            hidden = 2 * outside + sum(_overlap(box, other) for other in taken)
            if hidden < least - 1:
                if best is not None:
                    best.remove()
                best, least, chosen = text, hidden, box
            else:
                text.remove()
        taken.append(chosen)


def _box(left: float, bottom: float, right: float, top: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(left, bottom, right, top)


def _overlap(one: Bbox, two: Bbox) -> float:
    width = min(one.x1, two.x1) - max(one.x0, two.x0)
    height = min(one.y1, two.y1) - max(one.y0, two.y0)
    return float(max(0.0, width) * max(0.0, height))


def _adapted(svg: str, notes: Mapping[str, str], identifier: str, title: str) -> str:
    """Return the SVG element alone, with colours and identifiers that fit a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 :].strip()
    for name, note in notes.items():
        mark = f'<g id="{name}">'
        body = body.replace(mark, f"{mark}<title>{escape(note)}</title>")

    def adapt(tag: re.Match[str]) -> str:  # tags only: what stands between them may be anybody's name
        text = re.sub(r"""(\bid="|href="#|url\(#)""", rf"\1{identifier}-", tag[0])
        text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
        return re.sub(r"#0b0[bc]\w\w", lambda number: _VARIABLES[number[0]], text)

    head = f'<svg class="plot" {view_box[0] if view_box else ""} role="img"><title>{escape(title)}</title>'
    return head + re.sub(r"<[^>]*>", adapt, body)
