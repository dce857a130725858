"""Parts of a plugin that do not do what their kind does: each is named, with its rule, before anything is trained."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from tiny import TINY
from torch import nn
from typer.testing import CliRunner

import srzoo
from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.cli.console import reports_errors
from srzoo.conformance.run import check
from srzoo.data import ImageItem, ImageSet
from srzoo.errors import CompositionError, PluginError, TrainingError
from srzoo.plugins import PluginRecord
from srzoo.preflight import preflight
from srzoo.registry import get_registry
from srzoo.specs import ComponentSpec, DiscriminatorSpec, GeneratorSpec, LossSpec, MetricSpec, UpsamplerSpec
from srzoo.training import train
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

Register = Callable[[ComponentSpec], None]


RECORDS = get_registry().records


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Register:
    """Register a component as the only one of the plugin ``theirs``."""

    def add(spec: ComponentSpec) -> None:
        record = PluginRecord("theirs", "their-package", "1.0", "theirs", specs=(spec,))
        monkeypatch.setattr("srzoo.registry.discover", lambda: (*RECORDS, record))

    return add


# --- specs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LossSpec("x", F.l1_loss, "s", role="adverserial"),
            r"role='adverserial' must be .*Did you mean 'advers",
        ),
        (lambda: GeneratorSpec("x", nn.Identity, "s", scales=(4)), r"scales=4 must be a list \[int, \.\.\.\]"),
        (lambda: GeneratorSpec("x", nn.Identity, "s", scales=("4",)), r"scales=\('4',\) must be a list"),
        (
            lambda: GeneratorSpec("x", nn.Identity, "s", receptive_radius=2.5),
            "receptive_radius=2.5 must be int or N",
        ),
        (lambda: GeneratorSpec("x", nn.Identity, "s", trainable=1), "trainable=1 must be bool"),
        (lambda: DiscriminatorSpec("x", nn.Identity, "s", min_size="16"), "min_size='16' must be int"),
        (lambda: DiscriminatorSpec("x", nn.Identity, "s", output="logits"), "Did you mean 'logit'"),
        (lambda: MetricSpec("x", F.l1_loss, "s", domain="RGB"), "domain='RGB' must be 'protocol' or 'rgb'"),
        (
            lambda: MetricSpec("x", F.l1_loss, "s", value_range=(0,)),
            r"value_range=\(0,\) must be a list \[float or",
        ),
        (lambda: MetricSpec("x", F.l1_loss, "s", tolerance="no"), "tolerance='no' must be float"),
    ],
)
def test_what_a_spec_says_of_a_component_is_checked(make: Callable[[], ComponentSpec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_and_whole_numbers_do() -> None:
    assert GeneratorSpec("x", nn.Identity, "s", scales=[2, 4]).scales == (2, 4)  # type: ignore[arg-type]
    assert MetricSpec("x", F.l1_loss, "s", value_range=(0, None)).value_range == (0, None)


# --- modules that end the process where they are imported ----------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(0)", 0), ("argparse.ArgumentParser().parse_args(['--such'])", 2)]
)
def test_a_module_that_ends_the_process_is_a_broken_one(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, code: int
) -> None:
    module = f"leaving_{code}"
    (tmp_path / f"{module}.py").write_text(f"import argparse, sys\n{ending}\n\nclass Odd: ...\n\nMade = Odd\n")
    monkeypatch.syspath_prepend(tmp_path)
    cause = rf"SystemExit: {code} \({module}.py, line 2\)"
    register(srzoo.BlockSpec("odd", f"{module}:Odd", "A block"))
    with pytest.raises(CompositionError, match=rf"block 'theirs/odd' cannot be built: {cause}"):
        preflight(get_zoo().entry("msrresnet-x4", {"generator.block": "theirs/odd"}))
    found = {finding.check: finding for finding in check("block/theirs/odd").findings}
    assert found["factory"].status == "fail" and re.search(cause, found["factory"].reason)
    assert {finding.status for finding in found.values()} == {"fail", "n/a"}
    get_registry.cache_clear()
    register(srzoo.BlockSpec("odd", f"{module}:Made", "A block"))  # whose signature is not read from the source
    shown = CliRunner().invoke(app, ["show", "block/theirs/odd"])
    assert shown.exit_code == 1 and re.search(cause, " ".join(shown.stderr.split()))


def test_nothing_that_ends_the_process_looks_like_success() -> None:
    with pytest.raises(typer.Exit) as ended:
        reports_errors(leaves)()
    assert ended.value.exit_code == 1


# --- parts of a generator -----------------------------------------------------------------------------------------


def part(forward: Callable[..., Any], **attributes: Any) -> Callable[..., nn.Module]:
    """Return a factory of a block or an upsampler with one convolution, ``forward(conv, features, scale)``."""

    class Part(nn.Module):
        def __init__(self, channels: int, scale: int = 1) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(channels, channels, 3, padding=1), scale
            for name, value in attributes.items():
                setattr(self, name, value)

        def forward(self, features: torch.Tensor) -> Any:
            return forward(self.conv, features, self.scale)

    class Block(Part):
        def __init__(self, channels: int) -> None:
            super().__init__(channels)

    return Part if attributes.pop("scaled", False) else Block


def fails(conv: nn.Module, features: torch.Tensor, scale: int) -> torch.Tensor:
    raise RuntimeError("this block is broken")


def leaves(*_: Any) -> Any:
    sys.exit(0)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (leaves, r"block 'theirs/odd' fails on \(2, 3, 24, 24\): SystemExit: 0 \(test_faulty_parts.py, line"),
        (
            lambda conv, x, s: conv(x)[:, :1],
            r"block 'theirs/odd' maps \(2, 64, 24, 24\) to \(2, 1, 24, 24\).*keeps",
        ),
        (lambda conv, x, s: conv(x)[..., 1:], r"block 'theirs/odd' maps .*\(2, 64, 24, 23\)"),
        (lambda conv, x, s: (conv(x), x), "block 'theirs/odd' returns tuple, not a tensor"),
        (
            fails,
            r"block 'theirs/odd' fails on \(2, 3, 24, 24\): RuntimeError: this block is broken",
        ),
    ],
)
def test_a_block_that_breaks_its_rule_is_named(register: Register, forward: Any, message: str) -> None:
    register(srzoo.BlockSpec("odd", part(forward), "A block"))
    entry = get_zoo().entry("msrresnet-x4", {"generator.block": "theirs/odd", "training.patch_size": 96})
    with pytest.raises(CompositionError, match=message):
        preflight(entry)


def test_a_block_in_a_block_is_the_one_that_is_named(register: Register) -> None:
    register(srzoo.BlockSpec("odd", part(lambda conv, x, s: conv(x)[:, :1]), "A block"))
    group = {"name": "residual_group", "num_blocks": 1, "block": "theirs/odd"}
    with pytest.raises(CompositionError, match="block 'theirs/odd' maps"):
        preflight(get_zoo().entry("rcan-lite-x4", {"generator.block": group}))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            lambda conv, x, s: F.interpolate(conv(x), scale_factor=2),
            "upsampler 'theirs/odd' maps .*enlarges both",
        ),
        (lambda conv, x, s: F.pixel_shuffle(conv(x), s), r"to \(2, 4, 96, 96\), not \(2, 64, 96, 96\).*out_channels"),
    ],
)
def test_an_upsampler_that_breaks_its_rule_is_named(register: Register, forward: Any, message: str) -> None:
    register(UpsamplerSpec("odd", part(forward, scaled=True), "An upsampler"))
    entry = get_zoo().entry("msrresnet-x4", {"generator.upsampler": "theirs/odd", "training.patch_size": 96})
    with pytest.raises(CompositionError, match=message):
        preflight(entry)


def test_a_generator_whose_output_is_not_finite_is_not_trained(register: Register, photos: str, tmp_path: Path) -> None:
    register(srzoo.BlockSpec("odd", part(lambda conv, x, s: torch.log(conv(x))), "A block"))
    changes = {**TINY, "generator.block": "theirs/odd"}
    with pytest.raises(TrainingError, match="The generator's output is not finite on the first crops"):
        train("msrresnet-x4", tmp_path / "run", data=photos, steps=1, overrides=changes)


class HalfFrozen(nn.Module):
    """A discriminator whose first layer is fixed, as one that builds on a pretrained network's is."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
        self.judge = nn.Linear(4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.judge(F.relu(self.fixed(image)).mean((2, 3)))
        return logits


def test_what_a_plugin_froze_is_not_trained(
    register: Register, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(DiscriminatorSpec("frozen", HalfFrozen, "A discriminator"))
    made: list[nn.Module] = []
    build = srzoo.compose.build_discriminator
    monkeypatch.setattr("srzoo.stages.build_discriminator", lambda *given: made.append(build(*given)) or made[-1])
    torch.manual_seed(0)
    changes = {
        **TINY,
        "discriminator": "theirs/frozen",
        "training.start_from": None,
        "training.stages.gan.losses.perceptual": None,
    }
    before: dict[str, torch.Tensor] = {}

    def look(stage: str, step: int, steps: int, values: Any) -> None:
        if not before and stage == "gan":
            before.update({name: tensor.clone() for name, tensor in made[0].state_dict().items()})

    train("srgan-lite-x4", tmp_path / "run", data=photos, steps=3, overrides=changes, progress=look)
    after = made[0].state_dict()
    assert torch.equal(before["fixed.weight"], after["fixed.weight"])
    assert not torch.equal(before["judge.weight"], after["judge.weight"])


# --- losses -----------------------------------------------------------------------------------------------------


class Game(nn.Module):
    def generator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> Any:
        return F.softplus(-fake).mean()

    def discriminator_loss(self, real: torch.Tensor, fake: torch.Tensor) -> Any:
        return F.softplus(fake)


@pytest.mark.parametrize(
    ("factory", "role", "message"),
    [
        (lambda: lambda sr, hr: (sr - hr).abs().mean().item(), "pixel", "returns a float, which has no gradient"),
        (
            lambda: lambda sr, hr: (sr - hr).abs(),
            "pixel",
            r"tensor of shape \(2, 3, 32, 32\), not one number; end",
        ),
        (lambda: lambda sr, hr: None, "pixel", "returns a NoneType"),
        (lambda: leaves, "pixel", r"loss 'odd' \(theirs/odd\) failed: SystemExit: 0"),
        (leaves, "pixel", r"'theirs/odd' cannot be built: SystemExit: 0"),
        (lambda: lambda sr, hr: sr @ hr.T, "pixel", r"loss 'odd' \(theirs/odd\) failed: RuntimeError"),
        (Game, "pixel", r"loss 'theirs/odd' has role='pixel' in its LossSpec, so it must be called with \(sr, hr\)"),
        (lambda: F.l1_loss, "adversarial", "so it must have generator_loss and discriminator_loss"),
        (Game, "adversarial", r"loss 'adversarial' \(theirs/odd\) returns a tensor of shape \(2, 1\), not one"),
    ],
)
def test_a_loss_that_breaks_its_rule_is_named_before_anything_is_trained(
    register: Register, photos: str, tmp_path: Path, factory: Any, role: Any, message: str
) -> None:
    register(LossSpec("odd", factory, "A loss", role=role))
    label = "adversarial" if role == "adversarial" else "odd"  # in place of the recipe's, or beside it
    losses = {"perceptual": None, label: {"name": "theirs/odd"}}
    changes: dict[str, Any] = {**TINY, "training.stages.gan.losses": losses}
    changes |= {"discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8}, "training.start_from": None}
    with pytest.raises((CompositionError, PluginError), match=message):
        train("srgan-lite-x4", tmp_path / "run", data=photos, steps=1, overrides=changes)
    assert not (tmp_path / "run").exists()


# --- metrics and datasets ------------------------------------------------------------------------------------------


def broken_metric(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    raise NameError("name 'hrr' is not defined")


BROKEN = MetricSpec("odd", lambda: broken_metric, "A metric")
LEAVING = MetricSpec("odd", lambda: leaves, "A metric")


def test_a_metric_that_fails_is_noticed_before_the_first_validation(
    register: Register, photos: str, tmp_path: Path
) -> None:
    register(BROKEN)
    changes = {**TINY, "training.validation": {"data": photos, "metrics": ["psnr", "odd"]}}
    with pytest.raises(PluginError, match="metric 'odd' failed: NameError: name 'hrr' is not defined"):
        train("msrresnet-x4", tmp_path / "run", data=photos, steps=1, overrides=changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("spec", "cause"), [(BROKEN, "NameError"), (LEAVING, "SystemExit: 0")])
def test_a_metric_that_fails_takes_no_other_with_it(
    register: Register, photos: str, tmp_path: Path, spec: MetricSpec, cause: str
) -> None:
    register(spec)
    found = bench("bicubic,nearest", photos, "psnr,odd", out=tmp_path / "out", pictures=0)
    assert not found.failed
    assert f"metric 'odd' failed: {cause}" in found.unavailable["odd"]
    assert {row.metric for row in found.rows} == {"psnr"} and len(found.rows) == 2 * 12
    assert [standing.entry for standing in found.standings] == ["bicubic", "nearest"]
    assert "odd: " in (tmp_path / "out" / "leaderboard.md").read_text()


def picture(dtype: Any = np.uint8) -> tuple[Any, bool]:
    return np.full((32, 32, 3), 100, dtype), False


def test_a_dataset_that_ends_the_process_is_named(register: Register) -> None:
    register(srzoo.DatasetSpec("odd", leaves, "Images"))
    with pytest.raises(PluginError, match=r"dataset 'odd' of .*theirs.* failed: SystemExit: 0"):
        bench("bicubic", "odd", "psnr")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([("a", picture), ("a", picture)], r"dataset 'odd' of .*theirs.* names more than one image 'a'"),
        (
            [("a", lambda: picture(np.float32))],
            r"image 'a' of a dataset must be \(H, W, 3\) uint8 .*, not float32 of",
        ),
        ([("a", lambda: picture()[0])], "image 'a' of a dataset must be"),
        ([("a", leaves)], "image 'a' of a dataset failed: SystemExit: 0"),
        ([("a", lambda: 1 / 0)], "image 'a' of a dataset failed: ZeroDivisionError"),
    ],
)
def test_a_dataset_that_breaks_its_rule_is_named(register: Register, items: Any, message: str) -> None:
    found = ImageSet("odd", tuple(ImageItem(name, hr=read) for name, read in items))
    register(srzoo.DatasetSpec("odd", lambda: found, "Images"))
    with pytest.raises(PluginError, match=message):
        bench("bicubic", "odd", "psnr")
