"""Which images entries are compared on: those that all of them have, so that no mean is over easier ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import InputError
from .report import Row

_Images = dict[str, set[str]]
"""Entry to its images."""


@dataclass(frozen=True)
class Coverage:
    """Rows that may be ranked.

    Attributes:
        rows: of each dataset and metric, those on the images that all entries with the metric have.
        notes: dataset to sentences on what that leaves out and who lacks it; none where all have all.
    """

    rows: tuple[Row, ...]
    notes: dict[str, tuple[str, ...]]


def comparable(rows: Sequence[Row], metrics: Iterable[str]) -> Coverage:
    """Return what entries have in common on each dataset.

    A metric under which they have no image in common is left out with a note, but for the one that ranks.

    Args:
        rows: of one protocol.
        metrics: in the order of the columns; the first of those that a dataset has is the one that ranks it.

    Raises:
        InputError: entries have no image in common under the metric that ranks them.
    """
    images: dict[str, dict[str, _Images]] = {}
    for row in rows:
        images.setdefault(row.dataset, {}).setdefault(row.metric, {}).setdefault(row.entry, set()).add(row.image)
    kept: dict[tuple[str, str], set[str]] = {}
    notes = {}
    for dataset, by_metric in images.items():
        order = [metric for metric in metrics if metric in by_metric]
        common = {metric: set.intersection(*by_metric[metric].values()) for metric in order}
        if order and not common[order[0]]:
            raise InputError(
                f"{_apart(by_metric[order[0]])} have no image of {dataset} in common under {order[0]}, so they cannot "
                "be ranked together; benchmark them on the same images, or leave a folder or the dataset out."
            )
        kept |= {(dataset, metric): common[metric] for metric in order}
        notes[dataset] = _notes({metric: by_metric[metric] for metric in order})
    own = tuple(row for row in rows if row.image in kept.get((row.dataset, row.metric), ()))
    for dataset in notes:
        notes[dataset] += _undefined([row for row in own if row.dataset == dataset])
    return Coverage(own, {dataset: said for dataset, said in notes.items() if said})


def _undefined(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a sentence for each metric that is undefined on some of the images that it is averaged over."""
    missing: dict[str, dict[str, list[str]]] = {}
    images: dict[str, set[str]] = {}
    for row in rows:
        images.setdefault(row.metric, set()).add(row.image)
        if math.isnan(row.value):
            missing.setdefault(row.metric, {}).setdefault(row.entry, []).append(row.image)
    sentences = []
    for metric, by_entry in missing.items():
        counts = ", ".join(
            f"{entry} on {len(names)} ({names[0]}, ...)" if len(names) > 1 else f"{entry} on {names[0]}"
            for entry, names in by_entry.items()
        )
        sentences.append(f"{metric} is undefined for {counts}, of {len(images[metric])} images; means leave them out.")
    return tuple(sentences)


def _notes(by_metric: dict[str, _Images]) -> tuple[str, ...]:
    """Return a sentence for each set of metrics of which entries lack the same number of the dataset's images."""
    every = set[str]().union(*(own for images in by_metric.values() for own in images.values()))
    said: dict[str, list[str]] = {}
    for metric, images in by_metric.items():
        said.setdefault(_lacking(images, every), []).append(metric)
    sentences = []
    for sentence, metrics in said.items():
        if sentence:
            whose = "" if len(metrics) == len(by_metric) else f"{', '.join(metrics)}: "
            sentences.append(f"{whose}{sentence}")
    return tuple(sentences)


def _lacking(images: _Images, every: set[str]) -> str:
    common = set.intersection(*images.values())
    if not common:
        return f"not compared, since {_apart(images)} have no image in common."
    counts = {entry: len(every - own) for entry, own in images.items() if own != every}
    if not counts:
        return ""
    listed = ", ".join(f"{entry} lacks {count}" for entry, count in counts.items())
    if len(images) > 1 and all(own == common for own in images.values()):
        listed = f"none has the other {len(every - common)}"
    return f"ranked on the {len(common)} of {len(every)} images that all entries have; {listed}."


def _apart(images: _Images) -> str:
    """Name two entries without a common image, or all where only all together have none."""
    entries = list(images)
    for index, first in enumerate(entries):
        for second in entries[index + 1 :]:
            if not images[first] & images[second]:
                return f"{first} and {second}"
    return f"{', '.join(entries[:-1])} and {entries[-1]}"
