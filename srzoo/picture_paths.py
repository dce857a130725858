"""Where a benchmark's folder keeps the pictures that are looked at. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

REFERENCE = "HR"
"""What the high-resolution image is called among the outputs."""

Pictures = dict[str, dict[str, dict[str, Path]]]
"""Dataset to image to label, or ``REFERENCE``, to a file."""


def output_path(
    folder: Path, dataset: str, image: str, image_digest: str, label: str = REFERENCE, decisive: Sequence[str] = ()
) -> Path:
    """Return where a run keeps an output.

    Args:
        folder: of the run.
        decisive: what the model is by: digest of its configuration, of its weights, precision; nothing for the
            reference.
    """
    digest = hashlib.sha256(" ".join([image_digest, *decisive]).encode()).hexdigest()[:12]
    parts = [_file_name(part) for part in (dataset, image, label)]
    return folder / "pictures" / parts[0] / parts[1] / f"{parts[2]}-{digest}.png"


def _file_name(text: str) -> str:
    """Return a text as a name that every disk takes, of which many have 255 bytes at most."""
    name = quote(text, safe=" ()[]@")
    return name if len(name) <= 200 else f"{name[:180]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
