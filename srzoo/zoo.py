"""The zoo: entries out of zoo files, with ``extends`` and overrides, each error at its line."""

from __future__ import annotations

import copy
import fnmatch
import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from .errors import EntryError, InputError, SrzooError, UnknownNameError, did_you_mean
from .options import SLOTS, check_options
from .recipe import Entry
from .registry import Registry, get_registry
from .yamlio import Document, Key, KeyPath, parse_value, read_yaml

NOT_INHERITED = ("weights", "recorded", "summary")
"""Keys that describe one entry alone and are not handed on by ``extends``."""

_ENTRY_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class Source:
    """Where an entry is written: its file, the distribution and plugin it came with, and their folders."""

    path: Path
    distribution: str
    owner: str
    folders: tuple[Path, ...] = ()
    """Where the entry's weight files may lie: beside the zoo file, or in the plugin's own folder."""


class Zoo:
    """All entries of all zoo files, read but not yet resolved.

    A file or an entry with an error does not take the others with it: the error comes when that entry is
    asked for, and in :meth:`problems`.
    """

    def __init__(self, sources: Sequence[Source], registry: Registry) -> None:
        self._registry = registry
        self._raw: dict[str, list[tuple[Document, Source]]] = {}
        self.file_problems: list[SrzooError] = []
        for source in sources:
            try:
                document = read_yaml(source.path)
                if not isinstance(document.value, dict):
                    raise EntryError(f"{source.path}: must be a mapping of entry names to entries.")
            except SrzooError as error:
                self.file_problems.append(error)
                continue
            for name in document.value:
                self._raw.setdefault(str(name), []).append((document, source))

    def names(self, pattern: str = "*") -> list[str]:
        """Return the entry names that match a shell-style pattern, in the order of the files."""
        return [name for name in self._raw if fnmatch.fnmatch(name, pattern)]

    def source(self, name: str) -> Source:
        """Return where an entry is written."""
        return self._find(name)[1]

    def entry(self, name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Entry:
        """Return the resolved entry.

        Args:
            overrides: dotted keys and values, as a mapping or as ``key=value`` strings.

        Raises:
            UnknownNameError: no entry has this name.
            EntryError, OptionError: the entry or an override is not valid; names file, line and near miss.
        """
        document, source = self._resolve(name, ())
        for key, value in _parse_overrides(overrides):
            _merge(document, Document({key: value}, {}), (), place=f"override {key}={value}")
        fields = {k: v for k, v in document.value.items() if k != "extends"}
        place = document.place(())
        if "name" in fields:
            raise EntryError(f"{document.place(('name',))}: entry {name!r}: the key above is the name; remove 'name'.")
        if not _ENTRY_NAME.fullmatch(name):
            raise EntryError(f"{place}: entry name {name!r} must be lower-case letters, digits, '_', '-' or '.'.")
        fields.setdefault("summary", self._summary(name))
        fields["name"] = name
        entry = _validate(fields, document)
        qualified = self._check_components(entry, document, source)
        if not qualified:
            return entry
        for path, full_name in qualified.items():
            _set_name(fields, path, full_name)
        return _validate(fields, document)

    def problems(self) -> list[SrzooError]:
        """Return the error of every file and entry that has one."""
        found: list[SrzooError] = list(self.file_problems)
        for name in self._raw:
            try:
                self.entry(name)
            except SrzooError as error:
                found.append(error)
        return found

    def _find(self, name: str) -> tuple[Document, Source]:
        owner, _, bare = name.rpartition("/")
        found = self._raw.get(bare, [])
        if owner:
            found = [pair for pair in found if owner in (pair[1].owner, pair[1].distribution)]
        if not found:
            hint = did_you_mean(name, self._raw)
            note = "".join(f" Also: {problem}" for problem in self.file_problems)
            raise UnknownNameError(f"No entry is called {name!r}.{hint} 'srzoo list' shows the zoo.{note}")
        if len(found) > 1:
            files = " and in ".join(str(source.path) for _, source in found)
            owners = " or ".join(repr(f"{source.owner}/{bare}") for _, source in found)
            raise EntryError(f"Entry {name!r} is written in {files}; write {owners}.")
        return found[0]

    def _resolve(self, name: str, chain: tuple[str, ...]) -> tuple[Document, Source]:
        """Return the merged tree of an entry and everything it extends."""
        document, source = self._find(name)
        bare = name.rpartition("/")[2]
        place = document.place((bare,))
        own = document.value[bare]
        if not isinstance(own, dict):
            raise EntryError(f"{place}: entry {name!r} must be a mapping, not {own!r}.")
        if name in chain:
            raise EntryError(f"{place}: entry {name!r} extends itself: {' -> '.join((*chain, name))}.")
        places = {path[1:]: where for path, where in document.places.items() if path[:1] == (bare,)}
        merged = Document({}, {(): place})
        parent = own.get("extends")
        if parent is not None:
            if not isinstance(parent, str):
                raise EntryError(f"{document.place((bare, 'extends'))}: entry {name!r}: extends must be one name.")
            try:
                base, _ = self._resolve(parent, (*chain, name))
            except UnknownNameError as error:
                raise EntryError(f"{document.place((bare, 'extends'))}: entry {name!r}: {error}") from None
            merged = Document(
                {k: v for k, v in base.value.items() if k not in NOT_INHERITED},
                {**base.places, (): place},
            )
        _merge(merged, Document(own, places), ())
        return merged, source

    def _summary(self, name: str) -> str:
        """Describe an entry without a summary by its difference to the one it extends."""
        document, _ = self._find(name)
        own = document.value[name.rpartition("/")[2]]
        changes = [f"{k}={_short(v)}" for k, v in own.items() if k not in ("extends", *NOT_INHERITED, "paper")]
        if "extends" not in own:
            return name
        return f"{own['extends']} with {'; '.join(changes)}" if changes else f"the same as {own['extends']}"

    def _check_components(self, entry: Entry, document: Document, source: Source) -> dict[KeyPath, str]:
        """Check that every named component exists and takes the options it is given.

        Returns the full names of those whose bare name several plugins claim: a zoo file means the parts of the
        distribution it came with.
        """
        found: list[tuple[str, str, Mapping[str, Any], KeyPath]] = [
            ("generator", entry.generator.name, entry.generator.options, ("generator",))
        ]
        if entry.discriminator is not None:
            found.append(("discriminator", entry.discriminator.name, entry.discriminator.options, ("discriminator",)))
        stages = entry.training.stages if entry.training is not None else {}
        for stage_name, stage in stages.items():
            for label, term in stage.losses.items():
                found.append(("loss", term.name, term.options, ("training", "stages", stage_name, "losses", label)))
        qualified: dict[KeyPath, str] = {}
        for kind, component_name, options, path in found:
            qualified |= self._check_component(entry.name, kind, component_name, options, path, document, source)
        return qualified

    def _check_component(
        self,
        entry: str,
        kind: str,
        name: str,
        options: Mapping[str, Any],
        path: KeyPath,
        document: Document,
        source: Source,
    ) -> dict[KeyPath, str]:
        where = f"entry {entry!r}: {'.'.join(map(str, path))}"
        try:
            component = self._registry.get(kind, name, scope=source.distribution)
            check_options(component, options, where)
        except InputError as error:
            named = [key for key in options if f"{key!r}" in str(error) or f"'{key}:" in str(error)]
            place = document.place((*path, *(named[:1] or ["name"])))
            prefix = "" if where in str(error) else f"{where}: "
            raise type(error)(f"{place}: {prefix}{error}") from None
        qualified: dict[KeyPath, str] = {}
        if "/" not in name and len(self._registry.claimants(kind, name)) > 1:
            qualified[path] = component.full_name
        for slot, value in options.items():
            if slot not in SLOTS:
                continue
            ref = {"name": value} if isinstance(value, str) else value
            if not isinstance(ref, Mapping) or not isinstance(ref.get("name"), str):
                raise EntryError(
                    f"{document.place((*path, slot))}: {where}.{slot}: write a {SLOTS[slot]}'s name or "
                    f"{{name: NAME, option: value}}, not {value!r}."
                )
            rest = {k: v for k, v in ref.items() if k != "name"}
            qualified |= self._check_component(entry, SLOTS[slot], ref["name"], rest, (*path, slot), document, source)
        return qualified


def _validate(fields: dict[str, Any], document: Document) -> Entry:
    name = fields["name"]
    try:
        return Entry.model_validate(fields)
    except pydantic.ValidationError as error:
        raise EntryError(_explain(name, error, document)) from None


def _set_name(fields: dict[str, Any], path: KeyPath, full_name: str) -> None:
    target: Any = fields
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = {**_written_out(target[path[-1]]), "name": full_name}


def diff_entries(left: Entry, right: Entry) -> list[tuple[str, Any, Any]]:
    """Return ``(dotted key, left value, right value)`` wherever two entries differ; None for a missing key."""
    flat_left, flat_right = _flatten(left.model_dump(mode="json")), _flatten(right.model_dump(mode="json"))
    keys = [*flat_left, *(key for key in flat_right if key not in flat_left)]
    return [(key, flat_left.get(key), flat_right.get(key)) for key in keys if flat_left.get(key) != flat_right.get(key)]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if key in SLOTS:
            item = _written_out(item)
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _parse_overrides(overrides: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise EntryError(f"Override {text!r} is not of the form dotted.key=value, e.g. training.batch_size=8.")
        pairs.append((key.strip(), parse_value(value)))
    return pairs


def _merge(base: Document, new: Document, at: KeyPath, place: str | None = None) -> None:
    """Merge a mapping into the base in place; dotted keys are paths.

    A mapping that names another component (``name``) replaces the old one whole, since the old options mean
    nothing to it; any other mapping is merged key by key. ``null`` resets a key to its default.
    """
    for key, value in new.value.items():
        keys: KeyPath = tuple(key.split(".")) if isinstance(key, str) else (key,)
        target = base.value
        for depth, part in enumerate(keys[:-1]):
            below = _written_out(target.get(part, {}))
            if not isinstance(below, dict):
                where = place or new.place((*at, key))
                raise EntryError(f"{where}: {'.'.join(map(str, keys[: depth + 1]))} is not a mapping.")
            target[part] = below = dict(below)
            target = below
        _merge_value(target, keys[-1], value)
        _move_places(base, new, keys, (*at, key), place)


def _merge_value(target: dict[Key, Any], key: Key, value: Any) -> None:
    old = target.get(key)
    if isinstance(value, dict):
        old = _written_out(old)
    if value is None:
        target.pop(key, None)
    elif isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) == old.get("name"):
        merged = Document(copy.deepcopy(old))
        _merge(merged, Document(value), ())
        target[key] = merged.value
    elif isinstance(value, dict):
        fresh = Document({})
        _merge(fresh, Document(value), ())
        target[key] = fresh.value
    else:
        target[key] = value


def _written_out(value: Any) -> Any:
    """Return the mapping that a shorthand stands for: ``residual`` for {name: residual}, 0.01 for {weight: 0.01}."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"weight": value}
    return value


def _move_places(base: Document, new: Document, to: KeyPath, origin: KeyPath, place: str | None) -> None:
    if place is not None:
        base.places[to] = place
        return
    for path, where in new.places.items():
        if path[: len(origin)] == origin:
            base.places[to + path[len(origin) :]] = where


def _explain(name: str, error: pydantic.ValidationError, document: Document) -> str:
    """Turn pydantic's first error into one sentence with file, line and dotted key."""
    first = error.errors()[0]
    path: KeyPath = tuple(part for part in first["loc"])
    context = first.get("ctx") or {}
    if first["type"] == "unknown_key":
        path = (*path, context["key"])
    dotted = ".".join(map(str, path))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "is required"
    elif first["type"] not in ("unknown_key", "value_error"):
        message = f"{message[0].lower()}{message[1:]}, not {first['input']!r}"
    separator = ": " if dotted else ""
    return f"{document.place(path)}: entry {name!r}: {dotted}{separator}{message}."


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:37] + "..."


@functools.cache
def get_zoo() -> Zoo:
    """Return the zoo of this process: the zoo files of all plugins, then those named in ``SRZOO_ZOO``."""
    registry = get_registry()
    sources = [
        Source(path, record.distribution, record.name, (path.parent, *([record.folder] if record.folder else [])))
        for record in registry.records
        for path in record.zoo_files
    ]
    extra = [Path(path) for path in os.environ.get("SRZOO_ZOO", "").split(os.pathsep) if path]
    sources += [Source(path, "local", path.stem, (path.parent,)) for path in extra]
    return Zoo(sources, registry)
