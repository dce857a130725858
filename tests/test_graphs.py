"""When steps are recorded and when not, with a recorder that needs no GPU; test_cuda.py has the real one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import srzoo
from srzoo import graphs
from srzoo.errors import RecipeWarning
from srzoo.weights import read_checkpoint

TINY = {
    "generator.num_features": 8,
    "generator.num_blocks": 1,
    "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8, "norm": "none"},
    "training.patch_size": 32,
    "training.batch_size": 2,
    "training.precision": "fp32",
    "training.multiscale": [1.0],
    "training.validation": None,
    "training.start_from": None,
    "training.stages.gan.losses.perceptual": None,
}


class Rerun:
    """Does again what it is to record, and leaves the results where the first ones were, as a CUDA graph does."""

    def __init__(self, step: graphs.GraphedStep) -> None:
        self.step, self.recorded, self.replayed = step, 0, 0
        self.refusal: str | None = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if self.refusal is not None:
            raise RuntimeError(self.refusal)
        if function.__name__ == "update":
            return None, function
        self.recorded += 1
        result = function()
        parameters = [p for network in self.step.parts.task.networks() for p in network.parameters()]
        first = {p: p.grad for p in parameters if p.grad is not None}

        def replay() -> None:
            self.replayed += 1
            again = function()
            for parameter, gradient in first.items():
                assert parameter.grad is not None
                gradient.copy_(parameter.grad)
            for old, new in zip(_values(result), _values(again), strict=True):
                old.copy_(new)

        return result, replay


def _values(found: Any) -> list[torch.Tensor]:
    return [*found.outcome.losses.values(), *found.outcome.norms.values(), *found.norms.values()]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Rerun]:
    """Have every stage take recorded steps, and return what recorded them."""
    recorders: list[Rerun] = []

    def step_of(*arguments: Any) -> graphs.GraphedStep:
        step = graphs.GraphedStep(*arguments, recorder=Rerun(None))  # type: ignore[arg-type]
        assert isinstance(step._recorder, Rerun)
        step._recorder.step = step
        recorders.append(step._recorder)
        return step

    monkeypatch.setattr("srzoo.loop.step_of", step_of)
    return recorders


def trained(out: Path, photos: str, changes: dict[str, Any], steps: int = 12) -> dict[str, torch.Tensor]:
    result = srzoo.train("srgan-lite-x4", out, data=photos, steps=steps, overrides={**TINY, **changes}, log_every=1)
    return read_checkpoint(result.weights)[0]


LAZY = {"training.stages.gan.losses.r1": {"weight": 1.0, "every": 3}}
CASES = {
    "one kind": ({}, 1, 9),
    "updates of the discriminator alone": ({"training.stages.gan.discriminator_steps": 2}, 2, 6),
    "a lazy penalty": (LAZY, 2, 6),
    "a weight that grows": ({"training.stages.gan.losses.adversarial.weight_end": 0.1}, 0, 0),
}


@pytest.mark.parametrize(("changes", "recorded", "replayed"), CASES.values(), ids=list(CASES))
def test_steps_of_a_kind_are_recorded_once_and_train_alike(
    tmp_path: Path, photos: str, made: list[Rerun], changes: dict[str, Any], recorded: int, replayed: int
) -> None:
    found = trained(tmp_path / "recorded", photos, changes)
    assert [(one.recorded, one.replayed) for one in made] == [(recorded, replayed)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srzoo.loop.step_of", graphs.step_of)
        wanted = trained(tmp_path / "launched", photos, changes)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("recorded", "launched")]
    for one, two in zip(*logs, strict=True):
        assert json.loads(one)["losses"] == json.loads(two)["losses"]


def test_what_draws_numbers_on_the_cpu_is_not_recorded(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from srzoo.tasks import GanTask

    judge = GanTask.judge
    monkeypatch.setattr(GanTask, "judge", lambda task, *given: (torch.rand(()), judge(task, *given))[1])
    with pytest.warns(RecipeWarning, match=r"draws random numbers on the CPU.*SRZOO_CUDA_GRAPHS=0"):
        trained(tmp_path, photos, {})
    assert made[0].recorded == 0


def test_what_cannot_be_recorded_is_launched_and_said_once(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(recorder: Rerun, function: Callable[[], Any]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Rerun, "record", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(tmp_path, photos, {})
    said = [str(warning.message) for warning in caught if "operation by operation" in str(warning.message)]
    assert len(said) == 1 and "not permitted when stream is capturing" in said[0]


def test_a_recorded_update_follows_the_schedule() -> None:
    group: dict[str, Any] = {"lr": 1e-3}
    rate = graphs._Rate(group, torch.tensor(1e-3), 1e-3)
    group["lr"] = 5e-4
    rate.follow()
    assert rate.tensor.item() == pytest.approx(5e-4) and rate.value == 5e-4


@pytest.mark.parametrize(("optimizer", "can"), [("adam", True), ("adamw", True), ("lion", False), ("sgd", False)])
def test_which_updates_can_be_recorded(optimizer: str, can: bool) -> None:
    from srzoo.optim import make_optimizer
    from srzoo.recipe import Optimizer

    made = make_optimizer(torch.nn.Linear(2, 2), Optimizer(name=optimizer, lr=1e-3))
    assert graphs._reads_rates(made) is can
