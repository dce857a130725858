"""The report: one HTML file that holds everything it shows and asks for nothing over a network. Needs no torch."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from .costs import HR_SIZE
from .coverage import comparable
from .errors import DataError
from .gallery import CROP_SIDE, MAX_BYTES, MAX_IMAGES, MAX_SIDE, QUALITY, Gallery, Pictures, build_gallery
from .plots import COLOURS, Axis, Point, scatter_svg
from .report import (
    Row,
    cost_table,
    format_milliseconds,
    format_value,
    panel_text,
    precision_text,
    short_number,
    unsteady,
)
from .statistics import (
    MIN_PAIRS,
    RESAMPLES,
    Comparison,
    Ranking,
    SeedGroup,
    WinMatrix,
    group_seeds,
    images_needed,
    rank,
    select,
    untested_note,
    win_matrix,
)
from .store import CostRow

MAX_NAMED = 10
"""With more entries the plots show numbers, for names would hide each other; the leaderboard says whose they are."""

TEMPLATES = Path(__file__).parent / "templates"


class EntryCost(NamedTuple):
    """What an entry costs.

    Attributes:
        milliseconds: latency at the stated input size.
        multiply_adds: of one output of ``costs.HR_SIZE``; None where they were not counted.
        measured: time and memory at every input size, for a table of their own.
    """

    milliseconds: float = math.nan
    parameters: int = 0
    multiply_adds: int | None = None
    measured: tuple[CostRow, ...] = ()


def page_costs(
    costs: Mapping[str, Sequence[CostRow]], compared: Mapping[str, CostRow] | None = None
) -> dict[str, EntryCost]:
    """Return what the page shows of measured costs.

    Args:
        costs: entry to what it takes at every input size.
        compared: entry to what the leaderboard shows of it; by default the first input size.
    """
    shown = compared if compared is not None else {name: found[0] for name, found in costs.items()}
    return {
        name: EntryCost(cost.milliseconds, cost.parameters, cost.multiply_adds, tuple(costs.get(name, ())))
        for name, cost in shown.items()
    }


@dataclass(frozen=True)
class PageData:
    """All that the report shows.

    Attributes:
        rows: of one protocol; any datasets, entries and metrics.
        directions: metric to whether higher is better, in the order of the columns; the first one ranks.
        costs: entry to cost; entries without one show none.
        device: that the times were taken on, in words.
        latency_size: side of the square low-resolution input of the times, in pixels.
        notes: sentences for the end of the page, such as why a metric is missing.
        pictures: dataset to image to entry, or ``HR``, to the PNG or WebP file of its output.
        tradeoff: metrics of distortion and of perception for the plot; by default the first metric and the
            first one after it that points the other way, as LPIPS does to PSNR, or else the second.
        recipes: run to recipe, for the table of seeds; by default runs named ``RECIPE@seedN``.
        panels: dataset to metric to how many people it is the opinion of.
    """

    rows: Sequence[Row]
    directions: Mapping[str, bool]
    costs: Mapping[str, EntryCost] = field(default_factory=dict)
    protocol: str = "y"
    device: str = ""
    latency_size: int = 128
    notes: Sequence[str] = ()
    pictures: Pictures = field(default_factory=dict)
    tradeoff: tuple[str, str] | None = None
    recipes: Mapping[str, str] | None = None
    title: str = "Super-resolution benchmark"
    panels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Cell(NamedTuple):
    """One cell of a table: the text, the number it is sorted by (empty where undefined), whether it is the best."""

    text: str
    key: str
    best: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one entry in the leaderboard.

    Attributes:
        whisker: ends and mean of the interval in [0, 100] of the span of its column, or None where undefined.
    """

    cell: Cell
    rank: str
    interval: str
    whisker: tuple[float, float, float] | None


@dataclass(frozen=True)
class MetricSection:
    """One metric on one dataset: who is told apart from whom, and the scores of every image."""

    metric: str
    better: str
    comparisons: list[tuple[Comparison, str, str]]
    wins: WinMatrix
    images: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class DatasetSection:
    """One dataset; ``notes`` tell which entries lack images that others have."""

    name: str
    anchor: str
    images: int
    board: list[tuple[str, int, list[Score], list[Cell]]]
    metrics: list[MetricSection]
    plots: list[tuple[str, str]]
    panel: str = ""
    notes: tuple[str, ...] = ()
    note: str = ""


