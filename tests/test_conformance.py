"""The conformance kit: every registered component passes, and every check fails on a fault seeded for it."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugin_site import Site, plugin
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.conformance import probe
from srzoo.conformance.outcome import PACKAGE, SIGNATURE, Finding
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


def shrinks_for_evaluation(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    if not torch.is_grad_enabled():
        x.mul_(0.5)
    return x + own.residual(x)


class BeginsInPlace(GoodBlock):
    """What many pre-activation blocks do: the sum with what went in is of positive features."""

    def __init__(self, channels: int, slope: float = 0.0, of_a_copy: bool = False) -> None:
        super().__init__(channels)
        self.activation = nn.LeakyReLU(slope, inplace=True)
        self.of_a_copy = of_a_copy

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.residual(self.activation(x.clone() if self.of_a_copy else x))


def begins_in_place_for_validation(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    return x + own.residual(F.relu(x, inplace=torch.is_inference_mode_enabled()))


def in_place_on_images(kind: type[nn.Module]) -> type[nn.Module]:
    """A network whose first operation writes into an image, which a ReLU leaves as it is."""

    class InPlace(kind):  # type: ignore[misc,valid-type]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(F.relu_(images))

    return InPlace


class InPlainLists(GoodBlock):
    """Layers or parameters that are held by a list or a dictionary of Python."""

    def __init__(self, channels: int, held: Literal["list", "dict", "parameters"] = "list") -> None:
        super().__init__(channels)
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        self.held = held
        if held == "parameters":
            self.cs: Any = [layers[0].weight, layers[1].weight]
        else:
            self.cs = {str(number): layer for number, layer in enumerate(layers)} if held == "dict" else layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.cs["0"] if self.held == "dict" else self.cs[0]
        y = F.conv2d(x, first, padding=1) if self.held == "parameters" else first(x)
        return super().forward(x) + torch.tanh(y)


class AlsoInAList(GoodBlock):
    """Right: what the list holds is registered too, or frozen."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.last = nn.Conv2d(channels, channels, 1)
        self.all = [self.conv, self.last, nn.Conv2d(channels, channels, 1).requires_grad_(False)]

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.all[1](super().residual(x))


class InARing(GoodBlock):
    """Right: a graph of its layers, in which the last leads to the first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.nodes: list[dict[str, Any]] = [{"module": self.conv}]
        self.nodes[0]["next"] = self.nodes


class OfExperts(GoodBlock):
    """Right: the weights of several convolutions in one parameter, of five dimensions."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.experts = nn.Parameter(0.1 * torch.randn(2, channels, channels, 3, 3))

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return super().residual(x) + sum(torch.tanh(F.conv2d(x, weight, padding=1)) for weight in self.experts)


class RunsAlongRows(GoodBlock):
    """Right: torch keeps in a list of its own what a GRU's weights were before they were normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rows = weight_norm(nn.GRU(channels, channels, batch_first=True), "weight_hh_l0")


class Reflects(GoodBlock):
    """Right: it pads by four pixels of the image, which a smaller one does not have."""

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(F.avg_pool2d(F.pad(self.conv(x), (4,) * 4, mode="reflect"), 9, 1))


class Remembers(GoodBlock):
    """Keeps something of the first call, which its subclasses say."""

    kept: torch.Tensor | None = None

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean().detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kept is None:
            self.kept = self.first(x)
        return x + self.residual(x) * self.kept


class RemembersGrid(Remembers):
    def first(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-1, 1, x.shape[-1]).to(x)


class RemembersInInference(Remembers):
    """The value is always the same, but what validation leaves cannot be trained with."""

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones(1, x.shape[1], 1, 1).to(x)


class RemembersWeights(Remembers):
    """Folds its weights once, and goes on with them after others were loaded."""

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv.weight.detach().mean()


class MakesItAnew(Remembers):
    """Right: the grid belongs to one size, device and type, and is made anew for another."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = self.kept
        if grid is None or grid.shape[-1] != x.shape[-1] or grid.device != x.device or grid.is_inference():
            with torch.inference_mode(False):
                self.kept = grid = torch.linspace(-1, 1, x.shape[-1]).to(x.device, x.dtype)
        return x + self.residual(x) * grid


class WritesOver(GoodBlock):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if torch.is_grad_enabled():
            return y
        if not hasattr(self, "out") or self.out.shape != y.shape:
            self.out = torch.empty_like(y)
        return self.out.copy_(y)


class Averages(GoodBlock):
    """An average of what went through, which only training may move."""

    def __init__(self, channels: int, always: bool = False) -> None:
        super().__init__(channels)
        self.always = always
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or self.always:
            self.average.mul_(0.9).add_(0.1 * x.detach().mean())
        return super().forward(x)


class AveragesInAFloat(GoodBlock):
    """What moves in training must be in a checkpoint, or a run that is resumed goes on with another."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.average = 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.average = 0.9 * self.average + 0.1 * float(x.detach().mean() ** 2)
        return super().forward(x) - self.average


class AveragesUnsaved(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("average", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.average.mul_(0.9).add_(0.1 * x.detach().mean())
        return super().forward(x) - self.average


class WarmsUp(GoodBlock):
    """Counts its steps, which only training shows."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        self.steps += 1
        return x + self.residual(x) * min(1.0, self.steps / 100)


class Drops(GoodBlock):
    """Right: random in training, of the seed; and its statistics are buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.norm(super().residual(x)), 0.5, self.training)


class Collects(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().mean(dim=(2, 3)))
        return super().forward(x)


class KeepsTheLast(Collects):
    """Right, if not tidy: it does not add up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen[-1:]
        return super().forward(x)


class EndsTraining(GoodBlock):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.eval()
        return super().forward(x)


