"""The conformance kit: every registered component passes, and every check fails on a fault seeded for it."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugin_site import Site, plugin
from torch import nn
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.conformance import probe
from srzoo.conformance.outcome import PACKAGE, Finding
from srzoo.conformance.package import Package
from srzoo.conformance.run import CHECKS, check, checks_of, plan
from srzoo.conformance.subject import Subject
from srzoo.data import ImageItem, ImageSet
from srzoo.errors import UndefinedScoreError, UnknownNameError
from srzoo.plugins import PluginRecord, discover
from srzoo.registry import Component, Registry, get_registry
from srzoo.specs import KINDS, ComponentSpec

torch.set_num_threads(1)

REGISTERED = [component for kind in KINDS for component in get_registry().find(kind)]
IMPORTS = ("quick-import", "light-import", "pure-import")
OWNER = PluginRecord("faulty", "faulty-package", "1.0", "faulty")


def failures(findings: list[Finding]) -> list[str]:
    return [f"{f.subject} {f.check}: {f.reason}" for f in findings if f.status == "fail"]


# --- what is registered passes ------------------------------------------------------------------------------


@pytest.mark.parametrize("component", REGISTERED, ids=lambda c: f"{c.kind}/{c.full_name}")
def test_every_registered_component_passes(component: Component) -> None:
    subject = Subject(component)
    findings = [one(subject) for one in checks_of(component.kind, thorough=False)]
    assert failures(findings) == []


@pytest.mark.slow
@pytest.mark.parametrize("component", REGISTERED, ids=lambda c: f"{c.kind}/{c.full_name}")
def test_every_registered_component_can_be_exported_and_compiled(component: Component) -> None:
    subject = Subject(component)
    assert failures([one(subject) for one in checks_of(component.kind) if one.thorough]) == []


@pytest.fixture(scope="module")
def packages() -> list[Package]:
    """All plugins shipped with srzoo, imported by one process in turn."""
    registry = get_registry()
    found = [Package(record, registry) for record in registry.records if record.first_party]
    seen = probe.run(*((package.record.name, package.record.distribution) for package in found))
    for package, one in zip(found, seen, strict=True):
        package.__dict__["probed"] = one
    return found


@pytest.mark.parametrize("one", checks_of(PACKAGE), ids=lambda one: one.name)
def test_every_first_party_plugin_passes(packages: list[Package], one: Any) -> None:
    assert failures([one(package) for package in packages]) == []


@pytest.mark.parametrize(
    ("component", "name"),
    [(component, name) for component in REGISTERED for name in component.spec.exempt],
    ids=lambda value: value if isinstance(value, str) else f"{value.kind}/{value.full_name}",
)
def test_an_exemption_is_one_that_is_needed(component: Component, name: str) -> None:
    class Strict(Subject):
        exempt = {}  # type: ignore[assignment]

    (one,) = [one for one in checks_of(component.kind) if one.name == name]
    assert one(Strict(component)).status == "fail"


# --- a good component of every kind, and faults -------------------------------------------------------------


class GoodBlock(nn.Module):
    """Args: none."""

    def __init__(self, channels: int, scale_by: float = 1.0, mode: Literal["tanh", "none"] = "tanh") -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_by, self.mode = scale_by, mode

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.tanh(y) if self.mode == "tanh" else y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale_by * self.residual(x)


def block(change: Callable[[GoodBlock, torch.Tensor], torch.Tensor]) -> type[nn.Module]:
    """A block that computes something else."""

    class Changed(GoodBlock):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return change(self, x)

    return Changed


def reseeds(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    np.random.seed(0)
    return x + own.residual(x)


class Unused(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.forgotten = nn.Conv2d(channels, channels, 1)


class NotStored(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.bias = torch.randn(1, channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.bias


class Seeds(GoodBlock):
    def __init__(self, channels: int) -> None:
        torch.manual_seed(0)  # so that its weights are the same every time
        super().__init__(channels)


class ChangesDefaults(GoodBlock):
    def __init__(self, channels: int) -> None:
        torch.backends.cudnn.benchmark = True
        super().__init__(channels)


class DrawsFromItsOwn(GoodBlock):
    """Right: random and the same every time, and nobody else notices."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        drawn = torch.rand(1, channels, 1, 1, generator=torch.Generator().manual_seed(0))
        self.register_buffer("pattern", drawn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.pattern


class LeftBehind(GoodBlock):
    """A fixed kernel that is no buffer, so .to(device) does not take it along."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.kernels = [torch.full((channels, 1, 3, 3), 1 / 9)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + F.conv2d(x, self.kernels[0], padding=1, groups=x.shape[1])


class Grid(nn.Module):
    """A loss that weights the centre, by a tensor made on the CPU; with ``moved`` it is right."""

    def __init__(self, moved: bool = True) -> None:
        super().__init__()
        self.moved = moved

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        rows = torch.hann_window(sr.shape[-1], periodic=False) + 0.1
        return ((rows.to(sr.device) if self.moved else rows) * (sr - hr).abs()).mean()


class ZeroInitialised(GoodBlock):
    """Right: the last convolution begins as zero, so the first one has no gradient yet."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.last = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.last.weight)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(super().residual(x))


class DiscardsRows(GoodBlock):
    def __init__(self, channels: int, mode: Literal["same", "valid"] = "same") -> None:
        super().__init__(channels)
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.mode == "same" else x[..., 1:]


class RefusesItsChoice(GoodBlock):
    def __init__(self, channels: int, norm: Literal["none", "batch"] = "none") -> None:
        super().__init__(channels)
        if norm == "batch":
            raise ValueError("norm batch is not there yet")


class BreaksOnNumber(GoodBlock):
    def __init__(self, channels: int, growth: int = 8) -> None:
        super().__init__(channels)
        self.list = [1][growth - 8]


class FailsByDefault(GoodBlock):
    def __init__(self, channels: int, growth: int = 0) -> None:
        super().__init__(channels)
        self.ratio = channels // growth


class Untyped(GoodBlock):
    def __init__(self, channels: int, growth=8) -> None:  # type: ignore[no-untyped-def]
        super().__init__(channels)


def anything(channels: int, **options: Any) -> nn.Module:
    return GoodBlock(channels)


class Generator(nn.Module):
    def __init__(self, scale: int = 4, wide: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 3 * scale**2, 7 if wide else 3, padding=3 if wide else 1)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(lr), self.scale)


