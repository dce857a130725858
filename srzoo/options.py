"""Options of a component: the keyword arguments of its factory, read as data and checked.

Signatures are read from the source where the spec names its factory as a string, so that ``srzoo show`` and
the checking of a whole zoo file need no torch. Where that is not possible the factory is imported.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import functools
import importlib.util
import inspect
import json
import os
import pathlib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from .errors import OptionError, PluginError, did_you_mean
from .plugins import FAULTS, describe_exception
from .registry import Component

SLOTS = {"block": "block", "upsampler": "upsampler", "extractor": "extractor"}
"""Argument name to the kind of component that fills it."""
SUPPLIED = ("scale", "input_size", "checkpoint")
"""Arguments that the composition supplies; they cannot be set as options."""
_SUPPLIERS = {
    "scale": "the entry's scale",
    "input_size": "training.patch_size",
    "checkpoint": "the file whose path is written for an entry's name",
}
POSITIONAL = {"block": 1, "upsampler": 2}
"""How many leading arguments the trunk passes to a part: ``block(channels)``, ``upsampler(channels, scale)``."""

_LONGEST_LIST, _MOST_NAMES = 300, 12
"""Characters of options with types that a message may list, and else how many names."""
UNKNOWN = object()
"""Type of an option whose annotation cannot be evaluated; any value is accepted."""
_ANNOTATION_NAMES = {**vars(builtins), **vars(collections.abc), **{n: getattr(typing, n) for n in typing.__all__}}
_ANNOTATION_NAMES |= {"Path": Path, "pathlib": pathlib}


@dataclass(frozen=True)
class Option:
    """One keyword argument of a factory.

    Attributes:
        type_text: annotation as written.
        default_text: default as written; None where the option must be given.
        help: its line in the ``Args:`` section of the factory's docstring.
        annotation: the evaluated type, or ``UNKNOWN``.
    """

    name: str
    type_text: str
    default_text: str | None
    help: str = ""
    annotation: Any = UNKNOWN

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default_text is None

    @property
    def is_file(self) -> bool:
        """Whether a path may be written for it, by its type."""
        return _has_path(self.annotation)

    def default_value(self) -> Any:
        """Return the default as a plain value, or its source text where it is not a literal."""
        try:
            return ast.literal_eval(self.default_text or "None")
        except (ValueError, SyntaxError):
            return self.default_text

    def __str__(self) -> str:
        default = "" if self.default_text is None else f" = {self.default_text}"
        return f"{self.name}: {self.type_text}{default}"


@dataclass(frozen=True)
class Signature:
    """What a factory takes: its own options, its slots, and what the composition supplies."""

    options: tuple[Option, ...]
    slots: tuple[Option, ...]
    supplied: tuple[str, ...]
    documentation: str = ""

    def names(self) -> list[str]:
        """Names a user may write: options and slots."""
        return [option.name for option in (*self.options, *self.slots)]


def _has_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_has_path, typing.get_args(annotation)))


def signature_of(component: Component) -> Signature:
    """Return the signature of a component's factory.

    Raises:
        PluginError: the factory cannot be found or imported.
    """
    return _signature(component.kind, component.spec.factory, component)


@functools.cache
def _signature(kind: str, factory: Callable[..., Any] | str, component: Component) -> Signature:
    try:
        found = _read_source(factory) if isinstance(factory, str) else None
        parameters, documentation = found if found is not None else _inspect(component)
    except FAULTS as error:
        raise PluginError(
            f"The factory {factory!r} of {kind} {component.full_name!r} ({component.owner}) cannot be loaded: "
            f"{describe_exception(error)}."
        ) from error
    parameters = parameters[POSITIONAL.get(kind, 0) :]
    helps = help_lines(documentation)
    parameters = [Option(p.name, p.type_text, p.default_text, helps.get(p.name, ""), p.annotation) for p in parameters]
    return Signature(
        options=tuple(p for p in parameters if p.name not in SLOTS and p.name not in SUPPLIED),
        slots=tuple(p for p in parameters if p.name in SLOTS),
        supplied=tuple(p.name for p in parameters if p.name in SUPPLIED),
        documentation=documentation,
    )


def check_options(
    component: Component, given: Mapping[str, Any], where: str, beside: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the given options converted to their declared types.

    Types are strict: ``"16"`` is no integer and ``1`` no boolean, but a YAML list becomes a tuple.

    Args:
        given: options and slots by name; slots are passed through unchanged.
        where: prefix of the error, for instance ``"entry 'esrgan-x4': generator"``.
        beside: keys that may stand beside the options and are already taken off; a near miss of one is told.

    Raises:
        OptionError: an option is unknown, missing or ill-typed; names the near miss and what is accepted.
    """
    signature = signature_of(component)
    label = f"{where}: {component.kind} {component.name!r}"
    accepted = signature.names()
    slots = [option.name for option in signature.slots]
    result: dict[str, Any] = {}
    for name, value in given.items():
        if name in slots:
            result[name] = value
            continue
        option = next((o for o in signature.options if o.name == name), None)
        if option is None:
            if name in SUPPLIED:
                raise OptionError(f"{label} gets {name!r} from {_SUPPLIERS[name]}; it cannot be set here.", name)
            raise OptionError(
                f"{label} has no option {name!r}.{did_you_mean(name, [*accepted, *beside])} "
                f"It accepts: {_listed(component, signature)}.",
                name,
            )
        result[name] = _convert(option, value, label)
    missing = [o.name for o in (*signature.options, *signature.slots) if o.required and o.name not in given]
    if missing:
        raise OptionError(f"{label} needs {' and '.join(repr(name) for name in missing)}.")
    return result


