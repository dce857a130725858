"""Specs: what a plugin tells srzoo about each of its components, as plain frozen data.

A spec names its factory as an object or as ``"package.module:Name"``. Prefer the string: it is imported on
first use, so listing the zoo stays fast. The options of a component are the keyword arguments of its factory.

Some arguments are not options but are supplied by the composition, recognised by their name:

========================  ==========================================================================
``scale``                 the entry's upscaling factor
``input_size``            the patch size a discriminator is trained on (high-resolution pixels)
``checkpoint``            the file that a generator is built from alone; see ``GeneratorSpec.reads``
``block``, ``upsampler``  a *slot*: a callable that builds the part, ``block(channels)`` and
                          ``upsampler(channels, scale)``; the user fills it with a component's name
``extractor``             a *slot*: a callable without arguments that builds the feature extractor
========================  ==========================================================================
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from .errors import did_you_mean

Factory = Callable[..., Any]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class WeightFile:
    """A pretrained backbone that a component needs and that is not part of any wheel.

    Args:
        filename: name of the file in the weights folder.
        sha256: digest of the file, or its first eight or more hexadecimal digits, as torch.hub has them.
        url: where the file can be had; never fetched with ``SRZOO_OFFLINE=1``.
    """

    filename: str
    sha256: str
    url: str = ""


@dataclass(frozen=True)
class ComponentSpec:
    """What all specs share.

    Args:
        name: how users write it; lower-case letters, digits, ``_``, ``-`` and ``.``.
        factory: the class or function that builds the component, or ``"package.module:Name"``.
        summary: one line for ``srzoo list``.
        paper: arXiv identifier or citation of the source.
        licence: licence of the component or its weights where it differs from the plugin's.
        examples: sets of options that it can be tried with, the first of them small; ``srzoo plugin check`` uses them.
            Needed where an option has no default, or where one makes sense only beside another.
        exempt: checks of ``srzoo plugin check`` that do not apply to it, each with the reason.
        library: module of an optional library that it needs; where it is not installed, ``srzoo list`` says so.

    Raises:
        ValueError: if the name, the factory, the summary, an example, an exemption or the library is not usable.
    """

    name: str
    factory: Factory | str
    summary: str = ""
    paper: str = ""
    licence: str = ""
    examples: tuple[Mapping[str, Any], ...] = field(default=(), hash=False, kw_only=True)
    exempt: Mapping[str, str] = field(default_factory=dict, hash=False, kw_only=True)
    library: str = field(default="", kw_only=True)

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in fields(self):  # specs are hashed: a list serves as the tuple it stands for
            value = getattr(self, f.name)
            if isinstance(value, list):
                object.__setattr__(self, f.name, tuple(value))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{type(self).__name__}: name {self.name!r} must be lower-case letters, digits, '_', '-' or '.'"
            )
        if isinstance(self.factory, str):
            if not re.fullmatch(r"[\w.]+:[\w.]+", self.factory):
                raise ValueError(
                    f"{self.kind} {self.name!r}: factory {self.factory!r} must be 'package.module:Name' or a callable"
                )
        elif not callable(self.factory):
            raise ValueError(f"{self.kind} {self.name!r}: factory {self.factory!r} is not callable")
        if not self.summary.strip():
            raise ValueError(f"{self.kind} {self.name!r}: give a one-line summary=...")
        if not isinstance(self.examples, tuple) or not all(isinstance(e, Mapping) for e in self.examples):
            raise ValueError(f"{self.kind} {self.name!r}: examples must be a list of {{option: value}} mappings")
        exempt = self.exempt.values() if isinstance(self.exempt, Mapping) else [None]
        if not all(isinstance(reason, str) and reason.strip() for reason in exempt):
            raise ValueError(f"{self.kind} {self.name!r}: exempt must map the name of a check to a reason")
        for name, wanted in _own_types(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, wanted):
                raise ValueError(
                    f"{self.kind} {self.name!r}: {name}={value!r} must be {_words(wanted)}"
                    f"{did_you_mean(value, get_args(wanted)) if isinstance(value, str) else ''}"
                )

    def load(self) -> Factory:
        """Return the factory itself, importing it if the spec names it as a string."""
        if not isinstance(self.factory, str):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        target: Any = importlib.import_module(module)
        for part in attribute.split("."):
            target = getattr(target, part)
        return target  # type: ignore[no-any-return]


_TYPES: dict[type[ComponentSpec], dict[str, Any]] = {}


def _own_types(spec: type[ComponentSpec]) -> dict[str, Any]:
    """Return the types of a spec's arguments, but for those that are checked by themselves."""
    if spec not in _TYPES:
        apart = {"name", "factory", "summary", "examples", "exempt"}
        hints = get_type_hints(spec)
        _TYPES[spec] = {f.name: hints[f.name] for f in fields(spec) if f.name not in apart}
    return _TYPES[spec]