class FrozenPart(GoodBlock):
    """Right: a part of it stays in evaluation mode, whatever the others are in."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def train(self, mode: bool = True) -> FrozenPart:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(x))


class ReadsByName(GoodBlock):
    """Right: which attributes are read is known when it runs."""

    def __init__(self, channels: int, growth: int = 8) -> None:
        super().__init__(channels)
        self.growth = growth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        numbers = [getattr(self, name) for name in ("gro" + "wth", "scale_by")]
        return super().forward(x) + 0 * sum(numbers)


class NotOfTheSeed(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        weights = np.random.default_rng().normal(0, 0.1, self.conv.weight.shape)
        self.conv.weight.data = torch.tensor(weights, dtype=torch.float32)


TABLE = nn.Parameter(torch.rand(1, 8, 1, 1))


class SharesTable(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.table = TABLE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.table


class Patches(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        F.celu = F.selu  # type: ignore[assignment]


class Hooks(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        torch.serialization.add_safe_globals([eval])


class Talks(GoodBlock):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("block:", tuple(x.shape))
        return super().forward(x)


class Silences(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        warnings.filterwarnings("ignore")
        torch.autograd.set_detect_anomaly(True)


class CutsInTraining(GoodBlock):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[..., 1:] if self.training else super().forward(x)


class IgnoresGrowth(GoodBlock):
    def __init__(self, channels: int, growth: int = 8) -> None:
        if growth < 1:
            raise ValueError(f"growth must be one or more, not {growth}")
        super().__init__(channels)


class StoresGrowth(GoodBlock):
    def __init__(self, channels: int, growth: int = 8, norm: Literal["none", "layer"] = "none") -> None:
        super().__init__(channels)
        self.growth, self.norm = growth, norm

    def extra_repr(self) -> str:
        return f"growth={self.growth}"


class HandsGrowthOn(IgnoresGrowth):
    def __init__(self, channels: int, growth: int = 8) -> None:
        super().__init__(channels, growth=growth)


class OnlyForLargeImages(GoodBlock):
    """Right: no value of its option makes a difference to images as small as those it is tried with."""

    def __init__(self, channels: int, tile: int = 256) -> None:
        super().__init__(channels)
        self.tile = tile

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([super(OnlyForLargeImages, self).forward(part) for part in x.split(self.tile)])


class KeepsItsArguments(GoodBlock):
    """Right: what may read an option cannot be told."""

    def __init__(self, channels: int, growth: int = 8) -> None:
        super().__init__(channels)
        self.arguments = dict(locals())


class OfEightChannels(GoodBlock):
    def __init__(self, channels: int) -> None:
        super().__init__(8)


class OfSixteens(GoodBlock):
    """Right: it says which channels it takes."""

    def __init__(self, channels: int) -> None:
        if channels not in (8, 16):
            raise ValueError(f"channels must be 8 or 16, not {channels}")
        super().__init__(channels)


def narrow(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    return x + own.residual(x).view(*x.shape[:3], min(x.shape[3], 16))


def mixes_large_batches(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    return x + own.residual(x if len(x) < 5 else x[:1].expand_as(x))


class Generator(nn.Module):
    def __init__(self, scale: int = 4, wide: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 3 * scale**2, 7 if wide else 3, padding=3 if wide else 1)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(lr), self.scale)


class Frozen(Generator):
    def __init__(self, scale: int = 4) -> None:
        super().__init__(scale)
        self.requires_grad_(False)


class OnTheWay(Generator):
    """With intermediate outputs, (D, N, 3, H, W), or with one that is not stacked."""

    def __init__(self, scale: int = 4, stacked: bool = True) -> None:
        super().__init__(scale)
        self.stacked = stacked

    def forward(self, lr: torch.Tensor, intermediate: bool = False) -> Any:
        sr = super().forward(lr)
        return (sr, sr[None] if self.stacked else sr) if intermediate else sr


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


def ending(function: Callable[[torch.Tensor], torch.Tensor]) -> type[nn.Module]:
    """A discriminator that ends in a function."""

    class Ending(Discriminator):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return function(super().forward(images))

    return Ending


class BeginsBetween(Discriminator):
    """Right: its first logits all lie between 0 and 1, and it can learn others."""

    def __init__(self, input_size: int = 32) -> None:
        super().__init__(input_size)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, 0.5)


class Normalised(nn.Module):
    """Right: its weights have no size and there are no biases, so only the contrast of its input sets its logits."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.Conv2d(4, 1, 3, 2, 1, bias=False))
        self.first, self.second = (spectral_norm(layer) for layer in layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(images)))


