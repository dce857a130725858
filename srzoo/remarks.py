"""What a reader has to know beside the scores: how an output came about, and by what it was scored. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .results import Score


PEOPLE = "people"
"""What stands for the device of opinions."""


class Remark(NamedTuple):
    """A sentence on what one model made of one dataset, or of one image of it.

    Attributes:
        entry: the model's label.
        image: empty where it is on the whole dataset.
        text: begins in lower case and ends with a full stop.
    """

    entry: str
    dataset: str
    image: str
    text: str


@dataclass(frozen=True)
class Overlap:
    """The images of a dataset that a model was trained on.

    Attributes:
        certain: False where some of its training images are not here to be compared.
    """

    images: Sequence[str]
    certain: bool = True


def overlap_remark(entry: str, dataset: str, images: Sequence[str]) -> Remark:
    """Return that a model was trained on some images of a dataset."""
    named = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
    return Remark(entry, dataset, "", f"trained on {len(images)} of its images ({named}), so its scores flatter.")


def remark_notes(remarks: Iterable[Remark]) -> list[str]:
    """Return a sentence for what holds of several models alike, and one for the images of a model and dataset."""
    alike: dict[tuple[str, str], list[str]] = {}
    of_images: dict[tuple[str, str], dict[str, str]] = {}
    for entry, dataset, image, text in remarks:
        if image:
            of_images.setdefault((entry, dataset), {}).setdefault(image, text)
        else:
            alike.setdefault((dataset, text), []).append(entry)
    notes = [f"{', '.join(dict.fromkeys(entries))} on {dataset}: {text}" for (dataset, text), entries in alike.items()]
    for (entry, dataset), texts in of_images.items():
        image, text = max(texts.items(), key=lambda item: _levels(item[1]))
        more = f" That is the worst of {len(texts)} such images." if len(texts) > 1 else ""
        notes.append(f"{entry} on {dataset}, {image}: {text}{more}")
    return notes


def other_weights(models: Mapping[str, Score]) -> list[str]:
    """Return a sentence for each label of a lower precision whose name stands for another model in float32.

    Args:
        models: label to a score of its model.
    """
    whole = {(m.entry, m.configuration, m.weights) for m in models.values() if m.precision == "fp32"}
    names = {entry for entry, *_ in whole}
    return [
        f"{label} has other weights or another composition than {m.entry} in float32."
        for label, m in models.items()
        if m.precision != "fp32" and m.entry in names and (m.entry, m.configuration, m.weights) not in whole
    ]


def _levels(text: str) -> float:
    """Return by how many levels tiles differ, as the remark on an image says; 0 where it says nothing of it."""
    found = re.search(r"by up to ([0-9.e+-]+) of 255 levels", text)
    return float(found[1]) if found else 0.0


def provenance_note(scores: Iterable[tuple[str, Score]]) -> str:
    """Return in words by what scores were computed, and where that differs, whose were by what; empty for none.

    What people said is left out.

    Args:
        scores: each with the label of its model.
    """
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    plugins: set[str] = set()
    for label, score in scores:
        if score.device == PEOPLE:
            continue
        found.setdefault((score.srzoo, score.torch, score.device), {})[label] = None
        plugins.add(score.plugins)
    if not found:
        return ""
    texts = {key: f"srzoo {key[0]}, torch {key[1]} on {key[2]}" for key in found}
    differ = " Versions of plugins differ too: --export writes them all." if len(plugins) > 1 else ""
    if len(found) == 1:
        return f"Scores by {next(iter(texts.values()))}.{differ}"
    parts = [f"{texts[key]} ({', '.join(labels)})" for key, labels in found.items()]
    return f"Scores were computed by {'; by '.join(parts)}.{differ}"
