"""The gradient audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY as PLAIN
from tiny import TINY_GAN
from typer.testing import CliRunner

from srzoo import audit as audit_module
from srzoo.audit import audit
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.data import load_image_set
from srzoo.errors import InputError, TrainingError
from srzoo.guard import FiniteGuard
from srzoo.patches import PatchDataset
from srzoo.training import train
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "generator.num_features": 8,
    "generator.num_blocks": 1,
    "training.patch_size": 32,
    "training.batch_size": 2,
    "training.start_from": None,
    "training.stages.gan.losses.perceptual": None,
    "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8},
}


def test_every_term_is_measured_on_the_networks_it_trains() -> None:
    found = audit("srgan-lite-x4", data="photos", overrides={**TINY, "training.stages.gan.losses.r1": 1.0})
    rows = {row.term: row for row in found.rows}
    assert set(rows) == {"l1", "adversarial", "discriminator", "r1"}
    for term in ("l1", "adversarial"):
        row = rows[term]
        assert row.output
        assert row.generator
        assert row.discriminator is None
    for term in ("discriminator", "r1"):
        row = rows[term]
        assert row.output is None
        assert row.generator is None
        assert row.discriminator
    assert sum(row.share or 0 for row in found.rows) == pytest.approx(1)
    assert not any(row.problem for row in found.rows)


def test_norms_are_those_of_plain_autograd() -> None:
    changes = {key: value for key, value in TINY.items() if not key.startswith(("training.stages", "discriminator"))}
    (row,) = audit("srresnet-lite-x4", data="photos", overrides=changes).rows
    entry = get_zoo().entry("srresnet-lite-x4", changes)
    recipe = entry.training
    assert recipe is not None
    dataset = PatchDataset([load_image_set("photos")], 4, 32, multiscale=recipe.multiscale, seed=recipe.seed)
    batch = {key: images.float() / 255 for key, images in dataset.__getitems__(range(2)).items()}
    torch.manual_seed(recipe.seed)
    generator = build_generator(entry)
    loss = torch.nn.functional.l1_loss(generator(batch["lr"]), batch["hr"])
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in generator.parameters()])
    assert row.value == pytest.approx(loss.item(), rel=1e-5)
    assert row.generator == pytest.approx(norm.item(), rel=1e-4)


def test_a_term_that_pulls_at_nothing_fails_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch.Tensor([...]) trap: the value is right, and trains nothing."""
    original = audit_module.build_terms

    def detached(*arguments: Any) -> Any:
        terms = original(*arguments)
        for term in terms:
            if term.label == "l1":
                object.__setattr__(term, "loss", lambda sr, hr: torch.tensor((sr - hr).abs().mean().item()))
        return terms

    monkeypatch.setattr(audit_module, "build_terms", detached)
    found = audit("srgan-lite-x4", data="photos", overrides=TINY)
    assert not found.ok
    assert {row.term: row.problem for row in found.rows if row.problem} == {"l1": "no gradient: it would train nothing"}


def test_parameters_that_no_term_reaches_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = audit_module.build_generator

    def with_a_spare(entry: Any) -> torch.nn.Module:
        generator = original(entry)
        generator.spare = torch.nn.Conv2d(1, 1, 1)
        return generator

    monkeypatch.setattr(audit_module, "build_generator", with_a_spare)
    found = audit("srgan-lite-x4", data="photos", overrides=TINY)
    assert found.unreached == {"gan: generator": ["spare.weight", "spare.bias"]}
    assert not found.ok


def test_the_command_shows_the_table_and_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [
        "generator.num_features=8",
        "generator.num_blocks=1",
        "training.batch_size=2",
        "training.start_from=null",
        "training.stages.gan.losses.perceptual=null",
    ]
    result = CliRunner().invoke(app, ["train", "srgan-lite-x4", "--audit", "--data", "photos", *changes])
    assert result.exit_code == 0, result.output
    for word in ("l1", "adversarial", "discriminator", "share"):
        assert word in result.stdout
    assert not (tmp_path / "runs").exists()


