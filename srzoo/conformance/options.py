"""Checks of a component's options: defaults, every documented choice, and none that is not documented."""

from __future__ import annotations

import inspect
import itertools
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import nn

from ..errors import MissingWeightsError, OptionError
from ..options import UNKNOWN, Option, check_options
from ..plugins import FAULTS
from ..specs import KINDS
from .data import examine
from .losses import evaluate
from .metrics import measure
from .outcome import DEFAULTS, FACTORY, FIRST_USE, NETWORKS, Failed, NotApplicable, listed, promise, require
from .subject import Case, Subject, refusal

COMPONENTS = tuple(kind for kind in KINDS if kind != "layout")  # which computes nothing


@promise(FACTORY, *COMPONENTS)
def factory(subject: Subject) -> None:
    """Its factory can be loaded, and says what it takes."""
    require(not subject.broken, subject.broken)


@promise(DEFAULTS, *COMPONENTS)
def defaults(subject: Subject) -> None:
    """It builds from its defaults.

    Only what has no default is taken from the first example, which must do as well.
    """
    require(not subject.unbuilt, subject.unbuilt)
    required = {o.name for o in subject.signature.options if o.required}
    options = {name: value for name, value in subject.examples[0].items() if name in required}
    if options == subject.examples[0]:
        return
    built = subject.build(options)
    if subject.kind == "loss":
        evaluate(subject, built)
    elif subject.kind == "dataset":
        examine(built)


@promise("every-option", *COMPONENTS)
def every_option(subject: Subject) -> str:
    """It builds and works with every documented choice of every option.

    Each choice is tried beside each example and at each size, until one takes it.

    A number may be refused in a sentence: its type does not say which there are.
    """
    first = next(name for name, kinds in FIRST_USE.items() if subject.kind in kinds)
    wrong, tried, refused = [], 0, []
    for number, options in enumerate(subject.examples):
        try:
            _try(subject, options)
        except Failed as failure:
            if number == 0:  # and so with any option
                raise NotApplicable(f"what it returns is wrong from the start, as {first!r} says.") from failure
            wrong.append(f"{dict(options)}: {failure}")
    for option in subject.signature.options:
        for value, must_work in alternatives(option):
            tried += 1
            try:
                sentence = _first_that_works(subject, option.name, value)
            except Failed as failure:  # and go on: there may be another
                wrong.append(str(failure))
                continue
            if sentence and must_work:
                wrong.append(
                    f"{option.name}={value!r} is documented and refused: {sentence} If it needs another option beside "
                    "it, give both in an example of its spec."
                )
            elif sentence:
                refused.append(f"{option.name}={value!r}")
    require(not wrong, listed((" ".join(sentence.split()) for sentence in wrong), 3, "; "))
    note = f", {listed(refused)} refused" if refused else ""
    count = len(subject.examples)
    return f"{count} set{'s' if count != 1 else ''} of options and {tried} other value{'s' if tried != 1 else ''}{note}"


def alternatives(option: Option) -> Iterator[tuple[Any, bool]]:
    """Yield other values of an option than its default, and whether each must work since the type lists it."""
    default = option.default_value() if not option.required else None
    for value, must_work in _values(option.annotation, default):
        if value != default or type(value) is not type(default):
            yield value, must_work


def _values(annotation: Any, default: Any) -> Iterator[tuple[Any, bool]]:
    origin = get_origin(annotation)
    if annotation is UNKNOWN:
        return
    if origin is Literal:
        yield from ((value, True) for value in get_args(annotation))
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _values(part, default)
    elif annotation is type(None):
        yield None, True
    elif annotation is bool:
        yield from ((value, True) for value in (False, True))
    elif annotation is int and type(default) is int:
        yield (default + 2 if default % 2 else 2 * default or 1), False
    elif annotation is float and type(default) in (int, float):
        yield (default / 2 or 0.1), False


def _first_that_works(subject: Subject, name: str, value: Any) -> str:
    """Return an empty string, or the sentence with which every example refused the value."""
    sentence = ""
    cases = subject.cases if subject.kind in NETWORKS else [None]
    for options, case in itertools.product(subject.examples, cases):
        try:
            _try(subject, {**options, name: value}, case)
            return ""
        except (Failed, MissingWeightsError) as failure:
            if isinstance(failure, MissingWeightsError):
                return ""  # it is taken, but its weights are not here
            raise Failed(f"{name}={value!r}: {failure}") from failure
        except FAULTS as error:
            sentence = refusal(error)
            if not sentence:
                raise Failed(f"{name}={value!r}: {error}") from error
    return sentence


def _try(subject: Subject, options: Mapping[str, Any], case: Case | None = None) -> None:
    """Build it and use it once."""
    if subject.kind in NETWORKS:
        case = case or subject.cases[0]
        use(subject, subject.network(case, options), case)
    else:
        use(subject, subject.build(options))


def use(subject: Subject, built: Any, case: Case | None = None) -> list[torch.Tensor]:
    """Use what was built once, and look at what it returns."""
    outputs = exercise(subject, built, case)
    if subject.kind in NETWORKS:
        subject.check_shape(built, case or subject.cases[0], outputs, 2)
    return outputs


def exercise(subject: Subject, built: Any, case: Case | None = None) -> list[torch.Tensor]:
    """Use what was built once and return the tensors it computes, of whatever shape a network gives them."""
    if subject.kind == "loss":
        return list(evaluate(subject, built).values())
    if subject.kind == "metric":
        return [measure(subject, built)]
    if subject.kind == "dataset":
        return [torch.as_tensor(item.read_hr()[0]) for item in examine(built).items[:1]]
    with torch.no_grad():
        return subject.run(built, subject.values((2, *(case or subject.cases[0]).shape)))


@promise("unknown-options", *COMPONENTS)
def unknown_options(subject: Subject) -> str:
    """Options that do not exist are refused."""
    factory = subject.spec.load()
    inherited = inspect.isclass(factory) and factory.__init__ in (nn.Module.__init__, object.__init__)
    parameters = [] if inherited else inspect.signature(factory).parameters.values()
    hidden = [str(p) for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    require(
        not hidden, f"its factory takes {listed(hidden)}, which srzoo can neither show nor check; name the options."
    )
    try:
        check_options(subject.component, {**subject.examples[0], "no_such_option": 1}, subject.label)
    except OptionError:
        return listed((option.name for option in subject.signature.options), 6) or "it has no options"
    raise Failed("it takes an option that does not exist.")


@promise("typed-options", *COMPONENTS)
def typed_options(subject: Subject) -> str:
    """Every option has a type that srzoo checks."""
    options = subject.signature.options
    untyped = [o.name for o in options if o.annotation is UNKNOWN or o.annotation is Any]
    require(
        not untyped,
        f"{listed(untyped)} has no type that srzoo can check; annotate it with int, float, bool, str, Literal, tuple "
        "or dict.",
    )
    if not options:
        return "it has no options"
    wrong = next((o for o in options if o.annotation in (int, float, bool)), None)
    if wrong is not None:
        try:
            check_options(subject.component, {**subject.examples[0], wrong.name: "not a number"}, subject.label)
        except OptionError:
            return f"{len(options)} options"
        raise Failed(f"{wrong.name}='not a number' is taken.")
    return f"{len(options)} options"


CHECKS = (
    defaults,
    every_option,
    unknown_options,
    typed_options,
)
