"""What only a CUDA device shows: recorded steps, and that a device's results are the CPU's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, TINY_GAN
from torch import nn

import srzoo
from srzoo.compose import build_generator
from srzoo.errors import RecipeWarning
from srzoo.graphs import SWITCH
from srzoo.weights import read_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

PENALISED = {
    **TINY_GAN,
    "discriminator.norm": "none",
    "training.stages.gan.losses.adversarial.criterion": "wasserstein",
    "training.stages.gan.losses.gradient_penalty": {"weight": 10.0},
}

LAZY = {**TINY_GAN, "discriminator.norm": "none", "training.stages.gan.losses.r1": {"weight": 1.0, "every": 2}}

VALIDATED = {"data": "photos[:1]", "every": 5, "metrics": ["psnr"]}


def trained(out: Path, entry: str, changes: dict[str, Any], steps: int = 12, **options: Any) -> dict[str, torch.Tensor]:
    weights = srzoo.train(entry, out, data="photos", steps=steps, overrides=changes, log_every=1, **options).weights
    return read_checkpoint(weights)[0]


def losses_of(out: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record["losses"] for record in records if "losses" in record]


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ("srresnet-lite-x4", TINY),
        ("srgan-lite-x4", TINY_GAN),
        ("srgan-lite-x4", LAZY),
        ("srgan-lite-x4", {**TINY_GAN, "training.accumulate": 2, "training.stages.gan.clip_gradient": 0.1}),
        (
            "srgan-lite-x4",
            {**TINY_GAN, "training.precision": "bf16", "training.stages.gan.losses.adversarial.weight": 0.1},
        ),
        ("srgan-lite-x4", {**LAZY, "training.stages.gan.losses.another": {"name": "r1", "weight": 1.0, "every": 3}}),
        ("srgan-lite-x4", {**TINY_GAN, "training.stages.gan.discriminator_steps": 2}),
        ("srgan-lite-x4", {**TINY_GAN, "training.stages.gan.spectral_norm": True}),
        ("srgan-lite-x4", {**TINY_GAN, "training.stages.gan.ema": 0.0, "training.validation": VALIDATED}),
        ("srgan-lite-x4", PENALISED),
        ("srgan-lite-x4", {**TINY_GAN, "training.stages.gan.optimizer": {"name": "muon", "lr": 1e-4, "betas": None}}),
        ("esrgan-lite-x4", {**TINY_GAN, "training.stages.gan.optimizer": {"name": "sgd", "lr": 1e-3, "betas": None}}),
    ],
    ids=[
        "psnr",
        "gan",
        "lazy-r1",
        "accumulated",
        "bf16",
        "two penalties",
        "two steps",
        "spectral norm",
        "validated",
        "gradient penalty",
        "muon",
        "sgd",
    ],
)
def test_recorded_steps_train_as_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, changes: dict[str, Any]
) -> None:
    changes = {**changes, "training.deterministic": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*operation by operation", category=RecipeWarning)
        replayed = trained(tmp_path / "replayed", entry, changes)
    monkeypatch.setenv(SWITCH, "0")
    launched = trained(tmp_path / "launched", entry, changes)
    for name, tensor in launched.items():
        torch.testing.assert_close(
            replayed[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
    for one, two in zip(losses_of(tmp_path / "replayed"), losses_of(tmp_path / "launched"), strict=True):
        assert one == pytest.approx(two, rel=2e-3, abs=1e-6)


class Waits(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if x.mean().item() > -1e9 else x


class Draws(Waits):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) * float(torch.rand(()))


@pytest.mark.parametrize(
    ("block", "reason"), [(Waits, "waits for the device in .*test_cuda.py"), (Draws, "random numbers on the CPU")]
)
def test_steps_that_cannot_be_recorded_are_launched_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: type[nn.Module], reason: str
) -> None:
    def with_block(*arguments: Any, **options: Any) -> nn.Module:
        generator = build_generator(*arguments, **options)
        generator.get_submodule("blocks").append(block(8))  # type: ignore[operator]
        return generator

    monkeypatch.setattr("srzoo.training.build_generator", with_block)
    with pytest.warns(RecipeWarning, match=reason):
        trained(tmp_path, "srresnet-lite-x4", {**TINY, "training.stages.psnr.ema": 0})
    losses = losses_of(tmp_path)
    assert len(losses) == 12 and all(0 < record["l1"] < 1 for record in losses)


def test_a_run_goes_on_after_its_steps_were_recorded(tmp_path: Path) -> None:
    changes = {**TINY_GAN, "training.deterministic": True}
    whole = trained(tmp_path / "whole", "srgan-lite-x4", changes)
    with pytest.raises(RuntimeError, match="stop here"):
        trained(tmp_path / "parts", "srgan-lite-x4", changes, checkpoint_every=7, progress=_stop_at(8))
    parts = trained(tmp_path / "parts", "srgan-lite-x4", changes, checkpoint_every=7)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=2e-5)


def _stop_at(last: int) -> Any:
    def progress(stage: str, step: int, steps: int, values: Any) -> None:
        if stage == "gan" and step == last and values:
            raise RuntimeError("stop here")

    return progress


def test_the_benchmark_scores_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(device: str) -> dict[tuple[str, str, str], float]:
        monkeypatch.setattr("srzoo.benchmark.best_device", lambda: torch.device(device))
        result = srzoo.bench("srresnet-lite-x4", metrics=["psnr", "ssim"])
        return {(row.entry, row.image, row.metric): row.value for row in result.rows}

    cpu, cuda = rows("cpu"), rows("cuda")
    assert cpu.keys() == cuda.keys() and len(cpu) > 4
    for key, value in cpu.items():
        assert cuda[key] == pytest.approx(value, abs=1e-3 if key[2] == "psnr" else 1e-5)
