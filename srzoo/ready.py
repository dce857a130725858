"""Whether an entry can be used at once, and where its weights lie. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .confinement import lies_within
from .entry import Entry
from .errors import MissingWeightsError, SrzooError, WeightsError
from .places import fetched_path, weights_folders
from .registry import get_registry
from .specs import GeneratorSpec
from .zoo import get_zoo


def generator_spec(entry: Entry) -> GeneratorSpec:
    """Return the spec of an entry's generator."""
    spec = get_registry().get("generator", entry.generator.name).spec
    assert isinstance(spec, GeneratorSpec)
    return spec


def is_ready(entry: Entry) -> bool:
    """Whether an entry can upscale at once: it has weights here, or needs none."""
    if not generator_spec(entry).trainable:
        return True
    try:
        weights_path(entry)
    except SrzooError:
        return False
    return True


def weights_path(entry: Entry, folders: Sequence[Path] | None = None) -> Path:
    """Return where an entry's weights lie.

    Args:
        folders: where they may lie; those of the zoo file that the entry is written in by default. Beyond them, what
            ``srzoo weights pull`` fetched is found by its hash.

    Raises:
        MissingWeightsError: the entry has none, or the file is not there.
        WeightsError: it is a link out of the folder of the zoo file.
    """
    if entry.weights is None:
        run = Path("runs") / entry.name
        hint = f"'srzoo train {entry.name}' makes some."
        if run.is_dir():
            hint = f"to use those of your own run, write {run} in place of the name."
        raise MissingWeightsError(f"entry {entry.name!r} has no weights in the zoo; {hint}")
    of_zoo = folders is None
    folders = get_zoo().source_of(entry).folders if folders is None else folders
    candidates = [folder / entry.weights.file for folder in folders]
    for path in candidates:
        if path.is_file():
            if not lies_within(path, folders):
                raise WeightsError(
                    f"entry {entry.name!r}: the weight file {path} is a link to {path.resolve()}, which lies outside "
                    "the folder of its zoo file; put the file itself there."
                )
            return path
    for folder in weights_folders():
        path = fetched_path(entry.weights.sha256, folder)
        if path.is_file():
            return path
    source = f" Get it from {entry.weights.url}." if entry.weights.url else ""
    if source and of_zoo:
        source = f" 'srzoo weights pull {entry.name}' gets it from {entry.weights.url}."
    raise MissingWeightsError(f"entry {entry.name!r}: the weight file {candidates[0]} is not there.{source}")