class OnlyTwice(Generator):
    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.interpolate(super().forward(lr), scale_factor=2 / self.scale)


class Upsampler(nn.Module):
    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.out_channels = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.conv(x))


class HidesChannels(Upsampler):
    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(channels, scale)
        del self.out_channels


class Discriminator(nn.Module):
    def __init__(self, input_size: int = 32) -> None:
        super().__init__()
        self.input_size = input_size
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.linear = nn.Linear(4 * (-(-input_size // 2)) ** 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] != self.input_size:
            raise ValueError(f"this discriminator takes patches of {self.input_size} pixels, not {images.shape[-1]}")
        return self.linear(F.softplus(self.conv(images)).flatten(1))


class ShapeError(Discriminator):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(F.softplus(self.conv(images)).flatten(1))


class Terse(Discriminator):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] != self.input_size:
            raise ValueError("size")
        return super().forward(images)


class Extractor(nn.Module):
    names = ("one", "two")

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, images: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        for layer in layers:
            if layer not in self.names:
                raise ValueError(f"there is no layer {layer}; there are one and two")
        one = F.softplus(self.one(images))
        found = {"one": one, "two": self.two(one)}
        return {layer: found[layer] for layer in layers}


class TakesAnyLayer(Extractor):
    def forward(self, images: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        return super().forward(images, [layer for layer in layers if layer in self.names])


class Nameless(Extractor):
    names = ()


class L2(nn.Module):
    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return ((sr - hr) ** 2).mean()


def loss(call: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[[], Any]:
    def build() -> Any:
        return call

    return build


class Game:
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-fake).mean()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()


class NoPull(Game):
    """What public code does for a relativistic hinge: two terms that cancel."""

    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        assert real is not None
        return -(fake - real).mean() + (fake - real).mean()


class OfTheMap(Game):
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-fake).mean(dim=(0, 1))


def penalty(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    hr = hr.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(hr).sum(), hr, create_graph=True)
    return grad.square().mean()


def dead_penalty(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    hr = hr.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(hr).sum(), hr)
    return grad.square().mean().requires_grad_(True)


def error(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return (sr - hr).abs().mean(dim=(1, 2, 3))


def metric(call: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[[], Any]:
    return loss(call)


def relative(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """An error that is not defined everywhere and does not say so."""
    return error(sr, hr) / (0.0 if sr.shape[-1] < 8 else 1.0) * 0.0 + error(sr, hr)


def contrast(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: of no reference, and so not at its best for equal images."""
    return sr.flatten(1).var(dim=1)


def weighted(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return ((sr - hr).abs() * (torch.hann_window(sr.shape[-1], periodic=False) + 0.1)).mean(dim=(1, 2, 3))


def windowed(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return error(F.conv2d(sr - hr, torch.ones(1, 1, 7, 7).to(sr)), torch.zeros(1).to(sr))


def says_so(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    if sr.shape[-1] < 7:
        raise UndefinedScoreError("an image smaller than 7 pixels has no window")
    return error(sr, hr)


class Prepares:
    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return error(sr, hr)

    def reference(self, hr: torch.Tensor) -> torch.Tensor:
        return hr.clone()

    def against(self, sr: torch.Tensor, ready: torch.Tensor) -> torch.Tensor:
        return error(sr, ready)


class ConsumesItsReference(Prepares):
    def against(self, sr: torch.Tensor, ready: torch.Tensor) -> torch.Tensor:
        return ready.sub_(sr).abs().mean(dim=(1, 2, 3))


def images(*items: tuple[str, Any]) -> Callable[[], ImageSet]:
    def build() -> ImageSet:
        return ImageSet("mine", tuple(ImageItem(name, hr=lambda read=read: read()) for name, read in items))

    return build


def grey_square(dtype: Any = np.uint8) -> tuple[Any, bool]:
    return np.full((16, 16, 3), 100, dtype), False


def noise() -> tuple[Any, bool]:
    return np.random.default_rng().integers(0, 256, (16, 16, 3), dtype=np.uint8), False


Build = tuple[str, Any, dict[str, Any]]
GOOD: list[Build] = [
    ("block", GoodBlock, {}),
    ("block", ZeroInitialised, {}),
    ("block", DrawsFromItsOwn, {}),
    ("generator", Generator, {"scales": (2, 4), "receptive_radius": 3, "examples": [{}, {"wide": True}]}),
    ("upsampler", Upsampler, {}),
    ("discriminator", Discriminator, {"min_size": 16}),
    ("extractor", Extractor, {}),
    ("loss", L2, {}),
    ("loss", Grid, {}),
    ("loss", Game, {"role": "adversarial"}),
    ("loss", loss(penalty), {"role": "regulariser"}),  # type: ignore[arg-type]
    ("metric", Prepares, {"higher_is_better": False, "value_range": (0, 1)}),
    ("metric", metric(says_so), {"higher_is_better": False}),
    ("metric", metric(contrast), {"full_reference": False}),
    ("dataset", images(("a", grey_square), ("b", grey_square)), {}),
]
LOWER = {"higher_is_better": False}
TINY = {"value_range": (0, 0.001)}
SQRT = loss(lambda sr, hr: torch.sqrt(((sr - hr) ** 2).mean()))
FAULTS: list[tuple[str, str, Build]] = [
    ("factory", "defines no 'Blok'", ("block", "srzoo.conformance.parts:Blok", {})),
    ("pure-build", "the random generator of torch", ("block", Seeds, {})),
    ("pure-build", "the random generator of NumPy", ("block", block(reseeds), {})),
    ("pure-build", "torch.backends.cudnn.benchmark", ("block", ChangesDefaults, {})),
    ("other-device", "its attribute kernels stays on the CPU", ("block", LeftBehind, {})),
    ("other-device", "made on the CPU when it is called", ("loss", lambda: Grid(moved=False), {})),
    ("defaults", "division", ("block", FailsByDefault, {})),
    ("defaults", "'layers' has no default; give examples=", ("loss", lambda layers: L2(), {})),
    ("every-option", "mode='valid'", ("block", DiscardsRows, {})),
    ("every-option", "norm='batch' is documented and refused", ("block", RefusesItsChoice, {})),
    ("every-option", "growth=16", ("block", BreaksOnNumber, {})),
    ("unknown-options", "**options", ("block", anything, {})),
    ("typed-options", "growth has no type", ("block", Untyped, {})),
    ("output-shape", "must be (1, 8, 7, 5)", ("block", block(lambda b, x: b.conv(x)[..., 1:]), {})),
    ("output-shape", "not a tensor", ("block", block(lambda b, x: [x]), {})),  # type: ignore[arg-type,return-value]
    ("output-shape", "scale 4, 12x10: ", ("generator", OnlyTwice, {"scales": (2, 4), "size_multiple": 2})),
    ("output-shape", "out_channels", ("upsampler", HidesChannels, {})),
    ("output-shape", "output='map'", ("discriminator", Discriminator, {"output": "map"})),
    ("output-shape", "attribute 'names'", ("extractor", Nameless, {})),
    (
        "finite-output",
        "black input",
        ("block", block(lambda b, x: x + b.conv(x) / x.mean(dim=(2, 3), keepdim=True)), {}),
    ),
    ("gradient", "reaches forgotten.weight, forgotten.bias", ("block", Unused, {})),
    ("gradient", "no gradient at all", ("block", block(lambda b, x: (x + b.conv(x)).detach()), {})),
    ("gradient", "reaches the input", ("block", block(lambda b, x: b.conv(x.detach())), {})),
    ("deterministic", "noise or dropout", ("block", block(lambda b, x: x + F.dropout(b.conv(x), 0.5)), {})),
    ("batch-independent", "others of its batch", ("block", block(lambda b, x: x + b.conv(x - x.mean(0))), {})),
    ("state-dict", "register every tensor", ("block", NotStored, {})),
    ("bf16-autocast", "under bf16", ("block", block(lambda b, x: (b.conv(x) + 1e3) - 1e3), {})),
    ("channels-last", "view", ("block", block(lambda b, x: b.conv(x).view(-1).view(x.shape)), {})),
    ("torch-export", "refuses it", ("block", block(lambda b, x: x if b.conv(x).sum() > 0 else b.conv(x)), {})),
    ("torch-compile", "one graph", ("block", block(lambda b, x: x if b.conv(x).sum() > 0 else b.conv(x)), {})),
    ("unknown-layer", "does not exist", ("extractor", TakesAnyLayer, {})),
    ("refuses-sizes", "breaks it instead", ("discriminator", ShapeError, {"input_size": 32})),
    ("refuses-sizes", "without a sentence", ("discriminator", Terse, {"input_size": 32})),
    (
        "receptive-field",
        "it sees 3 pixels",
        ("generator", Generator, {"receptive_radius": 1, "examples": [{}, {"wide": True}]}),
    ),
    ("finite-scalar", "must be one number", ("loss", loss(lambda sr, hr: (sr - hr).abs()), {})),
    ("finite-scalar", "gradient is lost", ("loss", loss(lambda sr, hr: float((sr - hr).abs().mean())), {})),
    ("finite-scalar", "is nan", ("loss", loss(lambda sr, hr: (sr - hr).mean().abs().sub(9).sqrt()), {})),
    ("finite-scalar", "must be one number", ("loss", OfTheMap, {"role": "adversarial"})),
    ("differentiable", "not finite where output and reference are equal", ("loss", SQRT, {})),
    ("differentiable", "detached", ("loss", loss(lambda sr, hr: torch.tensor((sr - hr).abs().mean().item())), {})),
    ("differentiable", "nothing would be learnt", ("loss", NoPull, {"role": "adversarial"})),
    ("differentiable", "create_graph=True", ("loss", loss(dead_penalty), {"role": "regulariser"})),  # type: ignore[arg-type]
    ("minimum", "its spec says 0.0", ("loss", loss(lambda sr, hr: (sr - hr).abs().mean() + 1), {})),
    ("minimum", "for a wrong output", ("loss", loss(lambda sr, hr: -(sr - hr).abs().mean()), {})),
    ("one-value-an-image", "(2,), real", ("metric", metric(lambda sr, hr: (sr - hr).abs().mean()), LOWER)),
    (
        "one-value-an-image",
        "each alone",
        ("metric", metric(lambda sr, hr: error(sr, hr).mean().expand(len(sr))), LOWER),
    ),
    ("one-value-an-image", "NaN", ("metric", metric(lambda sr, hr: error(sr, hr) * float("nan")), LOWER)),
    ("direction", "not where output and reference are equal", ("metric", metric(error), {})),
    ("direction", "more and more noise", ("metric", metric(lambda sr, hr: error(sr, hr).sign()), LOWER)),
    ("direction", "values lie in (0, 0.01)", ("metric", metric(error), {**LOWER, "value_range": (0, 0.01)})),
    ("direction", "values lie in (0, 0.001)", ("metric", metric(contrast), {"full_reference": False, **TINY})),
    ("other-device", "made on the CPU when it is called", ("metric", metric(weighted), LOWER)),
    ("undefined", "UndefinedScoreError", ("metric", metric(windowed), LOWER)),
    ("undefined", "NaN", ("metric", metric(relative), LOWER)),
    ("prepared-reference", "against(sr, reference(hr))", ("metric", ConsumesItsReference, LOWER)),
    ("readable", "(H, W, 3) uint8", ("dataset", images(("a", lambda: grey_square(np.float32))), {})),
    ("readable", "not a srzoo.data.ImageSet", ("dataset", lambda: ["a.png"], {})),
    ("distinct-names", "a names more than one", ("dataset", images(("a", grey_square), ("a", noise)), {})),
    ("reproducible", "other pixels", ("dataset", images(("a", noise)), {})),
]


def subject_of(kind: str, factory: Any, facts: dict[str, Any]) -> Subject:
    spec: ComponentSpec = KINDS[kind]("mine", factory, summary="Mine", **facts)
    return Subject(Component(spec, OWNER))


@pytest.mark.parametrize("build", GOOD, ids=lambda b: f"{b[0]}-{getattr(b[1], '__name__', '')}")
def test_good_components_pass(build: Build) -> None:
    subject = subject_of(*build)
    assert failures([one(subject) for one in checks_of(build[0], thorough=False)]) == []


@pytest.mark.parametrize(
    ("name", "reason", "build"), FAULTS, ids=[f"{name}-{index}" for index, (name, _, _) in enumerate(FAULTS)]
)
def test_a_check_fails_on_the_fault_it_looks_for(name: str, reason: str, build: Build) -> None:
    (one,) = [one for one in CHECKS if one.name == name]
    finding = one(subject_of(*build))
    assert finding.status == "fail", finding
    assert reason in finding.reason
    assert "\n" not in finding.reason


def test_every_check_has_a_fault_that_it_is_tried_on() -> None:
    of_components = {one.name for one in CHECKS if one.kinds != (PACKAGE,)}
    assert of_components == {name for name, _, _ in FAULTS}
    assert {one.name for one in checks_of(PACKAGE)} == {*PACKAGE_FAULTS, *IMPORTS}
    assert len({one.name for one in CHECKS}) == len(CHECKS)


@pytest.mark.slow
def test_good_components_can_be_exported_and_compiled() -> None:
    for kind, factory, facts in GOOD:
        subject = subject_of(kind, factory, facts)
        assert failures([one(subject) for one in checks_of(kind) if one.thorough]) == []


def test_the_random_state_of_the_process_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    subject = subject_of(*GOOD[0])
    for name in ("output-shape", "deterministic", "state-dict"):
        (one,) = [one for one in CHECKS if one.name == name]
        one(subject)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_metric_without_a_reference_is_not_asked_to_be_best_at_equal_images() -> None:
    (one,) = [one for one in CHECKS if one.name == "direction"]
    finding = one(subject_of("metric", metric(contrast), {"full_reference": False}))
    assert finding.status == "n/a"
    assert "full_reference=False" in finding.reason
    told = one(subject_of("metric", metric(contrast), {}))
    assert told.status == "fail"
    assert "full_reference=False" in told.reason


def test_a_factory_that_cannot_be_loaded_is_told_once_and_without_a_line_of_ours() -> None:
    subject = subject_of("block", "srzoo.conformance.parts:Blok", {})
    findings = [one(subject) for one in checks_of("block")]
    assert [f.check for f in findings if f.status == "fail"] == ["factory"]
    assert {f.status for f in findings if f.check != "factory"} == {"n/a"}
    assert not any(".py, line" in f.reason for f in findings)


def test_settings_that_a_component_changes_are_put_back() -> None:
    before = torch.backends.cudnn.benchmark
    (one,) = [one for one in CHECKS if one.name == "pure-build"]
    for _ in range(2):  # seen the second time as well
        assert one(subject_of("block", ChangesDefaults, {})).status == "fail"
    assert torch.backends.cudnn.benchmark is before


def test_an_exemption_is_reported_with_its_reason() -> None:
    facts = {"exempt": {"batch-independent": "attends over the batch on purpose"}}
    subject = subject_of("block", block(lambda b, x: x + b.conv(x - x.mean(0))), facts)
    (one,) = [one for one in CHECKS if one.name == "batch-independent"]
    assert (one(subject).status, one(subject).reason) == ("n/a", "exempt: attends over the batch on purpose")


# --- plugins as a whole -------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


PACKAGE_FAULTS = {
    "loads": ("import no_such_library\n", "No module named 'no_such_library'"),
    "own-names": (plugin('srzoo.BlockSpec("rrdb", "textwrap:dedent", summary="x")'), "plugin 'esrgan' (srzoo"),
    "known-exemptions": (
        plugin('srzoo.BlockSpec("b", "textwrap:dedent", summary="x", exempt={"gradients": "because"})'),
        "is exempt from 'gradients', which is no check of a block",
    ),
    "entries-compose": (plugin('"nowhere.yaml"', "srzoo_entries"), "nowhere.yaml; is it part of the wheel"),
}


@pytest.mark.parametrize("name", PACKAGE_FAULTS)
def test_a_check_of_a_plugin_fails_on_its_fault(site: Site, name: str) -> None:
    source, reason = PACKAGE_FAULTS[name]
    site.install("bad", source)
    (record,) = discover(site.entry_points())
    registry = Registry([*get_registry().records, record])
    (one,) = [one for one in CHECKS if one.name == name]
    finding = one(Package(record, registry))
    assert finding.status == "fail"
    assert reason in finding.reason


def test_imports_that_are_slow_heavy_or_not_pure_are_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    (site.folder / "factory_module.py").write_text(
        "import torch\ntorch.manual_seed(0)\nprint('loaded')\ndef make(channels): pass\n"
    )
    source = "import os, time, matplotlib\ntime.sleep(0.6)\nos.environ['LEFT_BEHIND'] = '1'\nopen('left', 'w')\n"
    source += plugin('srzoo.BlockSpec("b", "factory_module:make", summary="x")')
    site.install("bad", source)
    (record,) = discover(site.entry_points())
    monkeypatch.delenv("LEFT_BEHIND")
    package = Package(record, Registry([record]))
    findings = {one.name: one(package) for one in CHECKS if one.name in IMPORTS}
    assert {finding.status for finding in findings.values()} == {"fail"}
    assert "import matplotlib" in findings["light-import"].reason
    assert " s of every srzoo command" in findings["quick-import"].reason
    assert "the working folder, the environment variable LEFT_BEHIND" in findings["pure-import"].reason
    assert package.probed["effects_of_factories"] == ["torch's random state", "the terminal ('loaded')"]


def test_a_plugin_that_ends_the_process_is_told(site: Site) -> None:
    site.install("bad", "import os, sys\nprint('going down', file=sys.stderr, flush=True)\nos._exit(3)\n")
    with pytest.raises(RuntimeError, match="ended with 3"):
        probe.run(("bad", "dist-bad"))


def test_a_plugin_that_hangs_is_told_after_a_while(site: Site) -> None:
    site.install("bad", "import time\ntime.sleep(600)\n")
    with pytest.raises(TimeoutError, match="more than 1 s"):
        probe.run(("bad", "dist-bad"), timeout=1)


# --- names, command line, pytest ----------------------------------------------------------------------------


def test_a_name_is_a_plugin_a_distribution_or_a_component() -> None:
    assert {str(job.subject.label) for job in plan("dcgan")[1]} == {"plugin dcgan", "block/conv", "discriminator/dcgan"}
    assert {str(job.subject.label) for job in plan("block/rrdb")[1]} == {"block/rrdb"}
    assert {str(job.subject.label) for job in plan("block/esrgan/rrdb")[1]} == {"block/rrdb"}
    whole = {str(job.subject.label) for job in plan("srzoo")[1]}
    assert {f"{c.kind}/{c.name}" for c in REGISTERED if c.owner.first_party and c.kind != "layout"} <= whole
    assert not any(job.check.thorough for job in plan("dcgan")[1])
    assert any(job.check.thorough for job in plan("dcgan", thorough=True)[1])


def test_unknown_names_get_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dcgan'"):
        plan("dgcan")
    with pytest.raises(UnknownNameError, match="Did you mean 'rrdb'"):
        plan("block/rdrb")


def test_the_command_prints_a_report_and_json() -> None:
    shown = CliRunner().invoke(app, ["plugin", "check", "generator/bicubic"], terminal_width=120)
    assert shown.exit_code == 0, shown.output
    assert "0 failed" in shown.output
    assert "it has no trainable parameters" in " ".join(shown.output.split())
    written = CliRunner().invoke(app, ["plugin", "check", "generator/bicubic", "--json"])
    found = json.loads(written.stdout)
    assert found["failed"] == 0 and found["passed"] == sum(f["status"] == "pass" for f in found["findings"])
    assert {"subject", "check", "shows", "status", "reason", "seconds"} == set(found["findings"][0])
    assert found["distribution"] == "srzoo" and found["torch"] == torch.__version__


def test_the_command_exits_with_1_for_a_broken_plugin_and_says_why(site: Site) -> None:
    site.install("bad", "import no_such_library_anywhere\n")
    shown = site.run("plugin", "check", "bad", "--json")
    assert shown.returncode == 1, shown.stderr
    (finding,) = json.loads(shown.stdout)["findings"]
    assert (finding["check"], finding["status"]) == ("loads", "fail")
    assert "No module named 'no_such_library_anywhere'" in finding["reason"]


pytest_plugins = ["pytester"]


def test_one_line_makes_a_test_of_every_check(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import srzoo.testing\ntest_conforms = srzoo.testing.conformance('generator/bicubic')\n")
    count = len(checks_of("generator", thorough=False))
    result = pytester.runpytest_inprocess("-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes["skipped"] == count
    listed = pytester.runpytest_inprocess("--collect-only", "-q", "-p", "no:xdist", "--srzoo-thorough").outlines
    assert any("test_conforms[generator/bicubic-torch-compile]" in line for line in listed)


def test_a_failed_check_is_a_failed_test_without_a_traceback(pytester: pytest.Pytester, monkeypatch: Any) -> None:
    component = subject_of("block", Unused, {}).component
    monkeypatch.setattr(Registry, "get", lambda *_, **__: component)
    pytester.makepyfile("import srzoo.testing\ntest_conforms = srzoo.testing.conformance('block/mine')\n")
    result = pytester.runpytest_inprocess("-q", "-p", "no:xdist", "-k", "gradient")
    result.stdout.fnmatch_lines(["*no gradient reaches forgotten.weight*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.assert_outcomes(failed=1, deselected=len(checks_of("block", thorough=False)) - 1)


def test_the_pytest_plugin_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            import sys

            def test_nothing_is_imported():
                assert "torch" not in sys.modules
                assert {name for name in sys.modules if name.startswith("srzoo")} == {"srzoo", "srzoo.testing"}
            """
        )
    )
    pytester.runpytest_subprocess("-q", "-p", "no:xdist").assert_outcomes(passed=1)


def test_checks_leave_no_threads_behind() -> None:
    assert check("generator/nearest").ok
    assert threading.active_count() < 10
    assert "srzoo.conformance.run" in sys.modules
