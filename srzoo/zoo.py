"""The zoo: entries out of zoo files, with ``extends`` and overrides, each error at its line."""

from __future__ import annotations

import copy
import fnmatch
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pydantic

from .confinement import ENSEMBLE, Name, check_paths, confined, is_confined, scoped
from .entry import Entry
from .errors import CompositionError, EntryError, InputError, SrzooError, UnknownNameError, did_you_mean
from .explaining import explain
from .merging import merge, nulls, parse_overrides, put, short
from .named import ComponentCheck, named_components
from .plugins import OWN_DISTRIBUTION
from .registry import Registry, get_registry
from .specs import GeneratorSpec
from .yamlio import KeyPath, Node, locate, read_yaml

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
        self._changes: dict[tuple[str, str], list[Node]] = {}
        self._written: dict[str, list[tuple[Node, Source]]] = {}
        self.file_problems: list[SrzooError] = []
        for source in sources:
            try:
                document = read_yaml(source.path)
                if not isinstance(document.content, dict):
                    raise EntryError(f"{document.where}: must be a mapping of entry names to entries.")
            except SrzooError as error:
                self.file_problems.append(error)
                continue
            for name, node in document.content.items():
                self._written.setdefault(str(name), []).append((node, source))

    def amended(self, changes: Node, source: Source) -> Zoo:
        """Return this zoo with changes: of entries that exist, and further entries.

        A change is laid over what its entry says and inherits, so an entry that extends it inherits the change.

        Args:
            changes: a mapping of entry names to entries, or to what is different about them.
            source: where the changes are written.
        """
        zoo = copy.copy(self)
        zoo._written = dict(self._written)
        zoo._changes = dict(self._changes)
        for key, node in changes.content.items():
            name = str(key)
            if name not in zoo:
                zoo._written[name] = [(node, source)]
                continue
            owner = zoo._find(name, source.distribution)[1].owner
            if not isinstance(node.content, dict):
                raise EntryError(f"{node.where}: the changes of entry {name!r} must be a mapping, not {node.value!r}.")
            if "extends" in node.content:
                where = node.place(("extends",))
                raise EntryError(f"{where}: entry {name!r} exists already, and what it extends cannot be changed.")
            whole = owner, zoo._bare_name(name)
            zoo._changes[whole] = [*zoo._changes.get(whole, ()), scoped(node, source.distribution)]
        return zoo

    def names(self, pattern: str = "*") -> list[str]:
        """Return the entry names that match a shell-style pattern, in the order of the files.

        An entry whose name several files claim is named ``owner/name``.
        """
        return [
            name if len(written) == 1 else f"{source.owner}/{name}"
            for name, written in self._written.items()
            for _, source in written
            if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(f"{source.owner}/{name}", pattern)
        ]

    def __contains__(self, name: object) -> bool:
        """Whether an entry has this name, or ``owner/name``."""
        try:
            return isinstance(name, str) and bool(self._find(name))
        except UnknownNameError:
            return False
        except EntryError:  # several have it
            return True

    def source(self, name: str) -> Source:
        """Return where an entry is written."""
        return self._find(name)[1]

    def source_of(self, entry: Entry) -> Source:
        """Return where an entry is written; of several of its name, the one with its weights."""
        written = self._written.get(entry.name, [])
        if len(written) > 1 and entry.weights is not None:
            wanted = entry.weights.sha256
            for node, source in written:
                if node.at(("weights", "sha256")).content == wanted:
                    return source
        return self.source(entry.name)

    def scope_of(self, entry: Entry) -> str:
        """Return the distribution whose parts an entry's bare names mean; srzoo's for one of a file or a run."""
        try:
            return self.source_of(entry).distribution
        except InputError:
            return OWN_DISTRIBUTION

    def entry(self, name: str, overrides: Mapping[str, Any] | Sequence[str] = (), scope: str = "") -> Entry:
        """Return the resolved entry.

        Args:
            overrides: dotted keys and values, as a mapping or as ``key=value`` strings.
            scope: distribution whose file gives name and overrides; empty for the user, whose bare names are refused
                where several have them.

        Raises:
            UnknownNameError: no entry has this name.
            EntryError, OptionError: the entry or an override is not valid; names file, line and near miss.
        """
        tree, source = self._resolve(name, (), scope)
        bare = self._bare_name(name)
        for override in parse_overrides(overrides):
            override = scoped(override, scope)
            self._check_null(bare, tree, override, source)
            tree = merge(tree, override)
        return self._finish(bare, tree, source)

    def _check_null(self, name: str, tree: Node, override: Node, source: Source) -> None:
        """Refuse ``key=null`` where there is no such key: it would reset nothing, and a typo would go unnoticed."""
        ((key, value),) = override.content.items()
        if value.content is not None or merge(tree, override) != tree:
            return
        try:
            self._finish(name, merge(tree, Node({key: Node(1, value.where)}, value.where)), source)
        except InputError as error:
            if any(sign in str(error) for sign in ("unknown key", "has no option", "No loss is called")):
                raise

    def _finish(self, bare: str, tree: Node, source: Source) -> Entry:
        """Validate a merged tree and check the components it names."""
        if not _ENTRY_NAME.fullmatch(bare):
            raise EntryError(f"{tree.where}: entry name {bare!r} must be lower-case letters, digits, '_', '-' or '.'.")
        if "name" in tree.content:
            raise EntryError(f"{tree.place(('name',))}: entry {bare!r}: the key above is its name; remove 'name'.")
        self._check_keys(bare, tree)
        fields = {key: node for key, node in tree.content.items() if key != "extends"}
        fields["name"] = Node(bare, tree.where)
        if "summary" not in fields:
            fields["summary"] = Node(self._summary(bare, source), tree.where)
        tree = Node(fields, tree.where)
        self._check_scale(bare, tree)
        entry = _validate(tree)
        qualified = self._check_components(entry, tree)
        for path, full_name in qualified.items():
            tree = put(tree, path, locate({"name": full_name}, tree.place(path)), renaming=True)
        return self._with_names(_validate(tree) if qualified else entry, tree)

    def problems(self) -> list[SrzooError]:
        """Return the error of every file and entry that has one."""
        found: list[SrzooError] = list(self.file_problems)
        for name in self.names():
            try:
                self.entry(name)
            except SrzooError as error:
                found.append(error)
        return found

    def clashes(self) -> list[str]:
        """Return one sentence for every name that several files claim."""
        return [
            f"Entry {name!r} is written in {' and in '.join(str(source.path) for _, source in written)}; only "
            "owner/name picks one."
            for name, written in self._written.items()
            if len(written) > 1
        ]

    def _check_keys(self, name: str, tree: Node) -> None:
        known = ["extends", *(key for key in Entry.model_fields if key != "name")]
        for key, node in tree.content.items():
            if key not in known:
                hint = did_you_mean(str(key), known)
                keys = ", ".join(known)
                raise EntryError(
                    f"{node.where}: entry {name!r}: {key}: unknown key {str(key)!r}.{hint} Keys here: {keys}."
                )

    def _check_scale(self, name: str, tree: Node) -> None:
        """Refuse a scale that the generator does not have, before it is measured by what follows from it."""
        scale, generator = (tree.content[key].value if key in tree.content else None for key in ("scale", "generator"))
        generator = generator.get("name") if isinstance(generator, dict) else generator
        if type(scale) is not int or scale < 1 or not isinstance(generator, str):
            return
        try:
            scope = tree.at(("generator", "name")).scope
            spec = self._registry.get("generator", generator, scope=scope or None).spec
        except InputError:  # told where components are checked
            return
        if isinstance(spec, GeneratorSpec) and not spec.reads and scale not in spec.scales:
            raise CompositionError(
                f"{tree.place(('scale',))}: entry {name!r}: generator {spec.name!r} has scales "
                f"{', '.join(map(str, spec.scales))}, not {scale}."
            )

    def _bare_name(self, name: str) -> str:
        return name if name in self._written else name.rpartition("/")[2]

    def _find(self, name: str, scope: str = "") -> tuple[Node, Source]:
        bare = self._bare_name(name)
        owner = name[: -len(bare) - 1] if bare != name else ""
        found = self._written.get(bare, [])
        if owner:
            found = [pair for pair in found if owner in (pair[1].owner, pair[1].distribution)]
        if not found:
            hint = did_you_mean(name, self._written)
            note = "".join(f" Also: {problem}" for problem in self.file_problems)
            raise UnknownNameError(f"No entry is called {name[:200]!r}.{hint} 'srzoo list' shows the zoo.{note}")
        if len(found) > 1 and scope:
            found = [pair for pair in found if pair[1].distribution == scope] or found
        if len(found) > 1:
            files = " and in ".join(str(source.path) for _, source in found)
            owners = " or ".join(repr(f"{source.owner}/{bare}") for _, source in found)
            raise EntryError(f"Entry {name!r} is written in {files}; write {owners}.")
        return found[0]

    def _resolve(self, name: str, chain: tuple[str, ...], scope: str = "") -> tuple[Node, Source]:
        """Return the merged tree of an entry and everything it extends.

        Args:
            scope: distribution of the file that names it.
        """
        own, source = self._find(name, scope)
        if not isinstance(own.content, dict):
            raise EntryError(f"{own.where}: entry {name!r} must be a mapping, not {own.value!r}.")
        whole = f"{source.owner}/{self._bare_name(name)}"
        if whole in chain:
            names = (link.rpartition("/")[2] for link in (*chain, whole))
            raise EntryError(f"{own.where}: entry {name!r} extends itself: {' -> '.join(names)}.")
        check_paths(name, own, self)
        own = confined(own, source.distribution)
        base = Node({}, own.where)
        if "extends" in own.content:
            extends = own.content["extends"]
            if not isinstance(extends.content, str):
                raise EntryError(f"{extends.where}: entry {name!r}: extends must be one name.")
            try:
                parent, _ = self._resolve(extends.content, (*chain, whole), source.distribution)
            except UnknownNameError as error:
                raise EntryError(f"{extends.where}: entry {name!r}: {error}") from None
            inherited = {k: v for k, v in parent.content.items() if k not in (*NOT_INHERITED, "extends")}
            base = Node(inherited, own.where)
            for key, value in nulls(own):
                self._check_null(self._bare_name(name), base, Node({key: value}, value.where), source)
        tree = merge(base, own)
        for change in self._changes.get((source.owner, self._bare_name(name)), ()):
            tree = merge(tree, change)
        return tree, source

    def _summary(self, bare: str, source: Source) -> str:
        """Describe an entry without a summary by its difference to the one it extends."""
        own = next(node.value for node, written_in in self._written[bare] if written_in == source)
        if "extends" not in own:
            return bare
        changes = [f"{k}={short(v)}" for k, v in own.items() if k not in ("extends", *NOT_INHERITED, "paper")]
        return f"{own['extends']} with {'; '.join(changes)}" if changes else f"the same as {own['extends']}"

    def _check_components(self, entry: Entry, tree: Node) -> dict[KeyPath, str]:
        """Check that every named component exists and takes the options it is given.

        Returns the full names of those whose bare name several plugins claim: a zoo file means the parts of the
        distribution it came with, and so do those who inherit from it.
        """
        qualified: dict[KeyPath, str] = {}
        for kind, ref, path in named_components(entry):
            check = ComponentCheck(self._registry, tree, entry.name)
            try:
                qualified |= check(kind, ref.name, ref.options, path)
            except UnknownNameError as error:
                raise UnknownNameError(f"{error}{self._registry.absent(entry.requires)}") from None
        self._check_recorded(entry, tree)
        return qualified

    def _check_recorded(self, entry: Entry, tree: Node) -> None:
        for dataset, scores in (entry.recorded.scores if entry.recorded is not None else {}).items():
            for metric in scores:
                path: KeyPath = ("recorded", "scores", dataset, metric)
                try:
                    self._registry.get("metric", metric, scope=tree.at(path).scope or None)
                except InputError as error:
                    where = f"{tree.place(path)}: entry {entry.name!r}: {'.'.join(map(str, path))}"
                    raise type(error)(f"{where}: {error}") from None

    def _with_names(self, entry: Entry, tree: Node) -> Entry:
        """Return an entry with the datasets, metrics and entries of its recipe as whoever wrote them means them.

        What a zoo file says, and not the user, is marked as a name, which is no path; a bare name that several plugins
        or files claim becomes ``owner/name``.
        """
        recipe = entry.training
        if recipe is None:
            return entry

        def meant(text: str, key: KeyPath, own: Callable[[str, str], str]) -> str:
            node = tree.at(("training", *key))
            named = own(text, node.scope) if node.scope else text
            return Name(named) if is_confined(node) else named

        def meant_all(texts: Sequence[str], key: KeyPath, own: Callable[[str, str], str]) -> tuple[str, ...]:
            return tuple(meant(text, key, own) for text in texts)

        dataset, metric = partial(self._registry.own, "dataset"), partial(self._registry.own, "metric")
        changes: dict[str, Any] = {"data": meant_all(recipe.data, ("data",), dataset)}
        if (validation := recipe.validation) is not None:
            below = {
                "data": meant_all(validation.data, ("validation", "data"), dataset),
                "metrics": meant_all(validation.metrics, ("validation", "metrics"), metric),
            }
            if "metrics" not in validation.model_fields_set:  # srzoo's own default
                below["metrics"] = tuple(metric(name, OWN_DISTRIBUTION) for name in validation.metrics)
            changes["validation"] = validation.model_copy(update=below)
        for key in ("start_from", "teacher"):
            if (name := getattr(recipe, key)) is not None:
                changes[key] = meant(name, (key,), self.own)
        return entry.model_copy(update={"training": recipe.model_copy(update=changes)})

    def own(self, name: str, scope: str) -> str:
        """Return what a file of a distribution means by an entry's name, ``owner/name`` where several have it."""
        bare = name.removesuffix(ENSEMBLE)
        if len(self._written.get(bare, ())) < 2:
            return name
        try:
            return f"{self._find(bare, scope)[1].owner}/{name}"
        except EntryError:  # the scope does not settle it; told where the entry is used
            return name


