"""Criterion times pairing: formulas, and a live gradient for the generator in every combination offered."""

from __future__ import annotations

import math
import typing

import pytest
import torch
from torch import nn

import srzoo
from srzoo.compose import build_generator
from srzoo.entry import ComponentRef, Entry
from srzoo.errors import CompositionError
from srzoo.options import signature_of
from srzoo.registry import get_registry
from srzoo.specs import DiscriminatorSpec

torch.set_num_threads(1)


def choices(option: str) -> tuple[str, ...]:
    signature = signature_of(get_registry().get("loss", "adversarial"))
    (found,) = [o for o in signature.options if o.name == option]
    return typing.get_args(found.annotation)


CRITERIA, PAIRINGS = choices("criterion"), choices("pairing")
BLOCKS = [c.full_name for c in get_registry().find("block")]
UPSAMPLERS = [c.full_name for c in get_registry().find("upsampler")]
DISCRIMINATORS = [c.full_name for c in get_registry().find("discriminator")]
SMALL = {"srgan": {"num_features": 4, "dense_features": 8}, "patch": {"num_features": 4, "dense_features": 8}}
SMALL |= {"vgg128": {"num_features": 4}, "unet": {"num_features": 4}, "dcgan": {"num_features": 4}}
SMALL |= {"timm": {"backbone": "resnet10t"}}


