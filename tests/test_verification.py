"""``srzoo verify``: recorded scores are computed again, and said to hold only where they do."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import InputError, MissingWeightsError, UnknownNameError, WeightsError
from srzoo.registry import get_registry
from srzoo.specs import MetricSpec
from srzoo.verification import verify
from srzoo.weights import save_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "summary": "a small trunk",
    "generator": {
        "name": "trunk",
        "num_features": 4,
        "num_blocks": 1,
        "block": {"name": "residual", "norm": "none", "activation": "relu"},
        "upsampler": {"name": "pixelshuffle"},
        "image_skip": "bilinear",
    },
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Any:
    """Write a zoo with the entry ``tiny``, its weights, and the scores it claims."""
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))

    def write(scores: dict[str, dict[str, float]] | None) -> None:
        entry = dict(TINY)
        (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"tiny": entry}))
        get_zoo.cache_clear()
        torch.manual_seed(0)
        resolved = get_zoo().entry("tiny")
        path = tmp_path / "tiny.safetensors"
        description = {"entry": "tiny", "composition": full_composition(resolved)}
        save_checkpoint(path, build_generator(resolved).state_dict(), description)
        entry["weights"] = {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()}
        if scores is not None:
            entry["recorded"] = {"protocol": "rgb", "scores": scores}
        (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"tiny": entry}))
        get_zoo.cache_clear()

    return write


@pytest.fixture
def true_scores(write: Any, photos: str) -> dict[str, float]:
    """What the benchmark gives for the entry."""
    write(None)
    (standing,) = bench("tiny", photos, ["psnr", "ssim"], protocol="rgb").standings
    return dict(standing.means)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["verify", *arguments])


def tolerance(metric: str) -> float:
    spec = get_registry().get("metric", metric).spec
    assert isinstance(spec, MetricSpec)
    return spec.tolerance


def test_what_the_benchmark_gives_holds(
    write: Any, true_scores: dict[str, float], photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_DATA", str(Path(photos).parent))
    name = Path(photos).name
    write({name: true_scores})
    found = verify("tiny")
    assert found.holds
    assert {check.metric: check.found for check in found.checks} == pytest.approx(true_scores, rel=1e-9)
    told = run("tiny", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)[0]["holds"] is True


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
@pytest.mark.parametrize(("share", "holds"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False)])
def test_a_score_holds_up_to_its_tolerance_and_no_farther(
    write: Any,
    true_scores: dict[str, float],
    photos: str,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    share: float,
    holds: bool,
) -> None:
    monkeypatch.setenv("SRZOO_DATA", str(Path(photos).parent))
    name = Path(photos).name
    write({name: {**true_scores, metric: true_scores[metric] + share * tolerance(metric)}})
    found = verify("tiny")
    assert found.holds is holds
    assert [check.metric for check in found.failed] == ([] if holds else [metric])
    assert run("tiny").exit_code == (0 if holds else 1)


def test_a_better_score_does_not_hold_either(
    write: Any, true_scores: dict[str, float], photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are better than their record are other weights, or another protocol."""
    monkeypatch.setenv("SRZOO_DATA", str(Path(photos).parent))
    write({Path(photos).name: {"psnr": true_scores["psnr"] - 1}})
    told = run("tiny")
    assert told.exit_code == 1
    assert "does not hold" in told.output
    assert "+1.0000" in told.output


def test_what_is_not_here_is_named_and_does_not_count_as_holding(
    write: Any, true_scores: dict[str, float], photos: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SRZOO_DATA", str(Path(photos).parent))
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path / "none"))
    name = Path(photos).name
    write({name: {**true_scores, "lpips_vgg": 0.5}, "nowhere": {"psnr": 30.0}})
    found = verify("tiny")
    assert found.holds
    reasons = {(check.dataset, check.metric): check.reason for check in found.unchecked}
    assert reasons.keys() == {(name, "lpips_vgg"), ("nowhere", "psnr")}
    assert "not available: put" in reasons[name, "lpips_vgg"]
    assert "No dataset is called 'nowhere'" in reasons["nowhere", "psnr"]
    only_absent = run("tiny", "--data", "nowhere")
    assert only_absent.exit_code == 1
    assert "0 of 1 recorded scores computed" in " ".join(only_absent.output.split())


def test_mistakes_are_told_before_anything_is_computed(write: Any) -> None:
    with pytest.raises(InputError, match="'srzoo bench esrgan-x4' computes some once it is trained"):
        verify("esrgan-x4")
    with pytest.raises(InputError, match="as a zoo entry or the folder of a pulled model does; 'srzoo bench'"):
        verify(str(Path(__file__).parent))
    with pytest.raises(InputError, match=r"'bicubic' records no scores.* 'srzoo bench bicubic' computes some"):
        verify("bicubic")
    with pytest.raises(UnknownNameError, match="'srresnet-lite-x4'"):
        verify("srresnet-lite-x")
    with pytest.raises(UnknownNameError, match=r"nothing for the dataset 'set6'\. Did you mean 'set5'"):
        verify("rrdb-lite-x4", data=["set6"])
    with pytest.raises(UnknownNameError, match=r"nothing for the metric 'lpips_alex'"):
        verify("rrdb-lite-x4", metrics=["lpips_alex"])
    write({"photos": {"psnr": 30.0}})
    told = run("tiny", "bicubic")
    assert told.exit_code == 2
    assert "bicubic" in told.stderr
    assert "holds" not in told.output


def test_damaged_or_missing_weights_are_told_instead_of_scores(write: Any, tmp_path: Path) -> None:
    write({"photos": {"psnr": 30.0}})
    path = tmp_path / "tiny.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\0\0")
    with pytest.raises(WeightsError, match="damaged or another file"):
        verify("tiny")
    path.unlink()
    with pytest.raises(MissingWeightsError, match=r"tiny\.safetensors is not there"):
        verify("tiny")


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_a_metric_without_a_usable_tolerance_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be a positive number"):
        MetricSpec("m", "a.b:C", summary="s", tolerance=wrong)


def test_every_metric_that_the_zoo_records_has_a_stated_tolerance() -> None:
    zoo = get_zoo()
    entries = [zoo.entry(name) for name in zoo.names()]
    named = {m for e in entries if e.recorded is not None for scores in e.recorded.scores.values() for m in scores}
    assert named
    for name in named:
        assert tolerance(name) < 1e-3 or name == "psnr"