def _fits(value: Any, wanted: Any) -> bool:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        each = arguments[:1] * len(value) if isinstance(value, tuple) and arguments[-1] is ... else arguments
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if wanted in (int, float):
        return isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _words(wanted: Any) -> str:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return " or ".join(repr(one) for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in arguments)
    if origin is tuple:
        each = f"{_words(arguments[0])}, ..." if arguments[-1] is ... else ", ".join(map(_words, arguments))
        return f"a list [{each}]"
    return "None" if wanted is type(None) else str(wanted.__name__)


@dataclass(frozen=True)
class BlockSpec(ComponentSpec):
    """A trunk block: ``factory(channels, **options)`` maps (N, C, H, W) to the same shape."""

    kind: ClassVar[str] = "block"


@dataclass(frozen=True)
class UpsamplerSpec(ComponentSpec):
    """An upsampler: ``factory(channels, scale, **options)`` maps (N, C, H, W) to (N, C', scale*H, scale*W).

    The module says C' in its attribute ``out_channels`` if it differs from C.

    Args:
        scales: the factors it can be built for.
    """

    scales: tuple[int, ...] = (1, 2, 3, 4, 8)
    kind: ClassVar[str] = "upsampler"


@dataclass(frozen=True)
class GeneratorSpec(ComponentSpec):
    """A generator: ``factory(scale=..., **options)`` maps RGB (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W).

    Args:
        scales: the upscaling factors it can be built for.
        size_multiple: both sides of its input must be multiples of this; inference pads and cuts. Where options decide,
            the module takes any size, and says in an attribute of this name what tiles should be multiples of.
        trainable: False where there are no weights (interpolation), so that none are asked for.
        receptive_radius: for every option, no output depends on an input farther away than this many low-resolution
            pixels. Large images are cut into tiles that overlap so far. None: it is measured.
        reads: endings of checkpoint files of other programs that hold all there is to it. Such a generator is built by
            ``factory(checkpoint=PATH)`` and by nothing else, with its weights; the module says its ``scale``, and may
            say a ``size_multiple`` and its ``architecture`` in words. A user writes the file's path for its name.
        intermediate: whether it has outputs on the way to its last one that can be trained on (deep supervision).
            ``generator(lr, intermediate=True)`` then returns the output and these, (D, N, 3, scale*H, scale*W).
        initial: options that decide what its weights begin as and nothing else, so that a checkpoint fits whatever
            they are.

    Raises:
        ValueError: as :class:`ComponentSpec`; also if the radius is negative.
    """

    scales: tuple[int, ...] = (1, 2, 3, 4, 8)
    size_multiple: int = 1
    trainable: bool = True
    receptive_radius: int | None = None
    reads: tuple[str, ...] = ()
    intermediate: bool = False
    initial: tuple[str, ...] = ()
    kind: ClassVar[str] = "generator"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.receptive_radius is not None and self.receptive_radius < 0:
            raise ValueError(f"generator {self.name!r}: receptive_radius {self.receptive_radius} must not be negative")


@dataclass(frozen=True)
class DiscriminatorSpec(ComponentSpec):
    """A discriminator: maps RGB (N, 3, H, W) in [0, 1] to logits, (N, 1) or a map (N, 1, h, w).

    Args:
        output: ``"logit"`` for one logit an image, ``"map"`` for one a position.
        input_size: the only patch size it takes, or None.
        min_size: the smallest patch it takes.
        size_multiple: the patch size must be a multiple of this.
    """

    output: Literal["logit", "map"] = "logit"
    input_size: int | None = None
    min_size: int = 1
    size_multiple: int = 1
    kind: ClassVar[str] = "discriminator"


