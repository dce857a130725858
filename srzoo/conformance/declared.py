"""Checks of what a spec declares: patch sizes of a discriminator, receptive field of a generator, exemptions."""

from __future__ import annotations

import torch

from ..errors import SrzooError
from ..inference import prepare
from ..plugins import describe_exception
from ..receptive import measure_field
from ..specs import DiscriminatorSpec, GeneratorSpec
from .outcome import Failed, NotApplicable, promise, require
from .subject import Case, Subject, images, patch_sizes


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
        except Exception as error:
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


CHECKS = (
    refuses_sizes,
    receptive_field,
)
