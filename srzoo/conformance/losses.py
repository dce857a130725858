"""Checks of losses: finite scalars with a gradient, smallest where output and reference are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..plugins import FAULTS, describe_exception
from ..specs import LossSpec
from .outcome import Failed, NotApplicable, listed, promise, require
from .parts import PlainDiscriminator
from .settings import begin, kept
from .subject import Subject, images, refusal

SIZE, ODD = (2, 3, 48, 48), (1, 3, 75, 61)
"""Of images, and of others that are no multiple of anything, as patches for x3 may be."""
LOGITS = ((4, 1), (4, 1, 3, 3))
"""Of discriminators with one logit an image, and with one a position."""
STEPS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Against the gradient, in units of an image or a logit; a loss may be flat for small ones, and rise for large ones."""
DRAWS = 8
"""How often a loss that may be random is tried before it is said not to see an error."""
EVEN = 1e-6
"""Relative; what the values of a loss that are meant to be equal may differ by."""
LESSONS, BOTTOMLESS = 12, -1e3
"""How often a discriminator is taught to lower a regulariser, and what no penalty comes down to."""


def role_of(subject: Subject) -> str:
    """Return how the trainer calls the loss."""
    spec = subject.spec
    assert isinstance(spec, LossSpec)
    return spec.role


def evaluate(subject: Subject, loss: Any, size: tuple[int, ...] = SIZE) -> dict[str, torch.Tensor]:
    """Call a loss as the trainer would and return each value with what it is, after looking at it."""
    role = role_of(subject)
    hr = images(size)
    sr = hr + 0.1 * (images(size, 1) - 0.5)
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
    """A finite scalar for whatever its role is called with.

    Odd sizes may be refused in a sentence.
    """
    loss = subject.build()
    values = evaluate(subject, loss)
    try:
        evaluate(subject, loss, ODD)
    except FAULTS as error:
        if not refusal(error):
            raise Failed(
                f"images of {ODD[3]}x{ODD[2]} break it: {describe_exception(error)[:200]}; raise a ValueError that "
                "says which sizes it takes."
            ) from error
    return ", ".join(f"{value.item():.3g}" for value in values.values())


@promise("differentiable", "loss")
def differentiable(subject: Subject) -> None:
    """Finite gradients that pull, also where output and reference are equal."""
    loss, role = subject.build(), role_of(subject)
    with kept():
        if role == "adversarial":
            for shape in LOGITS:
                _adversarial_gradients(loss, shape)
        elif role == "regulariser":
            _regulariser_gradients(loss)
        else:
            hr = images(SIZE)
            for where, sr in (
                ("", hr + 0.1 * (images(SIZE, 1) - 0.5)),
                (" where output and reference are equal", hr.clone()),
            ):
                grad = _gradient(lambda image: loss(image, hr), sr, "the loss", where)
                require(where or grad.abs().sum() > 0, "the gradient on the output is zero.")
                if not where:
                    _falls(lambda image: loss(image, hr), sr, grad, "the loss")


def _adversarial_gradients(loss: Any, shape: tuple[int, ...]) -> None:
    # Less than one apart: beyond that a relativistic hinge is content.
    real, fake = 0.5 * images(shape, 2) + 0.2, 0.5 * images(shape, 3) - 0.2
    own = real if getattr(loss, "generator_needs_real", True) else None
    grad = _gradient(lambda logits: loss.generator_loss(own, logits), fake, "generator_loss", "")
    require(grad.abs().sum() > 0, f"generator_loss has no gradient on fake logits {shape}; nothing would be learnt.")
    _falls(lambda logits: loss.generator_loss(own, logits), fake, grad, "generator_loss")
    for what, call, logits in (
        ("real", lambda x: loss.discriminator_loss(x, fake), real),
        ("fake", lambda x: loss.discriminator_loss(real, x), fake),
    ):
        grad = _gradient(call, logits, "discriminator_loss", "")
        require(grad.abs().sum() > 0, f"discriminator_loss has no gradient on {what} logits {shape}.")
        _falls(call, logits, grad, "discriminator_loss")


def _regulariser_gradients(loss: Any) -> None:
    discriminator = _discriminator()
    loss(discriminator, images(SIZE), images(SIZE, 1)).backward()
    found = {n: p.grad for n, p in discriminator.named_parameters()}
    moved = [n for n, grad in found.items() if grad is not None and grad.abs().sum() > 0]
    require(moved, "no gradient reaches the discriminator; build the gradient with create_graph=True.")
    broken = [n for n, grad in found.items() if grad is not None and not torch.isfinite(grad).all()]
    require(not broken, f"the gradient of the discriminator's {listed(broken)} is not finite.")
    require(not _is_bottomless(loss), "the discriminator can lower it without end; is its sign the wrong way round?")


def _gradient(call: Callable[[torch.Tensor], Any], point: torch.Tensor, what: str, where: str) -> torch.Tensor:
    point = point.clone().requires_grad_(True)
    begin(0)
    value = call(point)
    require(isinstance(value, torch.Tensor) and value.requires_grad, f"{what} has no gradient; is it detached?")
    (found,) = torch.autograd.grad(value, point, allow_unused=True)
    require(found is not None, f"{what} does not depend on what it is given.")
    require(torch.isfinite(found).all(), f"the gradient of {what} is not finite{where}.")
    return found


