"""Inference of srzoo against spandrel 0.4.2, in turn: RRDBNet x4 with 64 features and 23 blocks.

    python benchmarks/inference.py [ROUNDS [THREADS]]

Both have the same number of threads: as many as there are cores, unless it is given. On a machine that has other
work to do, one thread gives steadier ratios.

Both upscale the same image with the same random weights, scaled so that the outputs are within [0, 1]. spandrel
computes as it is shipped, in float32; srzoo in float32 and in bf16. Outputs in float32 must be equal within 1e-5.
What bf16 loses is measured where there is something to lose: trained weights (rrdb-lite-x4) on photographs. Prints,
last for each comparison, ``ratio NAME VALUE``: of images a second, and of peak memory, the peer's to srzoo's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import Worker, compare, peer_python, record, serve

SIZES = {64: 2, 128: 1}
"""Side of the low-resolution image, and upscalings a piece."""
PRECISIONS = ("fp32", "bf16")
LARGEST_DIFFERENCE = 1e-5
PEER = "spandrel==0.4.2"
OURS, THEIRS = "ours.safetensors", "theirs.safetensors"


def generator() -> Any:
    """Build esrgan-x4 with random weights that yield outputs of mean 0.5 and deviation 0.15."""
    import torch

    import srzoo

    torch.manual_seed(0)
    built = srzoo.create_generator("esrgan-x4", init_scale=0.5).eval()
    with torch.no_grad():
        found = built(torch.rand(1, 3, 32, 32))
        factor = 0.15 / found.std()
        built.tail.bias.copy_(0.5 - factor * (found.mean((0, 2, 3)) - built.tail.bias))
        built.tail.weight.mul_(factor)
    return built


def new_style(name: str) -> str:
    """Return what the published RRDBNet calls one of our tensors."""
    parts = name.split(".")
    if parts[0] == "blocks":  # blocks.N.dense_blocks.M.convs.K.weight
        return f"body.{parts[1]}.rdb{int(parts[3]) + 1}.conv{int(parts[5]) + 1}.{parts[6]}"
    if parts[0] == "upsampler":  # upsampler.convs.N.weight
        return f"conv_up{int(parts[2]) + 1}.{parts[3]}"
    layers = {"head": "conv_first", "trunk_end": "conv_body", "hr_conv": "conv_hr", "tail": "conv_last"}
    return f"{layers[parts[0]]}.{parts[-1]}"


def work(weights: str, image: str, output: str, count: int, precision: str) -> None:
    """Upscale an image ``count`` times a piece; the first output is kept for comparison."""
    import torch

    import srzoo
    from srzoo.allocator import keep_freed_memory
    from srzoo.inference import prepare, run_generator
    from srzoo.weights import load_into, load_tensors

    keep_freed_memory()  # as srzoo bench does
    generator = srzoo.create_generator("esrgan-x4")
    load_into(generator, load_tensors(Path(weights)), weights)
    generator = prepare(generator, "cpu", precision)
    lr = torch.load(image, weights_only=True)
    torch.save(run_generator(generator, lr, 4), output)

    def piece() -> int:
        for _ in range(count):
            run_generator(generator, lr, 4)
        return count

    serve(piece)


def difference(own: Path, peer: Path) -> float:
    """Return the largest difference of two outputs within [0, 1], which is where spandrel cuts its own."""
    import torch

    one, two = (torch.load(path, weights_only=True) for path in (own, peer))
    return float((one.clamp(0, 1) - two).abs().max())


def lost(precision: str) -> dict[str, float]:
    """Return the dB of PSNR that a precision loses against float32 on each dataset that is here."""
    import torch

    from srzoo.data import load_image_set
    from srzoo.errors import DataError
    from srzoo.inference import prepare
    from srzoo.pretrained import load_model
    from srzoo.scoring import build_metric, mean_scores, score_set

    psnr = [build_metric("psnr", torch.device("cpu"))]
    losses = {}
    for name in ("photos", "set5"):
        try:
            images = load_image_set(name)
        except DataError:
            continue
        means = []
        for wanted in ("fp32", precision):
            model = load_model("rrdb-lite-x4")
            found = score_set(prepare(model.generator, "cpu", wanted), images, psnr, "y", 4)
            means.append(mean_scores([image.values for image in found])["psnr"])
        losses[name] = means[0] - means[1]
    return losses


def take_turns(python: str, scratch: Path, size: int, precision: str, rounds: int) -> list[dict[str, Any]]:
    """Compare rates and peak memory on one size in one precision.

    Raises:
        SystemExit: outputs in float32 are not equal.
    """
    lr, sr, peer_sr = (scratch / name for name in (f"{size}.pt", "sr.pt", "peer_sr.pt"))
    worker = str(Path(__file__).parent / "peers" / "spandrel_worker.py")
    count = str(SIZES[size])
    own = Worker([sys.executable, __file__, "work", str(scratch / OURS), str(lr), str(sr), count, precision])
    peer = Worker([python, worker, str(scratch / THEIRS), str(lr), str(peer_sr), count])
    found = compare(f"rrdbnet-{size}-{precision}", own, peer, rounds)
    own.close()
    peer.close()
    found |= {"peer_version": PEER, "threads": int(os.environ["OMP_NUM_THREADS"])}
    found["largest_difference"] = difference(sr, peer_sr)
    print(f"{found['name']}: outputs differ by {found['largest_difference']:.2g} at most")
    if precision == "fp32" and found["largest_difference"] > LARGEST_DIFFERENCE:
        raise SystemExit(f"{found['name']}: the outputs are not equal within {LARGEST_DIFFERENCE}")
    peaks = found["peak_mib"]
    return [found, {"name": f"{found['name']}-memory", "ratio": peaks["peer"] / peaks["srzoo"]}]


def main() -> None:
    import torch
    from safetensors.torch import save_file

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    os.environ["OMP_NUM_THREADS"] = sys.argv[2] if len(sys.argv) > 2 else str(os.cpu_count())
    python = peer_python("spandrel", PEER, "einops")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tensors = generator().state_dict()
        save_file(tensors, scratch / OURS)
        save_file({new_style(name): tensor for name, tensor in tensors.items()}, scratch / THEIRS)
        for size in SIZES:
            torch.save(torch.rand(1, 3, size, size), scratch / f"{size}.pt")
            for precision in PRECISIONS:
                results += take_turns(python, scratch, size, precision, rounds)
    losses = lost("bf16")
    for name, decibels in losses.items():
        print(f"rrdb-lite-x4 in bf16 loses {decibels:.4f} dB on {name}")
    for found in results:
        if found["name"].endswith("bf16"):
            found["psnr_loss_db"] = losses
    record(__file__, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:5], int(sys.argv[5]), sys.argv[6])
    else:
        main()