def write_page(path: str | Path, data: PageData, *, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES) -> Path:
    """Write the report into one file and return its path.

    Args:
        max_images: whose pictures are shown, over all datasets.
        max_bytes: of all pictures in the page; images that do not fit are left out, and the page says how many.

    Raises:
        DataError: there are no rows, they are of another protocol or score an image twice; a metric has no
            direction; a picture cannot be read or does not fit the others of its image; the file cannot be written.
        InputError: entries have no image of a dataset in common.
    """
    text = render_page(data, build_gallery(data.pictures, max_images, max_bytes))
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write the report to {target}: {error}.") from error
    return target


def render_page(data: PageData, gallery: Gallery) -> str:
    """Return the report as HTML, with the pictures of the gallery.

    Raises:
        DataError: as in :func:`write_page`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    _check(data)
    entries = list(dict.fromkeys(row.entry for row in data.rows))
    indices = {entry: index for index, entry in enumerate(entries)}
    datasets = list(dict.fromkeys(row.dataset for row in data.rows))
    coverage = comparable(data.rows, data.directions)
    ranked = replace(data, rows=coverage.rows)
    sections = [
        replace(
            _dataset_section(ranked, data.rows, name, f"data-{number}", indices), notes=coverage.notes.get(name, ())
        )
        for number, name in enumerate(datasets)
    ]
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["attributes"] = vars
    return environment.get_template("report.html.j2").render(
        data=data,
        sections=sections,
        entries=entries,
        indices=indices,
        colours=COLOURS,
        numbered=len(entries) > MAX_NAMED,
        metrics=list(data.directions),
        seeds=_seed_table(ranked),
        costs=_cost_rows(data, indices),
        cost_header=cost_table({})[0],
        cost_caution=unsteady({entry: cost.measured for entry, cost in data.costs.items()}),
        precision=precision_text({entry: data.costs[entry].measured for entry in entries if entry in data.costs}),
        gallery=gallery,
        scores=_scores_of(data, gallery),
        ends=_first_ends(ranked, gallery, entries),
        output_size=HR_SIZE,
        crop_side=CROP_SIDE,
        max_side=MAX_SIDE,
        quality=QUALITY,
        resamples=RESAMPLES,
        min_pairs=MIN_PAIRS,
        images_needed=images_needed,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _check(data: PageData) -> None:
    if not data.rows:
        raise DataError("There are no rows to report.")
    protocols = {row.protocol for row in data.rows}
    if protocols != {data.protocol}:
        named = " and ".join(sorted(protocols))
        raise DataError(f"The report is of protocol {data.protocol} and the rows are of {named}; report one at a time.")
    missing = sorted({row.metric for row in data.rows} - set(data.directions))
    if missing:
        raise DataError(f"Whether higher is better is not stated for {', '.join(missing)}.")


def _dataset_section(
    data: PageData, every: Sequence[Row], name: str, anchor: str, indices: Mapping[str, int]
) -> DatasetSection:
    """Return what is shown of one dataset: of ``every`` row where images are listed, else of those compared."""
    rows = [row for row in data.rows if row.dataset == name]
    metrics = [metric for metric in data.directions if any(row.metric == metric for row in rows)]
    tables = {metric: select(rows, name, metric) for metric in metrics}
    rankings = {metric: rank(tables[metric], data.directions[metric]) for metric in metrics}
    order = [place.entry for place in rankings[metrics[0]].places]
    whole = [row for row in every if row.dataset == name]
    order += [entry for entry in indices if entry not in order and any(row.entry == entry for row in whole)]
    panel = data.panels.get(name, {})
    scores = {metric: _scores(rankings[metric], metric in panel) for metric in metrics}
    missing = Score(Cell("-", ""), "", "", None)
    board = [
        (
            entry,
            indices[entry],
            [scores[metric].get(entry, missing) if metric in scores else missing for metric in data.directions],
            _cost_cells(data.costs.get(entry)),
        )
        for entry in order
    ]
    sections = [
        MetricSection(
            metric,
            "higher is better" if data.directions[metric] else "lower is better",
            _differences(rankings[metric], metric in panel),
            win_matrix(tables[metric], data.directions[metric]),
            _per_image(select(whole, name, metric), order, data.directions[metric], metric in panel),
        )
        for metric in metrics
    ]
    images = len({row.image for row in rows})
    plots = _plots(data, anchor, name, rankings, indices)
    return DatasetSection(name, anchor, images, board, sections, plots, panel_text(panel), note=untested_note(rankings))


def _scores(ranking: Ranking, opinion: bool) -> dict[str, Score]:
    estimates = [place.estimate for place in ranking.places]
    ends = [v for e in estimates for v in (e.low, e.high, e.mean) if math.isfinite(v)]
    least, span = min(ends, default=0.0), (max(ends, default=0.0) - min(ends, default=0.0)) or 1.0
    best = ranking.places[0].rank
    means = [estimate.mean for estimate in estimates]
    found = {}
    for place in ranking.places:
        estimate = place.estimate
        values = (estimate.low, estimate.mean, estimate.high)
        defined = all(math.isfinite(value) for value in values)
        texts = [format_value(value, means, opinion=opinion) for value in values]
        low, mean, high = (100 * (value - least) / span for value in values)
        found[place.entry] = Score(
            Cell(texts[1], _key(estimate.mean), place.rank == best and place.rank != "-"),
            place.rank,
            f"{texts[0]} to {texts[2]}" if defined else "",
            (low, mean, high) if defined else None,
        )
    return found


def _cost_cells(cost: EntryCost | None) -> list[Cell]:
    cost = cost or EntryCost(parameters=-1)
    time = format_milliseconds(cost.milliseconds)
    counts = [None if count is None or count < 0 else count for count in (cost.parameters, cost.multiply_adds)]
    return [Cell(time, _key(cost.milliseconds)), *(Cell(short_number(n), "" if n is None else str(n)) for n in counts)]


def _cost_rows(data: PageData, indices: Mapping[str, int]) -> list[tuple[str, int, list[Cell]]]:
    """Each entry's time and memory at each input size, with its number among the entries."""
    found = []
    for entry, index in indices.items():
        measured = data.costs.get(entry, EntryCost()).measured
        for cost, texts in zip(measured, cost_table({entry: measured})[1], strict=True):
            numbers = (cost.parameters, cost.multiply_adds, cost.size, cost.milliseconds, cost.images_per_second)
            keys = ["" if number is None else str(number) for number in (*numbers, cost.peak_bytes)]
            found.append((entry, index, [Cell(*pair) for pair in zip(texts[1:], keys, strict=True)]))
    return found