class Attends(Discriminator):
    """Right: torch itself has no second derivative of its fused attention."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(images).flatten(2)
        return self.linear((tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)).flatten(1))


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * torch.sigmoid(ctx.saved_tensors[0])


class OnceOnly(Discriminator):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(_Softplus.apply(self.conv(images)).flatten(1))


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


class WritesOverALayer(Extractor):
    """What VGG does with its ReLU(inplace=True)."""

    def forward(self, images: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        for layer in layers:
            if layer not in self.names:
                raise ValueError(f"there is no layer {layer}; there are one and two")
        found = {"one": self.one(images)}
        if "two" in layers:
            found["two"] = self.two(F.relu_(found["one"]))
        return {layer: found[layer] for layer in layers}


class Nameless(Extractor):
    names = ()


class L2(nn.Module):
    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return ((sr - hr) ** 2).mean()


class RunningScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(())

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        value = (sr - hr).abs().mean()
        self.scale = 0.9 * self.scale + 0.1 * value.detach()
        return value / self.scale


class KeepsValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[torch.Tensor] = []

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        self.values.append((sr - hr).abs().mean())
        return self.values[-1]


class RandomPixels(nn.Module):
    """Right: of some pixels that are drawn anew every time."""

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return ((sr - hr).abs() * (torch.rand(sr.shape[-1]) < 0.9).to(sr.device)).mean()


def penalty_with_noise(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    """Right: torch fills what is like an image in the order in which the image lies in memory."""
    return penalty(discriminator, hr + 0.5 * torch.rand_like(hr), sr)


def centres(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    hr.sub_(hr.mean())
    return ((sr - sr.mean() - hr) ** 2).mean()


def pooled(sr: torch.Tensor, hr: torch.Tensor, refuses: bool = False) -> torch.Tensor:
    """Of sides that are multiples of 16, which it may say."""
    if refuses and sr.shape[-1] % 16:
        raise ValueError(f"sides must be multiples of 16, not {sr.shape[-1]}")
    return F.pixel_unshuffle(sr - hr, 16).abs().mean()


def turned_round(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    value = (sr - hr).square().mean()
    return 2 * value.detach() - value


def in_steps(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: of 8-bit levels, flat between two, with the gradient of what was not rounded."""
    return (sr + ((sr * 255).round() / 255 - sr).detach() - hr).abs().mean()


