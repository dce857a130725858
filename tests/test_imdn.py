"""A stranger's model: IMDN in a package of its own reaches its published scores through the plugin interface."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import srzoo
from srzoo.errors import MissingWeightsError, WeightsError

PACKAGE = Path(__file__).parent / "plugins" / "imdn"

# arXiv:1909.11856, x4: PSNR in dB and SSIM, on Y, crop 4.
PUBLISHED = {"set5": (32.21, 0.8948), "set14": (28.58, 0.7811), "bsd100": (27.56, 0.7353)}


@pytest.fixture(scope="session")
def checkpoint(data_root: Path) -> Path:
    """The file the authors published."""
    path = data_root.parent / "weights" / "IMDN_x4.pth"
    if not path.is_file():
        pytest.skip(f"needs the published IMDN checkpoint; {path} is not there")
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the distribution into."""
    target = tmp_path_factory.mktemp("imdn")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(PACKAGE)], check=True, timeout=300)
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Path:
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def convert(site: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run the command the package offers for its weights."""
    return subprocess.run(
        [sys.executable, "-m", "srzoo_imdn.convert", str(source)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), *filter(None, sys.path)))},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def converted(installed: Path, checkpoint: Path) -> None:
    if not (installed / "srzoo_imdn" / "weights" / "imdn-x4.safetensors").is_file():
        done = convert(installed, checkpoint)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "dataset", ["set5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("set14", "bsd100"))]
)
def test_the_published_scores_are_reproduced(converted: None, dataset: str) -> None:
    found = srzoo.bench("imdn-x4", dataset, ["psnr", "ssim"], protocol="y")
    assert found.failed == {}
    (standing,) = found.standings
    psnr, ssim = PUBLISHED[dataset]
    assert standing.means["psnr"] == pytest.approx(psnr, abs=0.01)
    assert standing.means["ssim"] == pytest.approx(ssim, abs=0.0002)


def test_without_the_weights_the_message_says_which_file_is_missing(
    site: Path, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = site / "srzoo_imdn" / "weights"
    if weights.is_dir():
        weights.rename(tmp_path / "weights")
    try:
        with pytest.raises(MissingWeightsError, match=r"imdn-x4\.safetensors is not there"):
            srzoo.bench("imdn-x4", "photos", "psnr")
    finally:
        if (tmp_path / "weights").is_dir():
            (tmp_path / "weights").rename(weights)


def test_another_file_in_its_place_is_refused(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "IMDN_x4.pth"
    other.write_bytes(b"something else")
    done = convert(installed, other)
    assert done.returncode != 0
    assert WeightsError.__name__ in done.stderr
    assert "is damaged or another file" in done.stderr


def test_its_trunk_keeps_every_side_of_the_input(installed: Path) -> None:
    import torch

    generator = srzoo.create_generator("imdn-x4", scale=3)
    assert generator(torch.rand(1, 3, 7, 5)).shape == (1, 3, 21, 15)