def _differences(ranking: Ranking, opinion: bool) -> list[tuple[Comparison, str, str]]:
    """Each comparison with its difference and interval as text: of dB in one more digit than they are given in."""
    means = [abs(place.estimate.mean) for place in ranking.places]
    digits = 2 if opinion else 3 if any(mean >= 10 for mean in means) else 4
    found = []
    for comparison in ranking.comparisons:
        ends = (comparison.difference, comparison.low, comparison.high)
        difference, low, high = ("-" if math.isnan(value) else f"{value:+.{digits}f}" for value in ends)
        found.append((comparison, difference, "" if math.isnan(comparison.low) else f"{low} to {high}"))
    return found


def _per_image(
    rows: Sequence[Row], order: Sequence[str], higher_is_better: bool, opinion: bool
) -> list[tuple[str, list[Cell]]]:
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row.image, {})[row.entry] = row.value
    table = []
    for image, by_entry in values.items():
        defined = [value for value in by_entry.values() if not math.isnan(value)]
        best = (max if higher_is_better else min)(defined, default=math.nan)
        cells = [by_entry.get(entry, math.nan) for entry in order]
        texts = [format_value(value, opinion=opinion) for value in cells]
        table.append((image, [Cell(t, _key(v), v == best) for t, v in zip(texts, cells, strict=True)]))
    return table


