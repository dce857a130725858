"""What the classics' recipes ask for: terms on intermediate outputs, weights that move, rates of single layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import srzoo
from srzoo.audit import audit
from srzoo.compose import Term, build_terms
from srzoo.errors import CompositionError, InputError
from srzoo.optim import make_optimizer, make_schedule
from srzoo.preflight import preflight
from srzoo.recipe import LossTerm, Optimizer, Schedule
from srzoo.tasks import PixelTask
from srzoo.training import train
from srzoo.zoo import training_entry

torch.set_num_threads(1)

SMALL = {
    "generator.num_features": 4,
    "generator.recursions": 3,
    "training.patch_size": 32,
    "training.multiscale": [1.0],
    "training.batch_size": 2,
    "training.validation": None,
    "training.precision": "fp32",
}


def term(label: str, **settings: Any) -> Term:
    config = LossTerm.model_validate({"name": "mse", **settings})
    return Term(label, config, "pixel", srzoo.create("loss", "mse", **config.options), steps=11)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return {"lr": torch.rand(2, 3, 8, 8), "hr": torch.rand(2, 3, 32, 32)}


def small_drcn() -> torch.nn.Module:
    torch.manual_seed(0)
    return srzoo.create_generator("drcn-x4", num_features=4, recursions=3)


def test_gradients_are_those_of_the_papers_objective(batch: dict[str, torch.Tensor]) -> None:
    """DRCN, eq. 8: alpha times the mean over recursions and 1 - alpha times the output's error, here in step 5."""
    generator = small_drcn()
    terms = [
        term("mse", weight=0.1, weight_end=1.0),
        term("recursions", weight=0.9, weight_end=0.0, supervises="intermediate"),
    ]
    outcome = PixelTask(generator, terms).run(batch, step=5, measure=True)
    found = {name: p.grad.clone() for name, p in generator.named_parameters()}
    generator.zero_grad()
    sr, intermediate = generator(batch["lr"], intermediate=True)
    alpha = 0.45
    output_loss = (1 - alpha) * (sr - batch["hr"]).square().mean()
    recursion_loss = alpha * torch.stack([(image - batch["hr"]).square().mean() for image in intermediate]).mean()
    (output_loss + recursion_loss).backward()
    for name, parameter in generator.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert outcome.losses["mse"].item() == pytest.approx(output_loss.item(), rel=1e-5)
    assert outcome.losses["recursions"].item() == pytest.approx(recursion_loss.item(), rel=1e-5)
    assert all(norm > 0 for norm in outcome.norms.values())


def test_intermediate_outputs_are_not_computed_where_no_term_asks(batch: dict[str, torch.Tensor]) -> None:
    generator = small_drcn()
    asked: list[bool] = []
    generator.register_forward_pre_hook(lambda _m, _a, kwargs: asked.append("intermediate" in kwargs), with_kwargs=True)
    PixelTask(generator, [term("mse")]).run(batch)
    PixelTask(generator, [term("all", supervises="intermediate")]).run(batch)
    assert asked == [False, True]


def test_a_weight_moves_along_a_line_and_ends_where_it_should() -> None:
    moving = LossTerm(name="mse", weight=2.0, weight_end=0.0)
    assert [moving.weight_at(step, 5) for step in range(5)] == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert LossTerm(name="mse", weight=2.0).weight_at(3, 5) == 2.0
    assert moving.weight_at(0, 1) == 2.0


def test_settings_that_came_later_leave_the_digest_of_other_recipes_alone() -> None:
    assert LossTerm(name="l1").model_dump() == {"name": "l1", "weight": 1.0, "every": 1}
    full = LossTerm(name="l1", weight_end=0.5, supervises="intermediate").model_dump()
    assert LossTerm.model_validate(full) == LossTerm(name="l1", weight_end=0.5, supervises="intermediate")


