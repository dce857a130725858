"""The report's plots of one dataset: perception against distortion, and quality against speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..plots import Axis, Point, scatter_svg
from ..report import format_value, short_number
from ..statistics import Ranking
from .data import EntryCost, PageData, tradeoff

MAX_NAMED = 10
"""With more entries the plots show numbers, for names would hide each other; the leaderboard says whose they are."""


def dataset_plots(
    data: PageData, anchor: str, dataset: str, rankings: Mapping[str, Ranking], indices: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Return caption and SVG of each plot that the metrics and times allow."""
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

    def undrawn(metrics: Sequence[str], what: str) -> str:
        """Name the scored entries that have no place in a plot, as whose mean is infinite by one equal image."""
        axes = [means[metric] for metric in metrics] + ([times] if len(metrics) == 1 else [])
        scored = [entry for entry in indices if any(entry in means[metric] for metric in metrics)]
        names = [entry for entry in scored if not all(math.isfinite(axis.get(entry, math.nan)) for axis in axes)]
        return f" Not drawn, without a finite {what}: {', '.join(names)}." if names else ""

    def axis(metric: str) -> Axis:
        up = data.directions[metric]
        return Axis(f"{metric}, {'higher' if up else 'lower'} is better", up)

    found = []
    numbers = " Numbers are those in the leaderboard." if len(indices) > MAX_NAMED else ""
    pair = data.tradeoff or tradeoff(data.directions)
    if pair is not None and all(metric in means for metric in pair):
        distortion, perception = pair
        # two that point the same way, such as PSNR and SSIM, mostly measure the same
        differ = data.tradeoff is not None or data.directions[distortion] != data.directions[perception]
        title = f"{'Perception and distortion' if differ else f'{distortion} and {perception}'} on {dataset}"
        missing = undrawn(pair, "score")
        svg = scatter_svg(points(distortion, perception), axis(distortion), axis(perception), f"{anchor}-pd", title)
        found.append((f"{title}. Marker area: {what}, at most {short_number(largest)}.{numbers}{missing}", svg))
    speed = Axis(f"milliseconds for {data.latency_size}x{data.latency_size}, lower is better", False, True)
    for metric in [m for m in dict.fromkeys(pair or list(means)[:1]) if m in means]:
        title = f"Quality and speed on {dataset}: {metric}"
        svg = scatter_svg(points(None, metric), speed, axis(metric), f"{anchor}-speed-{len(found)}", title)
        missing = undrawn([metric], "score or time")
        found.append((f"{title}, against the time of one image.{numbers}{missing}", svg))
    return [(caption, svg) for caption, svg in found if svg]
