"""The components that an entry names: looked up where it is written, and asked for the files that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .confinement import is_confined
from .entry import ComponentRef, Entry
from .errors import EntryError, InputError, OptionError, SrzooError
from .options import SLOTS, check_options, signature_of
from .recipe import TERM_KEYS, LossTerm
from .registry import Component, Registry, get_registry
from .yamlio import KeyPath, Node


@dataclass(frozen=True)
class ComponentCheck:
    """Looks a component and its options up, and the components in its slots; errors name file and line.

    Args:
        tree: the entry as it is written. A bare name means the parts first of the distribution whose file says it.
        entry: its name.
    """

    registry: Registry
    tree: Node
    entry: str

    def __call__(self, kind: str, name: str, options: Mapping[str, Any], path: KeyPath) -> dict[KeyPath, str]:
        """Return the full name at each path whose bare name is ambiguous."""
        where = f"entry {self.entry!r}: {'.'.join(map(str, path))}"
        try:
            component = self.registry.get(kind, name, scope=self.tree.at((*path, "name")).scope or None)
            check_options(component, options, where, beside=TERM_KEYS if kind == "loss" else ())
        except InputError as error:
            key = error.option if isinstance(error, OptionError) else "name"
            place = self.tree.place((*path, key)) if key else self.tree.place(path)
            prefix = "" if where in str(error) else f"{where}: "
            raise type(error)(f"{place}: {prefix}{error}") from None
        self._check_files(component, options, path)
        qualified: dict[KeyPath, str] = {}
        if "/" not in name and len(self.registry.claimants(kind, name)) > 1:
            qualified[path] = component.full_name
        for slot, value in options.items():
            if slot not in SLOTS:
                continue
            ref = {"name": value} if isinstance(value, str) else value
            if not isinstance(ref, Mapping) or not isinstance(ref.get("name"), str):
                raise EntryError(
                    f"{self.tree.place((*path, slot))}: {where}.{slot}: write a {SLOTS[slot]}'s name or "
                    f"{{name: NAME, option: value}}, not {value!r}."
                )
            rest = {k: v for k, v in ref.items() if k != "name"}
            qualified |= self(SLOTS[slot], ref["name"], rest, (*path, slot))
        return qualified

    def _check_files(self, component: Component, options: Mapping[str, Any], path: KeyPath) -> None:
        """Refuse a file that the zoo file names, and not the user."""
        for option in signature_of(component).options:
            node = self.tree.at((*path, option.name))
            if option.is_file and options.get(option.name) is not None and is_confined(node):
                dotted = ".".join(map(str, (*path, option.name)))
                raise EntryError(
                    f"{node.where}: entry {self.entry!r}: {dotted}: a zoo file may name no file that a part "
                    f"reads, such as {str(node.content)[:80]!r}. Give it on the command line, {dotted}=PATH."
                )


def named_components(entry: Entry) -> Iterator[tuple[str, ComponentRef | LossTerm, KeyPath]]:
    """Yield kind, reference and place of every component that an entry names, but for those in slots of others."""
    yield "generator", entry.generator, ("generator",)
    if entry.discriminator is not None:
        yield "discriminator", entry.discriminator, ("discriminator",)
    for stage_name, stage in (entry.training.stages if entry.training is not None else {}).items():
        for label, term in stage.losses.items():
            yield "loss", term, ("training", "stages", stage_name, "losses", label)


def refuse_files_of_generator(entry: Entry, where: str) -> None:
    """Refuse a generator that reads a file: its weights could be loaded only where that file lies, and by nobody else.

    Raises:
        InputError: it does; names the option.
    """
    for path in file_options(entry):
        if path[0] == "generator":
            raise InputError(
                f"{where}: {'.'.join(map(str, path))} is a file, which weights do not come with, so they could not be "
                "loaded by their name. Let the part keep what it reads as a buffer, or bring the file with its package."
            )


def file_options(entry: Entry) -> dict[KeyPath, bool]:
    """Return where an entry names a file that a part reads, which no zoo file may, and whether that option is required.

    Parts that are not installed are passed over.
    """
    found: dict[KeyPath, bool] = {}

    def look(kind: str, name: str, options: Mapping[str, Any], path: KeyPath) -> None:
        try:
            signature = signature_of(get_registry().get(kind, name))
        except SrzooError:
            return
        for option in signature.options:
            if option.is_file and options.get(option.name) is not None:
                place: KeyPath = (*path, option.name)
                found[place] = option.required
        for slot, value in options.items():
            ref = {"name": value} if isinstance(value, str) else value
            if slot in SLOTS and isinstance(ref, Mapping):
                look(SLOTS[slot], str(ref.get("name")), ref, (*path, slot))

    for kind, ref, path in named_components(entry):
        look(kind, ref.name, ref.options, path)
    return found
