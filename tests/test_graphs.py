"""When steps are recorded and when not, with a recorder that needs no GPU; test_cuda.py has the real one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import TINY_GAN

import srzoo
from srzoo import graphs
from srzoo.compose import build_generator
from srzoo.errors import PluginError, RecipeWarning
from srzoo.optim import precision_for
from srzoo.weights import read_checkpoint

PENALISED = {**TINY_GAN, "discriminator": {**TINY_GAN["discriminator"], "norm": "none"}}


class Rerun:
    """Does again what it is to record, as a CUDA graph does: on the memory of then, and with nothing of Python's."""

    def __init__(self) -> None:
        self.step: graphs.GraphedStep | None = None
        self.recorded, self.replayed = 0, 0
        self.waits: list[str] = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        yield self.waits

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        assert self.step is not None
        parameters = [p for network in self.step.parts.task.networks() for p in network.parameters()]
        place = {parameter: parameter.data for parameter in parameters}
        if function.__name__ == "update":
            groups = [g for _, optimizer, _ in self.step.parts.optimizers(True) for g in optimizer.param_groups]
            rates = [group["lr"] for group in groups]  # tensors, which the step sets anew

            def update() -> None:
                own = [group["lr"] for group in groups]
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = float(rate)
                with self._on(place):
                    function()
                for group, value in zip(groups, own, strict=True):
                    group["lr"] = value

            return None, update
        self.recorded += 1
        result = function()
        first = {p: p.grad for p in parameters if p.grad is not None}

        def replay() -> None:
            self.replayed += 1
            before = {p: p.grad for p in parameters}
            with self._on(place):
                again = function()
            for parameter, gradient in first.items():
                assert parameter.grad is not None
                gradient.copy_(parameter.grad)
            for parameter in parameters:
                parameter.grad = before[parameter]
            for old, new in zip(_values(result), _values(again), strict=True):
                old.copy_(new)

        return result, replay

    @contextmanager
    def _on(self, place: dict[torch.nn.Parameter, torch.Tensor]) -> Iterator[None]:
        now = {parameter: parameter.data for parameter in place}
        for parameter, data in place.items():
            parameter.data = data
        yield
        for parameter, data in now.items():
            parameter.data = data


def _values(found: Any) -> list[torch.Tensor]:
    return [*found.outcome.losses.values(), *found.outcome.norms.values(), *found.norms.values()]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Rerun]:
    """Have every stage take recorded steps, and return what recorded them."""
    recorders: list[Rerun] = []

    def step_of(*arguments: Any) -> graphs.GraphedStep:
        recorders.append(recorder := Rerun())
        recorder.step = graphs.GraphedStep(*arguments, recorder=recorder)
        return recorder.step

    monkeypatch.setattr("srzoo.loop.step_of", step_of)
    return recorders


def trained(out: Path, photos: str, changes: dict[str, Any], steps: int = 12) -> dict[str, torch.Tensor]:
    result = srzoo.train(
        "srgan-lite-x4", out, data=photos, steps=steps, overrides={**PENALISED, **changes}, log_every=1
    )
    return read_checkpoint(result.weights)[0]


LAZY = {"training.stages.gan.losses.r1": {"weight": 1.0, "every": 3}}
TWICE = {
    "training.stages.gan.losses.r1": {"weight": 1.0, "every": 3},
    "training.stages.gan.losses.another": {"name": "r1", "weight": 1.0, "every": 4},
}
CASES = {
    "one kind": ({}, 1, 9),
    "a teacher of eight views": (
        {
            "training.teacher": "espcn-lite-x4+",
            "training.stages.gan.losses.imitation": {"name": "l1", "reference": "teacher"},
        },
        1,
        9,
    ),
    "updates of the discriminator alone": ({"training.stages.gan.discriminator_steps": 2}, 2, 6),
    "a lazy penalty": (LAZY, 2, 6),
    "updates by orthogonal matrices": (
        {"training.stages.gan.optimizer": {"name": "muon", "lr": 1e-3, "betas": None}},
        1,
        9,
    ),
    "a weight that grows": ({"training.stages.gan.losses.adversarial.weight_end": 0.1}, 0, 0),
}


