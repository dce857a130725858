"""Runs that are killed at moments of chance, and go on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from srzoo.training import train
entry, out, data = sys.argv[1:]
changes = {
    "generator.num_features": 8, "generator.num_blocks": 1, "training.patch_size": 32, "training.batch_size": 2,
    "training.precision": "fp32", "training.multiscale": [1.0], "training.deterministic": True,
    "training.validation": {"data": data, "every": 70, "metrics": ["psnr"]}, "training.accumulate": 2,
}
if "gan" in entry:
    changes |= {
        "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8}, "training.start_from": None,
        "training.stages.gan.losses.perceptual": None, "training.stages.gan.losses.gradient_penalty": 1.0,
    }
train(entry, out, data=data, steps=300, overrides=changes, log_every=7, checkpoint_every=1)
"""


def start(entry: str, out: Path, photos: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, entry, str(out), photos],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(run: Path) -> str:
    """The name of the last state that a run has written."""
    return max((path.name for path in run.glob("states/*.pt")), default="")


def told(run: Path) -> list[dict[str, Any]]:
    """What the log says, but for the time it took."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["srresnet-lite-x4", "srgan-lite-x4"])
def test_a_run_that_is_killed_ends_with_the_bytes_of_one_that_is_not(entry: str, tmp_path: Path, photos: str) -> None:
    """A state is written at every step, so that most kills fall into a write."""
    whole = start(entry, tmp_path / "whole", photos)
    assert whole.wait() == 0, whole.stderr and whole.stderr.read()
    moments = random.Random(0)
    pieces = tmp_path / "pieces"
    reached: list[str] = []
    for _ in range(8):
        before = newest(pieces)
        run = start(entry, pieces, photos)
        while run.poll() is None and newest(pieces) == before:
            time.sleep(0.005)  # starting takes longer than training: wait for its first step
        time.sleep(moments.uniform(0, 0.4))
        if run.poll() is not None:
            assert run.returncode == 0, run.stderr and run.stderr.read()
            break
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        reached.append(newest(pieces))
    assert len(set(reached)) >= 3, "killed at several steps of the training itself"
    last = start(entry, pieces, photos)
    assert last.wait() == 0, last.stderr and last.stderr.read()
    name = f"{entry}.safetensors"
    assert (pieces / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    best = Path("checkpoints") / "best.safetensors"
    assert (pieces / best).read_bytes() == (tmp_path / "whole" / best).read_bytes()
    assert told(pieces) == told(tmp_path / "whole")
