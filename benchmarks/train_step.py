"""Training steps of srzoo against BasicSR 1.4.2, in turn.

    python benchmarks/train_step.py [ROUNDS]

Both do whole steps: forward, losses, backward, update of both networks, moving average, schedule. srzoo's also read
their crops and write their log; BasicSR's get random images for nothing. BasicSR computes as it is shipped, in
float32; srzoo as it is shipped, which is bf16 where the processor computes in it, and once more in float32. Prints,
last for each comparison, ``ratio NAME VALUE`` of steps a second.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turns import Worker, basicsr_python, compare, record, serve

KINDS: dict[str, dict[str, Any]] = {
    "msrresnet": {"entry": "msrresnet-x4", "batch": 16, "size": 24, "steps": 4, "changes": {}},
    "esrgan": {
        "entry": "esrgan-x4",
        "batch": 4,
        "size": 32,
        "steps": 3,
        "changes": {
            "generator.num_features": 32,
            "generator.num_blocks": 4,
            "generator.block": {"name": "rrdb", "growth": 16, "residual_scale": 0.2},
            "training.stages.psnr": None,
            "training.stages.gan.ema": 0.999,
            "training.stages.gan.losses.perceptual.extractor": {"name": "vgg19", "pretrained": False},
        },
    },
}


def work(kind: str, precision: str = "auto") -> None:
    """Train, stopping at every logged step; a piece of work lets the training go on to the next.

    The training runs in the main thread, as ``srzoo train`` does: glibc serves other threads from heaps of their own,
    which it gives back to the kernel and faults in again, step after step.
    """
    import torch

    import srzoo

    chosen = KINDS[kind]
    torch.manual_seed(0)
    go, logged = threading.Semaphore(0), threading.Semaphore(0)

    def at_log(stage: str, step: int, steps: int, values: Mapping[str, float]) -> None:
        if stage != "decoding":
            logged.release()
            go.acquire()

    def piece() -> int:
        go.release()
        logged.acquire()
        return int(chosen["steps"])

    def answer() -> None:
        logged.acquire()  # the first steps are warm-up
        serve(piece)

    threading.Thread(target=answer, daemon=True).start()
    with tempfile.TemporaryDirectory() as out:
        srzoo.train(
            chosen["entry"],
            out,
            data="photos",
            overrides={
                **chosen["changes"],
                "training.batch_size": chosen["batch"],
                "training.patch_size": 4 * chosen["size"],
                "training.precision": precision,
            },
            log_every=chosen["steps"],
            checkpoint_every=10**9,
            progress=at_log,
        )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    python = basicsr_python()
    worker = str(Path(__file__).parent / "peers" / "basicsr_worker.py")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, chosen in KINDS.items():
            sizes = [str(chosen[key]) for key in ("batch", "size", "steps")]
            own = Worker([sys.executable, __file__, "work", kind])
            peer = Worker([python, worker, kind, *sizes], cwd=scratch)
            results.append(compare(f"{kind}-step", own, peer, rounds))
            own.close()
            own = Worker([sys.executable, __file__, "work", kind, "fp32"])
            results.append(compare(f"{kind}-step-fp32", own, peer, rounds))
            own.close()
            peer.close()
            # What the allocator setting alone would give BasicSR.
            tuned = Worker(
                [python, worker, kind, *sizes], cwd=scratch, MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_="-1"
            )
            own = Worker([sys.executable, __file__, "work", kind])
            results.append(compare(f"{kind}-step-against-tuned-allocator", own, tuned, rounds))
            own.close()
            tuned.close()
    record(__file__, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:])
    else:
        main()
