"""The training loop: terms, stages, resuming, and what a user reads when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, TINY_GAN
from torch import nn

from srzoo.audit import audit
from srzoo.cli.train import _better_before
from srzoo.compose import Term, build_discriminator, build_generator
from srzoo.curves import collect_curves
from srzoo.errors import (
    CompositionError,
    InputError,
    InterruptedRunError,
    MissingWeightsError,
    RecipeWarning,
    SrzooError,
    TrainingError,
    UnknownNameError,
    WeightsError,
)
from srzoo.exporting import export
from srzoo.guard import FiniteGuard, check_pulls
from srzoo.inference import device_name
from srzoo.optim import make_schedule
from srzoo.preflight import preflight
from srzoo.pretrained import load_model
from srzoo.process import random_state, restore_random_state
from srzoo.recipe import LossTerm, Schedule
from srzoo.runs import RunFolder
from srzoo.scoring import available_metrics
from srzoo.tasks import GanTask, PixelTask, shares_of
from srzoo.training import train
from srzoo.weights import read_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

TWO_STAGES = {
    **TINY,
    "discriminator": TINY_GAN["discriminator"],
}
"""srgan-mse-x4; of 12 steps, 10 are its first stage's."""


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


def same_tensors(left: Path, right: Path) -> bool:
    one, two = read_checkpoint(left)[0], read_checkpoint(right)[0]
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


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
    assert same_tensors(whole, pieces)


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
    with pytest.raises(TrainingError, match="not finite: l1"):
        run("srresnet-lite-x4", tmp_path, photos, 30, {**TINY, "training.stages.psnr.optimizer.lr": 1e30})


def test_a_missing_backbone_is_noticed_before_any_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "damaged.png").write_bytes(b"read, it would be complained about")
    with pytest.raises(MissingWeightsError, match="vgg19"):
        train(
            "esrgan-ablation-3-x4",
            tmp_path / "run",
            data=str(tmp_path / "data"),
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


def test_the_log_has_the_rates_that_its_step_was_taken_with(tmp_path: Path, photos: str) -> None:
    changes = {**TINY_GAN, "training.stages.gan.schedule": {"name": "multistep", "milestones": [2], "gamma": 0.5}}
    changes |= {"training.stages.gan.steps": 4, "training.stages.gan.optimizer.lr": 1e-3}
    changes |= {"training.stages.gan.discriminator_optimizer": {"name": "adam", "lr": 1e-2}}
    run("srgan-lite-x4", tmp_path, photos, 4, changes)
    logged = log_of(tmp_path)
    assert [record["lr"] for record in logged] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    assert [record["lr_discriminator"] for record in logged] == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3])


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
    whole = run("srresnet-lite-x4", tmp_path / "whole", photos, 8, TINY, checkpoint_every=4)
    save = torch.save

    def full(state: dict[str, Any], file: Any) -> None:
        if state["step"] == 8:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left.*[Ff]ree some space"):
        run("srresnet-lite-x4", tmp_path / "pieces", photos, 8, TINY, checkpoint_every=4)
    assert [p.name for p in (tmp_path / "pieces" / "states").iterdir()] == ["psnr-00000004.pt"]
    monkeypatch.undo()
    pieces = run("srresnet-lite-x4", tmp_path / "pieces", photos, 8, TINY, checkpoint_every=4)
    assert same_tensors(whole, pieces)


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path, photos: str) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"Cannot write to .*log.jsonl.*Make it writable"):
        run("srresnet-lite-x4", tmp_path, photos, 2, TINY)


def test_the_last_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path: Path, photos: str) -> None:
    whole = run("srresnet-lite-x4", tmp_path / "whole", photos, 8, TINY)
    run("srresnet-lite-x4", tmp_path / "pieces", photos, 8, TINY, checkpoint_every=2)
    states = sorted((tmp_path / "pieces" / "states").iterdir())
    assert [p.name for p in states] == ["psnr-00000006.pt", "psnr-00000008.pt"]
    states[1].write_bytes(states[1].read_bytes()[:1000])
    with pytest.warns(RecipeWarning, match="psnr-00000008.pt is damaged.*Trying the state before it"):
        pieces = train("srresnet-lite-x4", tmp_path / "pieces", data=photos, steps=8, overrides=TINY)
    assert same_tensors(whole, pieces.weights)
    assert pieces.resumed_at == 6, "of the state that was read"
    for path in (tmp_path / "pieces" / "states").iterdir():
        path.write_bytes(b"")
    with pytest.warns(RecipeWarning), pytest.raises(TrainingError, match=r"No state is left; delete .*states"):
        run("srresnet-lite-x4", tmp_path / "pieces", photos, 8, TINY)


def test_the_best_weights_are_kept(tmp_path: Path, photos: str) -> None:
    """A learning rate that explodes after the second validation: the best is not the last."""
    schedule = {"name": "multistep", "milestones": [20], "gamma": 100.0, "warmup": 0}
    validation = {"data": ["photos"], "every": 10, "metrics": ["psnr"]}
    changes = {"training.validation": validation, "training.stages.psnr.schedule": schedule}
    result = train(
        "srresnet-lite-x4",
        tmp_path,
        data=photos,
        overrides={**TINY, **changes, "training.stages.psnr.steps": 40, "training.stages.psnr.ema": 0.0},
        log_every=10,
    )
    scores = [r["validation"]["photos/psnr"] for r in log_of(tmp_path) if "validation" in r]
    assert len(scores) == 4
    assert max(scores) > scores[-1] + 0.5
    best, description = read_checkpoint(tmp_path / "checkpoints" / "best.safetensors")
    assert description["step"] == 10 * (1 + int(np.argmax(scores))) == result.best_step
    assert result.best["photos/psnr"] == max(scores)
    said = _better_before(result)
    assert f"validated best after {result.best_step} of 40 steps" in said and "by heart" in said
    assert _better_before(dataclasses.replace(result, best_step=40)) == "", "there is nothing to say of the last"
    assert load_model(tmp_path).name == tmp_path.name, "a run's folder stands for its last weights"
    assert set(best) == set(read_checkpoint(tmp_path / "srresnet-lite-x4.safetensors")[0])


