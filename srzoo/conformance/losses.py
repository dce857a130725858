"""Checks of losses: finite scalars with a gradient, smallest where output and reference are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..specs import LossSpec
from .outcome import NotApplicable, listed, promise, require
from .parts import PlainDiscriminator
from .subject import Subject, images

SIZE = (2, 3, 48, 48)
LOGITS = ((4, 1), (4, 1, 3, 3))
"""Of discriminators with one logit an image, and with one a position."""


def role_of(subject: Subject) -> str:
    """Return how the trainer calls the loss."""
    spec = subject.spec
    assert isinstance(spec, LossSpec)
    return spec.role


def evaluate(subject: Subject, loss: Any) -> dict[str, torch.Tensor]:
    """Call a loss as the trainer would and return each value with what it is, after looking at it."""
    role = role_of(subject)
    hr = images(SIZE)
    sr = hr + 0.1 * (images(SIZE, 1) - 0.5)
    if role == "adversarial":
        values = {}
        for shape in LOGITS:
            real, fake = images(shape, 2) + 0.5, images(shape, 3) - 0.5
            needs_real = getattr(loss, "generator_needs_real", True)
            values[f"generator_loss for logits {shape}"] = loss.generator_loss(real if needs_real else None, fake)
            values[f"discriminator_loss for logits {shape}"] = loss.discriminator_loss(real, fake)
    elif role == "regulariser":
        values = {"the loss": loss(_discriminator(), hr, sr)}
    else:
        values = {"the loss": loss(sr, hr)}
    for what, value in values.items():
        _check_scalar(what, value)
    return values


def _check_scalar(what: str, value: Any) -> None:
    require(isinstance(value, torch.Tensor), f"{what} is a {type(value).__name__}, not a tensor: its gradient is lost.")
    require(value.shape == (), f"{what} has shape {tuple(value.shape)}; it must be one number, such as the mean.")
    require(torch.isfinite(value), f"{what} is {value.item()}.")


def _discriminator() -> PlainDiscriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PlainDiscriminator()


@promise("finite-scalar", "loss")
def scalar(subject: Subject) -> str:
    """A finite scalar for whatever its role is called with."""
    values = evaluate(subject, subject.build())
    return ", ".join(f"{value.item():.3g}" for value in values.values())


@promise("differentiable", "loss")
def differentiable(subject: Subject) -> None:
    """Finite gradients that pull, also where output and reference are equal."""
    loss, role = subject.build(), role_of(subject)
    if role == "adversarial":
        for shape in LOGITS:
            _adversarial_gradients(loss, shape)
    elif role == "regulariser":
        discriminator = _discriminator()
        loss(discriminator, images(SIZE), images(SIZE, 1)).backward()
        found = {n: p.grad for n, p in discriminator.named_parameters()}
        moved = [n for n, grad in found.items() if grad is not None and grad.abs().sum() > 0]
        require(moved, "no gradient reaches the discriminator; build the gradient with create_graph=True.")
        broken = [n for n, grad in found.items() if grad is not None and not torch.isfinite(grad).all()]
        require(not broken, f"the gradient of the discriminator's {listed(broken)} is not finite.")
    else:
        hr = images(SIZE)
        for where, sr in (
            ("", hr + 0.1 * (images(SIZE, 1) - 0.5)),
            (" where output and reference are equal", hr.clone()),
        ):
            grad = _gradient(lambda image: loss(image, hr), sr, "the loss", where)
            require(where or grad.abs().sum() > 0, "the gradient on the output is zero.")


def _adversarial_gradients(loss: Any, shape: tuple[int, ...]) -> None:
    real, fake = images(shape, 2) + 0.5, images(shape, 3) - 0.5
    own = real if getattr(loss, "generator_needs_real", True) else None
    grad = _gradient(lambda logits: loss.generator_loss(own, logits), fake, "generator_loss", "")
    require(grad.abs().sum() > 0, f"generator_loss has no gradient on fake logits {shape}; nothing would be learnt.")
    for what, call, logits in (
        ("real", lambda x: loss.discriminator_loss(x, fake), real),
        ("fake", lambda x: loss.discriminator_loss(real, x), fake),
    ):
        grad = _gradient(call, logits, "discriminator_loss", "")
        require(grad.abs().sum() > 0, f"discriminator_loss has no gradient on {what} logits {shape}.")


def _gradient(call: Callable[[torch.Tensor], Any], point: torch.Tensor, what: str, where: str) -> torch.Tensor:
    point = point.clone().requires_grad_(True)
    value = call(point)
    require(isinstance(value, torch.Tensor) and value.requires_grad, f"{what} has no gradient; is it detached?")
    (found,) = torch.autograd.grad(value, point, allow_unused=True)
    require(found is not None, f"{what} does not depend on what it is given.")
    require(torch.isfinite(found).all(), f"the gradient of {what} is not finite{where}.")
    return found


@promise("minimum", "loss")
def minimum(subject: Subject) -> str:
    """Smallest where output and reference are equal, with the value its spec states."""
    spec = subject.spec
    assert isinstance(spec, LossSpec)
    if spec.role not in ("pixel", "perceptual"):
        raise NotApplicable(f"a loss of role {spec.role!r} does not compare an output with its reference.")
    if spec.minimum is None:
        raise NotApplicable("its spec declares no minimum where output and reference are equal.")
    loss, hr = subject.build(), images(SIZE)
    with torch.no_grad():
        least = float(loss(hr.clone(), hr))
        others = [float(loss(hr + size * (images(SIZE, 1) - 0.5), hr)) for size in (0.02, 0.2, 1.0)]
    require(
        abs(least - spec.minimum) <= 1e-5 * max(1.0, abs(spec.minimum)),
        f"it is {least:.3g} where output and reference are equal, and its spec says {spec.minimum}; give "
        "minimum=..., or None if it is not smallest there.",
    )
    require(min(others) > least, f"it is {min(others):.3g} for a wrong output and {least:.3g} for the right one.")
    return f"{least:.3g}, and {others[0]:.3g} beside it"


@promise("one-game", "loss")
def one_game(subject: Subject) -> str:
    """The generator is drawn to the logits that the discriminator learns to give to real images.

    Which side these are on is the loss's own choice, as long as both of its methods make the same.
    """
    if role_of(subject) != "adversarial":
        raise NotApplicable(f"a loss of role {role_of(subject)!r} is no game.")
    loss, logits = subject.build(), 0.9 + 0.2 * images(LOGITS[0])
    with torch.no_grad():
        falls = float(loss.discriminator_loss(-logits, logits) - loss.discriminator_loss(logits, -logits))
        side = 1.0 if falls > 0 else -1.0
        own = side * logits if getattr(loss, "generator_needs_real", True) else None
        gains = float(loss.generator_loss(own, -side * logits) - loss.generator_loss(own, side * logits))
    if not falls or falls != falls or gains != gains:
        raise NotApplicable("discriminator_loss does not tell whether real logits lie above fake ones or below.")
    where = "above" if side > 0 else "below"
    require(
        gains > 0,
        f"discriminator_loss falls with real logits {where} fake ones, but generator_loss does not fall with fake "
        "logits moving there; is a sign or a label the wrong way round?",
    )
    return f"real logits lie {where} fake ones"


CHECKS = (
    scalar,
    differentiable,
    minimum,
    one_game,
)
