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
import torch
from tiny import TINY

from srzoo.training import train

torch.set_num_threads(1)

SCRIPT = """
import json, sys
import torch
torch.set_num_threads(1)
from srzoo.training import train
entry, out, data, changes = sys.argv[1:]
train(entry, out, data=data, overrides=json.loads(changes), log_every=7, checkpoint_every=1)
"""


def changes_for(entry: str, photos: str, steps: int) -> dict[str, Any]:
    """A tiny recipe that draws numbers wherever one can, with so many steps in each stage."""
    changes: dict[str, Any] = {
        **TINY,
        "training.deterministic": True,
        "training.accumulate": 2,
        "training.validation": {"data": photos, "every": max(10, steps // 4), "metrics": ["psnr"]},
    }
    if "gan" in entry:
        changes |= {
            "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8},
            "training.stages.gan.losses.perceptual": None,
            "training.stages.gan.losses.gradient_penalty": 1.0,
            "training.stages.gan.steps": steps,
        }
    if entry == "srgan-lite-x4":
        changes["training.start_from"] = None
    if entry != "srgan-lite-x4":
        changes["training.stages.psnr.steps"] = steps
    return changes


def start(entry: str, out: Path, photos: str, steps: int = 300) -> subprocess.Popen[str]:
    changes = json.dumps(changes_for(entry, photos, steps))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, entry, str(out), photos, changes],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(run: Path) -> str:
    """The name of the last state that a run has written."""
    return max((path.name for path in run.glob("states/*.pt")), key=lambda name: (name[:3] != "psn", name), default="")


def told(run: Path) -> list[dict[str, Any]]:
    """What the log says, but for the time it took."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_same(pieces: Path, whole: Path, entry: str) -> None:
    left = {f"{entry}.safetensors", "checkpoints/best.safetensors"} | {
        f"checkpoints/{path.name}" for path in whole.glob("checkpoints/*.safetensors")
    }
    for name in left:
        assert (pieces / name).read_bytes() == (whole / name).read_bytes()
    assert told(pieces) == told(whole)


@pytest.mark.slow
def test_a_run_that_is_killed_in_either_stage_ends_with_the_bytes_of_one_that_is_not(
    tmp_path: Path, photos: str
) -> None:
    entry, pieces, steps = "srgan-mse-x4", tmp_path / "pieces", 20
    changes = changes_for(entry, photos, steps)
    train(entry, tmp_path / "whole", data=photos, overrides=changes, log_every=7, checkpoint_every=1)
    for stage in ("psnr", "gan"):
        run = start(entry, pieces, photos, steps)
        while run.poll() is None and not list(pieces.glob(f"states/{stage}-0000000[3-9].pt")):
            time.sleep(0.002)
        assert run.poll() is None, run.stderr and run.stderr.read()
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert not (pieces / f"{entry}.safetensors").exists(), "killed in the middle"
    train(entry, pieces, data=photos, overrides=changes, log_every=7, checkpoint_every=1)
    assert_same(pieces, tmp_path / "whole", entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["srresnet-lite-x4", "srgan-mse-x4"])
def test_a_run_that_is_killed_ends_with_the_bytes_of_one_that_is_not(entry: str, tmp_path: Path, photos: str) -> None:
    """A state is written at every step, so that most kills fall into a write."""
    whole = start(entry, tmp_path / "whole", photos)
    assert whole.wait() == 0, whole.stderr and whole.stderr.read()
    moments = random.Random(0)
    pieces = tmp_path / "pieces"
    reached: list[str] = []
    for _ in range(5):
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
    assert_same(pieces, tmp_path / "whole", entry)