def test_drcn_trains_and_resumes_to_the_same_bytes(tmp_path: Path, photos: str) -> None:
    whole = train("drcn-lite-x4", tmp_path / "whole", data=photos, steps=4, overrides=SMALL, checkpoint_every=2)
    states = sorted((tmp_path / "whole" / "states").glob("*.pt"))
    assert len(states) == 2
    (tmp_path / "again").mkdir()
    for name in ("entry.json", "log.jsonl"):
        (tmp_path / "again" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (tmp_path / "again" / "states").mkdir()
    (tmp_path / "again" / "states" / states[0].name).write_bytes(states[0].read_bytes())
    again = train("drcn-lite-x4", tmp_path / "again", data=photos, steps=4, overrides=SMALL, checkpoint_every=2)
    assert again.resumed_at == 2
    assert again.weights.read_bytes() == whole.weights.read_bytes()


def test_accumulation_gives_the_whole_batchs_gradient(batch: dict[str, torch.Tensor]) -> None:
    terms = [term("mse"), term("recursions", supervises="intermediate")]
    whole, parts = small_drcn(), small_drcn()
    PixelTask(whole, terms).run(batch)
    task = PixelTask(parts, terms)
    for n in range(2):
        task.run({key: images[n : n + 1] for key, images in batch.items()}, share=0.5)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_the_audit_shows_terms_on_intermediate_outputs(photos: str) -> None:
    found = audit("drcn-lite-x4", data=photos, overrides=SMALL)
    assert found.ok
    assert {row.term for row in found.rows} == {"mse", "recursions"}
    assert all(row.generator for row in found.rows)


@pytest.mark.parametrize(
    ("entry", "loss", "message"),
    [
        ("srresnet-lite-x4", {"name": "mse", "supervises": "intermediate"}, "no intermediate outputs.*drcn"),
        ("drcn-lite-x4", {"name": "adversarial", "supervises": "intermediate"}, "not for adversarial terms"),
    ],
)
def test_what_cannot_be_supervised_is_refused_before_data_is_read(entry: str, loss: dict, message: str) -> None:
    checked = training_entry(entry, None, None, {"training.stages.psnr.losses.more": loss})
    with pytest.raises(CompositionError, match=message):
        build_terms(checked, "psnr")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"weight": 0.0, "weight_end": 1.0}, "let it start above 0"),
        ({"supervises": "everything"}, "'output' or 'intermediate'"),
    ],
)
def test_impossible_settings_are_refused(loss: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        training_entry("drcn-lite-x4", None, None, {"training.stages.psnr.losses.mse": loss})


# --- rates of layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["momentum", "adam", "muon", "lookahead_adam"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_layer_learns_at_its_own_rate_under_every_schedule(name: str, weight_decay: float) -> None:
    """SRCNN's last layer learns ten times slower."""
    generator = srzoo.create_generator("srcnn-x4")
    config = Optimizer(name=name, lr=1e-2, weight_decay=weight_decay, rates={"reconstruct": 0.1})
    optimizer = make_optimizer(generator, config)
    schedule = make_schedule(optimizer, Schedule(name="multistep", milestones=(2,), gamma=0.5), 4)
    names = {parameter: label for label, parameter in generator.named_parameters()}
    for step, factor in ((1, 1.0), (2, 0.5)):
        schedule.step_update(step)
        rates = {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rates == {
            label: pytest.approx(1e-2 * factor * (0.1 if label.startswith("reconstruct") else 1.0))
            for label in names.values()
        }


@pytest.mark.parametrize("warmup", [0, 3])
def test_milestones_are_steps_of_the_stage_with_and_without_warm_up(warmup: int) -> None:
    optimizer = make_optimizer(srzoo.create_generator("srcnn-x4"), Optimizer(name="adam", lr=1e-2))
    schedule = make_schedule(optimizer, Schedule(name="multistep", milestones=(6, 8), gamma=0.5, warmup=warmup), 10)
    rates = []
    for step in range(1, 10):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[warmup:] == pytest.approx(
        [1e-2 if n < 6 else 5e-3 if n < 8 else 2.5e-3 for n in range(warmup + 1, 10)]
    )


def test_a_step_moves_each_layer_by_its_rate() -> None:
    generator = srzoo.create_generator("srcnn-x4")
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    optimizer = make_optimizer(generator, Optimizer(name="momentum", lr=0.1, rates={"reconstruct": 0.5, "map.bias": 2}))
    for parameter in generator.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: (before[name] - p).mean().item() for name, p in generator.named_parameters()}
    assert moved == pytest.approx(
        {**dict.fromkeys(before, 0.1), "reconstruct.weight": 0.05, "reconstruct.bias": 0.05, "map.bias": 0.2}, rel=1e-3
    )


def test_a_rate_of_no_layer_is_refused_before_data_is_read() -> None:
    entry = training_entry("espcn-x4", None, None, {"training.stages.psnr.optimizer.rates": {"reconstrukt": 0.1}})
    with pytest.raises(CompositionError, match=r"optimizer\.rates.*no part 'reconstrukt'\. Did you mean 'reconstruct'"):
        preflight(entry)


def test_recipes_without_rates_are_written_as_before() -> None:
    assert "rates" not in Optimizer(lr=1e-4).model_dump(mode="json")
    given = Optimizer(lr=1e-4, rates={"tail": 0.5})
    assert Optimizer.model_validate(given.model_dump()) == given