@dataclass(frozen=True)
class LossSpec(ComponentSpec):
    """A loss term; ``role`` says how the trainer calls what the factory returns.

    ==============  =============================================================================
    role            call
    ==============  =============================================================================
    pixel           ``loss(sr, hr)``: scalar; both (N, 3, H, W) in [0, 1]
    perceptual      ``loss(sr, hr)``: scalar; usually through an ``extractor``
    adversarial     ``loss.generator_loss(real_logits, fake_logits)`` and
                    ``loss.discriminator_loss(real_logits, fake_logits)``: scalars. With
                    ``loss.generator_needs_real`` False, the generator's call gets None for the first
    regulariser     ``loss(discriminator, hr, sr)``: scalar added to the discriminator's loss
    ==============  =============================================================================

    A loss of the last two roles may also have ``cautions(stage, roles, discriminator)``: sentences on why this
    stage is known to fail, which are shown as warnings before training. ``roles`` are those of all its terms.

    Args:
        role: how it is called, see above.
        minimum: value of a pixel or perceptual loss where output and reference are equal, with the first example's
            options; None where it is not smallest there.
    """

    role: Literal["pixel", "perceptual", "adversarial", "regulariser"] = "pixel"
    minimum: float | None = 0.0
    kind: ClassVar[str] = "loss"


@dataclass(frozen=True)
class ExtractorSpec(ComponentSpec):
    """A feature extractor: RGB (N, 3, H, W) in [0, 1] to ``{layer: features}``.

    The module has ``forward(images, layers)``, names its layers in the attribute ``names``, and normalises its input
    itself.

    Args:
        weights: alternative files of its pretrained weights; any one of them is enough.
    """

    weights: tuple[WeightFile, ...] = ()
    kind: ClassVar[str] = "extractor"


@dataclass(frozen=True)
class MetricSpec(ComponentSpec):
    """A metric: ``metric(sr, hr)`` maps two (N, C, H, W) in [0, 1] to (N,).

    It raises :class:`srzoo.errors.UndefinedScoreError` where it is not defined.

    The object may have two more methods, for what is worth computing once a reference and not once an output:
    ``reference(hr)`` returns anything, and ``against(sr, prepared)``, given that, what ``metric(sr, hr)`` would. ``hr``
    is one image; ``sr`` may hold several outputs, (N, C, H, W), that are all compared with it.

    Args:
        higher_is_better: direction.
        value_range: smallest and largest possible value; None where there is no bound.
        domain: ``"protocol"``: images after the protocol's rounding, colour conversion and crop, float64;
            ``"rgb"``: rounded RGB without crop, float32.
        weights: alternative files of its pretrained backbone; any one of them is enough.
        full_reference: False where it looks at the first image alone, and so is not at its best for equal images.
        tolerance: how far the means of two machines over one dataset may lie apart, for the same weights: kernels
            that add up in another order, and the digits that are recorded. ``srzoo verify`` allows it.

    Raises:
        ValueError: as :class:`ComponentSpec`; also if the tolerance is not a positive number.
    """

    higher_is_better: bool = True
    value_range: tuple[float | None, float | None] = (None, None)
    domain: Literal["protocol", "rgb"] = "protocol"
    weights: tuple[WeightFile, ...] = ()
    full_reference: bool = True
    tolerance: float = 1e-3
    kind: ClassVar[str] = "metric"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < float("inf"):
            raise ValueError(f"metric {self.name!r}: tolerance {self.tolerance} must be a positive number")


@dataclass(frozen=True)
class DatasetSpec(ComponentSpec):
    """A dataset: ``factory(**options)`` returns a :class:`srzoo.data.ImageSet`."""

    kind: ClassVar[str] = "dataset"


@dataclass(frozen=True)
class LayoutSpec(ComponentSpec):
    """How another program names the tensors of a generator: ``factory()`` returns a :class:`srzoo.layouts.Layout`.

    ``srzoo weights import`` reads checkpoints by it, ``srzoo export`` writes them.

    Args:
        marks: tensors that a checkpoint of this layout has; it is recognised by having all of them. With none, it is
            only taken when it is asked for.
        wrapper: key under which the other program keeps the tensors in a pickle; empty for none.
    """

    marks: tuple[str, ...] = ()
    wrapper: str = ""
    kind: ClassVar[str] = "layout"


KINDS: dict[str, type[ComponentSpec]] = {
    spec.kind: spec
    for spec in (
        GeneratorSpec,
        BlockSpec,
        UpsamplerSpec,
        DiscriminatorSpec,
        LossSpec,
        ExtractorSpec,
        MetricSpec,
        DatasetSpec,
        LayoutSpec,
    )
}
"""Kind of component to its spec class."""


def hook_name(kind: str) -> str:
    """Return the hook that registers components of a kind: ``srzoo_blocks``, ``srzoo_losses``, ..."""
    return f"srzoo_{kind}es" if kind.endswith("s") else f"srzoo_{kind}s"