def _plots(
    data: PageData, anchor: str, dataset: str, rankings: Mapping[str, Ranking], indices: Mapping[str, int]
) -> list[tuple[str, str]]:
    means = {metric: {p.entry: p.estimate.mean for p in ranking.places} for metric, ranking in rankings.items()}
    weights = {entry: data.costs.get(entry, EntryCost()) for entry in indices}
    counted = all(cost.multiply_adds is not None for cost in weights.values())
    sizes = {e: float(c.multiply_adds or 0 if counted else c.parameters) for e, c in weights.items()}
    largest = max(sizes.values(), default=0.0) or 1.0
    what = "multiply-adds" if counted else "parameters"
    times = {entry: cost.milliseconds for entry, cost in data.costs.items()}
    panel = data.panels.get(dataset, {})

    def points(across: str | None, metric: str) -> list[Point]:
        """Return the entries at their means by two metrics, or over their times where the first is None."""
        x, y = times if across is None else means[across], means[metric]
        found = []
        for entry in [entry for entry in indices if entry in x and entry in y]:
            name = str(indices[entry] + 1) if len(indices) > MAX_NAMED else entry
            texts = [format_value(x[entry], opinion=across in panel), format_value(y[entry], opinion=metric in panel)]
            note = f"{entry}: {', '.join(texts)}, {short_number(sizes[entry])} {what}"
            found.append(Point(name, x[entry], y[entry], indices[entry], sizes[entry] / largest, note))
        return found

    def axis(metric: str) -> Axis:
        up = data.directions[metric]
        return Axis(f"{metric}, {'higher' if up else 'lower'} is better", up)

    found = []
    numbers = " Numbers are those in the leaderboard." if len(indices) > MAX_NAMED else ""
    pair = data.tradeoff or _tradeoff(data.directions)
    if pair is not None and all(metric in means for metric in pair):
        distortion, perception = pair
        # two that point the same way, such as PSNR and SSIM, mostly measure the same
        differ = data.tradeoff is not None or data.directions[distortion] != data.directions[perception]
        title = f"{'Perception and distortion' if differ else f'{distortion} and {perception}'} on {dataset}"
        svg = scatter_svg(points(distortion, perception), axis(distortion), axis(perception), f"{anchor}-pd", title)
        found.append((f"{title}. Marker area: {what}, at most {short_number(largest)}.{numbers}", svg))
    speed = Axis(f"milliseconds for {data.latency_size}x{data.latency_size}, lower is better", False, True)
    for metric in [m for m in dict.fromkeys(pair or list(means)[:1]) if m in means]:
        title = f"Quality and speed on {dataset}: {metric}"
        svg = scatter_svg(points(None, metric), speed, axis(metric), f"{anchor}-speed-{len(found)}", title)
        found.append((f"{title}, against the time of one image.{numbers}", svg))
    return [(caption, svg) for caption, svg in found if svg]


def _tradeoff(directions: Mapping[str, bool]) -> tuple[str, str] | None:
    first, *others = directions
    opposite = [metric for metric in others if directions[metric] != directions[first]]
    return (first, (opposite or others)[0]) if others else None


def _seed_table(data: PageData) -> list[tuple[str, str, int, list[str]]]:
    """Recipe, dataset, number of runs, and mean and deviation of each metric."""
    groups: dict[tuple[str, str], dict[str, SeedGroup]] = {}
    for group in group_seeds(comparable(data.rows, data.directions).rows, data.recipes):
        groups.setdefault((group.dataset, group.recipe), {})[group.metric] = group
    table = []
    for (dataset, recipe), by_metric in groups.items():
        found = [by_metric.get(metric) for metric in data.directions]
        panel = data.panels.get(dataset, {})
        texts = [_spread(group, group.metric in panel) if group else "-" for group in found]
        table.append((recipe, dataset, max(len(g.means) for g in by_metric.values()), texts))
    return table


def _spread(group: SeedGroup, opinion: bool) -> str:
    mean, deviation = (format_value(value, opinion=opinion) for value in (group.mean, group.deviation))
    return mean if math.isnan(group.deviation) else f"{mean} ± {deviation}"


def _scores_of(data: PageData, gallery: Gallery) -> list[dict[str, str]]:
    """For each image of the gallery: entry to its scores on it, as text."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in sorted(data.rows, key=lambda row: list(data.directions).index(row.metric)):
        of_entry = found.setdefault((row.dataset, row.image), {}).setdefault(row.entry, [])
        value = format_value(row.value, opinion=row.metric in data.panels.get(row.dataset, {}))
        of_entry.append(f"{row.metric}\N{NO-BREAK SPACE}{value}")
    keys = [(exhibit.dataset, exhibit.image) for exhibit in gallery.exhibits]
    return [{entry: " · ".join(texts) for entry, texts in found.get(key, {}).items()} for key in keys]


def _first_ends(data: PageData, gallery: Gallery, entries: Iterable[str]) -> tuple[str, str]:
    """What the slider compares at first: the smallest entry, and the best by the metric of perception."""
    labels = list(gallery.exhibits[0].pictures) if gallery.exhibits else []
    shown = [entry for entry in entries if entry in labels] or labels
    if not shown:
        return "", ""
    left = min(shown, key=lambda entry: data.costs.get(entry, EntryCost()).parameters)
    metric = (_tradeoff(data.directions) or (next(iter(data.directions)),))[-1]
    dataset = gallery.exhibits[0].dataset
    order = win_matrix(select(data.rows, dataset, metric), data.directions[metric]).entries
    others = [entry for entry in order if entry in shown and entry != left] or [e for e in labels if e != left]
    return left, (others or [left])[0]


def _key(value: float) -> str:
    if math.isnan(value):
        return ""
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
