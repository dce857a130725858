"""Metrics of srzoo against scikit-image, pyiqa, torchmetrics and lpips, in turn.

    python benchmarks/metrics.py [ROUNDS [THREADS]]

All score the same pairs: images of BSD100 and what bicubic makes of them, which must lie under ``SRZOO_DATA``.
Prints, last for each comparison, ``ratio NAME VALUE`` of images a second.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from turns import Worker, compare, peer_python, record, serve

IMAGES = 10
"""Pairs a piece."""
COMPARISONS: dict[str, list[str]] = {
    "scikit-image": ["psnr", "ssim"],
    "pyiqa-ssim": ["ssim"],
    "torchmetrics-ssim": ["ssim"],
    "lpips-squeeze": ["lpips_squeeze"],
    "row": ["psnr", "ssim", "lpips_squeeze"],
    "five-entries": ["psnr", "ssim", "lpips_squeeze"],
}
"""Peer's worker and srzoo's metrics that do the same. A row is all three, each by the fastest of the packages."""
PEERS = ["pyiqa==0.1.16", "torchmetrics==1.9.0", "lightning-utilities==0.15.3"]
NEEDED_BY_PYIQA = ["addict", "einops", "future", "opencv-python-headless", "pandas", "requests", "yapf"]
"""What importing pyiqa takes beside the packages that srzoo has; it names two dozen."""


def work(name: str, pairs: str, metrics: list[str]) -> None:
    """Score every pair of a folder a piece, as ``srzoo bench`` does; with five entries, five outputs of each image."""
    import numpy as np
    import torch

    from srzoo.allocator import keep_freed_memory
    from srzoo.scoring import Reference, build_metric

    keep_freed_memory()
    built = [build_metric(metric, torch.device("cpu")) for metric in metrics]
    images = [torch.from_numpy(np.load(path)) for path in sorted(Path(pairs).glob("*.npy"))]
    tensors = [pair.permute(0, 3, 1, 2).unsqueeze(1) for pair in images]  # (2, 1, 3, H, W)
    entries = 5 if name == "five-entries" else 1

    def score(sr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        reference = Reference(hr, built, "y", 4, grey=False)
        found = [reference.score(sr) for _ in range(entries)]
        return found[0]

    def piece() -> int:
        for sr, hr in tensors:
            score(sr, hr)
        return entries * len(tensors)

    serve(piece, values=list(score(*tensors[0]).values()))


def write_pairs(folder: Path) -> None:
    """Write what bicubic makes of the first images of BSD100, and the images: (2, H, W, 3) uint8 each."""
    import numpy as np

    import srzoo
    from srzoo.data import load_image_set
    from srzoo.images import round_to_uint8, to_tensor

    bicubic = srzoo.create_generator("bicubic")
    for item, _ in zip(load_image_set("bsd100"), range(IMAGES), strict=False):
        lr, hr, _ = item.read_pair(4)
        sr = round_to_uint8(bicubic(to_tensor(lr)))[0].permute(1, 2, 0).numpy()
        np.save(folder / f"{item.name}.npy", np.stack([sr, hr]))


def check_agreement(name: str, own: list[float], peer: list[float]) -> None:
    """Stop where the two do not score alike: then their times say nothing."""
    worst = max(abs(a - b) for a, b in zip(own, peer, strict=True))
    print(f"metrics-{name}: the scores of the first pair differ by at most {worst:.1e}")
    if worst > 1e-3:  # pyiqa rounds Y, which is worth 2e-4; the others are equal to 1e-6
        raise SystemExit(f"{name}: {own} here, {peer} there")


def main() -> None:
    from srzoo.imagenet import SQUEEZENET1_1
    from srzoo.weights import find_backbone

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    os.environ["OMP_NUM_THREADS"] = sys.argv[2] if len(sys.argv) > 2 else str(os.cpu_count())
    python = peer_python("metrics", *PEERS, *NEEDED_BY_PYIQA)
    worker = str(Path(__file__).parent / "peers" / "metrics_worker.py")
    backbone = str(find_backbone(SQUEEZENET1_1, "lpips_squeeze is"))
    arguments = {name: [backbone] for name in ("lpips-squeeze", "row", "five-entries")}
    results = []
    with tempfile.TemporaryDirectory() as pairs:
        write_pairs(Path(pairs))
        for name, metrics in COMPARISONS.items():
            own = Worker([sys.executable, __file__, "work", name, pairs, *metrics])
            peer = Worker([python, worker, name, pairs, *arguments.get(name, [])])
            if name != "torchmetrics-ssim":  # which has no Y
                check_agreement(name, own.values, peer.values)
            found = compare(f"metrics-{name}", own, peer, rounds)
            results.append(found | {"threads": int(os.environ["OMP_NUM_THREADS"])})
            own.close()
            peer.close()
    record(__file__, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main()
