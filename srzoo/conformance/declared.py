"""Checks of what a spec declares: patch sizes and logits of a discriminator, receptive field of a generator."""

from __future__ import annotations

import torch

from ..errors import SrzooError
from ..inference import prepare
from ..plugins import FAULTS, describe_exception
from ..receptive import measure_field
from ..specs import DiscriminatorSpec, GeneratorSpec
from .outcome import Failed, NotApplicable, promise, require
from .subject import Case, Subject, images, patch_sizes, relative_difference

STEPS, FAR = 12, 20.0
"""How long a discriminator is taught to give large logits, and those it must reach: of 20 the probability is 1."""


@promise("refuses-sizes", "discriminator")
def refuses_sizes(subject: Subject) -> str:
    """Patch sizes beyond the declared ones are refused in a sentence.

    Whatever is not declared is either computed properly all the same, or refused in a sentence.
    """
    spec = subject.spec
    assert isinstance(spec, DiscriminatorSpec)
    built = subject.cases[0]
    others = _undeclared(spec)
    if not others:
        raise NotApplicable("its spec declares every size.")
    refused = []
    for side in others:
        case = Case(built.supplied, (3, side, side))
        network = subject.network(built)
        try:
            with torch.no_grad():
                outputs = subject.run(network, images((2, 3, side, side)))
        except (SrzooError, ValueError) as error:
            require(len(str(error).split()) >= 4, f"{side}x{side} is refused without a sentence: {error!r}.")
            refused.append(side)
            continue
        except FAULTS as error:
            raise Failed(
                f"{side}x{side} is not declared and breaks it instead of being refused: {describe_exception(error)}; "
                "raise a ValueError that says which sizes it takes."
            ) from error
        subject.check_shape(network, case, outputs, 2)
    words = [f"{side} {'refused' if side in refused else 'computed'}" for side in others]
    return ", ".join(words)


def _undeclared(spec: DiscriminatorSpec) -> list[int]:
    if spec.input_size is not None:
        return [spec.input_size // 2, spec.input_size + 8]
    sizes = [spec.min_size - 1] if spec.min_size > 1 else []
    if spec.size_multiple > 1:
        sizes.append(patch_sizes(spec)[0] + 1)
    return [side for side in sizes if side > 0]


@promise("receptive-field", "generator")
def receptive_field(subject: Subject) -> str:
    """It sees no farther than its spec declares."""
    spec = subject.spec
    assert isinstance(spec, GeneratorSpec)
    if spec.receptive_radius is None:
        raise NotApplicable("its spec declares none, so it is measured when it is needed.")
    largest = 0
    for options in subject.examples:
        for case in subject.cases:
            scale = case.supplied["scale"]
            field = measure_field(prepare(subject.network(case, options), "cpu"), scale, spec.size_multiple)
            radius = field.needed
            require(
                radius is not None, f"scale {scale}: it sees farther than 256 pixels; declare receptive_radius=None."
            )
            assert radius is not None
            require(
                radius <= spec.receptive_radius,
                f"scale {scale}: it sees {radius} pixels far, but its spec declares {spec.receptive_radius}; tiles "
                "would show seams.",
            )
            largest = max(largest, radius)
    return f"{largest} measured, {spec.receptive_radius} declared"


@promise("intermediate", "generator")
def intermediate(subject: Subject) -> str:
    """The intermediate outputs that its spec declares can be asked for, and change nothing else."""
    spec, case = subject.spec, subject.cases[0]
    assert isinstance(spec, GeneratorSpec)
    if not spec.intermediate:
        raise NotApplicable("its spec declares none.")
    with torch.no_grad():
        found = subject.network()(subject.inputs(), intermediate=True)
    pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(each, torch.Tensor) for each in found)
    require(pair, "with intermediate=True it must return two tensors: the output, and those on the way to it.")
    output, others = found
    expected = tuple(subject.baseline()[0].shape)
    fits = others.dim() == 5 and len(others) and tuple(others.shape[1:]) == expected
    require(fits, f"{case}: the intermediate outputs are {tuple(others.shape)}; they must be (D, *{expected}).")
    difference = relative_difference(subject.baseline()[0], output)
    require(difference <= 1e-4, f"with intermediate=True its last output is another ({difference:.1e}).")
    return f"{len(others)} of them"


@promise("logits", "discriminator")
def logits(subject: Subject) -> str:
    """It gives logits, which any number can be, and no probabilities.

    A network may well begin with logits between 0 and 1. One that has no others cannot be taught to leave them, upwards
    or downwards.
    """
    highest, lowest = _farthest(subject, 1.0), -_farthest(subject, -1.0)
    bound = f"at most {highest:.2g}" if highest <= FAR else f"at least {lowest:.2g}"
    require(
        min(highest, -lowest) > FAR,
        f"whatever it learns, its output is {bound}; "
        "the losses take logits, which any number can be, so leave out the sigmoid, tanh or softplus at its end.",
    )
    return f"beyond {FAR:.0f} either way"


def _farthest(subject: Subject, sign: float) -> float:
    """Return how large an output, times a sign, it can be taught; no more than that it is beyond ``FAR`` if it is."""
    reached = -float("inf")
    for begin, contrast in ((0.1, 1.0), (0.01, 1.0), (0.1, 1e3)):  # of weights that are normalised only inputs are left
        network, step = subject.network().requires_grad_(True), begin
        parameters = list(network.parameters())
        if not parameters:
            raise NotApplicable("there is nothing to train in it.")
        for _ in range(STEPS):
            with torch.enable_grad():
                outputs = sign * subject.run(network, contrast * subject.inputs())[0]
                found = torch.autograd.grad(outputs.mean(), parameters, allow_unused=True)
            reached = max(reached, float(outputs.detach().max().nan_to_num(nan=reached)))
            if reached > FAR:
                return reached
            with torch.no_grad():
                for parameter, grad in zip(parameters, found, strict=True):
                    if grad is not None:
                        parameter.add_(step * grad.sign())
            step *= 2
    return reached


@promise("gradient-penalty", "discriminator")
def gradient_penalty(subject: Subject) -> str:
    """Penalties on its gradient, as of R1 and WGAN-GP, can be trained with."""
    network, inputs = subject.network().train(), subject.inputs().requires_grad_(True)
    try:
        with torch.enable_grad():
            outputs = subject.run(network, inputs)[0]
            (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
            slope.square().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "not implemented" in str(error):  # by torch, as for its fused attention
            raise NotApplicable(f"torch cannot differentiate it twice: {describe_exception(error)[:200]}.") from error
        raise Failed(
            f"it cannot be differentiated twice: {describe_exception(error)[:200]}; a loss with a gradient penalty "
            "would fail."
        ) from error
    found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    require(found, "a penalty on its gradient reaches none of its parameters.")
    require(all(torch.isfinite(grad).all() for grad in found), "the gradient of a gradient penalty is not finite.")
    return f"{len(found)} tensors"


CHECKS = (
    refuses_sizes,
    logits,
    gradient_penalty,
    receptive_field,
    intermediate,
)
