"""The training loop: terms, stages, resuming, and what a user reads when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from srzoo.compose import Term, preflight
from srzoo.errors import CompositionError, InputError, MissingWeightsError, SrzooError, TrainingError
from srzoo.optim import make_schedule
from srzoo.pretrained import load_model
from srzoo.recipe import LossTerm
from srzoo.tasks import GanTask, PixelTask, gradient_shares
from srzoo.training import train
from srzoo.weights import read_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

TINY = {
    "generator.num_features": 8,
    "generator.num_blocks": 1,
    "training.patch_size": 32,
    "training.batch_size": 2,
    "training.precision": "fp32",
    "training.validation": None,
}
TINY_GAN = {
    **TINY,
    "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8},
    "training.start_from": None,
    "training.stages.gan.losses.perceptual": None,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(4):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 64), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return str(folder)


def run(entry: str, out: Path, photos: str, steps: int, changes: dict[str, Any], **options: Any) -> Path:
    return train(entry, out, data=photos, steps=steps, overrides=changes, log_every=1, **options).weights


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_writes_weights_that_load(tmp_path: Path, photos: str) -> None:
    run("srresnet-lite-x4", tmp_path, photos, 60, {**TINY, "training.batch_size": 8})
    losses = [record["losses"]["l1"] for record in log_of(tmp_path)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    model = load_model(tmp_path)
    assert model.entry.generator.name == "composable/trunk"
    assert model.generator(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_weight_file_carries_its_whole_configuration(tmp_path: Path, photos: str) -> None:
    _, description = read_checkpoint(run("srresnet-lite-x4", tmp_path, photos, 2, TINY))
    generator = description["composition"]["generator"]
    assert generator["block"] == {
        "name": "srgan/residual",
        "norm": "none",
        "activation": "relu",
        "residual_scale": 1.0,
        "norm_momentum": 0.1,
        "norm_after_activation": False,
    }
    assert generator["tail_kernel"] == 3, "defaults are written out too"
    assert description["training"]["stages"]["psnr"]["steps"] == 2
    assert description["entry"] == "srresnet-lite-x4"


class StopHereError(Exception):
    pass


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ("srresnet-lite-x4", TINY),
        ("srgan-lite-x4", TINY_GAN),
        ("srgan-mse-x4", {**TINY, "discriminator": TINY_GAN["discriminator"]}),
    ],
    ids=["psnr", "gan", "psnr-then-gan"],
)
def test_a_run_that_is_interrupted_and_resumed_ends_with_the_same_bytes(
    tmp_path: Path, photos: str, entry: str, changes: dict[str, Any]
) -> None:
    whole = run(entry, tmp_path / "whole", photos, 12, changes, checkpoint_every=100)
    done = []

    def stop(stage: str, step: int, total: int, values: object) -> None:
        done.append(step)
        if len(done) in (5, 9):
            raise StopHereError

    for _ in range(2):
        with pytest.raises(StopHereError):
            run(entry, tmp_path / "pieces", photos, 12, changes, checkpoint_every=3, progress=stop)
    pieces = run(entry, tmp_path / "pieces", photos, 12, changes, checkpoint_every=3)
    left, right = read_checkpoint(whole)[0], read_checkpoint(pieces)[0]
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, photos: str) -> None:
    run("srresnet-lite-x4", tmp_path, photos, 3, TINY)
    lines = len(log_of(tmp_path))
    run("srresnet-lite-x4", tmp_path, photos, 3, TINY)
    assert len(log_of(tmp_path)) == lines


def test_each_stage_starts_from_the_one_before(tmp_path: Path, photos: str) -> None:
    """With a generator that cannot move in the GAN stage, the result is the PSNR stage's."""
    changes = {**TINY, "discriminator": TINY_GAN["discriminator"], "training.stages.gan.optimizer.lr": 1e-30}
    changes |= {"training.stages.psnr.steps": 4, "training.stages.gan.steps": 3}
    both = run("srgan-mse-x4", tmp_path / "both", photos, 7, changes)
    psnr = run("srresnet-mse-x4", tmp_path / "psnr", photos, 4, {**TINY, "training.stages.psnr.steps": 4})
    left, right = read_checkpoint(both)[0], read_checkpoint(psnr)[0]
    for name in left:
        if "running" not in name and "num_batches" not in name:  # statistics of batch norm go on moving
            assert torch.equal(left[name], right[name]), name


def test_another_run_in_the_same_folder_is_refused_and_the_difference_named(tmp_path: Path, photos: str) -> None:
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    with pytest.raises(InputError, match=r"training\.batch_size \(there 2, now 4\)"):
        run("srresnet-lite-x4", tmp_path, photos, 2, {**TINY, "training.batch_size": 4})


