"""What a reader has to know beside the scores: how an output came about, and by what it was scored. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        image, text = next(iter(texts.items()))
        more = f" Of {len(texts) - 1} more images the like was noted." if len(texts) > 1 else ""
        notes.append(f"{entry} on {dataset}, {image}: {text}{more}")
    return notes


def provenance_note(scores: Iterable[Score]) -> str:
    """Return in words by what scores were computed, and where that differs, whose were by what; empty for none.

    What people said is left out.
    """
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for score in scores:
        if score.device == PEOPLE:
            continue
        found.setdefault((score.srzoo, score.torch, score.device), {})[score.entry] = score.plugins
    if not found:
        return ""
    texts = {key: f"srzoo {key[0]}, torch {key[1]} on {key[2]}" for key in found}
    if len(found) == 1:
        return f"Scores by {next(iter(texts.values()))}.{_plugins(found.values())}"
    parts = [f"{texts[key]} ({', '.join(entries)})" for key, entries in found.items()]
    return f"Scores were computed by {'; by '.join(parts)}.{_plugins(found.values())}"


def _plugins(found: Iterable[Mapping[str, str]]) -> str:
    if len({plugins for entries in found for plugins in entries.values()}) < 2:
        return ""
    return " Their plugins differ too: --export writes them all."