def _falls(call: Callable[[torch.Tensor], Any], point: torch.Tensor, grad: torch.Tensor, what: str) -> None:
    """Raise :class:`Failed` if the value rises wherever its own gradient says that it falls."""
    values = []
    for step in (0.0, *STEPS):
        begin(0)  # a loss that draws, as where it looks, draws the same every time
        values.append(float(call(point - step * grad / grad.abs().max()).detach()))
    require(
        min(values[1:]) <= values[0] + 1e-6 * abs(values[0]),
        f"{what} rises with every step against its gradient, from {values[0]:.4g} to {values[-1]:.4g}; detach() turned "
        "round?",
    )


def _is_bottomless(loss: Any) -> bool:
    """Whether a discriminator that learns to lower a regulariser with growing steps finds no end of it."""
    discriminator, step = _discriminator(), 0.1
    for lesson in range(LESSONS):
        begin(lesson)
        value = loss(discriminator, images(SIZE), images(SIZE, 1))
        if not torch.isfinite(value) or not value.requires_grad or value < BOTTOMLESS:
            return bool(value < BOTTOMLESS)
        discriminator.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in discriminator.parameters():
                if parameter.grad is not None:
                    parameter.sub_(step * parameter.grad.sign())
        step *= 2
    return False


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
    with torch.no_grad(), kept():
        least = float(loss(hr.clone(), hr))
        others = {what: _most(loss, hr + error, hr, least) for what, error in _errors().items()}
    require(
        abs(least - spec.minimum) <= 1e-5 * max(1.0, abs(spec.minimum)),
        f"it is {least:.3g} where output and reference are equal, and its spec says {spec.minimum}; give "
        "minimum=..., or None if it is not smallest there.",
    )
    for what, value in others.items():
        require(value > least, f"it is {value:.3g} for {what} and {least:.3g} for the right one.")
    return f"{least:.3g}, and {min(others.values()):.3g} beside it"


def _most(loss: Any, sr: torch.Tensor, hr: torch.Tensor, least: float) -> float:
    """Return a value above another if a loss that draws, such as one of some pixels, gives one in a few tries."""
    found = least
    for seed in range(DRAWS):
        begin(seed)
        if (found := float(loss(sr, hr))) > least:
            break
    return found


def _errors() -> dict[str, torch.Tensor]:
    """Return what makes an output a wrong one: noise everywhere and on one side, as a loss may not see a shift."""
    noise = images(SIZE, 1)
    found = {f"a wrong output ({size:g})": size * (noise - 0.5) for size in (0.02, 0.2, 1.0)}
    found |= {"an output that is too bright": 0.2 * noise, "an output that is too dark": -0.2 * noise}
    for axis, name in enumerate(("image", "channel")):
        for index in range(SIZE[axis]):
            only = torch.zeros(SIZE[axis]).index_fill(0, torch.tensor(index), 0.2)
            found[f"an output whose {name} {index + 1} is wrong"] = (noise - 0.5) * only.view(-1, *(1,) * (3 - axis))
    return found


@promise("one-game", "loss")
def one_game(subject: Subject) -> str:
    """The generator is drawn to the logits that the discriminator learns to give to real images.

    Which side these are on is the loss's own choice, as long as both of its methods make the same.
    """
    if role_of(subject) != "adversarial":
        raise NotApplicable(f"a loss of role {role_of(subject)!r} is no game.")
    loss, logits = subject.build(), 0.9 + 0.2 * images(LOGITS[0])
    require(
        _tells_apart(loss), "discriminator_loss pulls real and fake logits the same way; is the sign of one half wrong?"
    )
    with torch.no_grad():
        falls = float(loss.discriminator_loss(-logits, logits) - loss.discriminator_loss(logits, -logits))
        side = 1.0 if falls > 0 else -1.0
        own = side * logits if getattr(loss, "generator_needs_real", True) else None
        values = [float(loss.generator_loss(own, step * side * logits)) for step in (-1.0, -0.5, 1.0)]
    gain = values[0] - values[2]
    if abs(gain) <= EVEN * abs(values[0]):
        gain = values[0] - values[1]  # it may draw fake logits half way, where no two sides lie
    if not falls or falls != falls or gain != gain:
        raise NotApplicable("discriminator_loss does not tell whether real logits lie above fake ones or below.")
    where = "above" if side > 0 else "below"
    require(
        gain > 0,
        f"discriminator_loss falls with real logits {where} fake ones, but generator_loss does not fall with fake "
        "logits moving there; is a sign or a label the wrong way round?",
    )
    return f"real logits lie {where} fake ones"


def _tells_apart(loss: Any) -> bool:
    """Whether logits that are the same for real and fake images are ever pulled apart; yes where none are pulled."""
    pulls = []
    for level in (0.01, -0.01, 1.0, -1.0, 100.0, -100.0):
        pair = [torch.full(LOGITS[0], level, requires_grad=True) for _ in range(2)]
        with torch.enable_grad():
            real, fake = torch.autograd.grad(loss.discriminator_loss(*pair), pair, allow_unused=True)
        pulls.append(0.0 if real is None or fake is None else float(real.sum() * fake.sum()))
    return any(pull < 0 for pull in pulls) or not any(pull > 0 for pull in pulls)


CHECKS = (
    scalar,
    differentiable,
    minimum,
    one_game,
)
