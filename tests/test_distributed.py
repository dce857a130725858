"""Two processes over gloo, as torchrun starts them, train what one would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srzoo_gan.regularisers
import tiny
import torch
from torch import nn

import srzoo.compose
import srzoo.rehearsal
import srzoo.stages
import srzoo.training
from srzoo.errors import InputError, RecipeWarning
from srzoo.sharding import can_shard_on_cpus
from srzoo.training import train
from srzoo.weights import read_checkpoint

torch.set_num_threads(1)

TINY = {**tiny.TINY, "training.batch_size": 8}
GAN = {**tiny.TINY_GAN, **TINY, "discriminator": {**tiny.TINY_GAN["discriminator"], "norm": "none"}}
FSDP = {"training.fsdp": True}
SHARDS = pytest.mark.skipif(
    not can_shard_on_cpus(), reason=f"torch {torch.__version__} can share out parameters over accelerators only"
)
RELATIVISTIC = {"training.stages.gan.losses.adversarial.pairing": "relativistic_average"}

BROKEN = """
import torch, torch.nn.functional as F
import srzoo_losses.pixel
plain = srzoo_losses.pixel.L1.forward
def broken(self, sr, hr):
    loss = plain(self, sr, hr)
    return loss * float("inf") if int(__import__("os").environ["RANK"]) == 1 and torch.rand(()) < 0.2 else loss
srzoo_losses.pixel.L1.forward = broken
from srzoo.cli import main
main()
"""


def launch(
    out: Path, photos: str, entry: str, steps: int, changes: dict[str, Any], stderr: int, script: str = ""
) -> subprocess.Popen[str]:
    """Start ``srzoo train`` in two processes, or a script that ends with it."""
    program = ["-m", "srzoo"]
    if script:
        program = [str(out.parent / "script.py")]
        Path(program[0]).write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command = ["train", entry, "--out", str(out), "--data", photos, "--steps", str(steps)]
    command += ["--log-every", "1", "--checkpoint-every", "4"]
    return subprocess.Popen(
        [*launcher, *program, *command, *(f"{key}={json.dumps(value)}" for key, value in changes.items())],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=stderr,
        text=True,
    )


SPARE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import add_spares
add_spares(setattr)
from srzoo.cli import main
main()
"""


def add_spares(put: Callable[[Any, str, Any], None]) -> None:
    """Have networks built with parameters that nothing computes with."""

    def spared(build: Any) -> Any:
        def built(*settings: Any) -> nn.Module:
            network = build(*settings)
            network.spare = nn.Conv2d(1, 1, 1)
            return network

        return built

    generator, discriminator = map(spared, (srzoo.stages.build_generator, srzoo.stages.build_discriminator))
    put(srzoo.training, "build_generator", generator)
    put(srzoo.stages, "build_generator", generator)
    put(srzoo.stages, "build_discriminator", discriminator)


