"""From an entry to modules: parts are looked up, their options checked, slots filled."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from .entry import ComponentRef, Entry
from .errors import CompositionError, SrzooError
from .inference import SelfEnsemble
from .layers import constrain_spectrally
from .offline import offline_if_asked
from .options import SLOTS, check_options, signature_of
from .plugins import FAULTS, describe_exception
from .recipe import LossTerm, Stage
from .registry import Component, get_registry
from .specs import DiscriminatorSpec, GeneratorSpec, LossSpec, UpsamplerSpec


def create(
    kind: str,
    name: str,
    *,
    supplied: Mapping[str, Any] | None = None,
    where: str = "create",
    **options: Any,
) -> Any:
    """Build one component by kind and name.

    Blocks and upsamplers need the arguments the trunk would pass: ``create("block", "rrdb", channels=64)`` and
    ``create("upsampler", "pixelshuffle", channels=64, scale=4)``.

    Args:
        kind: ``generator``, ``block``, ``upsampler``, ``discriminator``, ``loss``, ``extractor``, ``metric`` or
            ``dataset``.
        name: registered name, or ``owner/name``.
        supplied: values of arguments that the composition supplies (``scale``, ``input_size``).
        where: prefix of error messages.
        options: the factory's keyword arguments; a slot is a name or a mapping with ``name`` and options.

    Raises:
        UnknownNameError, OptionError, CompositionError: see :mod:`srzoo.errors`.
    """
    supplied = dict(supplied or {})
    if kind in ("block", "upsampler", "generator", "discriminator"):
        # Only parts of a trunk are given their channels; for others that is an option's name like any.
        channels = ("channels",) if kind in ("block", "upsampler") else ()
        for argument in (*channels, "scale", "input_size"):
            if argument in options:
                supplied[argument] = options.pop(argument)
    factory = component_factory(kind, ComponentRef.of(name, options), supplied, where=where)
    if kind in ("block", "upsampler") and "channels" not in supplied:
        raise CompositionError(f"{where}: {kind} {name!r} needs channels=..., as a trunk would pass it.")
    return factory()


def component_factory(kind: str, ref: ComponentRef, supplied: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """Return a callable that builds the component, with options checked and slots filled.

    What it raises while building is turned into a :class:`CompositionError` that names the component.
    """
    return bind(get_registry().get(kind, ref.name), ref.options, supplied, where)


def bind(component: Component, given: Mapping[str, Any], supplied: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """Return what :func:`component_factory` does, for a component at hand; a slot may be given a callable as it is."""
    options = check_options(component, given, where)
    signature = signature_of(component)
    for slot in signature.slots:
        if slot.name in options and not callable(options[slot.name]):
            part = ComponentRef.model_validate(options[slot.name])
            options[slot.name] = component_factory(SLOTS[slot.name], part, {}, where=f"{where}.{slot.name}")
    if component.kind in ("block", "upsampler"):
        options |= {k: v for k, v in supplied.items() if k in ("channels", "scale")}
    options |= {name: supplied[name] for name in signature.supplied if name in supplied}
    return _Guarded(component, options, where)


@dataclass(frozen=True)
class _Guarded:
    """A factory with its options bound, whose failures name the component."""

    component: Component
    options: dict[str, Any]
    where: str

    def __call__(self, *arguments: Any) -> Any:
        try:
            with offline_if_asked():
                built = self.component.spec.load()(*arguments, **self.options)
        except SrzooError:
            raise
        except FAULTS as error:
            label = f"{self.component.kind} {self.component.full_name!r}"
            raise CompositionError(f"{self.where}: {label} cannot be built: {describe_exception(error)}.") from error
        if self.component.kind not in ("metric", "loss", "dataset", "layout") and not isinstance(built, nn.Module):
            raise CompositionError(
                f"{self.where}: {self.component.kind} {self.component.full_name!r} must build an nn.Module, "
                f"not {type(built).__name__}."
            )
        if self.component.kind in ("block", "upsampler"):
            scale = (arguments[1:] or (self.options["scale"],))[0] if self.component.kind == "upsampler" else 1
            _PARTS[built] = _Part(self.component, scale)
        return built


class _Part(NamedTuple):
    """What a module in a trunk was built from, and by how much it has to enlarge what it is given."""

    component: Component
    scale: int

    @property
    def label(self) -> str:
        """Kind and name, as in messages."""
        return f"{self.component.kind} {self.component.full_name!r}"


_PARTS: MutableMapping[nn.Module, _Part] = weakref.WeakKeyDictionary()


@contextmanager
def watched(network: nn.Module, where: str, call: str) -> Iterator[None]:
    """Hold the parts of a network to their rule while it runs, so that a mistake is told of the part that makes it.

    Raises:
        CompositionError: what is raised in this context, of the part at work, or where a part breaks its rule.
    """
    running: list[_Part] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        running.append(_PARTS[module])

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        _check_part(running.pop(), module, inputs[0], output, where)

    watched = [module for module in network.modules() if module in _PARTS]
    handles = [module.register_forward_pre_hook(enter) for module in watched]
    handles += [module.register_forward_hook(leave) for module in watched]
    try:
        yield
    except SrzooError:
        raise
    except FAULTS as error:
        label = f"{where}: {running[-1].label}" if running else where
        raise CompositionError(f"{label} fails {call}: {describe_exception(error)}.") from error
    finally:
        for handle in handles:
            handle.remove()


def _check_part(part: _Part, module: nn.Module, features: torch.Tensor, output: Any, where: str) -> None:
    if not isinstance(output, torch.Tensor):
        raise CompositionError(f"{where}: {part.label} returns {type(output).__name__}, not a tensor.")
    count, channels, *sides = features.shape
    wanted = (count, getattr(module, "out_channels", channels), *(part.scale * side for side in sides))
    if tuple(output.shape) != wanted:
        rule = "a block keeps the shape"
        if part.component.kind == "upsampler":
            rule = "an upsampler enlarges both sides by its scale, and has out_channels where it changes the channels"
        raise CompositionError(
            f"{where}: {part.label} maps {tuple(features.shape)} to {tuple(output.shape)}, not {wanted}: {rule}."
        )


def output_network(entry: Entry, generator: nn.Module) -> nn.Module:
    """Return what computes an entry's output, given its generator: that itself, or its self-ensemble."""
    return SelfEnsemble(generator) if entry.self_ensemble else generator