def test_a_score_that_is_not_a_number_is_never_the_best(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([math.nan, 20.0, math.nan, 19.0, math.nan])
    monkeypatch.setattr("srzoo.runs.Validator.__call__", lambda self, _: {f"{self.sets[0].name}/psnr": next(given)})
    validation = {"data": [photos], "every": 1, "metrics": ["psnr"]}
    run("srresnet-lite-x4", tmp_path, photos, 5, {**TINY, "training.validation": validation})
    assert read_checkpoint(tmp_path / "checkpoints" / "best.safetensors")[1]["step"] == 2


def test_a_metric_that_can_be_computed_from_here_on_is_no_obstacle(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `srzoo weights pull`: the best of before has no score by it."""
    here = ["psnr"]
    monkeypatch.setattr("srzoo.runs.available_metrics", lambda names, device: available_metrics(here, device))
    validation = {"data": [photos], "every": 1, "metrics": ["ssim", "psnr"]}
    changes = {**TINY, "training.validation": validation}

    def stop(stage: str, step: int, total: int, values: Any) -> None:
        if (stage, step) == ("psnr", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("srresnet-lite-x4", tmp_path, photos, 4, changes, progress=stop, checkpoint_every=1)
    here.insert(0, "ssim")
    run("srresnet-lite-x4", tmp_path, photos, 4, changes, checkpoint_every=1)
    scored = [record["validation"] for record in log_of(tmp_path) if "validation" in record]
    assert len(scored[0]) == 1 and len(scored[-1]) == 2


def test_a_validation_that_fails_loses_nothing(tmp_path: Path, photos: str) -> None:
    held_out = tmp_path / "held_out"
    shutil.copytree(photos, held_out)
    validation = {"data": [str(held_out)], "every": 3, "metrics": ["psnr"]}
    changes = {**TINY, "training.validation": validation}
    whole = run("srresnet-lite-x4", tmp_path / "whole", photos, 6, changes)

    def take_away(stage: str, step: int, total: int, values: Any) -> None:
        if (stage, step) == ("psnr", 1):
            held_out.rename(tmp_path / "elsewhere")

    def again() -> Path:
        return run("srresnet-lite-x4", tmp_path / "mine", photos, 6, changes, progress=take_away, checkpoint_every=100)

    with pytest.raises(TrainingError, match=r"validation after step 3 of stage 'psnr': .*The state is saved in "):
        again()
    (tmp_path / "elsewhere").rename(held_out)
    assert same_tensors(again(), whole)
    assert [r["step"] for r in log_of(tmp_path / "mine") if "validation" in r] == [3, 6]
    best = "checkpoints/best.safetensors"
    assert same_tensors(tmp_path / "mine" / best, tmp_path / "whole" / best)


def test_the_log_of_a_resumed_run_tells_every_step_once(tmp_path: Path, photos: str) -> None:
    def stop(stage: str, step: int, total: int, values: object) -> None:
        if step == 8 and stage != "decoding":
            raise StopHereError

    with pytest.raises(StopHereError):
        run("srgan-mse-x4", tmp_path, photos, 12, TWO_STAGES, checkpoint_every=3, progress=stop)
    assert [r["step"] for r in log_of(tmp_path)] == [*range(1, 9)]
    run("srgan-mse-x4", tmp_path, photos, 12, TWO_STAGES, checkpoint_every=3)
    assert [(r["stage"], r["step"]) for r in log_of(tmp_path)] == [
        *(("psnr", step) for step in range(1, 11)),
        *(("gan", step) for step in range(1, 3)),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path: Path, photos: str, number: signal.Signals) -> None:
    whole = run("srresnet-lite-x4", tmp_path / "whole", photos, 9, TINY)
    handler = signal.getsignal(number)

    def send(stage: str, step: int, total: int, values: object) -> None:
        if step == 4 and stage != "decoding":
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRunError, match=rf"stopped by {number.name} after step 5 of 9 .* the same command"):
        run("srresnet-lite-x4", tmp_path / "pieces", photos, 9, TINY, progress=send)
    assert signal.getsignal(number) is handler
    assert [p.name for p in (tmp_path / "pieces" / "states").iterdir()] == ["psnr-00000005.pt"]
    assert same_tensors(whole, run("srresnet-lite-x4", tmp_path / "pieces", photos, 9, TINY))


def test_resuming_restores_every_random_generator(tmp_path: Path) -> None:
    state = random_state()
    torch.save(state, tmp_path / "state.pt")
    drawn = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1)]
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1)] == drawn


def test_the_batch_and_weights_of_a_step_that_failed_are_kept(tmp_path: Path, photos: str) -> None:
    with pytest.raises(TrainingError, match=r"step (\d+): not finite: l1.*failure\.pt"):
        run("srresnet-lite-x4", tmp_path, photos, 30, {**TINY, "training.stages.psnr.optimizer.lr": 1e30})
    failure = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert failure["terms"] == ["l1"]
    entry = get_zoo().entry("srresnet-lite-x4", TINY)
    generator = build_generator(entry)
    generator.load_state_dict(failure["generator"])
    loss = torch.nn.functional.l1_loss(generator(failure["batch"]["lr"]), failure["batch"]["hr"])
    assert not torch.isfinite(loss), "the failure can be seen again"


def test_a_guard_that_does_not_wait_finds_the_first_broken_step() -> None:
    guard = FiniteGuard(torch.device("meta"))
    for step in range(1, 6):
        broken = {"l1": math.nan if step >= 3 else 1.0, "adversarial": math.inf if step == 4 else 1.0}
        assert guard.note(step, {label: torch.tensor(value) for label, value in broken.items()}) == {}
    assert guard.check() == {"l1": 3, "adversarial": 4}


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path: Path, photos: str) -> None:
    changes = {**TINY, "training.batch_size": 4, "training.stages.psnr.ema": 0.0}
    whole = read_checkpoint(run("srresnet-lite-x4", tmp_path / "a", photos, 5, changes))[0]
    changes["training.accumulate"] = 2
    parts = read_checkpoint(run("srresnet-lite-x4", tmp_path / "b", photos, 5, changes))[0]
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=1e-5)
    left, right = ([r["losses"]["l1"] for r in log_of(tmp_path / name)] for name in "ab")
    assert left == pytest.approx(right, rel=1e-5)


def test_the_discriminator_can_train_alone_and_more_often(tmp_path: Path, photos: str) -> None:
    changes = {**TINY_GAN, "training.stages.gan.discriminator_warmup": 3, "training.stages.gan.steps": 9}
    changes |= {"training.stages.gan.discriminator_steps": 2}
    train("srgan-lite-x4", tmp_path, data=photos, overrides=changes, log_every=1)
    records = log_of(tmp_path)
    trained = [record["step"] for record in records if "l1" in record["losses"]]
    assert trained == [5, 7, 9]
    assert all("discriminator" in record["losses"] for record in records)


def test_gradients_are_clipped(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam, *arguments: Any, **options: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    run("srgan-lite-x4", tmp_path / "free", photos, 3, TINY_GAN)
    free, norms[:] = max(norms), []
    run("srgan-lite-x4", tmp_path / "clipped", photos, 3, {**TINY_GAN, "training.stages.gan.clip_gradient": free / 10})
    assert len(norms) == 6
    assert max(norms) <= free / 10 * 1.001


def test_spectral_norm_constrains_any_discriminator() -> None:
    changes = {**TINY_GAN, "training.stages.gan.spectral_norm": True, "training.patch_size": 32}
    entry = get_zoo().entry("srgan-lite-x4", changes)
    assert entry.training is not None
    discriminator = build_discriminator(entry, entry.training.stages["gan"])
    for _ in range(50):
        discriminator(torch.rand(2, 3, 32, 32))  # power iteration
    layers = [layer for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 10
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("entry", ["srresnet-lite-x4", "srgan-lite-x4"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_full_precision_and_resumes_exactly(
    tmp_path: Path, photos: str, entry: str, precision: str
) -> None:
    changes = {**(TINY if entry == "srresnet-lite-x4" else TINY_GAN), "training.precision": precision}
    if entry == "srgan-lite-x4":
        changes |= {"training.stages.gan.clip_gradient": 1.0, "training.stages.gan.losses.gradient_penalty": 1.0}
        changes["discriminator"] = {**TINY_GAN["discriminator"], "norm": "none"}
    whole = run(entry, tmp_path / "half", photos, 8, changes, checkpoint_every=100)
    run(entry, tmp_path / "full", photos, 8, {**changes, "training.precision": "fp32"})
    half, full = ([r["losses"] for r in log_of(tmp_path / name)] for name in ("half", "full"))
    for left, right in zip(half, full, strict=True):
        assert left == pytest.approx(right, rel=0.03, abs=2e-3)

    def stop(stage: str, step: int, total: int, values: object) -> None:
        if step == 5 and stage != "decoding":
            raise StopHereError

    with pytest.raises(StopHereError):
        run(entry, tmp_path / "pieces", photos, 8, changes, checkpoint_every=3, progress=stop)
    assert same_tensors(whole, run(entry, tmp_path / "pieces", photos, 8, changes, checkpoint_every=3))


def test_the_scaler_unscales_both_networks_once(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scale of 2**16, gradients that were unscaled twice or never would not be those of full precision."""
    norms: dict[str, list[float]] = {"fp32": [], "fp16": []}
    step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam, *arguments: Any, **options: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms[current].append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    for current in norms:
        changes = {**TINY_GAN, "training.precision": current, "training.stages.gan.clip_gradient": 1e9}
        run("srgan-lite-x4", tmp_path / current, photos, 2, changes)
    assert len(norms["fp16"]) == len(norms["fp32"]) == 4
    pairs = [pair for pair in zip(norms["fp16"], norms["fp32"], strict=True) if math.isfinite(pair[0])]
    assert len(pairs) >= 3, "a step may overflow and be left out"
    for half, full in pairs:
        assert half == pytest.approx(full, rel=0.1)


def test_a_spectrally_normalised_discriminator_trains_and_resumes_exactly(tmp_path: Path, photos: str) -> None:
    changes = {**TINY_GAN, "training.stages.gan.spectral_norm": True}
    whole = run("srgan-lite-x4", tmp_path / "whole", photos, 8, changes, checkpoint_every=4)
    for path in (tmp_path / "whole" / "states").glob("*-00000008.pt"):
        path.unlink()
    before = read_checkpoint(whole)[0]
    again = run("srgan-lite-x4", tmp_path / "whole", photos, 8, changes, checkpoint_every=4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in read_checkpoint(again)[0].items())


def breaking_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From some call on, let Charbonnier keep its value but have an infinite gradient: the square root of zero."""
    import srzoo_losses.pixel

    forward, calls = srzoo_losses.pixel.Charbonnier.forward, [0]

    def broken(self: Any, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        loss = forward(self, sr, hr)
        return loss + (sr.flatten()[0] - sr.flatten()[0].detach()).abs().sqrt() if calls[0] >= number else loss

    monkeypatch.setattr(srzoo_losses.pixel.Charbonnier, "forward", broken)


TWO_TERMS = {"training.stages.psnr.losses": {"l1": 1.0, "charbonnier": 1.0}}


def test_a_gradient_that_is_not_finite_stops_before_the_update_and_its_term_is_named(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking_at(3, monkeypatch)  # the first call is the rehearsal's
    with pytest.raises(TrainingError, match=r"step 2: not finite: gradient of charbonnier\.") as caught:
        run("srresnet-lite-x4", tmp_path, photos, 4, {**TINY, **TWO_TERMS})
    assert "The batch of step 2 and the weights that it started from are in" in str(caught.value)
    failure = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert failure["terms"] == ["charbonnier"]
    assert all(tensor.isfinite().all() for tensor in failure["generator"].values())


def test_a_ramped_weight_is_replayed_as_of_a_stage_of_as_many_steps(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking_at(4, monkeypatch)
    terms = {"l1": {"weight": 0.1, "weight_end": 1.0}, "charbonnier": 1.0}
    changes = {**TINY, "training.stages.psnr.losses": terms}
    with pytest.raises(TrainingError, match=r"step 3: not finite: gradient of charbonnier\."):
        run("srresnet-lite-x4", tmp_path, photos, 5, changes)

    def pull(**given: Any) -> float | None:
        rows = audit("srresnet-lite-x4", replay=tmp_path / "failure.pt", **given).rows
        return next(row.output for row in rows if row.term == "l1")

    assert pull(overrides=changes, steps=5) == pull() != pull(overrides=changes)


def test_a_gradient_that_is_not_finite_in_an_early_part_of_a_batch_is_noticed_at_its_step(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import srzoo_losses.pixel

    plain, good = srzoo_losses.pixel.Charbonnier.forward, [0]
    breaking_at(1, monkeypatch)
    bad = srzoo_losses.pixel.Charbonnier.forward

    def once(self: Any, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        good[0] += 1
        return bad(self, sr, hr) if good[0] == 4 else plain(self, sr, hr)  # after the rehearsal and step 1's two parts

    monkeypatch.setattr(srzoo_losses.pixel.Charbonnier, "forward", once)
    changes = {**TINY, **TWO_TERMS, "training.accumulate": 2}
    with pytest.raises(TrainingError, match="step 2: not finite: gradient of the generator"):
        run("srresnet-lite-x4", tmp_path, photos, 4, changes)
    failure = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in failure["generator"].values())


@pytest.mark.parametrize("immediate", [True, False], ids=["CPU", "as on a GPU"])
def test_a_gradient_of_a_discriminator_term_that_is_not_finite_is_noticed_and_named(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch, immediate: bool
) -> None:
    import srzoo_gan.regularisers

    calls = [0]

    def broken(self: Any, discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        mean = discriminator(hr).mean()
        return (mean - mean.detach()).abs().sqrt() if calls[0] >= 4 else mean * 0

    monkeypatch.setattr(srzoo_gan.regularisers.R1, "__call__", broken)
    if not immediate:
        monkeypatch.setattr(FiniteGuard, "__init__", later)
    with pytest.raises(TrainingError, match=r"stage 'gan', step 3: not finite: gradient of r1\."):
        run("srgan-lite-x4", tmp_path, photos, 8, {**TINY_GAN, "training.stages.gan.losses.r1": 1.0})
    failure = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert failure["terms"] == ["r1"]
    assert all(tensor.isfinite().all() for tensor in failure["discriminator"].values())


@pytest.mark.parametrize("average", [0.999, 0.0])
def test_a_run_that_the_guard_stopped_goes_on_by_the_command_that_it_names(
    tmp_path: Path, photos: str, average: float
) -> None:
    hot = {**TINY, "training.stages.psnr.optimizer": {"name": "sgd", "lr": 1e-3, "betas": None}}
    hot |= {"training.stages.psnr.ema": average}
    schedule = "training.stages.psnr.schedule"
    bad, good = ({"name": "multistep", "milestones": [8], "gamma": gamma, "warmup": 0} for gamma in (1e25, 0.5))
    with pytest.raises(TrainingError, match="The state of step 8 of stage 'psnr'") as caught:
        train(
            "srresnet-lite-x4",
            tmp_path / "run",
            data=photos,
            overrides={**hot, schedule: bad, "training.stages.psnr.steps": 16},
            log_every=1,
            checkpoint_every=2,
        )
    named = re.search("repeat the command with (.*), or with a lower weight", str(caught.value))
    assert named is not None
    option, out, start, rate = shlex.split(named[1])
    assert (option, start) == ("--out", f"training.start_from={tmp_path / 'run'}")
    assert rate == "training.stages.psnr.optimizer.lr=0.0005"
    states = sorted((tmp_path / "run" / "states").iterdir())
    for state in reversed(states):
        with pytest.warns(RecipeWarning, match=rf"weights of step {int(state.stem[5:])} of 16 of stage 'psnr'") as told:
            model = load_model(tmp_path / "run")
        assert ("averaged" in str(told[0].message)) is bool(average)
        saved = torch.load(state, weights_only=True)
        wanted = saved.get("ema", {f"module.{name}": tensor for name, tensor in saved["generator"].items()})
        found = model.generator.state_dict()
        assert all(torch.equal(found[name], wanted[f"module.{name}"]) for name in found)
        if state == states[-1]:
            assert load_model(export(model, out=tmp_path / "exported").folder).digest == model.digest
            changes = {**hot, schedule: good, "training.start_from": str(tmp_path / "run"), rate[:-7]: 5e-4}
            with pytest.warns(RecipeWarning, match="not finished"):
                run("srresnet-lite-x4", Path(out), photos, 2, changes)
        state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="no state that can be read"):
        load_model(tmp_path / "run")
    (tmp_path / "run" / "entry.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"entry\.json does not say what the run is of"):
        load_model(tmp_path / "run")


def later(self: FiniteGuard, device: torch.device) -> None:
    """A guard that looks at logged steps only, as on a GPU."""
    self._immediate, self._first = False, {}


def test_the_batch_of_a_step_that_is_found_broken_later_is_kept(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**TINY, "training.stages.psnr.optimizer.lr": 1e30}
    with pytest.raises(TrainingError):
        run("srresnet-lite-x4", tmp_path / "now", photos, 20, changes)
    wanted = torch.load(tmp_path / "now" / "failure.pt", weights_only=True)
    monkeypatch.setattr(FiniteGuard, "__init__", later)
    with pytest.raises(
        TrainingError, match=r"step \d+: not finite: l1\..*after step 9, which it has spoiled"
    ) as caught:
        train("srresnet-lite-x4", tmp_path / "later", data=photos, steps=20, overrides=changes, log_every=10)
    found = torch.load(tmp_path / "later" / "failure.pt", weights_only=True)
    assert f"The batch of step {wanted['step']} " in str(caught.value)
    assert (found["step"], found["weights_of"]) == (wanted["step"], 9)
    assert torch.equal(found["batch"]["hr"], wanted["batch"]["hr"])


def test_fp16_that_overflows_for_ever_is_a_failure_and_the_term_is_named(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**TINY, **TWO_TERMS, "training.precision": "fp16"}
    with monkeypatch.context() as patch:
        breaking_at(2, patch)
        with pytest.raises(TrainingError, match=r"not finite: gradient of charbonnier\. fp16 left out all of the last"):
            train("srresnet-lite-x4", tmp_path / "long", data=photos, steps=40, overrides=changes, log_every=10)
    breaking_at(2, monkeypatch)
    with pytest.warns(RecipeWarning, match="overflowed fp16 in each of its 3 steps"):
        run("srresnet-lite-x4", tmp_path / "short", photos, 3, changes)


@pytest.mark.parametrize(
    ("stage", "label"), [("psnr", "mse"), ("gan", "l1"), ("gan", "r1")], ids=["first stage", "last stage", "penalty"]
)
def test_a_term_without_gradient_is_refused_before_anything_is_trained_or_written(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch, stage: str, label: str
) -> None:
    import srzoo.training

    original = srzoo.training.build_terms

    def detached(entry: Any, name: str) -> list[Term]:
        return [
            dataclasses.replace(term, loss=lambda a, b, c=None, loss=term.loss: torch.tensor(0.5))
            if (name, term.label) == (stage, label)
            else term
            for term in original(entry, name)
        ]

    monkeypatch.setattr(srzoo.training, "build_terms", detached)
    changes = {**TWO_STAGES, "training.stages.gan.losses.l1": 0.1, "training.stages.gan.losses.r1": 1.0}
    with pytest.raises(TrainingError, match=f"stage '{stage}': the term '{label}' has no gradient.*Nothing has been"):
        run("srgan-mse-x4", tmp_path / "run", photos, 12, changes)
    assert not (tmp_path / "run").exists()


def test_the_rehearsal_leaves_no_trace_in_a_run(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random penalties, batch norm in both networks: all that it could move."""
    import srzoo.training

    changes = {**TINY_GAN, "generator.block": {"name": "residual", "norm": "batch"}}
    changes |= {"training.stages.gan.losses.gradient_penalty": 1.0, "training.stages.gan.spectral_norm": True}
    with_it = run("srgan-lite-x4", tmp_path / "with", photos, 3, changes)
    monkeypatch.setattr(srzoo.training, "rehearse", lambda *_: None)
    without = run("srgan-lite-x4", tmp_path / "without", photos, 3, changes)
    assert with_it.read_bytes() == without.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.name": "adamm"}, r"stages\.gan\.optimizer: There is no optimizer 'adamm'\. Did you mean 'adam'"),
        (
            {"discriminator_optimizer": {"name": "adamm", "lr": 1e-4}},
            r"discriminator_optimizer: There is no optimizer",
        ),
        ({"optimizer.name": "adan"}, r"'adan' has 3 betas, not 2; write betas: null"),
        ({"optimizer.name": "sgd"}, r"'sgd' has no betas; leave them out"),
        ({"optimizer.options": {"amsgrda": True}}, r"'adam' has no option 'amsgrda'\. Did you mean 'amsgrad'"),
        ({"schedule": {"name": "multistep", "milestones": []}}, r"multistep needs milestones"),
    ],
)
def test_settings_of_a_later_stage_are_refused_before_the_first(
    tmp_path: Path, photos: str, changes: dict[str, Any], message: str
) -> None:
    stage = {f"training.stages.gan.{key}": value for key, value in changes.items()}
    with pytest.raises(InputError, match=message):
        run("srgan-mse-x4", tmp_path / "run", photos, 12, {**TWO_STAGES, **stage})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.validation": {"data": []}}, r"validation\.data.*give at least one"),
        ({"training.validation": {"data": ["photos"], "metrics": []}}, r"validation\.metrics.*give at least one"),
        (
            {"training.stages": {"a/b": {"steps": 4, "losses": {"l1": 1.0}, "optimizer": {"lr": 1e-4}}}},
            r"a stage's name has letters.*'a/b'",
        ),
    ],
)
def test_settings_that_name_nothing_or_no_file_are_refused(
    tmp_path: Path, photos: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run("srresnet-lite-x4", tmp_path / "run", photos, 2, {**TINY, **changes})


def test_an_optimizer_whose_state_cannot_be_gathered_is_refused_where_it_would_be(tmp_path: Path, photos: str) -> None:
    optimizer = {"name": "adafactorbv", "lr": 1e-3, "betas": None}
    changes = {**TINY, "training.stages.psnr.optimizer": optimizer, "training.fsdp": True}
    with pytest.raises(InputError, match=r"psnr\.optimizer: the state of .* cannot be gathered.*training\.fsdp=false"):
        run("srresnet-lite-x4", tmp_path / "run", photos, 2, changes)


@pytest.mark.parametrize("name", ["keep", "log_every", "checkpoint_every"])
def test_counts_of_zero_are_refused(tmp_path: Path, photos: str, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=0: give a whole number of at least 1"):
        train("srresnet-lite-x4", tmp_path, data=photos, steps=2, overrides=TINY, **{name: 0})


def test_a_warm_up_that_does_not_end_is_warned_of(tmp_path: Path, photos: str) -> None:
    changes = {"training.stages.psnr.steps": 4, "training.stages.psnr.schedule": {"name": "cosine", "warmup": 100}}
    with pytest.warns(RecipeWarning, match="warm-up of 100 steps does not end within the stage's 4"):
        train("srresnet-lite-x4", tmp_path, data=photos, overrides={**TINY, **changes})


def test_accelerates_own_settings_do_not_reach_a_run(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("srresnet-lite-x4", tmp_path / "plain", photos, 4, TINY)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)  # as in a process of its own
    assert same_tensors(whole, run("srresnet-lite-x4", tmp_path / "set", photos, 4, TINY))


def test_when_a_run_is_logged_does_not_change_its_bytes(tmp_path: Path, photos: str) -> None:
    changes = {**TINY, "training.stages.psnr.losses": {"l1": 1.0, "charbonnier": 0.7, "mse": 0.3}}
    often = run("srresnet-lite-x4", tmp_path / "often", photos, 12, changes)
    rarely = train("srresnet-lite-x4", tmp_path / "rarely", data=photos, steps=12, overrides=changes).weights
    assert same_tensors(often, rarely)


@pytest.fixture
def with_a_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators have parameters that nothing computes with."""
    import srzoo.training

    build = srzoo.training.build_generator

    def built(entry: Any) -> nn.Module:
        generator = build(entry)
        generator.spare = nn.Conv2d(1, 1, 1)
        return generator

    monkeypatch.setattr(srzoo.training, "build_generator", built)


@pytest.mark.filterwarnings("ignore:no gradient reaches 2 of")
@pytest.mark.parametrize(
    "name", ["adam", "sgd", "lion", "madgrad", "adopt", "adan", "lookahead_adam", "adafactorbv", "cadafactorbvc"]
)
def test_a_run_resumes_exactly_with_other_optimizers(
    tmp_path: Path, photos: str, name: str, with_a_spare: None
) -> None:
    """Also where some parameters have no state, because no gradient reaches them."""
    optimizer = {"name": name, "lr": 1e-3, "weight_decay": 0.01, "betas": None}
    changes = {**TINY, "training.stages.psnr.optimizer": optimizer}
    whole = run("srresnet-lite-x4", tmp_path / "whole", photos, 9, changes, checkpoint_every=100)
    run("srresnet-lite-x4", tmp_path / "pieces", photos, 9, changes, checkpoint_every=3)
    (tmp_path / "pieces" / "states" / "psnr-00000009.pt").unlink()
    assert same_tensors(whole, run("srresnet-lite-x4", tmp_path / "pieces", photos, 9, changes))


@pytest.mark.parametrize("name", ["adam", "madgrad"])
def test_saving_while_the_discriminator_trains_alone_changes_nothing(tmp_path: Path, photos: str, name: str) -> None:
    """The generator's optimizer has no state yet."""
    changes = {**TINY_GAN, "training.stages.gan.discriminator_warmup": 3, "training.stages.gan.steps": 6}
    changes |= {"training.stages.gan.optimizer": {"name": name, "lr": 1e-3, "betas": None}}
    results = []
    for out, every in (("rarely", 100), ("often", 1), ("often", 1)):
        for state in (tmp_path / out / "states").glob("gan-0000000[3-6].pt"):
            state.unlink()
        found = train("srgan-lite-x4", tmp_path / out, data=photos, overrides=changes, checkpoint_every=every, keep=9)
        results.append(found.weights.read_bytes())
    assert results[0] == results[1] == results[2]


def test_a_run_goes_on_without_the_weights_that_it_started_from(tmp_path: Path, photos: str) -> None:
    start = run("srresnet-lite-x4", tmp_path / "start", photos, 1, TINY).parent
    changes = {**TINY, "training.start_from": str(start)}
    whole = run("srresnet-lite-x4", tmp_path / "run", photos, 4, changes, checkpoint_every=2).rename(tmp_path / "whole")
    (tmp_path / "run" / "states" / "psnr-00000004.pt").unlink()
    shutil.rmtree(start)
    assert same_tensors(whole, run("srresnet-lite-x4", tmp_path / "run", photos, 4, changes))
    with pytest.raises(UnknownNameError, match=rf"start_from: there is no run folder, .* or entry {start}\."):
        run("srresnet-lite-x4", tmp_path / "another", photos, 4, changes)


def test_weights_of_an_earlier_run_do_not_pass_for_those_of_a_new_one(tmp_path: Path, photos: str) -> None:
    def stop(stage: str, step: int, total: int, values: object) -> None:
        if stage != "decoding":
            raise StopHereError

    weights = run("srresnet-lite-x4", tmp_path, photos, 1, TINY)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.safetensors").write_bytes(weights.read_bytes())
    left = weights.read_bytes()
    shutil.rmtree(tmp_path / "states")
    with pytest.warns(RecipeWarning, match=r"what it left is in .*earlier-1 now"), pytest.raises(StopHereError):
        run("srresnet-lite-x4", tmp_path, photos, 2, TINY, progress=stop)
    with pytest.raises(MissingWeightsError, match=r"holds 0 .*another run"):
        load_model(tmp_path)
    assert load_model(tmp_path / "earlier-1").path.read_bytes() == left
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    assert not (tmp_path / "earlier-2").exists()


def test_a_run_of_other_stages_does_not_take_a_folder_over(tmp_path: Path, photos: str) -> None:
    weights = run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run with other settings"):
        run("srgan-lite-x4", tmp_path, photos, 2, TINY_GAN)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    shutil.rmtree(tmp_path / "states")
    with pytest.warns(RecipeWarning, match=r"what it left is in .*earlier-1 now"):
        run("srgan-lite-x4", tmp_path, photos, 2, TINY_GAN)
    assert (tmp_path / "earlier-1" / weights.name).is_file()
    assert load_model(tmp_path).path.name == "srgan-lite-x4.safetensors", "one finished run is in the folder"


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srzoo.runs.LOCK_PATIENCE", 0.1)
    refused = []

    def second(stage: str, step: int, total: int, values: object) -> None:
        if step == 2 and stage == "psnr" and not refused:
            with pytest.raises(InputError, match=r"Another run is at work in .*Give another --out") as caught:
                run("srresnet-lite-x4", tmp_path, photos, 4, TINY)
            refused.append(caught.value)

    run("srresnet-lite-x4", tmp_path, photos, 4, TINY, progress=second)
    assert refused
    run("srresnet-lite-x4", tmp_path, photos, 4, TINY)


def test_a_disk_without_locks_is_told_and_resumes(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, timeout: float) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.warns(RecipeWarning, match="on a disk without file locks"):
        run("srresnet-lite-x4", tmp_path, photos, 4, TINY)
    before = read_checkpoint(tmp_path / "srresnet-lite-x4.safetensors")[0]
    newest = max((tmp_path / "states").glob("*.pt"))
    newest.rename(tmp_path / "states" / "left.writing")  # as a kill in the middle of a write leaves it
    with pytest.warns(RecipeWarning, match="on a disk without file locks"):
        run("srresnet-lite-x4", tmp_path, photos, 4, TINY)
    after = read_checkpoint(tmp_path / "srresnet-lite-x4.safetensors")[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list((tmp_path / "states").glob("*.writing"))


def test_the_log_stays_json_where_numbers_are_not_finite(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, get_zoo().entry("srresnet-lite-x4"))
    folder.log({"stage": "psnr", "step": 1, "losses": {"l1": math.nan, "mse": 0.5}, "shares": {}})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["losses"] == {"l1": None, "mse": 0.5}
    curves = collect_curves(folder.records())
    assert curves["losses"] == {"mse": [(1, 0.5)]}
    assert shares_of({"l1": torch.tensor(math.inf), "mse": torch.tensor(1.0)}) == {}


def test_stray_files_and_lines_are_no_obstacle(tmp_path: Path, photos: str) -> None:
    run("srresnet-lite-x4", tmp_path, photos, 4, TINY, checkpoint_every=2)
    shutil.copy(tmp_path / "states" / "psnr-00000002.pt", tmp_path / "states" / "psnr-backup.pt")
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('5\n{"a": 1}\n[]\n')
    run("srresnet-lite-x4", tmp_path, photos, 4, TINY, checkpoint_every=2)
    assert [record["step"] for record in log_of(tmp_path)] == [1, 2, 3, 4]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    written = weights.read_bytes()
    monkeypatch.setattr("srzoo.loop.__version__", "99.0")
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    assert weights.read_bytes() == written, "versions and hash are those of the training"
    whole = shutil.copy(weights, tmp_path / "whole")
    weights.write_bytes(written[:-9])
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    assert same_tensors(weights, whole), "a damaged file is made anew"


def test_settings_are_compared_with_those_of_a_run_that_came_between(tmp_path: Path, photos: str) -> None:
    entry = get_zoo().entry("srresnet-lite-x4", {**TINY, "training.batch_size": 4})
    late = RunFolder(tmp_path, entry)  # made while there is no state yet
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    told = (tmp_path / "entry.json").read_text()
    with (
        pytest.raises(InputError, match=r"holds a run with other settings: .*batch_size \(there 2, now 4\)"),
        late.held(),
    ):
        pytest.fail("two runs in one folder")
    assert (tmp_path / "entry.json").read_text() == told


def test_best_weights_are_no_seed_of_the_whole_recipe(tmp_path: Path, photos: str) -> None:
    validation = {"data": [photos], "every": 1, "metrics": ["psnr"]}
    changes = {**TINY, "training.validation": validation}
    whole = load_model(run("srresnet-lite-x4", tmp_path / "0", photos, 2, changes))
    other = load_model(run("srresnet-lite-x4", tmp_path / "1", photos, 2, {**changes, "training.seed": 1}))
    first, second = (load_model(tmp_path / seed / "checkpoints" / "best.safetensors") for seed in "01")
    assert whole.recipe == other.recipe
    assert first.recipe == second.recipe != whole.recipe, "seeds of each other"


@pytest.mark.parametrize(("every", "warmup"), [(5, 3), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_the_generators_terms_are_logged_wherever_states_are_saved_and_however_a_run_is_resumed(
    tmp_path: Path, photos: str, every: int, warmup: int
) -> None:
    stage = {"discriminator_steps": every, "discriminator_warmup": warmup, "ema": 0.0}
    stage["steps"] = 22
    changes = {**TINY_GAN, **{f"training.stages.gan.{key}": value for key, value in stage.items()}}

    def records(out: str, **options: Any) -> dict[int, set[str]]:
        train("srgan-lite-x4", tmp_path / out, data=photos, overrides=changes, log_every=2, **options)
        return {r["step"]: set(r["losses"]) for r in log_of(tmp_path / out) if "losses" in r}

    def stop(stage: str, step: int, total: int, values: Any) -> None:
        if stage == "gan" and step > 7:
            raise KeyboardInterrupt

    trained = {step for step in range(1, 23) if step > warmup and (step - warmup) % every == 0}
    plain = records("plain")
    assert {step for step, labels in plain.items() if "l1" in labels} == trained
    assert all(labels == {"discriminator"} for step, labels in plain.items() if step <= warmup)
    often = records("often", checkpoint_every=2)  # what is saved is logged, whatever was trained
    assert {step for step, labels in often.items() if "l1" in labels} == trained
    with pytest.raises(KeyboardInterrupt):
        records("pieces", checkpoint_every=6, progress=stop)
    pieces = records("pieces", checkpoint_every=6)
    assert {step for step, labels in pieces.items() if "l1" in labels} == trained


def test_a_schedule_that_is_another_now_is_told(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def stop(stage: str, step: int, total: int, values: Any) -> None:
        if (stage, step) == ("psnr", 3):
            raise KeyboardInterrupt

    for out in ("same", "other"):
        with pytest.raises(KeyboardInterrupt):
            run("srresnet-lite-x4", tmp_path / out, photos, 4, TINY, checkpoint_every=2, progress=stop)
    run("srresnet-lite-x4", tmp_path / "same", photos, 4, TINY)
    assert not [w for w in recwarn if "learning rates" in str(w.message)]
    longer = lambda optimizer, config, steps: make_schedule(optimizer, config, 9)  # noqa: E731
    monkeypatch.setattr("srzoo.stages.make_schedule", longer)
    with pytest.warns(RecipeWarning, match="the schedule has other learning rates"):
        run("srresnet-lite-x4", tmp_path / "other", photos, 4, TINY)


@pytest.mark.parametrize(("metric", "same"), [("metrics/psnr", True), ("mine/psnr", False), ("metrics/ssim", False)])
def test_a_run_goes_on_when_another_package_has_taken_a_name_of_its_recipe(
    tmp_path: Path, photos: str, metric: str, same: bool
) -> None:
    changes = {**TINY, "training.validation": {"data": [photos], "metrics": ["psnr"]}}
    run("srresnet-lite-x4", tmp_path, photos, 2, changes)
    path = tmp_path / "entry.json"
    told = json.loads(path.read_text())
    told["training"]["validation"]["metrics"] = [metric]
    path.write_text(json.dumps(told))
    with nullcontext() if same else pytest.raises(InputError, match="other settings"):
        run("srresnet-lite-x4", tmp_path, photos, 2, changes)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_weight_files_have_the_rights_of_other_files(tmp_path: Path, photos: str) -> None:
    weights = run("srresnet-lite-x4", tmp_path, photos, 1, TINY)
    assert weights.stat().st_mode == (tmp_path / "log.jsonl").stat().st_mode


def test_torchs_deterministic_mode_is_put_back(tmp_path: Path, photos: str) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        run("srresnet-lite-x4", tmp_path, photos, 1, TINY)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX's")
def test_a_state_that_does_not_fit_names_the_systems_error(tmp_path: Path, photos: str) -> None:
    """torch says of it only where in its own code it stopped."""
    script = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from srzoo.runs import RunFolder\n"
        "from srzoo.zoo import get_zoo\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "folder = RunFolder(Path(sys.argv[1]), get_zoo().entry('srresnet-lite-x4'))\n"
        "with folder.held():\n"
        "    folder.write_state({'stage': 'psnr', 'step': 1, 'weights': torch.rand(10)})\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "    folder.write_state({'stage': 'psnr', 'step': 2, 'weights': torch.rand(10**6)})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "TrainingError" in done.stderr
    assert "File too large. The state of step 1 of stage 'psnr'" in done.stderr.splitlines()[-1]
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["psnr-00000001.pt"]


def test_what_is_resumed_otherwise_is_warned_of(tmp_path: Path, photos: str) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    run("srresnet-lite-x4", tmp_path / "run", str(data), 4, TINY, checkpoint_every=2)
    (tmp_path / "run" / "states" / "psnr-00000004.pt").unlink()
    (data / "3.png").unlink()
    path = tmp_path / "run" / "states" / "psnr-00000002.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "precision": "bf16", "random": state["random"] * 2}, path)
    with pytest.warns(RecipeWarning) as said:
        run("srresnet-lite-x4", tmp_path / "run", str(data), 4, TINY)
    text = " ".join(str(warning.message) for warning in said)
    assert "the images trained on are others than when its state was saved, 12 then and 11 now" in text
    assert "trained in bf16 up to here, from here in fp32" in text
    assert "2 processes up to here, from here 1" in text


def test_trackers_are_finished_when_a_run_stops(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.tracking import TensorBoardTracker

    finished = []
    monkeypatch.setattr(TensorBoardTracker, "finish", lambda self: finished.append(self.name))

    def send(stage: str, step: int, total: int, values: object) -> None:
        if step == 4 and stage != "decoding":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        run("srresnet-lite-x4", tmp_path, photos, 9, TINY, track="tensorboard", progress=send)
    assert finished == ["tensorboard"]


def test_a_schedule_of_one_step_is_not_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    make_schedule(optimizer, Schedule(name="cosine"), 1)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "expected"), [("poly", [1, 0.75, 0.5, 0.25]), ("cosine", [1, 0.8536, 0.5, 0.1464]), ("tanh", None)]
)
def test_schedules_by_name(name: str, expected: list[float] | None) -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, Schedule(name=name), 400)
    rates = []
    for step in (0, 100, 200, 300, 399):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05
    if expected is not None:
        assert rates[:4] == pytest.approx(expected, abs=1e-3)


def test_a_log_of_other_stages_is_no_obstacle(tmp_path: Path, photos: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"stage": "earlier", "step": 3, "losses": {}}\n{"stage": "ps')
    run("srresnet-lite-x4", tmp_path, photos, 2, TINY)
    assert [(r["stage"], r["step"]) for r in log_of(tmp_path)] == [("psnr", 1), ("psnr", 2)]


def test_too_few_steps_for_the_generator_are_refused(tmp_path: Path, photos: str) -> None:
    with pytest.raises(InputError, match="discriminator_steps 5"):
        run("srgan-lite-x4", tmp_path, photos, 3, {**TINY_GAN, "training.stages.gan.discriminator_steps": 5})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_generator_trains_alike(tmp_path: Path, photos: str) -> None:
    plain = read_checkpoint(run("srgan-lite-x4", tmp_path / "a", photos, 4, TINY_GAN))[0]
    compiled = read_checkpoint(run("srgan-lite-x4", tmp_path / "b", photos, 4, {**TINY_GAN, "training.compile": True}))[
        0
    ]
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-4)


def test_curves_are_drawn(tmp_path: Path, photos: str) -> None:
    run("srgan-mse-x4", tmp_path, photos, 12, TWO_STAGES)
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width > 600
    curves = collect_curves(log_of(tmp_path))
    assert curves["borders"] == [10]
    assert [step for step, _ in curves["losses"]["discriminator"]] == [11, 12]
    assert [step for step, _ in curves["losses"]["mse"]] == [*range(1, 13)]


def test_scalars_and_images_go_to_tensorboard(tmp_path: Path, photos: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    validation = {"data": ["photos"], "every": 2, "metrics": ["psnr"]}
    run("srresnet-lite-x4", tmp_path, photos, 2, {**TINY, "training.validation": validation}, track="tensorboard")
    (file,) = tmp_path.rglob("events.out.tfevents*")
    events = EventAccumulator(str(file.parent))
    events.Reload()
    assert {"losses/l1", "gradient shares/l1", "learning rates/lr", "validation/photos/psnr"} <= set(
        events.Tags()["scalars"]
    )
    assert [e.step for e in events.Scalars("losses/l1")] == [1, 2]
    (tag,) = events.Tags()["images"]
    assert tag == "photos/astronaut: bicubic, output, reference"
    (image,) = events.Images(tag)
    assert (image.width, image.height) == (3 * 192, 192)


def test_an_unknown_tracker_is_named(tmp_path: Path, photos: str) -> None:
    with pytest.raises(InputError, match=r"no tracker 'tensorbord'. Did you mean 'tensorboard'"):
        run("srresnet-lite-x4", tmp_path, photos, 2, TINY, track="tensorbord")


def test_settings_that_would_be_ignored_are_refused(tmp_path: Path, photos: str) -> None:
    for changes, message in (
        ({"training.stages.psnr.losses.l1": {"every": 5}}, "'every' is for regularisers"),
        ({"training.stages.psnr.clip_discriminator": 0.1}, "no discriminator for clip_discriminator"),
        ({"training.stages.psnr.discriminator_steps": 2}, "no discriminator for its own steps"),
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


PAIRINGS = ["standard", "relativistic", "relativistic_average"]


def two_passes(generator: nn.Module, discriminator: nn.Module, task: GanTask, batch: dict[str, torch.Tensor]) -> None:
    """Gradients as textbooks have it: a pass for the generator's update, then another for the discriminator's."""
    (term,) = [task.adversarial]
    discriminator.requires_grad_(False)
    sr = generator(batch["lr"])
    loss = torch.nn.functional.l1_loss(sr, batch["hr"])
    with torch.no_grad():
        real = discriminator(batch["hr"])
    (loss + term.loss.generator_loss(real, discriminator(sr))).backward()
    discriminator.requires_grad_(True)
    term.loss.discriminator_loss(discriminator(batch["hr"]), discriminator(sr.detach())).backward()


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_one_pass_gives_the_gradients_of_two(networks, batch, pairing, norm) -> None:
    import srzoo

    generator, _ = networks
    judge = srzoo.create("discriminator", "srgan", input_size=32, num_features=4, dense_features=8, norm=norm)
    task = GanTask(generator, judge, terms(("l1", {}), ("adversarial", {"pairing": pairing})))
    parameters = [*generator.named_parameters(), *judge.named_parameters()]
    two_passes(generator, judge, task, batch)
    wanted = {name: p.grad.clone() for name, p in parameters}
    for network in (generator, judge):
        network.zero_grad()
    task.run(batch)
    for name, parameter in parameters:
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-7, msg=name)
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name  # a bias before batch norm has none


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_a_step_of_the_discriminator_alone_leaves_the_generator_alone(networks, batch, pairing) -> None:
    generator, discriminator = networks
    task = GanTask(generator, discriminator, terms(("l1", {}), ("adversarial", {"pairing": pairing})))
    outcome = task.run(batch, train_generator=False)
    assert set(outcome.losses) == {"discriminator"}
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_a_loss_that_does_not_look_at_real_logits_gets_none(networks, batch) -> None:
    generator, discriminator = networks
    chosen = terms(("l1", {}), ("adversarial", {}))
    (term,) = [term for term in chosen if term.role == "adversarial"]
    seen = []

    def noting(real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        seen.append(real)
        return fake.mean()

    for needs_real in (False, True):
        term.loss.generator_loss, term.loss.generator_needs_real = noting, needs_real
        GanTask(generator, discriminator, chosen).run(batch)
    assert seen[0] is None and seen[1] is not None


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("regulariser", ["gradient_penalty", "r1"])
def test_regularisers_move_the_discriminator_only(networks, batch, pairing, regulariser) -> None:
    generator, discriminator = networks
    chosen = terms(("adversarial", {"pairing": pairing}), (regulariser, {}))
    torch.manual_seed(1)
    GanTask(generator, discriminator, chosen[:1]).run(batch)
    without = {n: p.grad.clone() for net in networks for n, p in net.named_parameters()}
    for network in networks:
        network.zero_grad()
    GanTask(generator, discriminator, chosen).run(batch)
    for name, parameter in generator.named_parameters():
        torch.testing.assert_close(parameter.grad, without[name])
    moved = [n for n, p in discriminator.named_parameters() if not torch.allclose(p.grad, without[n], rtol=1e-3)]
    assert "features.0.weight" in moved
    assert "classifier.3.weight" in moved


def test_a_lazy_regulariser_is_computed_at_its_steps_only(networks, batch) -> None:
    chosen = terms(("adversarial", {}), ("r1", {}))
    chosen[1] = dataclasses.replace(chosen[1], config=LossTerm(name="r1", every=3))
    task = GanTask(*networks, chosen)
    assert ["r1" in task.run(batch, step).losses for step in range(5)] == [True, False, False, True, False]


def test_a_detached_term_pulls_at_nothing_and_is_refused(networks, batch) -> None:
    chosen = terms(("l1", {}), ("mse", {}))
    chosen[1] = dataclasses.replace(
        chosen[1], loss=lambda sr, hr: torch.tensor((sr - hr).detach().square().mean().item())
    )
    outcome = PixelTask(networks[0], chosen).run(batch, measure=True)
    assert shares_of(outcome.norms) == {"l1": 1.0, "mse": 0.0}
    with pytest.raises(TrainingError, match=r"the term 'mse' has no gradient.*torch.tensor"):
        check_pulls("psnr", outcome.norms)


def test_measuring_changes_no_gradient(networks, batch) -> None:
    generator, discriminator = networks
    task = GanTask(generator, discriminator, terms(("l1", {}), ("charbonnier", {}), ("adversarial", {})))
    task.run(batch)
    plain = [p.grad.clone() for network in networks for p in network.parameters()]
    for network in networks:
        network.zero_grad()
    outcome = task.run(batch, measure=True)
    assert set(outcome.norms) == {"l1", "charbonnier", "adversarial"}
    for parameter, wanted in zip((p for n in networks for p in n.parameters()), plain, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-8)


# --- every entry of the zoo, on real photographs --------------------------------------------------------------

TRAINED = [name for name in get_zoo().names() if get_zoo().entry(name).training is not None]


def quick_changes(name: str) -> dict[str, Any]:
    """Shorten an entry's recipe without changing its parts: small batch, two blocks, random VGG19, its last stage."""
    entry = get_zoo().entry(name)
    assert entry.training is not None
    changes: dict[str, Any] = {"training.batch_size": 2, "training.start_from": None, "training.validation": None}
    if entry.generator.options.get("num_blocks", 0) > 2:
        changes["generator.num_blocks"] = 2
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
    steps = 3 if adversarial else 2
    result = train(name, tmp_path, data="photos", steps=steps, overrides=changes, log_every=1)
    records = log_of(tmp_path)
    assert len(records) == steps
    assert all(np.isfinite(list(r["losses"].values())).all() for r in records)
    assert all(share > 0 for share in records[0]["shares"].values()), "a term without gradient"
    assert result.weights.is_file()


@pytest.mark.parametrize(
    ("changes", "cautious"),
    [
        ({}, True),
        ({"losses.gradient_penalty": 10}, False),
        ({"clip_discriminator": 0.01}, False),
        ({"losses.adversarial.criterion": "hinge"}, False),
    ],
)
def test_an_unbounded_critic_is_warned_of(
    changes: dict[str, Any], cautious: bool, tmp_path: Path, photos: str, recwarn: pytest.WarningsRecorder
) -> None:
    discriminator = {"discriminator": {**TINY_GAN["discriminator"], "norm": "none"}}
    wasserstein = {"training.stages.gan.losses.adversarial.criterion": "wasserstein"}
    stage = {f"training.stages.gan.{key}": value for key, value in changes.items()}
    run("srgan-lite-x4", tmp_path, photos, 1, {**TINY_GAN, **discriminator, **wasserstein, **stage})
    said = [str(w.message) for w in recwarn if issubclass(w.category, RecipeWarning)]
    assert ["training.stages.gan: criterion wasserstein has no minimum" in text for text in said] == [True] * cautious


def test_a_gradient_penalty_on_a_discriminator_with_batch_norm_is_warned_of(tmp_path: Path, photos: str) -> None:
    changes = {**TINY_GAN, "training.stages.gan.losses.gradient_penalty": 10}
    with pytest.warns(RecipeWarning, match="image by image.*norm: none"):
        run("srgan-lite-x4", tmp_path, photos, 1, changes)


def test_validating_on_what_is_trained_on_is_warned_of(tmp_path: Path, photos: str) -> None:
    validation = {"data": [photos], "every": 5, "metrics": ["psnr"]}
    with pytest.warns(RecipeWarning, match=r"12 of the validation images are also trained on \(photos\d*/0"):
        run("srresnet-lite-x4", tmp_path, photos, 1, {**TINY, "training.validation": validation})


def test_an_entry_without_a_recipe_says_so(tmp_path: Path) -> None:
    with pytest.raises(SrzooError, match="no training recipe"):
        train("bicubic", tmp_path)


class _Cutting(nn.Module):
    """A part that computes with its weights, and cuts off their gradient."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.part(*inputs).detach()


def test_parameters_that_no_gradient_reaches_are_named_before_the_first_step(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import srzoo.rehearsal
    import srzoo.training

    build, judge = srzoo.training.build_generator, srzoo.rehearsal.build_discriminator

    def cut_block(entry: Any) -> nn.Module:
        generator = build(entry)
        generator.blocks[0] = _Cutting(generator.blocks[0])
        return generator

    def with_a_spare(entry: Any, stage: Any) -> nn.Module:
        discriminator = judge(entry, stage)
        discriminator.spare = nn.Linear(1, 1)
        return discriminator

    with monkeypatch.context() as patch:
        patch.setattr(srzoo.training, "build_generator", cut_block)
        with pytest.warns(
            RecipeWarning, match=r"6 of the \d+ parameters of the generator.*: head\.0\.weight to blocks\.0\."
        ):
            run("srresnet-lite-x4", tmp_path / "block", photos, 1, {**TINY, "generator.num_blocks": 2})
    monkeypatch.setattr(srzoo.rehearsal, "build_discriminator", with_a_spare)
    with pytest.warns(RecipeWarning, match=r"of the discriminator of stage 'gan'.*: spare\.weight and spare\.bias"):
        run("srgan-lite-x4", tmp_path / "layer", photos, 1, TINY_GAN)


def test_a_generator_that_no_gradient_reaches_is_not_trained(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import srzoo.training

    build = srzoo.training.build_generator
    monkeypatch.setattr(srzoo.training, "build_generator", lambda entry: _Cutting(build(entry)))
    with pytest.raises(TrainingError, match="No gradient reaches any parameter of the generator"):
        run("srresnet-lite-x4", tmp_path / "run", photos, 1, TINY)
    assert not (tmp_path / "run").exists()


def test_what_is_trained_on_what_is_told_once_before_the_first_step(tmp_path: Path, photos: str) -> None:
    told: list[str] = []
    run("srgan-mse-x4", tmp_path, photos, 12, TWO_STAGES, announce=told.append)
    (sentence,) = told
    assert f"in fp32 on {device_name(torch.device('cpu'))}; batches of 2 crops of 32 px from 12 images of" in sentence
    assert sentence.endswith("not validated; psnr 10 steps and then gan 2 steps against srgan")
    run("srgan-mse-x4", tmp_path, photos, 12, TWO_STAGES, announce=told.append)
    assert len(told) == 1, "nothing was left to do"
