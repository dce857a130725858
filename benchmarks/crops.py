"""Draw the same crop of photographs as several entries upscale it, side by side with the original.

    python benchmarks/crops.py docs/crops.png [ENTRY ...]

The photographs are the embedded ones, free to be shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from srzoo.benchmark import ready_entries
from srzoo.data import load_image_set
from srzoo.pretrained import load_model
from srzoo.upscaling import upscale

CROPS = {"astronaut": (60, 190), "chelsea": (90, 140), "coffee": (150, 230), "camera": (90, 210)}
"""Image to top and left corner of its crop in pixels of the original."""
SIDE, ZOOM, HEADER = 96, 2, 22


def main() -> None:
    out, names = Path(sys.argv[1]), sys.argv[2:] or ready_entries()
    models = [load_model(name) for name in names]
    items = {item.name: item for item in load_image_set("photos")}
    cell = SIDE * ZOOM
    sheet = Image.new("RGB", ((len(names) + 1) * (cell + 4) - 4, HEADER + len(CROPS) * (cell + 4) - 4), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, name in enumerate([*names, "original"]):
        draw.text((column * (cell + 4) + 4, 3), name, fill="black", font=font)
    for row, (image, (top, left)) in enumerate(CROPS.items()):
        lr, hr, _ = items[image].read_pair(4)
        pictures = [np.asarray(upscale(lr, model)) for model in models] + [hr]
        for column, picture in enumerate(pictures):
            crop = Image.fromarray(np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE]))
            place = (column * (cell + 4), HEADER + row * (cell + 4))
            sheet.paste(crop.resize((cell, cell), Image.Resampling.NEAREST), place)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