@pytest.mark.parametrize(("changes", "recorded", "replayed"), CASES.values(), ids=list(CASES))
def test_steps_of_a_kind_are_recorded_once_and_train_alike(
    tmp_path: Path, photos: str, made: list[Rerun], changes: dict[str, Any], recorded: int, replayed: int
) -> None:
    assert_alike(tmp_path, photos, changes)
    assert [(one.recorded, one.replayed) for one in made] == [(recorded, replayed)]


def assert_alike(tmp_path: Path, photos: str, changes: dict[str, Any], steps: int = 12) -> None:
    found = trained(tmp_path / "recorded", photos, changes, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srzoo.loop.step_of", graphs.step_of)
        wanted = trained(tmp_path / "launched", photos, changes, steps)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7)  # a recorded rate is a float32
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("recorded", "launched")]
    losses = [[json.loads(line).get("losses") for line in lines] for lines in logs]
    for one, two in zip(*losses, strict=True):
        assert one == (two and pytest.approx(two, rel=1e-4))


def test_penalties_of_one_weight_are_kinds_of_their_own(tmp_path: Path, photos: str, made: list[Rerun]) -> None:
    assert_alike(tmp_path, photos, TWICE, 20)
    assert made[0].recorded > 1


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((1, 1, 1, 1), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + self.scale)


@pytest.mark.parametrize("moved", [False, True], ids=["validated", "moved"])
def test_weights_stay_where_a_recorded_step_finds_them(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    def with_block(*given: Any, **options: Any) -> torch.nn.Module:
        generator = build_generator(*given, **options)
        generator.get_submodule("blocks").append(Scaled())  # type: ignore[operator]
        return generator

    monkeypatch.setattr("srzoo.training.build_generator", with_block)
    changes: dict[str, Any] = {"training.stages.gan.ema": 0.0}
    changes["training.validation"] = {"data": f"{photos}", "every": 6, "metrics": ["psnr"]}
    if moved:  # as a validation does that is somebody else's

        def move(self: Any, generator: torch.nn.Module) -> dict[str, float]:
            for parameter in generator.parameters():
                parameter.data = parameter.data.clone()
            return {f"{self.sets[0].name}/psnr": 20.0}

        monkeypatch.setattr("srzoo.runs.Validator.__call__", move)
    assert_alike(tmp_path, photos, changes, 14)
    assert made[0].recorded == (2 if moved else 1)


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 1e-2, "betas": None}, {"name": "adam", "lr": 1e-3}])
def test_a_gradient_of_another_kind_of_step_is_gone(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch, optimizer: dict[str, Any]
) -> None:
    from srzoo_gan.regularisers import R1

    build, call = srzoo.compose.build_discriminator, R1.__call__
    built: list[torch.nn.Module] = []

    def with_extra(*given: Any) -> torch.nn.Module:
        built.append(build(*given))
        built[-1].extra = torch.nn.Parameter(torch.ones(3))
        return built[-1]

    def reaching(loss: R1, discriminator: torch.nn.Module, *images: torch.Tensor) -> torch.Tensor:
        extra: torch.Tensor = getattr(discriminator, "extra", torch.zeros(3))
        return call(loss, discriminator, *images) + extra.square().sum()

    monkeypatch.setattr("srzoo.stages.build_discriminator", with_extra)
    monkeypatch.setattr(R1, "__call__", reaching)
    assert_alike(tmp_path, photos, {**LAZY, "training.stages.gan.optimizer": optimizer}, 18)
    torch.testing.assert_close(built[0].extra, built[1].extra)


