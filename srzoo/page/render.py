"""The report: one HTML file that holds everything it shows and asks for nothing over a network. Needs no torch."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..costs import HR_SIZE
from ..coverage import comparable
from ..errors import DataError
from ..files import replacing
from ..gallery import CROP_SIDE, MAX_BYTES, MAX_IMAGES, MAX_SIDE, QUALITY, Gallery, build_gallery
from ..plots import COLOURS
from ..report import cost_table, format_value, precision_text, unsteady
from ..statistics import MIN_PAIRS, RESAMPLES, SeedGroup, group_seeds, images_needed, select, win_matrix
from .data import EntryCost, PageData, tradeoff
from .plots import MAX_NAMED
from .sections import cost_rows, dataset_section, loss_table

TEMPLATES = Path(__file__).parents[1] / "templates"


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
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
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
        dataset_section(ranked, data.rows, name, f"data-{number}", indices, coverage.notes.get(name, ()))
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
        losses=loss_table(ranked, indices),
        costs=cost_rows(data, indices),
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


def _seed_table(data: PageData) -> list[tuple[str, str, int, list[str]]]:
    """Recipe, dataset, number of runs, and mean and deviation of each metric."""
    groups: dict[tuple[str, str], dict[str, SeedGroup]] = {}
    for group in group_seeds(data.rows, data.recipes):
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
    metric = (tradeoff(data.directions) or (next(iter(data.directions)),))[-1]
    dataset = gallery.exhibits[0].dataset
    order = win_matrix(select(data.rows, dataset, metric), data.directions[metric]).entries
    others = [entry for entry in order if entry in shown and entry != left] or [e for e in labels if e != left]
    return left, (others or [left])[0]