def _listed(component: Component, signature: Signature) -> str:
    """Return what may be written, with types where these are few; of many, the names of a dozen."""
    options = [str(option) for option in (*signature.options, *signature.slots)]
    if sum(map(len, options)) <= _LONGEST_LIST:
        return ", ".join(options) or "none"
    names = signature.names()
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}; 'srzoo show {component.kind}/{component.name}' lists them"


def _convert(option: Option, value: Any, label: str) -> Any:
    if option.annotation is UNKNOWN:
        return value
    try:
        adapter = _adapter(option.annotation)
    except pydantic.errors.PydanticUserError:  # a class of the plugin's own: its factory will judge the value
        return value
    try:
        # The strict JSON rules are the ones a YAML value should obey: a list is a tuple, 1 is a float,
        # but "16" is no integer.
        return adapter.validate_json(json.dumps(value, default=os.fspath), strict=True)
    except (pydantic.ValidationError, TypeError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
        raise OptionError(f"{label}: option {str(option)!r} cannot be {value!r}: {reason}.", option.name) from None


@functools.cache
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation)


def source_file(component: Component) -> Path | None:
    """Return the Python file a component's factory is defined in, without importing it; None if there is none."""
    factory = component.spec.factory
    module = factory.partition(":")[0] if isinstance(factory, str) else getattr(factory, "__module__", None)
    try:
        found = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.origin and Path(found.origin).is_file() else None


def _read_source(factory: str) -> tuple[list[Option], str] | None:
    """Read the signature from source without importing the module; None where it is not written there."""
    module, _, attribute = factory.partition(":")
    found = importlib.util.find_spec(module)  # imports the parent package, whose hooks are loaded anyway
    if found is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    if found.origin is None or not found.origin.endswith(".py"):
        return None
    definitions = _definitions(found.origin)
    if attribute not in definitions:
        if "." not in attribute and not _binds(found.origin, attribute):
            near = did_you_mean(attribute, definitions).strip()
            hint = f" ({near[0].lower()}{near[1:]})" if near else ""
            raise AttributeError(f"module {module!r} defines no {attribute!r}{hint}")
        return None
    node = definitions[attribute]
    documentation = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        init = _constructor(node, definitions)
        if init is None:
            plain = all(ast.unparse(base) in ("nn.Module", "torch.nn.Module", "object") for base in node.bases)
            return ([], documentation) if plain and not node.decorator_list else None
        documentation = documentation or ast.get_docstring(init) or ""
        skip = 1
    else:
        init, skip = node, 0
    arguments = init.args
    if arguments.vararg is not None or arguments.kwarg is not None:
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [_option_from_source(argument, default) for argument, default in pairs[skip:]], documentation


def _constructor(
    node: ast.ClassDef, definitions: Mapping[str, ast.ClassDef | ast.FunctionDef]
) -> ast.FunctionDef | None:
    """Return ``__init__`` of a class or of the nearest base in the same module."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    for base in node.bases:
        parent = definitions.get(ast.unparse(base))
        if isinstance(parent, ast.ClassDef) and (found := _constructor(parent, definitions)) is not None:
            return found
    return None


@functools.cache
def _tree(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"), path)


def _definitions(path: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    return {node.name: node for node in _tree(path).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def _binds(path: str, name: str) -> bool:
    """Whether a module gets a name by other means than defining it (an import, an assignment)."""
    stored = {
        node.id for node in ast.walk(_tree(path)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    stored |= {node.name for node in ast.walk(_tree(path)) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(_tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    return name in stored | imported or "*" in imported


def _option_from_source(argument: ast.arg, default: ast.expr | None) -> Option:
    text = ast.unparse(argument.annotation) if argument.annotation is not None else "Any"
    return Option(
        name=argument.arg,
        type_text=text,
        default_text=ast.unparse(default) if default is not None else None,
        annotation=_evaluate(text),
    )


def _evaluate(annotation: str) -> Any:
    try:
        return eval(annotation, dict(_ANNOTATION_NAMES))  # the plugin's own source, which would run anyway
    except Exception:
        return UNKNOWN


def _inspect(component: Component) -> tuple[list[Option], str]:
    factory = component.spec.load()
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target)
    except FAULTS:  # an annotation that names something imported for type checking only
        hints = {}
    options = []
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(parameter.name, UNKNOWN)
        has_default = parameter.default is not parameter.empty
        options.append(
            Option(
                name=parameter.name,
                type_text="Any" if annotation is UNKNOWN else inspect.formatannotation(annotation),
                default_text=repr(parameter.default) if has_default else None,
                annotation=annotation,
            )
        )
    return options, inspect.getdoc(factory) or ""


def help_lines(documentation: str) -> dict[str, str]:
    """Return ``{option: text}`` from a Google-style ``Args:`` section."""
    lines = inspect.cleandoc(documentation).splitlines()
    helps: dict[str, str] = {}
    current, inside = "", False
    for line in lines:
        if line.strip() == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside and line.startswith("    ") and not line.startswith("     ") and ":" in line:
            current, _, text = line.strip().partition(":")
            helps[current] = text.strip()
        elif inside and current and line.strip():
            helps[current] += " " + line.strip()
    return helps
