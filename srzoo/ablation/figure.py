"""The figure of an ablation: crops, a row an image and a column a column of the table. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files import replacing
from ..gallery import Box, UInt8Array, busiest_box
from .results import Findings
from .table import build_table

CELL, LINE, MARGIN, GAP = 1.35, 0.23, 1.75, 0.04
"""Inches: side of a crop, height of a line of text, width of the labels, space between crops."""

Images = Mapping[tuple[str, str], Mapping[str, Path]]
"""``(dataset, image)`` to label of a column to a file."""
ENLARGED = 192
"""Side of a crop as it is drawn, in pixels; a whole multiple of the crop's own where that is possible."""


@dataclass(frozen=True)
class Strip:
    """One row of the figure.

    Attributes:
        crops: label of a column to pixels, (side, side, 3).
    """

    dataset: str
    image: str
    box: Box
    crops: dict[str, UInt8Array]


def strips(findings: Findings, images: Images) -> list[Strip]:
    """Cut the crops of the figure.

    Raises:
        DataError: a picture cannot be read, or is smaller than the crop that the recipe wants.
    """
    found = []
    for (dataset, image), files in images.items():
        pixels = {label: _read(path) for label, path in files.items()}
        height, width = (min(array.shape[side] for array in pixels.values()) for side in (0, 1))
        pixels = {label: array[:height, :width] for label, array in pixels.items()}
        wanted = next(e.crop for e in findings.plan.ablation.figure if e.dataset == dataset and image in e.image)
        box = Box(wanted[0], wanted[1], wanted[2], wanted[2]) if wanted else busiest_box(list(pixels.values()))
        if box.left + box.width > width or box.top + box.height > height:
            raise DataError(f"figure: the crop of {dataset}/{image} reaches beyond its {width}x{height} pixels.")
        found.append(Strip(dataset, image, box, {label: box.cut(array) for label, array in pixels.items()}))
    return found


def _read(path: Path) -> UInt8Array:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the picture {path}: {error}.") from error


def enlarged(crop: UInt8Array, side: int = ENLARGED) -> Image.Image:
    """Return a crop enlarged by the next whole factor, without smoothing."""
    factor = max(1, round(side / max(crop.shape[:2])))
    size = crop.shape[1] * factor, crop.shape[0] * factor
    return Image.fromarray(np.ascontiguousarray(crop)).resize(size, Image.Resampling.NEAREST)


def write_figure(findings: Findings, images: Images, path: Path) -> list[Strip]:
    """Draw the figure with the table's head above the crops, as the paper does, and return its rows.

    Without images nothing is drawn.

    Raises:
        DataError: a picture cannot be read, or the figure not written.
    """
    rows = strips(findings, images)
    if not rows:
        return rows
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels, blocks = build_table(findings)
    head = blocks[0].lines
    top = LINE * (len(head) + 1.6)
    width, height = MARGIN + len(labels) * (CELL + GAP), top + len(rows) * (CELL + GAP) + 0.06
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, colour: str = "#1b1f27", **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="center", color=colour, parse_math=False, **style)

    for row, line in enumerate(head):
        write(0.08, LINE * (row + 1.8), line.label, fontsize=8)
    for column, label in enumerate(labels):
        left = MARGIN + column * (CELL + GAP)
        write(left + CELL / 2, LINE * 0.8, label, fontsize=10, weight="bold", ha="center")
        for row, line in enumerate(head):
            own = line.cells[column]
            style = {"colour": "#d01c1c", "weight": "bold"} if own.changed else {}
            write(left + CELL / 2, LINE * (row + 1.8), own.text, fontsize=8, ha="center", **style)
        for row, strip in enumerate(rows):
            y = top + row * (CELL + GAP)
            axes = figure.add_axes((left / width, 1 - (y + CELL) / height, CELL / width, CELL / height))
            axes.axis("off")
            if label in strip.crops:
                axes.imshow(strip.crops[label], interpolation="nearest", aspect="auto")
            else:
                axes.text(0.5, 0.5, "failed", ha="center", va="center", fontsize=8, transform=axes.transAxes)
    for row, strip in enumerate(rows):
        write(0.08, top + row * (CELL + GAP) + CELL / 2, f"{strip.image}\n{strip.dataset}", fontsize=8)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=ENLARGED / CELL, format="png")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}.") from error
    return rows