def test_every_term_and_its_gradient_share_is_logged(tmp_path: Path, photos: str) -> None:
    changes = {**TINY_GAN, "training.stages.gan.losses.r1": {"weight": 1.0, "every": 2}}
    changes["training.stages.gan.losses.charbonnier"] = 0.5
    run("srgan-lite-x4", tmp_path, photos, 4, changes)
    records = log_of(tmp_path)
    assert set(records[0]["losses"]) == {"l1", "charbonnier", "adversarial", "discriminator", "r1"}
    assert "r1" not in records[1]["losses"], "a lazy regulariser is computed every second step only"
    assert set(records[0]["shares"]) == {"l1", "charbonnier", "adversarial"}
    assert sum(records[0]["shares"].values()) == pytest.approx(1.0)
    assert min(records[0]["shares"].values()) > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(tmp_path: Path, photos: str) -> None:
    with pytest.raises(TrainingError, match="l1 is not finite"):
        run("srresnet-lite-x4", tmp_path, photos, 30, {**TINY, "training.stages.psnr.optimizer.lr": 1e30})


def test_a_missing_backbone_is_noticed_before_any_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="vgg19"):
        train(
            "esrgan-ablation-3-x4",
            tmp_path / "run",
            data=str(tmp_path / "no such data"),
            steps=2,
            overrides=TINY | {"training.patch_size": 128},
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.patch_size": 64, "discriminator": "vgg128"}, "takes patches of 128 only"),
        ({"discriminator": "unet", "training.patch_size": 36}, "a multiple of 8"),
        ({"discriminator": None}, "no discriminator"),
        ({"discriminator": "dcgan", "training.patch_size": 32}, "at least 64"),
        ({"training.stages.gan.losses.adversarial": None, "training.stages.gan.losses.r1": 1.0}, "no adversarial term"),
        ({"training.stages.gan.losses.second": {"name": "adversarial"}}, "several adversarial terms"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, photos: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CompositionError, match=message):
        run("srgan-lite-x4", tmp_path, photos, 2, {**TINY_GAN, **changes})
    assert not (tmp_path / "log.jsonl").exists()


def test_every_zoo_entry_passes_the_preflight_check() -> None:
    for name in get_zoo().names():
        preflight(get_zoo().entry(name))


def test_steps_are_shared_among_stages_in_proportion_with_their_schedules() -> None:
    recipe = get_zoo().entry("esrgan-x4").training
    assert recipe is not None
    short = recipe.shortened(1400)
    assert {name: stage.steps for name, stage in short.stages.items()} == {"psnr": 1000, "gan": 400}
    assert short.stages["gan"].schedule.milestones == (50, 100, 200, 300)
    assert {name: s.steps for name, s in recipe.shortened(2).stages.items()} == {"psnr": 1, "gan": 1}
    with pytest.raises(ValueError, match="fewer than one step"):
        recipe.shortened(1)


def test_schedules_follow_the_papers_milestones() -> None:
    recipe = get_zoo().entry("esrgan-x4").training
    assert recipe is not None
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = make_schedule(optimizer, recipe.stages["gan"].schedule, 400_000)
    found = {}
    for step in (0, 49_999, 50_000, 100_000, 200_000, 300_000, 399_999):
        schedule.step_update(step)
        found[step] = optimizer.param_groups[0]["lr"]
    expected = {0: 1, 49_999: 1, 50_000: 0.5, 100_000: 0.25, 200_000: 0.125, 300_000: 0.0625, 399_999: 0.0625}
    assert found == pytest.approx({step: 1e-4 * factor for step, factor in expected.items()})


def test_average_follows_weights_and_batch_norm_statistics(tmp_path: Path, photos: str) -> None:
    changes = {**TINY, "generator.block": {"name": "residual", "norm": "batch"}}
    averaged = read_checkpoint(run("srresnet-lite-x4", tmp_path / "a", photos, 20, changes))[0]
    plain = read_checkpoint(
        run("srresnet-lite-x4", tmp_path / "b", photos, 20, {**changes, "training.stages.psnr.ema": 0.0})
    )[0]
    name = "blocks.0.body.1.running_mean"
    assert averaged[name].abs().sum() > 0, "the buffers are averaged too"
    assert not torch.equal(averaged[name], plain[name])
    assert not torch.equal(averaged["tail.weight"], plain["tail.weight"])


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    before = (tmp_path / "state.pt").read_bytes()
    from srzoo.runs import RunFolder

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    entry = get_zoo().entry("srresnet-lite-x4", TINY).model_copy()
    folder = RunFolder.__new__(RunFolder)
    folder.path, folder._entry = tmp_path, entry
    with pytest.raises(TrainingError, match=r"No space left.*free some space"):
        folder.write_state({"step": 1})
    assert (tmp_path / "state.pt").read_bytes() == before


def test_settings_that_would_be_ignored_are_refused(tmp_path: Path, photos: str) -> None:
    for changes, message in (
        ({"training.stages.psnr.losses.l1": {"every": 5}}, "'every' is for regularisers"),
        ({"training.stages.psnr.clip_discriminator": 0.1}, "no discriminator to clip"),
    ):
        with pytest.raises(CompositionError, match=message):
            run("srresnet-lite-x4", tmp_path, photos, 2, {**TINY, **changes})


# --- gradients go where they should, and nowhere else ---------------------------------------------------------


def terms(*pairs: tuple[str, dict[str, Any]]) -> list[Term]:
    import srzoo
    from srzoo.registry import get_registry

    found = []
    for name, options in pairs:
        config = LossTerm(name=name, weight=1.0)
        found.append(
            Term(name, config, get_registry().get("loss", name).spec.role, srzoo.create("loss", name, **options))
        )
    return found


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return {"lr": torch.rand(2, 3, 8, 8), "hr": torch.rand(2, 3, 32, 32)}


@pytest.fixture
def networks() -> tuple[nn.Module, nn.Module]:
    import srzoo

    torch.manual_seed(0)
    generator = srzoo.create_generator("srresnet-lite-x4", num_features=8, num_blocks=1)
    return generator, srzoo.create("discriminator", "srgan", input_size=32, num_features=4, dense_features=8)


@pytest.mark.parametrize("pairing", ["standard", "relativistic", "relativistic_average"])
def test_generator_step_reaches_the_generator_through_the_discriminator_but_not_into_it(
    networks, batch, pairing
) -> None:
    generator, discriminator = networks
    task = GanTask(generator, discriminator, terms(("adversarial", {"pairing": pairing})))
    task.generator_losses(batch)["adversarial"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())
    assert all(p.grad is None for p in discriminator.parameters())


@pytest.mark.parametrize("pairing", ["standard", "relativistic", "relativistic_average"])
@pytest.mark.parametrize("regulariser", ["gradient_penalty", "r1"])
def test_discriminator_step_leaves_the_generator_alone(networks, batch, pairing, regulariser) -> None:
    generator, discriminator = networks
    task = GanTask(generator, discriminator, terms(("adversarial", {"pairing": pairing}), (regulariser, {})))
    task.generator_losses(batch)
    torch.stack(list(task.discriminator_losses(batch, 0).values())).sum().backward()
    assert all(p.grad is None for p in generator.parameters())
    moved = [n for n, p in discriminator.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert "features.0.weight" in moved
    assert "classifier.3.weight" in moved


def test_gradient_share_of_a_detached_term_is_zero(networks, batch) -> None:
    task = PixelTask(networks[0], terms(("l1", {}), ("mse", {})))
    losses = task.generator_losses(batch)
    losses["mse"] = losses["mse"].detach().requires_grad_(True) * 1.0  # the torch.Tensor([...]) trap
    shares = gradient_shares(losses, task.sr)
    assert shares == {"l1": 1.0, "mse": 0.0}


# --- every entry of the zoo, on real photographs --------------------------------------------------------------

TRAINED = [name for name in get_zoo().names() if get_zoo().entry(name).training is not None]


def quick_changes(name: str) -> dict[str, Any]:
    """Shorten an entry's recipe without changing what is composed: small batch, random VGG19, its last stage."""
    entry = get_zoo().entry(name)
    assert entry.training is not None
    changes: dict[str, Any] = {"training.batch_size": 2, "training.start_from": None, "training.validation": None}
    *earlier, last = entry.training.stages
    changes |= {f"training.stages.{stage}": None for stage in earlier}
    for label, term in entry.training.stages[last].losses.items():
        if "extractor" in term.options:
            extractor = term.options["extractor"]
            named = extractor if isinstance(extractor, dict) else {"name": extractor}
            changes[f"training.stages.{last}.losses.{label}.extractor"] = {**named, "pretrained": False}
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_zoo_entry_trains_on_the_photographs(name: str, tmp_path: Path) -> None:
    changes = quick_changes(name)
    entry = get_zoo().entry(name, changes)
    assert entry.training is not None
    (stage,) = entry.training.stages
    adversarial = "adversarial" in entry.training.stages[stage].losses
    steps = 20 if adversarial else 2
    result = train(name, tmp_path, data="photos", steps=steps, overrides=changes, log_every=1)
    records = log_of(tmp_path)
    assert len(records) == steps
    assert all(np.isfinite(list(r["losses"].values())).all() for r in records)
    assert all(share > 0 for share in records[0]["shares"].values()), "a term without gradient"
    assert result.weights.is_file()


def test_an_entry_without_a_recipe_says_so(tmp_path: Path) -> None:
    with pytest.raises(SrzooError, match="no training recipe"):
        train("bicubic", tmp_path)