def test_what_draws_numbers_on_the_cpu_is_not_recorded(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from srzoo.tasks import GanTask

    judge = GanTask.judge
    monkeypatch.setattr(GanTask, "judge", lambda task, *given: (torch.rand(()), judge(task, *given))[1])
    with pytest.warns(RecipeWarning, match=r"draws random numbers on the CPU.*SRZOO_CUDA_GRAPHS=0"):
        trained(tmp_path, photos, {})
    assert made[0].recorded == 0


@pytest.mark.parametrize("raised", [RuntimeError, PluginError], ids=["by a block", "by a loss"])
def test_what_cannot_be_recorded_is_launched_and_said_once(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    def refuse(recorder: Rerun, function: Callable[[], Any]) -> Any:
        raise raised("operation not permitted when stream is capturing")

    monkeypatch.setattr(Rerun, "record", refuse)
    said = warned_of(lambda: trained(tmp_path, photos, {}))
    assert len(said) == 1 and "not permitted when stream is capturing" in said[0]


def test_gradients_stay_recorded_where_updates_cannot_be(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Rerun.record

    def refuse(recorder: Rerun, function: Callable[[], Any]) -> Any:
        if function.__name__ == "update":
            raise RuntimeError("operation not permitted when stream is capturing")
        return record(recorder, function)

    monkeypatch.setattr(Rerun, "record", refuse)
    said = warned_of(lambda: trained(tmp_path, photos, {}))
    assert len(said) == 1 and "updates are launched operation by operation" in said[0]
    assert (made[0].recorded, made[0].replayed) == (1, 9)


def test_what_waits_for_the_device_is_told_with_its_place(
    tmp_path: Path, photos: str, made: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rerun, "watching", lambda recorder: nullcontext(["block.py, line 7"]))
    said = warned_of(lambda: trained(tmp_path, photos, {}, 6))
    assert len(said) == 1 and "it waits for the device in block.py, line 7" in said[0]
    assert made[0].recorded == 0


def warned_of(work: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in caught if "operation by operation" in str(warning.message)]


@pytest.mark.parametrize(
    ("change", "records"),
    [
        ({}, True),
        ({"device": "cpu"}, False),
        ({"processes": 2}, False),
        ({"fp16": True}, False),
        ({"compile": True}, False),
        ({"deterministic": True}, False),
        ({"switch": "0"}, False),
    ],
)
def test_where_steps_are_recorded(change: dict[str, Any], records: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CudaRecorder", lambda device: None)
    monkeypatch.setenv(graphs.SWITCH, change.get("switch", "1"))
    device = SimpleNamespace(type=change.get("device", "cuda"))
    accelerator: Any = SimpleNamespace(device=device, num_processes=change.get("processes", 1))
    switches = {key: change.get(key, False) for key in ("compile", "deterministic")}
    recipe: Any = SimpleNamespace(**switches, accumulate=1)
    scaler: Any = SimpleNamespace(is_enabled=lambda: change.get("fp16", False))
    step = graphs.step_of(None, recipe, None, accelerator, scaler)  # type: ignore[arg-type]
    assert isinstance(step, graphs.GraphedStep) is records


def test_a_recorded_update_follows_the_schedule() -> None:
    group: dict[str, Any] = {"lr": 1e-3}
    rate = graphs._Rate(group, torch.tensor(1e-3), 1e-3)
    group["lr"] = 5e-4
    rate.follow()
    assert rate.tensor.item() == pytest.approx(5e-4) and rate.value == 5e-4


@pytest.mark.parametrize(
    ("optimizer", "can"),
    [("adam", True), ("adamw", True), ("muon", True), ("lion", False), ("sgd", False)],
)
def test_which_updates_can_be_recorded(optimizer: str, can: bool) -> None:
    from srzoo.optim import make_optimizer
    from srzoo.recipe import Optimizer

    made = make_optimizer(torch.nn.Linear(2, 2), Optimizer(name=optimizer, lr=1e-3))
    assert graphs._reads_rates(made) is can


def test_an_update_whose_rate_and_counts_lie_on_the_device_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded of Muon: a rate that is a tensor, and counts of steps beside their parameters."""
    from timm.optim import _helpers

    from srzoo.optim import make_optimizer
    from srzoo.recipe import Optimizer

    monkeypatch.setattr(_helpers, "_get_capturable_supported_devices", lambda **options: ["cpu"])

    def weights(on_device: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.GroupNorm(2, 8))
        optimizer = make_optimizer(module, Optimizer(name="muon", lr=1e-2, betas=None))
        for step in range(4):
            for parameter in module.parameters():
                parameter.grad = torch.randn(parameter.shape)
            if on_device and step == 2:
                graphs._count_on_the_device(optimizer)
                optimizer.param_groups[0].update(lr=torch.tensor(1e-2), capturable=True)
            optimizer.step()
        return list(module.parameters())

    for recorded, plain in zip(weights(True), weights(False), strict=True):
        torch.testing.assert_close(recorded, plain, rtol=0, atol=1e-4)  # a hundredth of a step: timm rounds it to bf16


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_a_gpu_computes_in_it_itself(
    native: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision_for("auto", torch.device("cuda")) == precision
