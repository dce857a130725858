"""A block in a package of its own: installed by pip, it trains and benchmarks by its name alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example_block"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the example distribution into."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(EXAMPLE)], check=True, timeout=300)
    return target


def srzoo(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "srzoo", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_whole_package_is_25_lines() -> None:
    files = [EXAMPLE / "pyproject.toml", *(EXAMPLE / "srzoo_example_block").glob("*.py")]
    assert len(files) == 3
    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) <= 25


def test_the_block_is_known_with_its_owner_and_options(site: Path, tmp_path: Path) -> None:
    shown = srzoo(site, "show", "block/gated", "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    data = json.loads(shown.stdout)
    assert data["distribution"] == "srzoo-example-block"
    assert data["options"] == [{"name": "kernel_size", "type": "int", "default": "3", "help": ""}]


def test_it_is_left_out_when_external_plugins_are_disabled(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_PLUGINS", "")
    shown = srzoo(site, "show", "block/gated", cwd=tmp_path)
    assert shown.returncode == 2
    said = " ".join(shown.stderr.split())
    (left_out,) = re.findall(
        r"SRZOO_PLUGINS leaves out: (.*?)\. 'srzoo", said
    )  # others may be installed on this machine
    assert "example" in left_out.split(", "), "among others that this machine may have"


@pytest.mark.parametrize(
    "formulation",
    [
        ["training.stages.gan.losses.adversarial.pairing=relativistic_average"],
        pytest.param(
            [
                "training.stages.gan.losses.adversarial.criterion=wasserstein",
                "training.stages.gan.losses.gradient_penalty=10",
                "discriminator.norm=none",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["RaGAN", "WGAN-GP"],
)
def test_it_trains_and_benchmarks_by_its_name_alone(site: Path, tmp_path: Path, formulation: list[str]) -> None:
    small = ["generator.num_features=8", "generator.num_blocks=2", "training.patch_size=32", "training.batch_size=2"]
    small += ["training.start_from=null", "training.validation=null", "training.stages.gan.losses.perceptual=null"]
    trained = srzoo(
        site,
        *("train", "srgan-lite-x4", "generator.block=gated", *small, *formulation),
        *("--steps", "4", "--data", "photos", "--out", "mine"),
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    benched = srzoo(site, *("bench", "mine", "bicubic", "--metric", "psnr", "--out", "table"), cwd=tmp_path)
    assert benched.returncode == 0, benched.stderr
    table = (tmp_path / "table" / "leaderboard.md").read_text()
    assert "| mine |" in table
    assert "| bicubic |" in table