def test_a_failed_step_can_be_replayed(tmp_path: Path) -> None:
    changes = {**TINY, "training.stages.gan.optimizer.lr": 1e30, "training.validation": None}
    changes["training.precision"] = "fp32"
    with pytest.raises(TrainingError, match="not finite"):
        train("srgan-lite-x4", tmp_path, data="photos", steps=20, overrides=changes, log_every=1)
    found = audit("srgan-lite-x4", overrides=changes, replay=tmp_path / "failure.pt")
    assert any(row.problem for row in found.rows)
    assert {row.stage for row in found.rows} == {"gan"}
    plainly = audit("srgan-lite-x4", replay=tmp_path / "failure.pt")
    assert str(plainly.rows) == str(found.rows), "the settings are those of the run that the file lies in"
    with pytest.raises(InputError, match="There is no file"):
        audit("srgan-lite-x4", replay=tmp_path / "missing.pt")
    (tmp_path / "other.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"other\.pt is no failure\.pt"):
        audit("srgan-lite-x4", overrides=changes, replay=tmp_path / "other.pt")
    with pytest.raises(InputError, match="is of stage 'gan', which entry 'srresnet-lite-x4' does not have"):
        audit("srresnet-lite-x4", replay=tmp_path / "failure.pt")


PENALISED: dict[str, Any] = {
    **TINY_GAN,
    "training.stages.gan.losses.perceptual": {
        "extractor": {"name": "squeezenet1_1", "pretrained": False},
        "layers": {"relu1": 1.0},
    },
    "training.stages.gan.losses.gradient_penalty": {"weight": 1.0, "weight_end": 9.0},
    "discriminator.norm": "none",
}
"""With random numbers wherever a recipe may have some: extractor, weights, points of a penalty."""


def test_the_audit_has_the_numbers_of_the_first_step(tmp_path: Path, photos: str) -> None:
    found = audit("srgan-lite-x4", data=photos, overrides=PENALISED)
    train("srgan-lite-x4", tmp_path, data=photos, steps=1, overrides=PENALISED, log_every=1)
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert {row.term: row.value for row in found.rows} == pytest.approx(record["losses"], rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_replay_computes_what_the_failing_step_did_and_says_if_nothing_is_found(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen: dict[str, float] = {}

    def blamed(self: FiniteGuard, step: int, losses: dict[str, torch.Tensor]) -> dict[str, int]:
        seen.update({label: float(loss) for label, loss in losses.items() if not label.startswith("gradient of")})
        return {"l1": step} if step == 3 else {}

    monkeypatch.setattr(FiniteGuard, "note", blamed)
    changes = {**PENALISED, "training.precision": precision}
    with pytest.raises(TrainingError, match="step 3: not finite: l1"):
        train("srgan-lite-x4", tmp_path, data=photos, steps=6, overrides=changes, log_every=1)
    found = audit("srgan-lite-x4", replay=tmp_path / "failure.pt")
    assert {row.term: row.value for row in found.rows} == pytest.approx(seen, rel=1e-6)
    assert not found.ok
    assert not found.reproduced
    if precision == "bf16":
        result = CliRunner().invoke(app, ["train", "srgan-lite-x4", "--replay", str(tmp_path / "failure.pt")])
        assert result.exit_code == 1
        assert "not reproduced: in bf16 at step 3 of stage 'gan', no term is broken" in result.output


@pytest.mark.parametrize(
    ("changes", "term"),
    [
        ({"training.stages.psnr.losses.mse": {"weight": 1.0, "weight_end": 1e39}}, "mse"),
        ({"training.precision": "fp16", "training.stages.psnr.losses": {"l1": 1e12}}, "l1"),
    ],
    ids=["weight of a later step", "fp16"],
)
def test_what_fails_in_a_later_step_or_another_precision_is_blamed_and_found_again(
    tmp_path: Path, photos: str, changes: dict[str, Any], term: str
) -> None:
    with pytest.raises(TrainingError, match=f"not finite: gradient of {term}"):
        train("srresnet-lite-x4", tmp_path, data=photos, steps=40, overrides={**PLAIN, **changes}, log_every=1)
    found = audit("srresnet-lite-x4", replay=tmp_path / "failure.pt")
    assert found.reproduced
    assert [row.term for row in found.rows if row.problem] == [term]