def test_all_formulations_of_the_field_are_offered() -> None:
    assert set(CRITERIA) == {"bce", "minimax", "softplus", "least_squares", "hinge", "wasserstein"}
    assert set(PAIRINGS) == {"standard", "relativistic", "relativistic_average"}


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_combination_gives_every_generator_parameter_a_gradient(discriminator: str, upsampler: str) -> None:
    spec = get_registry().get("discriminator", discriminator).spec
    assert isinstance(spec, DiscriminatorSpec)
    size = spec.input_size or max(32, spec.min_size)
    torch.manual_seed(0)
    judge = srzoo.create("discriminator", discriminator, input_size=size, **SMALL.get(spec.name, {}))
    lr, hr = torch.rand(2, 3, size // 4, size // 4), torch.rand(2, 3, size, size)
    with torch.no_grad():
        real = judge(hr)
    for block in BLOCKS:
        options = {"block": block, "upsampler": upsampler, "num_features": 8, "num_blocks": 1}
        entry = Entry(name="test", summary="test", generator=ComponentRef.of("trunk", options))
        generator = build_generator(entry)
        fake = judge(generator(lr))
        names, parameters = zip(*generator.named_parameters(), strict=True)
        for criterion in CRITERIA:
            for pairing in PAIRINGS:
                loss = srzoo.create("loss", "adversarial", criterion=criterion, pairing=pairing)
                value = loss.generator_loss(real, fake)
                gradients = torch.autograd.grad(value, parameters, retain_graph=True)
                for name, gradient in zip(names, gradients, strict=True):
                    label = f"{block} {criterion} {pairing}: {name}"
                    assert torch.isfinite(gradient).all(), label
                    assert gradient.abs().sum() > 0, label


def test_combinations_that_mean_nothing_are_refused_with_the_reason() -> None:
    for criterion in CRITERIA:
        for pairing in PAIRINGS:
            if (criterion, pairing) == ("least_squares", "standard"):
                continue
            with pytest.raises(CompositionError, match="least_squares with standard pairing"):
                srzoo.create("loss", "adversarial", criterion=criterion, pairing=pairing, on="probabilities")


REAL, FAKE = torch.tensor([[0.3], [1.2]], dtype=torch.float64), torch.tensor([[-0.7], [0.4]], dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_relativistic_average_bce_is_esrgans_equations() -> None:
    """arXiv:1809.00219, eqs. 1 and 2, written out."""
    loss = srzoo.create("loss", "adversarial", criterion="bce", pairing="relativistic_average")
    real, fake = REAL.flatten().tolist(), FAKE.flatten().tolist()
    mean_real, mean_fake = sum(real) / 2, sum(fake) / 2
    d_real = [sigmoid(r - mean_fake) for r in real]
    d_fake = [sigmoid(f - mean_real) for f in fake]
    l_d = -sum(math.log(d) for d in d_real) / 2 - sum(math.log(1 - d) for d in d_fake) / 2
    l_g = -sum(math.log(1 - d) for d in d_real) / 2 - sum(math.log(d) for d in d_fake) / 2
    assert loss.discriminator_loss(REAL, FAKE).item() == pytest.approx(l_d, abs=1e-12)
    assert loss.generator_loss(REAL, FAKE).item() == pytest.approx(l_g, abs=1e-12)


def test_standard_bce_is_srgans_equations() -> None:
    loss = srzoo.create("loss", "adversarial")
    l_g = -sum(math.log(sigmoid(f)) for f in FAKE.flatten().tolist()) / 2
    l_d = -sum(math.log(sigmoid(r)) for r in REAL.flatten().tolist()) / 2
    l_d -= sum(math.log(1 - sigmoid(f)) for f in FAKE.flatten().tolist()) / 2
    assert loss.generator_loss(None, FAKE).item() == pytest.approx(l_g, abs=1e-12)
    assert loss.discriminator_loss(REAL, FAKE).item() == pytest.approx(l_d, abs=1e-12)


@pytest.mark.parametrize(
    ("criterion", "discriminator", "generator"),
    [
        ("minimax", None, lambda f: math.log(1 - sigmoid(f))),
        ("least_squares", lambda r, f: (r - 1) ** 2 + f**2, lambda f: (f - 1) ** 2),
        ("hinge", lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda f: -f),
        ("wasserstein", lambda r, f: f - r, lambda f: -f),
        (
            "softplus",
            lambda r, f: math.log1p(math.exp(-r)) + math.log1p(math.exp(f)),
            lambda f: math.log1p(math.exp(-f)),
        ),
    ],
)
def test_standard_pairing_of_each_criterion_is_its_papers_formula(criterion, discriminator, generator) -> None:
    loss = srzoo.create("loss", "adversarial", criterion=criterion)
    pairs = list(zip(REAL.flatten().tolist(), FAKE.flatten().tolist(), strict=True))
    assert loss.generator_loss(None, FAKE).item() == pytest.approx(sum(generator(f) for _, f in pairs) / 2)
    if discriminator is not None:
        expected = sum(discriminator(r, f) for r, f in pairs) / 2
        assert loss.discriminator_loss(REAL, FAKE).item() == pytest.approx(expected)


def test_halves_mean_is_half_of_the_sum() -> None:
    for pairing in PAIRINGS:
        whole = srzoo.create("loss", "adversarial", pairing=pairing)
        half = srzoo.create("loss", "adversarial", pairing=pairing, halves="mean")
        assert half.discriminator_loss(REAL, FAKE) * 2 == pytest.approx(whole.discriminator_loss(REAL, FAKE))


def test_relativistic_hinge_reaches_the_generator() -> None:
    """Public code scores both relativistic terms with -C, which cancel; here they must not."""
    fake = FAKE.clone().requires_grad_(True)
    for pairing in ("relativistic", "relativistic_average"):
        loss = srzoo.create("loss", "adversarial", criterion="hinge", pairing=pairing)
        (gradient,) = torch.autograd.grad(loss.generator_loss(REAL, fake), fake)
        assert gradient.abs().min() > 0
        assert (gradient < 0).all(), "raising a fake logit must lower the generator's loss"


class Quadratic(nn.Module):
    """A discriminator whose input gradient is known: logit = 0.5 * a * |x|^2, gradient a * x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.a * images.flatten(1).square().sum(dim=1, keepdim=True)


def test_r1_is_half_the_squared_gradient_norm_on_real_images() -> None:
    hr = torch.rand(3, 3, 4, 4)
    expected = 0.5 * (2.0 * hr).flatten(1).square().sum(dim=1).mean()
    torch.testing.assert_close(srzoo.create("loss", "r1")(Quadratic(2.0), hr, hr), expected)


def test_gradient_penalty_holds_the_norm_at_one_between_real_and_fake() -> None:
    image = torch.rand(3, 3, 4, 4)  # real and fake equal: every mixture is the image itself
    judge = Quadratic(2.0)
    expected = ((2.0 * image).flatten(1).norm(dim=1) - 1).square().mean()
    penalty = srzoo.create("loss", "gradient_penalty")(judge, image, image)
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    assert judge.a.grad is not None and judge.a.grad != 0