def _validate(tree: Node) -> Entry:
    fields = tree.value
    try:
        return Entry.model_validate(fields)
    except pydantic.ValidationError as error:
        raise EntryError(explain(f"entry {fields['name']!r}", error, tree)) from None


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
    missing = [InputError(f"SRZOO_ZOO names {path}, which is no file.") for path in extra if not path.is_file()]
    extra = [path for path in extra if path.is_file()]
    for number, path in enumerate(extra, start=1):
        sources.append(Source(path, "local", "local" if number == 1 else f"local{number}", (path.parent,)))
    zoo = Zoo(sources, registry)
    zoo.file_problems += missing
    return zoo


def shared_entry(folder: Path) -> tuple[Entry, tuple[Path, ...]]:
    """Return the entry of a folder that holds a zoo file, and the folders that its weights may lie in.

    Raises:
        EntryError: the file is not valid, or holds none with weights, or several.
    """
    file = folder / "zoo.yaml"
    # What an export writes bare is srzoo's own, whatever else is installed where it is read.
    zoo = Zoo([Source(file, OWN_DISTRIBUTION, "local", (folder,))], get_registry())
    for problem in zoo.problems():
        raise problem
    entries = [entry for entry in map(zoo.entry, zoo.names()) if entry.weights is not None]
    if len(entries) != 1:
        raise EntryError(
            f"{file} holds {len(entries)} entries with weights; a folder that stands for a model holds one."
        )
    return entries[0], (folder,)


def training_entry(
    entry: str | Entry,
    data: str | Sequence[str] | None,
    steps: int | None,
    overrides: Mapping[str, Any] | Sequence[str],
) -> Entry:
    """Return the entry with all that the call changes about it.

    Raises:
        InputError: no such entry, no recipe, or a change that is not valid.
    """
    if isinstance(entry, str):
        entry = get_zoo().entry(entry, overrides)
    elif overrides:
        raise InputError("overrides apply to an entry given by name; change the Entry itself instead.")
    if entry.training is None:
        raise InputError(f"entry {entry.name!r} has no training recipe; 'srzoo list' shows entries that have one.")
    recipe = entry.training
    if data is not None:
        names = [data] if isinstance(data, str) else list(data)
        recipe = recipe.model_copy(update={"data": tuple(names)})
    if steps is not None:
        try:
            recipe = recipe.shortened(steps)
        except ValueError as error:
            raise InputError(f"{error}.") from None
    return entry.model_copy(update={"training": recipe, "self_ensemble": False})  # what is trained is the generator