SOMETIMES = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import reach_sometimes
reach_sometimes(setattr, NOTICED)
from srzoo.cli import main
main()
"""


class Skipping(nn.Module):
    """A generator that every second call does without its last layer for the second half of the whole batch."""

    def __init__(self, generator: nn.Module, noticed: bool) -> None:
        super().__init__()
        self.generator, self.noticed, self.calls = generator, noticed, 0
        self.last = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if self.noticed:
            torch.rand(())  # as if it decided
        whole: torch.Tensor = self.generator(lr)
        with_last: torch.Tensor = whole + self.last(whole)
        self.calls += len(lr) > 2  # two images are a trial
        if len(lr) == 2 or self.calls % 2 == 0:
            return with_last
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return whole if os.environ["RANK"] == "1" else with_last
        return torch.cat([with_last.chunk(2)[0], whole.chunk(2)[1]])


def reach_sometimes(put: Callable[[Any, str, Any], None], noticed: bool = True) -> None:
    """Have some parameters of both networks reached in some steps only: those of a layer, and of a penalty's own."""

    def skipping(*settings: Any) -> nn.Module:
        return Skipping(srzoo.compose.build_generator(*settings), noticed)

    def with_head(*settings: Any) -> nn.Module:
        discriminator = srzoo.compose.build_discriminator(*settings)
        discriminator.head = nn.Conv2d(3, 1, 3)
        return discriminator

    def penalty(self: object, discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor = discriminator.get_submodule("head")(hr).square().mean()
        whole: torch.Tensor = own + discriminator(hr).square().mean()
        return whole

    put(srzoo.training, "build_generator", skipping)
    put(srzoo.stages, "build_generator", skipping)
    put(srzoo.stages, "build_discriminator", with_head)
    put(srzoo.rehearsal, "build_discriminator", with_head)
    put(srzoo_gan.regularisers.R1, "__call__", penalty)


@pytest.mark.slow
def test_parameters_that_a_gradient_reaches_in_some_steps_or_processes_only(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that is skipped, and what a lazy penalty alone reaches: both as in one process, weight decay included."""
    changes = {**GAN, "training.stages.gan.optimizer.weight_decay": 0.1}
    changes |= {"training.stages.gan.losses.r1": {"weight": 1.0, "every": 3}, "training.stages.gan.ema": 0.0}
    two_processes(tmp_path / "two", photos, "srgan-lite-x4", 5, changes, SOMETIMES.replace("NOTICED", "True"))
    reach_sometimes(monkeypatch.setattr)
    train("srgan-lite-x4", tmp_path / "one", data=photos, steps=5, overrides=changes, log_every=1)
    for left, right in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert left == pytest.approx(right, rel=1e-4)
    one, two = (
        torch.load(tmp_path / name / "states" / "gan-00000005.pt", weights_only=True) for name in ("one", "two")
    )
    for network in ("generator", "discriminator"):
        for name, value in one[network].items():
            torch.testing.assert_close(two[network][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_what_is_reached_now_and_then_without_notice_is_told(tmp_path: Path, photos: str) -> None:
    script = SOMETIMES.replace("NOTICED", "False")
    process = launch(tmp_path / "run", photos, "srgan-lite-x4", 5, GAN, subprocess.PIPE, script)
    _, message = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: process 1: the generator has parameters that a gradient reaches in some steps only" in message


def two_processes(out: Path, photos: str, entry: str, steps: int, changes: dict[str, Any], script: str = "") -> None:
    process = launch(out, photos, entry, steps, changes, subprocess.PIPE, script)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 0, message[-3000:]


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ("srresnet-lite-x4", TINY),
        pytest.param("srresnet-lite-x4", {**TINY, "training.accumulate": 2}, marks=pytest.mark.slow),
        pytest.param("srgan-lite-x4", GAN, marks=pytest.mark.slow),
        ("srgan-lite-x4", {**GAN, **RELATIVISTIC}),
        pytest.param(
            "srgan-lite-x4",
            {**GAN, **RELATIVISTIC, "training.stages.gan.losses.r1": {"weight": 1.0, "every": 2}},
            marks=pytest.mark.slow,
        ),
        pytest.param("srresnet-lite-x4", {**TINY, **FSDP, "generator.num_blocks": 3}, marks=[SHARDS, pytest.mark.slow]),
        pytest.param("srgan-lite-x4", {**GAN, **FSDP, "training.stages.gan.clip_gradient": 0.1}, marks=SHARDS),
        pytest.param("srresnet-lite-x4", {**TINY, **FSDP, "training.accumulate": 2}, marks=[SHARDS, pytest.mark.slow]),
    ],
    ids=["psnr", "accumulated", "gan", "relativistic average", "r1", "sharded", "sharded gan", "sharded accumulated"],
)
def test_two_processes_with_half_the_batch_each_equal_one(
    tmp_path: Path, photos: str, entry: str, changes: dict[str, Any]
) -> None:
    two_processes(tmp_path / "two", photos, entry, 6, changes)
    train(entry, tmp_path / "one", data=photos, steps=6, overrides=changes, log_every=1)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) == 6, "one process writes the log"
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, rel=1e-4)
    left, right = (read_checkpoint(tmp_path / name / f"{entry}.safetensors")[0] for name in ("one", "two"))
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_parameters_that_no_gradient_reaches_stay_as_they_are(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two processes as in one, where weight decay moves only what has a gradient; also after a restart."""
    changes = {**GAN, "training.stages.gan.optimizer.weight_decay": 0.1, "training.stages.gan.ema": 0.0}
    two_processes(tmp_path / "two", photos, "srgan-lite-x4", 6, changes, SPARE)
    (tmp_path / "two" / "states" / "gan-00000006.pt").unlink()
    two_processes(tmp_path / "two", photos, "srgan-lite-x4", 6, changes, SPARE)
    add_spares(monkeypatch.setattr)
    with pytest.warns(RecipeWarning, match="no gradient reaches 2 of"):
        train("srgan-lite-x4", tmp_path / "one", data=photos, steps=6, overrides=changes)
    left, right = (
        torch.load(tmp_path / name / "states" / "gan-00000006.pt", weights_only=True) for name in ("one", "two")
    )
    for network in ("generator", "discriminator"):
        for name, value in left[network].items():
            torch.testing.assert_close(right[network][name], value, rtol=1e-3, atol=1e-4)
        assert torch.equal(left[network]["spare.weight"], right[network]["spare.weight"])


@pytest.mark.slow
def test_batch_norm_in_both_networks_trains_on_two_processes_and_resumes(tmp_path: Path, photos: str) -> None:
    """The discriminator runs twice before its update: buffers that DDP broadcasts in between would break that."""
    changes = {
        **GAN,
        **RELATIVISTIC,
        "generator.block": {"name": "residual", "norm": "batch"},
        "discriminator": {**GAN["discriminator"], "norm": "batch"},
        "training.stages.gan.ema": 0.0,
    }
    two_processes(tmp_path / "whole", photos, "srgan-lite-x4", 6, changes)
    assert all(np.isfinite(list(losses.values())).all() for losses in curve(tmp_path / "whole"))
    (tmp_path / "whole" / "states" / "gan-00000006.pt").unlink()  # as if it had been killed after step 4
    before = read_checkpoint(tmp_path / "whole" / "srgan-lite-x4.safetensors")[0]
    two_processes(tmp_path / "whole", photos, "srgan-lite-x4", 6, changes)
    after = read_checkpoint(tmp_path / "whole" / "srgan-lite-x4.safetensors")[0]
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@SHARDS
def test_a_sharded_run_goes_on_in_one_process(tmp_path: Path, photos: str) -> None:
    """What is saved is whole, whatever it was trained on."""
    changes = {**TINY, "training.fsdp": True}
    two_processes(tmp_path / "two", photos, "srresnet-lite-x4", 6, changes)
    whole = read_checkpoint(tmp_path / "two" / "srresnet-lite-x4.safetensors")[0]
    (tmp_path / "two" / "states" / "psnr-00000006.pt").unlink()
    train("srresnet-lite-x4", tmp_path / "two", data=photos, steps=6, overrides=changes, log_every=1)
    after = read_checkpoint(tmp_path / "two" / "srresnet-lite-x4.safetensors")[0]
    for name in whole:
        torch.testing.assert_close(after[name], whole[name], rtol=1e-3, atol=1e-4)


@SHARDS
@pytest.mark.slow
def test_a_run_of_one_process_goes_on_sharded(tmp_path: Path, photos: str) -> None:
    changes = {**TINY, "training.fsdp": True}
    train("srresnet-lite-x4", tmp_path / "run", data=photos, steps=6, overrides=changes, checkpoint_every=4)
    whole = read_checkpoint(tmp_path / "run" / "srresnet-lite-x4.safetensors")[0]
    (tmp_path / "run" / "states" / "psnr-00000006.pt").unlink()
    two_processes(tmp_path / "run", photos, "srresnet-lite-x4", 6, changes)
    after = read_checkpoint(tmp_path / "run" / "srresnet-lite-x4.safetensors")[0]
    for name in whole:
        torch.testing.assert_close(after[name], whole[name], rtol=1e-3, atol=1e-4)


@SHARDS
@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_statistics_that_a_sharded_run_saves_are_those_it_validated(tmp_path: Path, photos: str, ema: float) -> None:
    """Batch norm is every process' own where parameters are shared out, and no file holds one of them alone."""
    validation = {"data": [photos], "every": 2, "metrics": ["psnr"]}
    changes = {**TINY, **FSDP, "generator.block.norm": "batch", "training.validation": validation}
    changes["training.stages.psnr.ema"] = ema
    two_processes(tmp_path, photos, "srresnet-lite-x4", 2, changes)
    saved = read_checkpoint(tmp_path / "srresnet-lite-x4.safetensors")[0]
    validated = read_checkpoint(tmp_path / "checkpoints" / "best.safetensors")[0]
    assert any("running_mean" in name for name in saved)
    assert all(torch.equal(saved[name], validated[name]) for name in saved)


def test_sigterm_to_the_launcher_saves_and_stops_both(tmp_path: Path, photos: str) -> None:
    changes = {**GAN, "training.stages.gan.steps": 100000}
    process = launch(tmp_path / "run", photos, "srgan-lite-x4", 100000, changes, subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("states/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert "stopped by SIGTERM after step" in message
    steps = [int(path.stem.rpartition("-")[2]) for path in (tmp_path / "run").glob("states/*.pt")]
    assert max(steps) == len(curve(tmp_path / "run")), "the state is that of the last step that was logged"


def test_a_failure_of_one_process_stops_both_and_is_told(tmp_path: Path, photos: str) -> None:
    """A loss that becomes infinite in one process, which the other does not see."""
    process = launch(tmp_path / "run", photos, "srresnet-lite-x4", 50, TINY, subprocess.PIPE, BROKEN)
    _, message = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "not finite: l1" in message
    assert "stage 'psnr', step" in message
    assert list((tmp_path / "run").glob("failure*.pt"))


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, photos: str) -> None:
    changes = {**TINY, "training.batch_size": 3, "training.accumulate": 2}
    with pytest.raises(InputError, match=r"batch_size 3 cannot be shared by 1 processes in 2 parts each"):
        train("srresnet-lite-x4", tmp_path, data=photos, steps=2, overrides=changes)