def build_generator(entry: Entry) -> nn.Module:
    """Build the generator of an entry with fresh weights.

    Raises:
        CompositionError: a part refuses, or the scale is not one the generator has.
    """
    where = f"entry {entry.name!r}: generator"
    spec = get_registry().get("generator", entry.generator.name).spec
    assert isinstance(spec, GeneratorSpec)
    if spec.reads:
        raise CompositionError(
            f"{where} {spec.name!r} is built from a checkpoint file alone: write the file's path for the entry's name."
        )
    if entry.scale not in spec.scales:
        raise CompositionError(
            f"{where} {spec.name!r} has scales {', '.join(map(str, spec.scales))}, not {entry.scale}."
        )
    upsampler = entry.generator.options.get("upsampler")
    if upsampler is not None:
        name = ComponentRef.model_validate(upsampler).name
        part = get_registry().get("upsampler", name).spec
        if isinstance(part, UpsamplerSpec) and entry.scale not in part.scales:
            raise CompositionError(
                f"{where}: upsampler {name!r} has scales {', '.join(map(str, part.scales))}, not {entry.scale}."
            )
    build = component_factory("generator", entry.generator, {"scale": entry.scale}, where=where)
    return cast(nn.Module, build())


def build_discriminator(entry: Entry, stage: Stage) -> nn.Module:
    """Build the discriminator of an entry for its patch size and as a stage constrains it.

    Raises:
        CompositionError: there is none, or it does not take the patch size.
    """
    if entry.discriminator is None or entry.training is None:
        raise CompositionError(
            f"entry {entry.name!r} has an adversarial loss but no discriminator; add e.g. discriminator: srgan."
        )
    size = entry.training.patch_size
    where = f"entry {entry.name!r}: discriminator"
    spec = get_registry().get("discriminator", entry.discriminator.name).spec
    assert isinstance(spec, DiscriminatorSpec)
    if spec.input_size is not None and size != spec.input_size:
        raise CompositionError(
            f"{where} {spec.name!r} takes patches of {spec.input_size} only; training.patch_size is {size}."
        )
    if size < spec.min_size or size % spec.size_multiple:
        rule = f"at least {spec.min_size}" + (
            f" and a multiple of {spec.size_multiple}" if spec.size_multiple > 1 else ""
        )
        raise CompositionError(f"{where} {spec.name!r} takes patches of {rule}; training.patch_size is {size}.")
    build = component_factory("discriminator", entry.discriminator, {"input_size": size}, where=where)
    discriminator = cast(nn.Module, build())
    if stage.spectral_norm:
        constrain_spectrally(discriminator)
    return discriminator


@dataclass(frozen=True)
class Term:
    """A loss term ready to be used: label, configuration, role and the loss itself.

    Attributes:
        steps: of its stage.
    """

    label: str
    config: LossTerm
    role: str
    loss: Any
    steps: int = 1

    def weight(self, step: int) -> float:
        """Return its weight in a step, counted from 0."""
        return self.config.weight_at(step, self.steps)

    @property
    def supervises_intermediate(self) -> bool:
        """Whether it looks at the generator's intermediate outputs."""
        return self.config.supervises == "intermediate"

    @property
    def imitates(self) -> bool:
        """Whether it compares with what a teacher makes of the input, and not with the photograph."""
        return self.config.reference == "teacher"


def imitating(terms: Iterable[Term]) -> set[str]:
    """Return the labels of terms that imitate a teacher, whose gradient is zero while the generator equals it."""
    return {term.label for term in terms if term.imitates}


