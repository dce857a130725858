"""Interpolated networks and images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, TINY_GAN
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.errors import DataError, InputError
from srzoo.interpolation import interpolate, interpolated, parse_alphas
from srzoo.pretrained import load_model
from srzoo.training import train
from srzoo.weights import read_checkpoint

torch.set_num_threads(1)
ENDS = "srresnet-lite-x4", "srgan-lite-x4"


@pytest.fixture
def photos(tmp_path: Path) -> str:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        coarse = np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return str(folder)


def test_weights_lie_on_the_line_between_the_models() -> None:
    first, second = (load_model(name) for name in ENDS)
    middle = interpolated(first, second, 0.25).state_dict()
    for name, tensor in first.generator.state_dict().items():
        torch.testing.assert_close(middle[name], 0.75 * tensor + 0.25 * second.generator.state_dict()[name])


def test_ends_are_the_models_and_image_scores_are_those_of_mixed_outputs(photos: str, tmp_path: Path) -> None:
    import srzoo

    result = interpolate(*ENDS, (0, 0.5, 1), photos, ("psnr", "ssim"), out=tmp_path / "out", save_weights=True)
    own = srzoo.bench(ENDS, photos, ("psnr", "ssim"))
    scores = {standing.entry: standing.means for standing in own.standings}
    for alpha, name in ((0, ENDS[0]), (1, ENDS[1])):
        for kind in ("network", "image"):
            assert result.means[kind, alpha, "photos"] == pytest.approx(scores[name], abs=1e-3)
    network, image = (result.means[kind, 0.5, "photos"] for kind in ("network", "image"))
    assert network["psnr"] != pytest.approx(image["psnr"], abs=1e-3)
    # The squared error of a mean of two images is never above the mean of their squared errors.
    assert image["psnr"] > min(scores[name]["psnr"] for name in ENDS)
    with open(tmp_path / "out" / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2 * 2
    assert {row["entry"] for row in rows} == {f"{k} {a}" for k in ("network", "image") for a in ("0", "0.5", "1")}
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "## psnr on photos, protocol y; higher is better" in table
    cells = [f"{result.means[kind, 0.5, 'photos']['ssim']:.4f}" for kind in ("network", "image")]
    between = float(cells[0]) - float(cells[1])
    (line,) = [line for line in table.partition("## ssim")[2].splitlines() if line.startswith("| 0.5 ")]
    assert line.startswith(f"| 0.5 | {cells[0]} | {cells[1]} | ")
    assert float(line.split(" | ")[3].split()[0]) == pytest.approx(between, abs=2e-4)
    assert line.endswith("| too few images (2) |")
    for name in ("tradeoff.png", "strip.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 300
    again = srzoo.bench(str(tmp_path / "out" / "alpha-0.5.safetensors"), photos, ("psnr", "ssim"))
    assert again.standings[0].means == pytest.approx(network)


def test_models_of_different_architecture_are_refused_with_what_differs() -> None:
    with pytest.raises(InputError, match=r"not of one architecture; they differ in .*block"):
        interpolate("srresnet-lite-x4", "rrdb-lite-x4")


def test_two_datasets_of_one_name_are_refused_before_anything_is_computed(tmp_path: Path, photos: str) -> None:
    for folder in ("a", "b"):
        shutil.copytree(photos, tmp_path / folder / "test")
    with pytest.raises(DataError, match="Two datasets are called 'test'"):
        interpolate(*ENDS, (0, 1), [str(tmp_path / folder / "test") for folder in ("a", "b")], "psnr")


@pytest.mark.parametrize(
    ("text", "alphas"),
    [
        ("0:1:0.2", (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ("0.5:1:0.25", (0.5, 0.75, 1)),
        ("0,0.3,1", (0, 0.3, 1)),
        ("0.7", (0.7,)),
        ("0:0.3:0.1", (0, 0.1, 0.2, 0.3)),
    ],
)
def test_alphas_are_ranges_or_lists(text: str, alphas: tuple[float, ...]) -> None:
    assert parse_alphas(text) == alphas


@pytest.mark.parametrize("text", ["0:1", "0:1:0", "0:1:0.3", "1:0:0.5", "a", "0,2", "-0.5:1:0.5", ""])
def test_other_alphas_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--alpha"):
        parse_alphas(text)


def test_the_command_prints_both_curves(photos: str, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    arguments = ["interpolate", *ENDS, "--alpha", "0,1", "--data", photos, "--metric", "psnr,ssim", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "network psnr" in result.stdout
    assert "image ssim" in result.stdout
    assert "strip.png" in " ".join(result.stdout.split())
    wrong = CliRunner().invoke(app, ["interpolate", *ENDS, "--alpha", "2"])
    assert wrong.exit_code == 2
    assert "must lie between" in " ".join(wrong.output.split())


def test_between_the_first_stage_of_a_run_and_its_last(photos: str, tmp_path: Path) -> None:
    """What is left of the first stage is what a run of that stage alone ends with."""
    changes = {**TINY, "training.stages.psnr.steps": 4}
    train("srresnet-mse-x4", tmp_path / "psnr", data=photos, overrides=changes)
    alone, told = read_checkpoint(tmp_path / "psnr" / "srresnet-mse-x4.safetensors")
    two = {**changes, "discriminator": TINY_GAN["discriminator"], "training.stages.gan.steps": 3}
    given = [f"{key}={json.dumps(value)}" for key, value in two.items()]
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "srgan-mse-x4", "--data", photos, "--out", str(out), *given])
    assert result.exit_code == 0, result.output
    first = out / "checkpoints" / "psnr.safetensors"
    assert f"srzoo interpolate {first} {out} goes from one to the other" in result.output
    tensors, description = read_checkpoint(first)
    assert all(torch.equal(tensor, alone[name]) for name, tensor in tensors.items())
    assert description["training"] == told["training"], "it says what it was trained by, and no more"
    found = interpolate(first, out, (0, 1), photos, ("psnr",))
    assert found.means["network", 0, "photos"] != found.means["network", 1, "photos"]
    assert not (tmp_path / "psnr" / "checkpoints").exists()
