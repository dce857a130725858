"""Crops of 128x128 a second out of image files: srzoo against BasicSR 1.4.2, in turn, one process each.

    python benchmarks/dataloading.py [ROUNDS]

Both read the same photographs, JPEG as HR and PNG as LR, BSDS500's training images if SRZOO_DATA has them and the
embedded ones else. Each crop ends as it is handed to training: BasicSR's as two float tensors, srzoo's as a place in
a uint8 batch that is converted to float. srzoo's cache is built before; what that takes is printed. Prints, last,
``ratio crops VALUE``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from turns import Worker, basicsr_python, compare, record, serve

COUNT = {"srzoo": 4096, "peer": 256}


def write_files(folder: Path) -> None:
    """Write HR as JPEG and LR as PNG, as training sets come."""
    from srzoo.data import load_image_set
    from srzoo.errors import InputError
    from srzoo.images import crop_to_multiple, downscale_bicubic

    try:
        images = load_image_set("bsds500_train")
    except InputError:
        images = load_image_set("photos")
    for name in ("HR", "LR"):
        (folder / name).mkdir(parents=True)
    for item in images:
        hr = crop_to_multiple(item.read_hr()[0], 4)
        Image.fromarray(hr).save(folder / "HR" / f"{item.name}.jpg", quality=95)
        Image.fromarray(downscale_bicubic(hr, 4)).save(folder / "LR" / f"{item.name}.png")
    # BasicSR pairs files by their whole name.
    for path in (folder / "LR").iterdir():
        path.rename(path.with_suffix(".jpg"))


def work(folder: str) -> None:
    """Draw batches of 16 crops."""
    from srzoo.data import ImageItem, ImageSet
    from srzoo.patches import PatchDataset

    hr, lr = (sorted((Path(folder) / name).iterdir()) for name in ("HR", "LR"))
    items = tuple(ImageItem(h.stem, h, {4: low}) for h, low in zip(hr, lr, strict=True))
    start = time.perf_counter()
    dataset = PatchDataset([ImageSet("photographs", items)], 4, 128)
    print(f"srzoo decoded {len(items)} pairs once, in {time.perf_counter() - start:.2f} s", file=sys.stderr)
    place = 0

    def piece() -> int:
        nonlocal place
        for _ in range(COUNT["srzoo"] // 16):
            batch = dataset.__getitems__(range(place, place + 16))
            for images in batch.values():
                images.float().div_(255.0)
            place += 16
        return COUNT["srzoo"]

    piece()
    serve(piece)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    os.environ["OMP_NUM_THREADS"] = "1"
    python = basicsr_python()
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch))
        worker = str(Path(__file__).parent / "peers" / "basicsr_worker.py")
        own = Worker([sys.executable, __file__, "work", scratch], SRZOO_CACHE=f"{scratch}/cache")
        peer = Worker([python, worker, "crops", scratch, str(COUNT["peer"])], cwd=scratch)
        results = [compare("crops", own, peer, rounds)]
        own.close()
        peer.close()
    record(__file__, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2])
    else:
        main()