def build_terms(entry: Entry, stage_name: str) -> list[Term]:
    """Build the loss terms of one stage; terms of weight zero are left out.

    Raises:
        CompositionError: two adversarial terms, a regulariser without one, or a loss that refuses.
        MissingWeightsError: a backbone is not on this machine.
    """
    assert entry.training is not None
    stage = entry.training.stages[stage_name]
    where = f"entry {entry.name!r}: training.stages.{stage_name}.losses"
    terms = []
    for label, config in stage.losses.items():
        if config.weight == 0:
            continue
        spec = get_registry().get("loss", config.name).spec
        assert isinstance(spec, LossSpec)
        build = component_factory("loss", ComponentRef.of(config.name, config.options), {}, where=f"{where}.{label}")
        if config.every > 1 and spec.role != "regulariser":
            raise CompositionError(f"{where}.{label}: 'every' is for regularisers, not for {spec.role} terms.")
        if config.supervises == "intermediate":
            _check_intermediate(entry, spec, f"{where}.{label}")
        if config.reference == "teacher":
            _check_taught(entry, spec, f"{where}.{label}")
        loss = build()
        _check_role(loss, spec.role, f"{where}.{label}: loss {config.name!r}")
        terms.append(Term(label, config, spec.role, loss, stage.steps))
    adversarial = [term.label for term in terms if term.role == "adversarial"]
    if len(adversarial) > 1:
        raise CompositionError(f"{where} has several adversarial terms ({', '.join(adversarial)}); keep one.")
    regularisers = [term.label for term in terms if term.role == "regulariser"]
    if regularisers and not adversarial:
        raise CompositionError(
            f"{where}: {regularisers[0]} regularises a discriminator, but there is no adversarial term."
        )
    for setting in ("clip_discriminator", "discriminator_optimizer", "spectral_norm", "discriminator_warmup"):
        if getattr(stage, setting) and not adversarial:
            raise CompositionError(f"{where} has no adversarial term, so there is no discriminator for {setting}.")
    if stage.discriminator_steps > 1 and not adversarial:
        raise CompositionError(f"{where} has no adversarial term, so there is no discriminator for its own steps.")
    if "discriminator" in stage.losses:
        raise CompositionError(f"{where}: 'discriminator' is the log's name of the discriminator's loss; use another.")
    if all(term.role == "regulariser" for term in terms):
        raise CompositionError(f"{where} has no term for the generator.")
    return terms


def _check_role(loss: object, role: str, where: str) -> None:
    """Refuse a loss that cannot be called as its role asks; the role is 'pixel' where its spec does not say."""
    pair = ("generator_loss", "discriminator_loss")
    forwards = not isinstance(loss, nn.Module) or type(loss).forward is not nn.Module.forward
    fits = all(hasattr(loss, name) for name in pair) if role == "adversarial" else callable(loss) and forwards
    if not fits:
        asked = {"adversarial": f"have {' and '.join(pair)}", "regulariser": "be called with (discriminator, hr, sr)"}
        raise CompositionError(
            f"{where} has role={role!r} in its LossSpec, so it must {asked.get(role, 'be called with (sr, hr)')}, and "
            "cannot; give the spec the role that it has."
        )


def _check_taught(entry: Entry, loss: LossSpec, where: str) -> None:
    """Refuse a term that compares with a teacher's output where there is no teacher, or its role compares with none."""
    assert entry.training is not None
    if loss.role not in ("pixel", "perceptual"):
        raise CompositionError(f"{where}: 'reference' is for pixel and perceptual terms, not for {loss.role} terms.")
    if entry.training.teacher is None:
        raise CompositionError(
            f"{where}: reference: teacher, and the recipe has none; give training.teacher the name of an entry that "
            "has weights."
        )


def _check_intermediate(entry: Entry, loss: LossSpec, where: str) -> None:
    """Refuse a term on intermediate outputs that there are none of, or whose role has no use for them."""
    if loss.role not in ("pixel", "perceptual"):
        raise CompositionError(f"{where}: 'supervises' is for pixel and perceptual terms, not for {loss.role} terms.")
    if not _has_intermediate(entry.generator.name):
        having = [c.name for c in get_registry().find("generator") if _has_intermediate(c.full_name)]
        raise CompositionError(
            f"{where}: generator {entry.generator.name!r} has no intermediate outputs to supervise; "
            f"those that have: {', '.join(having) or 'none'}."
        )


def _has_intermediate(generator: str) -> bool:
    spec = get_registry().get("generator", generator).spec
    return isinstance(spec, GeneratorSpec) and spec.intermediate


def cautions(entry: Entry, stage_name: str, terms: Sequence[Term]) -> list[str]:
    """Return what the loss plugins know to go wrong in a stage that is valid, one sentence each."""
    assert entry.training is not None
    if not any(term.role == "adversarial" for term in terms):
        return []
    with torch.device("meta"):
        discriminator = build_discriminator(entry, entry.training.stages[stage_name])
    where = f"entry {entry.name!r}: training.stages.{stage_name}"
    stage, roles = entry.training.stages[stage_name], [term.role for term in terms]
    sentences = []
    for term in terms:
        if hasattr(term.loss, "cautions"):
            sentences += [f"{where}: {text}" for text in term.loss.cautions(stage, roles, discriminator)]
    return sentences
