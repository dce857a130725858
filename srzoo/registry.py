"""The registry: every component by kind and name, with its owner."""

from __future__ import annotations

import fnmatch
import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import AmbiguousNameError, PluginWarning, UnknownNameError, did_you_mean
from .plugins import PluginRecord, discover, normalised, unknown_plugins
from .specs import KINDS, ComponentSpec

SLOW = 0.5
"""Seconds that a plugin may take to load; all of ``srzoo list`` takes 0.3."""


@dataclass(frozen=True)
class Component:
    """A registered spec and the plugin that owns it."""

    spec: ComponentSpec
    owner: PluginRecord

    @property
    def name(self) -> str:
        """The bare name."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """The kind: ``block``, ``generator``, ..."""
        return self.spec.kind

    @property
    def full_name(self) -> str:
        """``owner/name``, which is never ambiguous."""
        return f"{self.owner.name}/{self.spec.name}"


class Registry:
    """All components of all working plugins.

    A name that two plugins claim within a kind stays reachable as ``owner/name``; the bare name is refused
    with both owners named, so that installing a package never changes what a name means.
    """

    def __init__(self, records: Iterable[PluginRecord]) -> None:
        self.records: tuple[PluginRecord, ...] = tuple(records)
        self._by_kind: dict[str, dict[str, list[Component]]] = {kind: {} for kind in KINDS}
        for record in self.records:
            for spec in record.specs:
                self._by_kind[spec.kind].setdefault(spec.name, []).append(Component(spec, record))

    def get(self, kind: str, name: str, *, scope: str | None = None) -> Component:
        """Return the component ``name`` (or ``owner/name``) of a kind.

        Args:
            scope: distribution whose own component wins where several plugins claim the bare name; the zoo
                file of a package means that package's parts.

        Raises:
            UnknownNameError: no such kind or name; quotes plugins that failed to load.
            AmbiguousNameError: several plugins claim the bare name.
        """
        table = self._table(kind)
        owner_name, _, bare = name.rpartition("/")
        candidates = table.get(bare, [])
        if owner_name:
            candidates = [c for c in candidates if owner_name in (c.owner.name, c.owner.distribution)]
        if not candidates:
            raise UnknownNameError(self._unknown(kind, name, owner_name))
        if len(candidates) > 1 and scope is not None:
            candidates = [c for c in candidates if c.owner.distribution == scope] or candidates
        if len(candidates) > 1:
            raise AmbiguousNameError(
                f"{kind} {name!r} is registered by {' and by '.join(str(c.owner) for c in candidates)}; "
                f"write {' or '.join(repr(c.full_name) for c in candidates)}."
            )
        return candidates[0]

    def own(self, kind: str, name: str, scope: str) -> str:
        """Return what a distribution means by a bare name: ``owner/name`` where several plugins claim it.

        A name that nothing has, or that a scope does not settle, is returned as it is. Of a dataset it may be a part,
        ``name[:100]``.

        Args:
            scope: the distribution; srzoo's own for defaults, which are its own components whatever else is installed.
        """
        bare, bracket, part = name.partition("[")
        if len(self.claimants(kind, bare)) < 2:
            return name
        try:
            return self.get(kind, bare, scope=scope).full_name + bracket + part
        except AmbiguousNameError:
            return name

    def called(self, spec: ComponentSpec) -> str:
        """Return the name that is always the spec's own: ``owner/name`` where other plugins claim the bare one."""
        found = self.claimants(spec.kind, spec.name)
        return next(c.full_name for c in found if c.spec is spec) if len(found) > 1 else spec.name

    def claimants(self, kind: str, name: str) -> Sequence[Component]:
        """Return every component of a kind that claims a bare name."""
        return tuple(self._table(kind).get(name, ()))

    def find(self, kind: str, pattern: str = "*") -> Sequence[Component]:
        """Return the components of a kind whose name or full name matches a shell-style pattern."""
        found = [component for group in self._table(kind).values() for component in group]
        matching = [c for c in found if fnmatch.fnmatch(c.name, pattern) or fnmatch.fnmatch(c.full_name, pattern)]
        return sorted(matching, key=lambda c: (c.name, c.full_name))

    def absent(self, packages: Iterable[str]) -> str:
        """Return a sentence that names those of some packages, ``name version``, that no plugin here came with."""
        there = {normalised(record.distribution) for record in self.records}
        found = [package for package in packages if normalised(package.partition(" ")[0]) not in there]
        if not found:
            return ""
        names = " ".join(package.partition(" ")[0] for package in found)
        return (
            f" It was made with {' and '.join(found)}, which {'is' if len(found) == 1 else 'are'} not installed here: "
            f"'pip install {names}', or from where its author has it."
        )

    def problems(self) -> list[str]:
        """Return one sentence for every broken plugin and every name claimed twice."""
        sentences = [f"{record} is broken: {record.error}" for record in self.records if record.status == "broken"]
        for kind, table in self._by_kind.items():
            for name, group in table.items():
                if len(group) > 1:
                    owners = " and by ".join(str(component.owner) for component in group)
                    sentences.append(f"{kind} {name!r} is registered by {owners}; only owner/name picks one.")
        return sentences + self._weight_clashes()

    def _weight_clashes(self) -> list[str]:
        """Return one sentence for every two weight files of one name that are not the same file."""
        known: dict[str, tuple[str, Component]] = {}
        sentences = []
        for table in self._by_kind.values():
            for component in (c for group in table.values() for c in group):
                for file in getattr(component.spec, "weights", ()):
                    digest, first = known.setdefault(file.filename, (file.sha256, component))
                    if not (digest.startswith(file.sha256) or file.sha256.startswith(digest)):
                        sentences.append(
                            f"{first.kind} {first.full_name!r} and {component.kind} {component.full_name!r} mean "
                            f"different weight files by {file.filename}, and only one can lie in a folder; the plugin "
                            "that came later has to rename its own."
                        )
        return sentences

    def remarks(self) -> list[str]:
        """Return one sentence for every plugin of another distribution that every command has to wait for."""
        return [
            f"{record} took {record.seconds:.1f} s to load, which every command waits for; "
            f"'srzoo plugin check {record.name}' tells more."
            for record in self.records
            if record.seconds > SLOW and not record.first_party
        ]

    def _table(self, kind: str) -> dict[str, list[Component]]:
        if kind not in self._by_kind:
            raise UnknownNameError(f"There is no kind {kind!r}.{did_you_mean(kind, KINDS)} Kinds: {', '.join(KINDS)}.")
        return self._by_kind[kind]

    def _unknown(self, kind: str, name: str, owner_name: str) -> str:
        known = list(self._by_kind[kind])
        if owner_name:
            known = [c.full_name for group in self._by_kind[kind].values() for c in group]
        message = f"No {kind} is called {name!r}.{did_you_mean(name, known)}"
        broken = [record for record in self.records if record.status == "broken"]
        if owner_name:
            broken = [record for record in broken if owner_name in (record.name, record.distribution)]
        for record in broken:
            message += f" {str(record).capitalize()} could not be loaded and may own it: {record.error}."
        disabled = [r.name for r in self.records if r.status == "disabled"]
        if disabled:
            message += f" SRZOO_PLUGINS leaves out: {', '.join(disabled)}."
        return f"{message} 'srzoo list {kind}' shows what there is."


@functools.cache
def get_registry() -> Registry:
    """Return the registry of this process, discovering plugins on first use.

    Warns:
        PluginWarning: once for each broken plugin.
    """
    registry = Registry(discover())
    for problem in registry.problems() + unknown_plugins(registry.records):
        warnings.warn(problem, PluginWarning, stacklevel=2)
    return registry


def without_own_owner(value: Any) -> Any:
    """Return nested values of a recipe with ``name`` for srzoo's own ``owner/name``.

    A zoo file's bare name becomes the longer one once another package claims it, which makes no other recipe of it.
    """
    if isinstance(value, Mapping):
        return {key: without_own_owner(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_own_owner(below) for below in value]
    owner, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    if slash and any(record.first_party for record in get_registry().records if record.name == owner):
        return name
    return value
