"""A component under check: how it is built, fed and looked at, whatever its kind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from ..compose import bind
from ..errors import OptionError
from ..options import Signature, signature_of
from ..registry import Component
from ..specs import ComponentSpec, DiscriminatorSpec, GeneratorSpec, UpsamplerSpec
from .outcome import Failed, NotApplicable, require
from .parts import PARTS

CHANNELS = 8
_built: list[tuple[tuple[Any, ...], nn.Module]] = []
"""The last network built, and from what."""


@dataclass(frozen=True)
class Case:
    """One way in which a network is used.

    Attributes:
        supplied: what the composition gives its factory.
        shape: (C, H, W) of its input.
    """

    supplied: Mapping[str, int]
    shape: tuple[int, int, int]

    def __hash__(self) -> int:
        return hash((*self.supplied.items(), self.shape))

    def __str__(self) -> str:
        scale = f"scale {self.supplied['scale']}, " if "scale" in self.supplied else ""
        return f"{scale}{self.shape[2]}x{self.shape[1]}"


class Subject:
    """A component under check.

    Every network is built from the same seed and fed the same values, and the random generator of the process is left
    as it was. What an upscaling factor or a patch size is for a kind, its spec says.
    """

    def __init__(self, component: Component) -> None:
        self.component = component

    @property
    def spec(self) -> ComponentSpec:
        """The spec."""
        return self.component.spec

    @property
    def kind(self) -> str:
        """The kind: ``block``, ``generator``, ..."""
        return self.spec.kind

    @property
    def label(self) -> str:
        """``kind/name``."""
        return f"{self.kind}/{self.spec.name}"

    @property
    def exempt(self) -> Mapping[str, str]:
        """Checks that its spec declares not to apply, with the reasons."""
        return self.spec.exempt

    @cached_property
    def signature(self) -> Signature:
        """Its options, slots and supplied arguments."""
        return signature_of(self.component)

    @cached_property
    def broken(self) -> str:
        """Why its factory cannot be had, which leaves nothing to check; empty where it can."""
        try:
            _ = self.signature
        except Exception as error:  # whatever importing it raises
            return str(error)
        return ""

    @property
    def examples(self) -> tuple[Mapping[str, Any], ...]:
        """Sets of options to try it with, the smallest first."""
        return self.spec.examples or ({},)

    def build(self, options: Mapping[str, Any] | None = None, case: Case | None = None, seed: int = 0) -> Any:
        """Build it, from the first example by default; slots that are not given get the plainest part.

        Raises:
            Failed: an option has no default, and no example gives it.
            CompositionError, OptionError: it refuses.
        """
        make = self.bound(options, case)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    def bound(self, options: Mapping[str, Any] | None = None, case: Case | None = None) -> Callable[[], Any]:
        """Return what :meth:`build` calls, for a check of the call itself."""
        if isinstance(self.spec, GeneratorSpec) and self.spec.reads:
            raise NotApplicable("it is built from a checkpoint file and by nothing else.")
        options = self.examples[0] if options is None else options
        parts = {slot.name: PARTS[slot.name] for slot in self.signature.slots if slot.required}
        missing = [o.name for o in self.signature.options if o.required and o.name not in options]
        if missing:
            raise Failed(f"{missing[0]!r} has no default; give examples=[{{{missing[0]!r}: ...}}] in its spec.")
        if case is None and self.kind not in ("loss", "metric", "dataset"):
            case = self.cases[0]
        return bind(self.component, {**parts, **options}, case.supplied if case else {}, self.label)

    def network(self, case: Case | None = None, options: Mapping[str, Any] | None = None, seed: int = 0) -> nn.Module:
        """Build it and return it in evaluation mode.

        The last one built is copied where it is wanted again: large ones take seconds to initialise.
        """
        key = (id(self), case, repr(options), seed)
        if not _built or _built[0][0] != key:
            network = cast(nn.Module, self.build(options, case, seed)).eval()
            _built[:] = [(key, network)]
        try:
            return copy.deepcopy(_built[0][1])
        except Exception:  # not every module can be copied, and none has to
            _built.clear()
            return cast(nn.Module, self.build(options, case, seed)).eval()

    @cached_property
    def cases(self) -> list[Case]:
        """The ways in which it must work; the first stands for all where one is enough."""
        spec = self.spec
        if self.kind == "block":
            return [Case({"channels": CHANNELS}, (CHANNELS, *size)) for size in ((7, 5), (16, 16))]
        if isinstance(spec, UpsamplerSpec):
            scales = _usual_first(spec.scales)
            return [Case({"channels": CHANNELS, "scale": scale}, (CHANNELS, 5, 7)) for scale in scales]
        if isinstance(spec, GeneratorSpec):
            height, width = (-(-side // spec.size_multiple) * spec.size_multiple for side in (9, 11))
            return [Case({"scale": scale}, (3, height, width)) for scale in _usual_first(spec.scales)]
        if isinstance(spec, DiscriminatorSpec):
            return [Case({"input_size": side}, (3, side, side)) for side in patch_sizes(spec)]
        return [Case({}, (3, 48, 40))]

    def expected(self, network: nn.Module, case: Case, batch: int) -> tuple[int | None, ...]:
        """Return the shape that an output must have; None where a side is the component's own choice."""
        channels, height, width = case.shape
        scale = case.supplied.get("scale", 1)
        if self.kind == "upsampler":
            return (batch, getattr(network, "out_channels", channels), height * scale, width * scale)
        if self.kind == "generator":
            return (batch, channels, height * scale, width * scale)
        if isinstance(self.spec, DiscriminatorSpec):
            return (batch, 1) if self.spec.output == "logit" else (batch, 1, None, None)
        if self.kind == "extractor":
            return (batch, None, None, None)
        return (batch, channels, height, width)

    def run(self, network: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return what it computes, in the order of the layers for an extractor and as one tensor otherwise."""
        if self.kind != "extractor":
            return [_tensor(network(inputs))]
        layers = list(getattr(network, "names", ()))
        require(layers, "it must name its layers in the attribute 'names'.")
        found = network(inputs, layers)
        require(isinstance(found, Mapping), f"it returns {type(found).__name__}, not a mapping from layer to features.")
        require(list(found) == layers, f"asked for {layers}, it returns {list(found)}.")
        return [_tensor(found[layer]) for layer in layers]

    def check_shape(self, network: nn.Module, case: Case, outputs: list[torch.Tensor], batch: int) -> None:
        """Raise :class:`Failed` unless outputs have the shape that the kind asks for."""
        expected = self.expected(network, case, batch)
        for output in outputs:
            found = tuple(output.shape)
            fits = len(found) == len(expected) and all(
                side is None or side == own for own, side in zip(found, expected, strict=True)
            )
            shown = "(" + ", ".join("any" if side is None else str(side) for side in expected) + ")"
            require(fits, f"{case}: {(batch, *case.shape)} became {found}; it must be {shown}{self._hint(found)}.")
            require(output.is_floating_point(), f"the output is {output.dtype}, not floating point.")

    def _hint(self, found: tuple[int, ...]) -> str:
        if isinstance(self.spec, DiscriminatorSpec) and len(found) in (2, 4):
            other = "map" if len(found) == 4 else "logit"
            return f", since its spec says output={self.spec.output!r} and not {other!r}"
        if self.kind == "upsampler":
            return "; other channels are told by its attribute out_channels"
        return ""

    def has_option(self, name: str) -> bool:
        """Whether its factory has an option."""
        return any(option.name == name for option in self.signature.options)


def _usual_first(scales: tuple[int, ...]) -> list[int]:
    usual = next((scale for scale in (4, 2) if scale in scales), scales[0])
    return [usual, *(scale for scale in scales if scale != usual)]


def patch_sizes(spec: DiscriminatorSpec) -> list[int]:
    """Return sizes that a discriminator declares to take: its only one, or the smallest and two others."""
    if spec.input_size is not None:
        return [spec.input_size]
    step = spec.size_multiple
    least = -(-max(spec.min_size, 16) // step) * step
    return list(dict.fromkeys([least, least + step, least + 3 * step]))


def _tensor(output: Any) -> torch.Tensor:
    require(isinstance(output, torch.Tensor), f"it returns {type(output).__name__}, not a tensor.")
    return cast(torch.Tensor, output)


def images(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Return random values in [0, 1], the same every time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def refusal(error: BaseException) -> str:
    """Return the sentence with which a factory refused its options; empty if it broke down instead.

    A refusal is a ValueError, which srzoo's own errors for wrong input are too; what else is raised in building is an
    accident, however srzoo words it.
    """
    cause = error.__cause__ if error.__cause__ is not None and not isinstance(error, OptionError) else error
    return str(cause) if isinstance(cause, ValueError) and len(str(cause).split()) >= 3 else ""


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference of two tensors relative to the largest value; infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    difference = (one.double() - other.double()).abs().max()
    if not torch.isfinite(difference):
        return float("inf")
    return float(difference / one.double().abs().max().clamp(min=1e-12))