def of_itself(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: its value is always one, and its gradient of one size."""
    value = (sr - hr).abs().mean() + 1e-3
    return value / value.detach()


def edges(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: blind to a shift of all pixels."""
    return ((sr - hr)[..., 1:] - (sr - hr)[..., :-1]).abs().mean()


def of_one_image(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: which one is drawn."""
    one = int(torch.randint(len(sr), ()))
    return (sr[one] - hr[one]).abs().mean()


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


class RealIsBelow(Game):
    """Right: the other side is as good as long as both agree."""

    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(fake).mean()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(real).mean() + F.softplus(-fake).mean()


class Distance(Game):
    """Right: which side is real does not matter, only how far they lie apart."""

    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        assert real is not None
        return (real.mean() - fake.mean()).square()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return -(real.mean() - fake.mean()).square()


class LeastSquares(Game):
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return (fake - 1).square().mean()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return (real - 1).square().mean() + fake.square().mean()


class LeastSquaresToTheBoundary(Game):
    """Right: equation 8 of the paper, which draws fake logits to the middle between -1 and 1."""

    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return fake.square().mean() / 2

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return ((real - 1).square().mean() + (fake + 1).square().mean()) / 2


class Repels(LeastSquaresToTheBoundary):
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return -super().generator_loss(real, fake)


class RelativisticHinge(Game):
    """Right: it asks no more than that real logits lie one above fake ones."""

    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        assert real is not None
        return F.relu(1 - (fake - real)).mean()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return F.relu(1 - (real - fake)).mean()


class WrongSign(Game):
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(fake).mean()


class PullsBack(Game):
    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        value = super().discriminator_loss(real, fake)
        return 2 * value.detach() - value


class RewardsTheFake(Game):
    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return 2 * F.softplus(-real).mean() + F.softplus(-fake).mean()


class OfTheMap(Game):
    def generator_loss(self, real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
        return F.softplus(-fake).mean(dim=(0, 1))


def penalty(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    hr = hr.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(hr).sum(), hr, create_graph=True)
    return grad.square().mean()


def reward(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    return -penalty(discriminator, hr, sr)


def penalty_in_place(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    hr.requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(hr).sum(), hr, create_graph=True)
    return grad.square().mean()


def penalty_in_evaluation(discriminator: nn.Module, hr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    return penalty(discriminator.eval(), hr, sr)


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


def energy(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Of high frequencies, of which a blur has fewer than the reference."""
    one, other = ((image[..., 1:] - image[..., :-1]).abs().mean(dim=(1, 2, 3)) for image in (sr, hr))
    return one / (other + 1e-6)


def deviation(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: blind to a shift of all pixels."""
    return (sr - hr).flatten(1).std(dim=1)


def weighted(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return ((sr - hr).abs() * (torch.hann_window(sr.shape[-1], periodic=False) + 0.1)).mean(dim=(1, 2, 3))


def windowed(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return error(F.conv2d(sr - hr, torch.ones(1, 1, 7, 7).to(sr)), torch.zeros(1).to(sr))


def says_so(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    if sr.shape[-1] < 7:
        raise UndefinedScoreError("an image smaller than 7 pixels has no window")
    return error(sr, hr)


def needs_space(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Right: of several scales, so it has no value for the images that others are tried with."""
    if min(sr.shape[-2:]) < 161:
        raise UndefinedScoreError("five scales with a window of 11 need 161 pixels")
    return error(sr, hr)


def correlation(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    one, other = (image.flatten(1) - image.flatten(1).mean(dim=1, keepdim=True) for image in (sr, hr))
    return (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))


def clips(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return error(sr.clamp_(0, 0.9), hr.clamp(0, 0.9))


def viewed(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    return (sr.view(len(sr), -1) - hr.view(len(hr), -1)).abs().mean(dim=1)


class OfTheFirst:
    """Divides by the brightness of the first reference it ever saw."""

    def __init__(self) -> None:
        self.brightness: torch.Tensor | None = None

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        if self.brightness is None:
            self.brightness = hr.mean()
        return error(sr, hr) / self.brightness


class Accumulates:
    def __init__(self) -> None:
        self.scores: list[torch.Tensor] = []

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        self.scores.append(error(sr, hr))
        return self.scores[-1].clone()


class RandomProjection:
    def __init__(self) -> None:
        self.direction = torch.rand(1)

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return error(sr, hr) * self.direction


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


def as_listed() -> ImageSet:
    return ImageSet("mine", tuple(ImageItem(path.name, hr=grey_square) for path in Path(__file__).parent.iterdir()))


def sorted_list() -> ImageSet:
    names = sorted(entry.name for entry in os.scandir(Path(__file__).parent))
    return ImageSet("mine", tuple(ImageItem(name, hr=grey_square) for name in names))


def of_an_archive() -> ImageSet:
    """Right: one file that all images lie in is opened when the first one is read."""
    handles: list[Any] = []

    def read() -> tuple[Any, bool]:
        if not handles:
            handles.append(open(__file__))  # noqa: SIM115
        return grey_square()

    return ImageSet("mine", (ImageItem("a", hr=read),))


def leaves_open() -> ImageSet:
    handles: list[Any] = []

    def read() -> tuple[Any, bool]:
        handles.append(open(os.devnull))  # noqa: SIM115
        return grey_square()

    return ImageSet("mine", (ImageItem("a", hr=read), ImageItem("b", hr=read)))


def noise() -> tuple[Any, bool]:
    return np.random.default_rng().integers(0, 256, (16, 16, 3), dtype=np.uint8), False


Build = tuple[str, Any, dict[str, Any]]
GOOD: list[Build] = [
    ("block", GoodBlock, {}),
    ("block", ZeroInitialised, {}),
    ("block", DrawsFromItsOwn, {}),
    ("block", MakesItAnew, {}),
    ("block", Averages, {}),
    ("block", Drops, {}),
    ("block", KeepsTheLast, {}),
    ("block", OnlyForLargeImages, {}),
    ("block", ReadsByName, {}),
    ("block", FrozenPart, {}),
    ("block", KeepsItsArguments, {}),
    ("block", OfSixteens, {}),
    ("block", lambda channels: BeginsInPlace(channels, of_a_copy=True), {}),
    ("block", AlsoInAList, {}),
    ("block", InARing, {}),
    ("block", OfExperts, {}),
    ("block", Reflects, {}),
    ("generator", Generator, {"scales": (2, 4), "receptive_radius": 3, "examples": [{}, {"wide": True}]}),
    ("generator", OnTheWay, {"scales": (2,), "intermediate": True}),
    ("upsampler", Upsampler, {}),
    ("discriminator", Discriminator, {"min_size": 16}),
    ("discriminator", BeginsBetween, {"min_size": 16}),
    ("discriminator", Attends, {"min_size": 16}),
    ("discriminator", Normalised, {"output": "map", "min_size": 16}),
    ("extractor", Extractor, {}),
    ("loss", L2, {}),
    ("loss", Grid, {}),
    ("loss", RandomPixels, {}),
    ("loss", loss(in_steps), {"minimum": None}),
    ("loss", loss(of_itself), {"minimum": None}),
    ("loss", loss(edges), {}),
    ("loss", loss(lambda sr, hr: pooled(sr, hr, refuses=True)), {}),
    ("loss", loss(of_one_image), {}),
    ("loss", Game, {"role": "adversarial"}),
    ("loss", RealIsBelow, {"role": "adversarial"}),
    ("loss", LeastSquares, {"role": "adversarial"}),
    ("loss", LeastSquaresToTheBoundary, {"role": "adversarial"}),
    ("loss", RelativisticHinge, {"role": "adversarial"}),
    ("loss", Distance, {"role": "adversarial"}),
    ("loss", loss(penalty), {"role": "regulariser"}),  # type: ignore[arg-type]
    ("loss", loss(penalty_with_noise), {"role": "regulariser"}),  # type: ignore[arg-type]
    ("metric", Prepares, {"higher_is_better": False, "value_range": (0, 1)}),
    ("metric", metric(says_so), {"higher_is_better": False}),
    ("metric", metric(contrast), {"full_reference": False}),
    ("metric", metric(needs_space), {"higher_is_better": False}),
    ("metric", metric(lambda sr, hr: (error(sr, hr) - 2e-3).clamp(min=0)), {"higher_is_better": False}),  # as seen
    ("metric", metric(deviation), {"higher_is_better": False}),
    ("dataset", sorted_list, {}),
    ("dataset", of_an_archive, {}),
    ("dataset", images(("a", grey_square), ("b", grey_square)), {}),
]
LOWER = {"higher_is_better": False}
TINY = {"value_range": (0, 0.001)}
REGULARISER = {"role": "regulariser"}
MANY = [(str(number), grey_square) for number in range(5)]
SQRT = loss(lambda sr, hr: torch.sqrt(((sr - hr) ** 2).mean()))
FAULTS: list[tuple[str, str, Build]] = [
    ("factory", "No module named 'no_such_library_at_all'", ("block", "faulty_imports:Block", {})),
    ("factory", "defines no 'Blok'", ("block", "srzoo.conformance.parts:Blok", {})),
    ("pure-build", "the random generator of torch", ("block", Seeds, {})),
    ("pure-build", "the random generator of NumPy", ("block", block(reseeds), {})),
    ("pure-build", "torch.backends.cudnn.benchmark", ("block", ChangesDefaults, {})),
    ("pure-build", "torch's anomaly detection, the filters of warnings", ("block", Silences, {})),
    ("pure-build", "torch.nn.functional.celu", ("block", Patches, {})),
    ("pure-build", "torch's hooks of all modules, what torch.load trusts", ("block", Hooks, {})),
    ("pure-build", "prints 'block: (2, 8, 11, 9)", ("block", Talks, {})),
    ("same-seed", "conv.weight differs", ("block", NotOfTheSeed, {})),
    ("same-seed", "share table", ("block", SharesTable, {})),
    ("same-seed", "built again it scores", ("metric", RandomProjection, LOWER)),
    ("used-options", "growth is accepted and used nowhere", ("block", IgnoresGrowth, {})),
    ("used-options", "growth, norm are accepted", ("block", StoresGrowth, {})),
    ("used-options", "growth is accepted", ("block", HandsGrowthOn, {})),
    ("input-untouched", "writes into its input", ("block", block(shrinks_for_evaluation), {})),
    ("input-untouched", "writes into its input", ("block", BeginsInPlace, {})),
    ("input-untouched", "writes into its input", ("block", BeginsInPlace, {"examples": [{"slope": 0.2}]})),
    ("input-untouched", "writes into its input", ("block", block(begins_in_place_for_validation), {})),
    ("input-untouched", "as nn.ReLU() and F.relu do", ("upsampler", in_place_on_images(Upsampler), {})),
    ("input-untouched", "writes into its input", ("generator", in_place_on_images(Generator), {"scales": (2,)})),
    (
        "input-untouched",
        "writes into its input",
        ("discriminator", in_place_on_images(Discriminator), {"min_size": 16}),
    ),
    ("input-untouched", "writes into its reference", ("loss", loss(centres), {"minimum": None})),
    ("input-untouched", "requires_grad set on its reference", ("loss", loss(penalty_in_place), REGULARISER)),  # type: ignore[arg-type]
    ("input-untouched", "discriminator in another mode", ("loss", loss(penalty_in_evaluation), REGULARISER)),  # type: ignore[arg-type]
    ("input-untouched", "writes into its output", ("metric", metric(clips), LOWER)),
    ("stateless", "gives something else", ("block", Remembers, {})),
    ("stateless", "after 3x8x14x8 it fails on 2x8x11x9", ("block", RemembersGrid, {})),
    ("stateless", "after evaluation a training step fails", ("block", RemembersInInference, {})),
    ("stateless", "overwritten by the next", ("block", WritesOver, {})),
    ("stateless", "evaluating changes its average", ("block", Averages, {"examples": [{"always": True}]})),
    ("stateless", "leaves training mode", ("block", EndsTraining, {})),
    ("stateless", "no checkpoint keeps", ("loss", RunningScale, {})),
    ("stateless", "gives something else", ("metric", OfTheFirst, LOWER)),
    ("bounded-memory", "each call leaves 1 tensors", ("block", Collects, {})),
    ("bounded-memory", "each call leaves", ("loss", KeepsValues, {})),
    ("bounded-memory", "each call leaves", ("metric", Accumulates, LOWER)),
    ("other-device", "its attribute kernels stays on the CPU", ("block", LeftBehind, {})),
    ("other-device", "made on the CPU when it is called", ("loss", lambda: Grid(moved=False), {})),
    ("defaults", "division", ("block", FailsByDefault, {})),
    ("defaults", "'layers' has no default; give examples=", ("loss", lambda layers: L2(), {})),
    ("defaults", "cs is a list of modules, which no optimizer", ("block", InPlainLists, {})),
    ("defaults", "a dict of modules", ("block", InPlainLists, {"examples": [{"held": "dict"}]})),
    ("defaults", "nn.ParameterList", ("block", InPlainLists, {"examples": [{"held": "parameters"}]})),
    ("every-option", "mode='valid'", ("block", DiscardsRows, {})),
    ("every-option", "norm='batch' is documented and refused", ("block", RefusesItsChoice, {})),
    ("every-option", "growth=16", ("block", BreaksOnNumber, {})),
    ("unknown-options", "**options", ("block", anything, {})),
    ("typed-options", "growth has no type", ("block", Untyped, {})),
    ("output-shape", "must be (1, 8, 11, 9)", ("block", block(lambda b, x: b.conv(x)[..., 1:]), {})),
    ("output-shape", "is torch.float64 for", ("block", block(lambda b, x: (x + b.residual(x)).double()), {})),
    ("output-shape", "24 channels of 40x33 break it", ("block", OfEightChannels, {})),
    ("output-shape", "40x33 break it", ("block", block(narrow), {})),
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
    ("finite-output", "(2, 8, 11, 8) in training mode", ("block", CutsInTraining, {})),
    ("gradient", "nothing of trainable=False", ("generator", Frozen, {"scales": (2,)})),
    ("gradient", "reaches forgotten.weight, forgotten.bias", ("block", Unused, {})),
    ("gradient", "no gradient at all", ("block", block(lambda b, x: (x + b.conv(x)).detach()), {})),
    ("gradient", "reaches the input", ("block", block(lambda b, x: b.conv(x.detach())), {})),
    ("deterministic", "noise or dropout", ("block", block(lambda b, x: x + F.dropout(b.conv(x), 0.5)), {})),
    ("batch-independent", "others of its batch", ("block", block(lambda b, x: x + b.conv(x - x.mean(0))), {})),
    ("batch-independent", "others of its batch", ("block", block(mixes_large_batches), {})),
    ("state-dict", "register every tensor", ("block", NotStored, {})),
    ("state-dict", "keep nothing that was computed from the parameters", ("block", RemembersWeights, {})),
    ("state-dict", "moves in training", ("block", AveragesInAFloat, {})),
    ("state-dict", "moves in training", ("block", AveragesUnsaved, {})),
    ("state-dict", "something else in training mode", ("block", WarmsUp, {})),
    ("bf16-autocast", "under bf16", ("block", block(lambda b, x: (b.conv(x) + 1e3) - 1e3), {})),
    ("channels-last", "view", ("block", block(lambda b, x: b.conv(x).view(-1).view(x.shape)), {})),
    ("channels-last", "view", ("loss", loss(lambda sr, hr: (sr.view(-1) - hr.view(-1)).abs().mean()), {})),
    ("channels-last", "view", ("metric", metric(viewed), {**LOWER, "domain": "rgb"})),
    ("torch-export", "refuses it", ("block", block(lambda b, x: x if b.conv(x).sum() > 0 else b.conv(x)), {})),
    ("torch-compile", "one graph", ("block", block(lambda b, x: x if b.conv(x).sum() > 0 else b.conv(x)), {})),
    ("unknown-layer", "does not exist", ("extractor", TakesAnyLayer, {})),
    ("layers-alone", "the features of one are others", ("extractor", WritesOverALayer, {})),
    ("logits", "is at most 1;", ("discriminator", ending(torch.sigmoid), {"min_size": 16})),
    ("logits", "is at most 1;", ("discriminator", ending(torch.tanh), {"min_size": 16})),
    ("logits", "is at most 10;", ("discriminator", ending(lambda x: 10 * torch.sigmoid(x)), {"min_size": 16})),
    ("logits", "is at most 0;", ("discriminator", ending(F.logsigmoid), {"min_size": 16})),
    ("logits", "is at least 0;", ("discriminator", ending(lambda x: F.relu(x + 1)), {"min_size": 16})),
    ("gradient-penalty", "cannot be differentiated twice", ("discriminator", OnceOnly, {"min_size": 16})),
    (
        "intermediate",
        "they must be (D, *(2, 3, 18, 22))",
        ("generator", OnTheWay, {"scales": (2,), "intermediate": True, "examples": [{"stacked": False}]}),
    ),
    ("refuses-sizes", "breaks it instead", ("discriminator", ShapeError, {"input_size": 32})),
    ("refuses-sizes", "without a sentence", ("discriminator", Terse, {"input_size": 32})),
    (
        "receptive-field",
        "it sees 3 pixels",
        ("generator", Generator, {"receptive_radius": 1, "examples": [{}, {"wide": True}]}),
    ),
    ("finite-scalar", "must be one number", ("loss", loss(lambda sr, hr: (sr - hr).abs()), {})),
    ("finite-scalar", "images of 61x75 break it", ("loss", loss(pooled), {})),
    ("finite-scalar", "gradient is lost", ("loss", loss(lambda sr, hr: float((sr - hr).abs().mean())), {})),
    ("finite-scalar", "is nan", ("loss", loss(lambda sr, hr: (sr - hr).mean().abs().sub(9).sqrt()), {})),
    ("finite-scalar", "must be one number", ("loss", OfTheMap, {"role": "adversarial"})),
    ("differentiable", "not finite where output and reference are equal", ("loss", SQRT, {})),
    ("differentiable", "detached", ("loss", loss(lambda sr, hr: torch.tensor((sr - hr).abs().mean().item())), {})),
    ("differentiable", "nothing would be learnt", ("loss", NoPull, {"role": "adversarial"})),
    ("differentiable", "create_graph=True", ("loss", loss(dead_penalty), {"role": "regulariser"})),  # type: ignore[arg-type]
    ("differentiable", "the loss rises with every step", ("loss", loss(turned_round), {})),
    ("differentiable", "discriminator_loss rises", ("loss", PullsBack, {"role": "adversarial"})),
    ("differentiable", "lower it without end", ("loss", loss(reward), {"role": "regulariser"})),  # type: ignore[arg-type]
    ("minimum", "its spec says 0.0", ("loss", loss(lambda sr, hr: (sr - hr).abs().mean() + 1), {})),
    ("minimum", "for a wrong output", ("loss", loss(lambda sr, hr: -(sr - hr).abs().mean()), {})),
    ("minimum", "that is too dark", ("loss", loss(lambda sr, hr: F.relu(sr - hr).mean()), {})),
    ("minimum", "whose image 2 is wrong", ("loss", loss(lambda sr, hr: (sr - hr)[0].abs().mean()), {})),
    ("minimum", "whose channel 2 is wrong", ("loss", loss(lambda sr, hr: (sr - hr)[:, 0].abs().mean()), {})),
    ("one-game", "the same way", ("loss", RewardsTheFake, {"role": "adversarial"})),
    ("one-game", "a sign or a label", ("loss", WrongSign, {"role": "adversarial"})),
    ("one-game", "a sign or a label", ("loss", Repels, {"role": "adversarial"})),
    ("one-value-an-image", "(2,), real", ("metric", metric(lambda sr, hr: (sr - hr).abs().mean()), LOWER)),
    (
        "one-value-an-image",
        "each alone",
        ("metric", metric(lambda sr, hr: error(sr, hr).mean().expand(len(sr))), LOWER),
    ),
    ("one-value-an-image", "NaN", ("metric", metric(lambda sr, hr: error(sr, hr) * float("nan")), LOWER)),
    ("direction", "Say higher_is_better=False.", ("metric", metric(error), {})),
    ("direction", "Say higher_is_better=True.", ("metric", metric(lambda sr, hr: 1 - error(sr, hr)), LOWER)),
    ("direction", "beside another reference", ("metric", metric(error), {"full_reference": False})),
    ("direction", "more and more noise", ("metric", metric(lambda sr, hr: error(sr, hr).sign()), LOWER)),
    ("direction", "values lie in (0, 0.01)", ("metric", metric(error), {**LOWER, "value_range": (0, 0.01)})),
    ("direction", "values lie in (0, 0.001)", ("metric", metric(contrast), {"full_reference": False, **TINY})),
    ("direction", "blurred output scores", ("metric", metric(energy), LOWER)),
    ("direction", "that is too dark", ("metric", metric(lambda sr, hr: error(F.relu(sr - hr), 0 * hr)), LOWER)),
    ("other-device", "made on the CPU when it is called", ("metric", metric(weighted), LOWER)),
    ("undefined", "UndefinedScoreError", ("metric", metric(windowed), LOWER)),
    ("undefined", "NaN", ("metric", metric(relative), LOWER)),
    ("undefined", "for a black output, it returns NaN", ("metric", metric(correlation), {})),
    ("prepared-reference", "against(sr, reference(hr))", ("metric", ConsumesItsReference, LOWER)),
    ("readable", "(H, W, 3) uint8", ("dataset", images(("a", lambda: grey_square(np.float32))), {})),
    ("readable", "not a srzoo.data.ImageSet", ("dataset", lambda: ["a.png"], {})),
    ("readable", "2 files open", ("dataset", leaves_open, {})),
    ("readable", "image 'z'", ("dataset", images(*MANY, ("z", lambda: grey_square(np.float32))), {})),
    ("distinct-names", "'a\\n' is no name", ("dataset", images(("a\n", grey_square)), {})),
    ("distinct-names", "a names more than one", ("dataset", images(("a", grey_square), ("a", noise)), {})),
    ("reproducible", "other pixels", ("dataset", images(("a", noise)), {})),
    ("reproducible", "sort the files", ("dataset", as_listed, {})),
]


@pytest.fixture(autouse=True, scope="module")
def module_of_a_missing_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty_imports.py").write_text(
        "import no_such_library_at_all\nfrom torch import nn\n\nclass Block(nn.Module):\n"
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n"
    )
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


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
        if factory is InARing:  # torch.compile follows the ring of its list until the stack is full
            continue
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
    assert "full_reference=False" in told.reason and "higher_is_better" not in told.reason


def test_a_factory_that_cannot_be_loaded_is_told_once_and_without_a_line_of_ours() -> None:
    subject = subject_of("block", "srzoo.conformance.parts:Blok", {})
    findings = [one(subject) for one in checks_of("block")]
    assert [f.check for f in findings if f.status == "fail"] == ["factory"]
    assert {f.status for f in findings if f.check != "factory"} == {"n/a"}
    assert not any(".py, line" in f.reason for f in findings)


class CannotBeBuilt(GoodBlock):
    def __init__(self, channels: int, depth: int = 2) -> None:
        super().__init__(channels)
        self.layers = [self.conv][depth]


class LazyBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.conv(x))


class LateBlock(GoodBlock):
    weight: nn.Parameter | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is None:
            self.weight = nn.Parameter(torch.ones(1, x.shape[1], 1, 1))
        return super().forward(x) * self.weight


def nothing(own: GoodBlock, x: torch.Tensor) -> torch.Tensor:
    return own.missing(x)


TOLD_ONCE: list[tuple[str, Build]] = [
    ("factory", ("block", "faulty_imports:Block", {})),
    ("defaults", ("block", CannotBeBuilt, {})),
    ("output-shape", ("block", block(nothing), {})),
    ("finite-output", ("block", block(lambda b, x: b.residual(x) / 0.0 * 0.0), {})),
    ("finite-scalar", ("loss", loss(lambda sr, hr: sr - hr), {})),
    ("one-value-an-image", ("metric", metric(lambda sr, hr: sr.nothing()), LOWER)),
    ("readable", ("dataset", lambda: ["a.png"], {})),
    ("defaults", ("block", LazyBlock, {})),
    ("output-shape", ("block", LateBlock, {})),
    ("defaults", ("block", InPlainLists, {})),
]


@pytest.mark.parametrize(("name", "build"), TOLD_ONCE, ids=[f"{name}-{build[0]}" for name, build in TOLD_ONCE])
def test_one_cause_fails_one_check_and_the_others_say_which(name: str, build: Build) -> None:
    subject = subject_of(*build)
    findings = [one(subject) for one in checks_of(subject.kind, thorough=False)]
    assert [f.check for f in findings if f.status == "fail"] == [name]
    rest = [f for f in findings if f.check not in (name, *FIRST, *SIGNATURE)]
    assert {(f.status, f"as {name!r} says" in f.reason) for f in rest} == {("n/a", True)}


FIRST = ("factory", "defaults", "output-shape")


def test_a_wrong_shape_is_told_once() -> None:
    subject = subject_of("block", block(lambda b, x: b.conv(x)[..., 1:]), {})
    assert [f.check for f in (one(subject) for one in checks_of("block", False)) if f.status == "fail"] == [
        "output-shape"
    ]


def test_a_component_whose_optional_library_is_absent_is_not_blamed_for_it() -> None:
    subject = subject_of("block", "faulty_imports:Block", {"library": "no_such_library_at_all"})
    findings = [one(subject) for one in checks_of("block")]
    assert {(f.status, f.reason) for f in findings} == {
        ("n/a", "its library 'no_such_library_at_all' is not installed.")
    }


def test_a_library_that_is_missing_is_told_with_how_to_name_it() -> None:
    (one,) = [one for one in CHECKS if one.name == "factory"]
    reason = one(subject_of("block", "faulty_imports:Block", {})).reason
    assert "or name it as library='no_such_library_at_all' in the spec" in reason


def test_what_torch_keeps_in_a_list_is_its_own_affair() -> None:
    (one,) = [one for one in CHECKS if one.name == "defaults"]
    assert one(subject_of("block", RunsAlongRows, {})).status == "pass"


def test_the_second_faulty_option_is_told_with_the_first() -> None:
    class Both(DiscardsRows):
        def __init__(self, channels: int, mode: Literal["same", "valid"] = "same", growth: int = 8) -> None:
            super().__init__(channels, mode)
            self.list = [1][growth - 8]

    (one,) = [one for one in CHECKS if one.name == "every-option"]
    reason = one(subject_of("block", Both, {})).reason
    assert "mode='valid'" in reason and "growth=16" in reason


def test_the_network_that_checks_share_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    class Counted(GoodBlock):
        def __init__(self, channels: int) -> None:
            super().__init__(channels)
            built.append(channels)

    subject = subject_of("block", Counted, {})
    assert failures([one(subject) for one in checks_of("block", thorough=False)]) == []
    assert len(built) <= 7  # once for most; from another seed; twice for what building changes; of three sizes


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


IMPORT_FAULTS = {
    "file": ("open(__file__ + '.left', 'w').close()", ".py.left"),
    "network": ("import socket; socket.getaddrinfo('127.0.0.1', 9)", "the network, by socket.getaddrinfo"),
    "process": ("import subprocess; subprocess.run(['true'])", "starting 'true'"),
    "partial": ("import functools, torch; torch.load = functools.partial(torch.load)", "torch.load"),
    "method": ("from torch import nn; nn.Conv2d.forward = lambda own, x: x", "torch.nn.modules.conv.Conv2d.forward"),
    "swapped": ("import torch; torch.nn.ReLU = torch.nn.SiLU", "torch.nn.ReLU"),
    "inherited": ("import torch; torch.Tensor.__add__ = torch.Tensor.__sub__", "torch.Tensor.__add__"),
    "library": ("import timm; timm.create_model = timm.list_models", "timm.create_model"),
    "top": ("import srzoo; srzoo.upscale = len", "srzoo.upscale"),
    "hook": ("import torch.nn.modules.module as m; m.register_module_forward_hook(print)", "hooks of all modules"),
    "trust": ("import torch; torch.serialization.add_safe_globals([eval])", "what torch.load trusts"),
    "module": ("import sys, types; sys.modules['lpips'] = types.ModuleType('lpips')", "sys.modules['lpips']"),
    "finder": ("import sys; sys.meta_path.append(sys.meta_path[0])", "sys.meta_path"),
    "mask": ("import os; os.umask(0)", "mask of new files"),
    "hashes": ("import srzoo.weights; srzoo.weights.check_hash = len", "srzoo.weights.check_hash"),
    "core": ("import srzoo.data; srzoo.data.read_folder = lambda *_: None", "srzoo.data.read_folder"),
    "filters": ("import warnings; warnings.filterwarnings('ignore')", "the filters of warnings"),
    "logging": ("import logging; logging.basicConfig(level=10)", "the level of the root logger"),
    "device": ("import torch; torch.set_default_device('cpu')", "torch's default device"),
    "environment": ("import os; os.environ['SET_BEFORE'] = '1'", "the environment variable SET_BEFORE"),
    "default": ("import os; os.environ.setdefault('SET_BEFORE', '1')", "the environment variable SET_BEFORE"),
    "ignored": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal handlers"),
    "sharing": ("import torch.multiprocessing as m; m.set_sharing_strategy('file_system')", "processes share tensors"),
    "signal": ("import signal; signal.signal(signal.SIGUSR1, lambda *_: None)", "signal handlers"),
    "pillow": ("from PIL import ImageFile; ImageFile.LOAD_TRUNCATED_IMAGES = True", "Pillow's limits"),
    "thread": ("import threading; threading.Timer(9, print).start()", "the threads"),
}
PURE = (
    "import logging, tempfile, timm, torch.utils.data\nlog = logging.getLogger(__name__)\ntempfile.gettempdir()\n"
    "text = open(__file__).read()\nclass Own(torch.Tensor):\n    pass\n"
    "import os\nos.environ['FOR_A_WHILE'] = '1'\ndel os.environ['FOR_A_WHILE']\n"
)
SLOWLY = "import time; time.sleep(0.6)"


@pytest.mark.slow
def test_imports_that_are_slow_heavy_or_not_pure_are_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    factories = {"own": "import torch\ntorch.manual_seed(0)\nprint('loaded')", "pure": PURE, "slowly": SLOWLY}
    factories |= {name: source for name, (source, _) in IMPORT_FAULTS.items()}
    for name, source in factories.items():
        (site.folder / f"factory_{name}.py").write_text(f"{source}\ndef make(channels): pass\n")
        hooks = plugin(f'srzoo.BlockSpec("b", "factory_{name}:make", summary="x")')
        if name == "own":
            hooks = (
                "import os, time, matplotlib\ntime.sleep(0.6)\nos.environ['LEFT_BEHIND'] = '1'\nopen('left', 'w')\n"
                + hooks
            )
        site.install(name, hooks)
    records = discover(site.entry_points())
    monkeypatch.delenv("LEFT_BEHIND")
    packages = {record.name: Package(record, Registry([record])) for record in records}
    monkeypatch.setenv("SET_BEFORE", "1")  # as by a plugin that this process has imported
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        seen = probe.run(*((record.name, record.distribution) for record in records))
    finally:
        signal.signal(signal.SIGTERM, handler)
    for record, one in zip(records, seen, strict=True):
        packages[record.name].__dict__["probed"] = one
    findings = {one.name: one(packages["own"]) for one in CHECKS if one.name in IMPORTS}
    assert {finding.status for finding in findings.values()} == {"fail"}
    assert "import matplotlib" in findings["light-import"].reason
    assert " s of every srzoo command" in findings["quick-import"].reason
    assert "the working folder, the environment variable LEFT_BEHIND" in findings["pure-import"].reason
    assert "Importing its factories changes torch's random state" in findings["pure-import"].reason
    assert packages["own"].probed["effects_of_factories"] == ["torch's random state", "the terminal ('loaded')"]
    quick, _, pure = (one for one in CHECKS if one.name in IMPORTS)
    told = {name: pure(packages[name]).reason for name in IMPORT_FAULTS}
    assert [name for name, (_, expected) in IMPORT_FAULTS.items() if expected not in told[name]] == [], told
    assert [pure(packages["pure"]).status, quick(packages["pure"]).status] == ["pass", "pass"]
    assert "s beside what the libraries take" in quick(packages["slowly"]).reason


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
