"""A component under check: how it is built, fed and looked at, whatever its kind."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..compose import bind
from ..errors import MissingLibraryError, MissingWeightsError, OptionError, PluginError
from ..extras import is_installed
from ..options import Signature, signature_of
from ..plugins import FAULTS, describe_exception
from ..registry import Component
from ..specs import ComponentSpec, DiscriminatorSpec, GeneratorSpec, UpsamplerSpec
from .outcome import DEFAULTS, FACTORY, FINITE, FIRST_USE, NETWORKS, SIGNATURE, Failed, NotApplicable, listed, require
from .parts import PARTS
from .settings import begin, kept
from .watch import contents

CHANNELS = 8
MORE, LARGER = 24, (33, 40)
"""Channels and size of one more case of a block, since those of the others are few and small."""
TOLERANCE = 1e-4
"""Relative to the largest value: what float32 may differ by when sums are taken in another order."""
LATE = "parameters must exist after __init__, since an optimizer and a checkpoint know no others."
_built: dict[str, tuple[tuple[Any, ...], nn.Module]] = {}
"""The network of the first example, which most checks look at, and the last other one; and from what each was built."""


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
        self.memo: dict[Any, Any] = {}
        """What one check found out and another can use."""

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
            _ = self.signature  # read from the source, so it does not show whether the module can be imported
            self.spec.load()
        except PluginError as error:
            return str(error)
        except MissingLibraryError:
            return ""
        except FAULTS as error:  # whatever importing it raises
            return "" if self.absent else f"The factory {self.spec.factory!r} cannot be loaded: {self._why(error)}."
        return ""

    def _why(self, error: BaseException) -> str:
        library = (getattr(error, "name", None) or "").partition(".")[0]
        hint = ""
        if isinstance(error, ModuleNotFoundError) and library and library not in str(self.spec.factory):
            hint = f"; add {library!r} to the plugin's dependencies, or name it as library={library!r} in the spec"
        return describe_exception(error) + hint

    @cached_property
    def absent(self) -> str:
        """A sentence where the optional library that its spec names is not installed."""
        library = self.spec.library
        return "" if not library or is_installed(library) else f"its library {library!r} is not installed."

    def obstacle(self, check: str) -> str:
        """Return why a check has nothing to look at, since another one fails for it already; empty if it has."""
        if self.absent or (self.broken and check != FACTORY):
            return self.absent or f"its factory cannot be loaded, as {FACTORY!r} says."
        if check in (FACTORY, *SIGNATURE) or self.broken:
            return ""
        if self.unbuilt and check != DEFAULTS:
            return f"it cannot be built, as {DEFAULTS!r} says."
        if check == DEFAULTS or self.unbuilt:
            return ""
        first = next(name for name, kinds in FIRST_USE.items() if self.kind in kinds)
        if self.unusable:
            return f"it cannot be used, as {first!r} says." if check != first else ""
        if check in (first, FINITE) or self.kind not in NETWORKS:
            return ""
        finite = all(torch.isfinite(output).all() for output in self.baseline())
        return "" if finite else f"its output is not finite, as {FINITE!r} says."

    @cached_property
    def unbuilt(self) -> str:
        """Why it cannot be built from its first example, without which nothing can be tried; empty where it can.

        Raises:
            NotApplicable, MissingWeightsError, MissingLibraryError: nobody could build it here.
        """
        self.memo["contents"] = contents()
        try:
            self.memo["first"] = first = self.network() if self.kind in NETWORKS else self.build()
        except (NotApplicable, MissingWeightsError, MissingLibraryError):
            raise
        except Failed as failure:
            return str(failure)
        except FAULTS as error:
            return " ".join(str(error).split())
        if lazy := [name for name, parameter in _parameters(first).items() if is_lazy(parameter)]:
            return f"{listed(lazy)} has no size before its first use; {LATE}"
        return _unregistered(first) if self.kind in NETWORKS else ""

    @cached_property
    def unusable(self) -> str:
        """Why it cannot be used at all, the first time and as a run would; empty where it can.

        Raises:
            NotApplicable, MissingWeightsError, MissingLibraryError: nobody could use it here.
        """
        from .options import exercise

        first = self.memo.pop("first", None)
        try:
            first = self.build() if first is None else first
            before = _parameters(first)
            with kept():
                begin(1)
                outputs = exercise(self, first)
        except (NotApplicable, MissingWeightsError, MissingLibraryError):
            raise
        except Failed as failure:
            return str(failure)
        except FAULTS as error:
            return describe_exception(error)
        if new := _parameters(first).keys() - before.keys():
            return f"its first use makes {listed(sorted(new))}; {LATE}"
        self.memo["baseline"] = [output.clone() for output in outputs]
        return ""

    def baseline(self) -> list[torch.Tensor]:
        """Return what a new network of the first example computes for the first case, two images, in evaluation."""
        require(not self.unusable, self.unusable)
        return cast(list[torch.Tensor], self.memo["baseline"])

    def inputs(self) -> torch.Tensor:
        """Return what :meth:`baseline` was computed from."""
        return self.values((2, *self.cases[0].shape))

    def values(self, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
        """Return random values as a network of its kind is given: features of both signs, or images in [0, 1]."""
        found = images(shape, seed)
        return 2 * found - 1 if self.kind in ("block", "upsampler") else found

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
        with kept():
            begin(seed)
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
        if case is None and self.kind in NETWORKS:
            case = self.cases[0]
        return bind(self.component, {**parts, **options}, case.supplied if case else {}, self.label)

    def network(self, case: Case | None = None, options: Mapping[str, Any] | None = None, seed: int = 0) -> nn.Module:
        """Build it and return it in evaluation mode.

        What was built is copied where it is wanted again: large ones take seconds to initialise.
        """
        case = self.cases[0] if case is None else case
        options = self.examples[0] if options is None else options
        usual = case == self.cases[0] and options == self.examples[0] and seed == 0
        slot, key = "first" if usual else "last", (self, case, repr(options), seed)
        if slot not in _built or _built[slot][0] != key:
            _built[slot] = (key, cast(nn.Module, self.build(options, case, seed)).eval())
        try:
            return copy.deepcopy(_built[slot][1])
        except FAULTS:  # not every module can be copied, and none has to
            del _built[slot]
            return cast(nn.Module, self.build(options, case, seed)).eval()

    @cached_property
    def cases(self) -> list[Case]:
        """The ways in which it must work; the first stands for all where one is enough."""
        spec = self.spec
        if self.kind == "block":
            return [Case({"channels": CHANNELS}, (CHANNELS, *size)) for size in ((11, 9), (16, 16))]
        if isinstance(spec, UpsamplerSpec):
            scales = _usual_first(spec.scales)
            return [Case({"channels": CHANNELS, "scale": scale}, (CHANNELS, 9, 11)) for scale in scales]
        if isinstance(spec, GeneratorSpec):
            height, width = (-(-side // spec.size_multiple) * spec.size_multiple for side in (9, 11))
            return [Case({"scale": scale}, (3, height, width)) for scale in _usual_first(spec.scales)]
        if isinstance(spec, DiscriminatorSpec):
            return [Case({"input_size": side}, (3, side, side)) for side in patch_sizes(spec)]
        return [Case({}, (3, 48, 40))]

    @property
    def larger(self) -> list[Case]:
        """A wider and larger case of a block or an upsampler, which it may refuse; of others none."""
        if self.kind not in ("block", "upsampler"):
            return []
        return [Case({**self.cases[0].supplied, "channels": MORE}, (MORE, *LARGER))]

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
        """Return what it computes, in the order of the layers for an extractor and as one tensor otherwise.

        It is given a copy, so that one that writes into its input is told so once and not by every check.
        """
        inputs = inputs.clone()
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
            require(
                output.dtype == torch.float32,
                f"the output is {output.dtype} for an input of torch.float32; it must have the type of the input.",
            )

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


def _parameters(built: Any) -> dict[str, nn.Parameter]:
    return dict(built.named_parameters()) if isinstance(built, nn.Module) else {}


def _unregistered(network: nn.Module) -> str:
    """Return a sentence on parameters to be trained that only a plain list or dictionary holds; empty if none does."""
    known = {id(parameter) for parameter in network.parameters()}
    wrong = []
    for prefix, owner in network.named_modules():
        if type(owner).__module__.startswith("torch."):
            continue  # a nn.GRU keeps what it is to hand to cuDNN
        for name, value in vars(owner).items():
            if not isinstance(value, (list, tuple, dict)) or name in ("_modules", "_parameters", "_buffers"):
                continue
            held = [leaf for leaf in _inside(value) if isinstance(leaf, (nn.Module, nn.Parameter))]
            inside = [p for leaf in held for p in (leaf.parameters() if isinstance(leaf, nn.Module) else [leaf])]
            if all(id(parameter) in known or not parameter.requires_grad for parameter in inside):
                continue  # a frozen network may well be hidden from the state
            what = "Module" if isinstance(held[0], nn.Module) else "Parameter"
            wrong.append(
                f"its attribute {f'{prefix}.{name}' if prefix else name} is a {type(value).__name__} of "
                f"{what.lower()}s, which no optimizer, checkpoint or .to(device) sees; "
                f"use nn.{what}{'Dict' if isinstance(value, dict) else 'List'}."
            )
    return listed(wrong, 3, " ")


def _inside(value: Any) -> list[Any]:
    """Return all that lists and dictionaries hold, those inside others too; one that holds itself is entered once."""
    found, seen = [value], set[int]()
    for one in found:  # which grows meanwhile
        if isinstance(one, (list, tuple, dict, deque)) and id(one) not in seen:
            seen.add(id(one))
            found.extend(one.values() if isinstance(one, dict) else one)
    return found


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
