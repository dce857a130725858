"""The recipe of an ablation: its columns, what its rows show of them, and its budgets. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, Strict

from ..errors import EntryError, InputError, UnknownNameError, did_you_mean
from ..explaining import explain
from ..fields import Count, Flag, Model, PositiveInt, Text
from ..registry import get_registry
from ..yamlio import Node, read_yaml

ABSENT = object()
"""Stands for what a composition does not have, such as the normalisation of a block without the option."""

_PLACE = re.compile(r"\{([\w.]+)\}")


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Names = Annotated[tuple[Text, ...], pydantic.BeforeValidator(_one_or_many)]


class Column(Model):
    """One column of the table.

    Args:
        label: what it is called.
        entry: of the zoo with this recipe's changes.
        reference: in place of an entry: the high-resolution image itself.
        against: label of the column that it is one line's difference to; the one before by default.
    """

    label: Text
    entry: Text | None = None
    reference: Flag = False
    against: Text | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Column:
        if (self.entry is None) != self.reference:
            raise ValueError("give an entry, or reference: true for the high-resolution image")
        return self


class Row(Model):
    """One row of the table's head, and how each of its cells is read off a composition.

    Args:
        label: ``{dotted.key}`` in it stands for what the columns have there.
        key: dotted key into an entry with all its defaults written out, e.g. ``generator.block.norm``.
        text: a cell's text to patterns (``*``, ``?``) of values; the first whose patterns fit all of a list's values or
            a mapping's keys. Without it the value itself is shown.
        otherwise: the text where no pattern fits, or the composition has no such key.
        relative: texts for ``same`` and ``more``, of a list that is equal to the first column's or holds it and more.
    """

    label: Text
    key: Text
    text: dict[str, Names] = {}
    otherwise: Text | None = None
    relative: dict[Literal["same", "more"], Text] = {}

    @pydantic.model_validator(mode="after")
    def _check(self) -> Row:
        if self.relative and (self.text or self.otherwise is not None):
            raise ValueError("give text and otherwise, or relative")
        if self.relative and set(self.relative) != {"same", "more"}:
            raise ValueError("relative: give texts for same and for more")
        return self

    def cell(self, written: Mapping[str, Any], first: Mapping[str, Any], entry: str) -> str:
        """Return what the row shows of an entry.

        Args:
            written: the entry, written out; ``first``: that of the first column.

        Raises:
            InputError: the row has no text for it.
        """
        value = look_up(written, self.key)
        if self.relative:
            own, base = values_of(value), values_of(look_up(first, self.key))
            if own == base:
                return self.relative["same"]
            if set(own) > set(base):
                return self.relative["more"]
            found, wanted = (", ".join(names) or "nothing" for names in (own, base))
            raise InputError(
                f"row {self.label!r}: entry {entry!r} has {found} as {self.key}, which is neither the first column's "
                f"{wanted} nor that and more; write text: in place of relative:."
            )
        values = values_of(value)
        if values and not self.text:
            return ", ".join(values)
        for text, patterns in self.text.items():
            if values and all(any(_fits(part, pattern) for pattern in patterns) for part in values):
                return text
        if self.otherwise is not None:
            return self.otherwise
        if not values:
            raise InputError(f"row {self.label!r}: entry {entry!r} has no {self.key}; give otherwise: for such.")
        raise InputError(
            f"row {self.label!r}: no text fits the {self.key} of entry {entry!r}: {', '.join(values)}; add one, or "
            "otherwise:."
        )


class Exhibit(Model):
    """An image of the figure.

    Args:
        image: its name, or the names it goes by in the copies of the dataset that are about.
        crop: left, top and side in pixels; by default the square in which the columns differ most.
    """

    dataset: Text
    image: Annotated[Names, Field(min_length=1)]
    crop: Annotated[tuple[Count, Count, PositiveInt], Strict(False)] | None = None


class Budget(Model):
    """What is spent: changes to the entries, and what the table is computed on.

    Args:
        summary: what it takes and what can be expected of it.
        extends: another budget, whose keys hold where this one does not give its own, ``data`` as well as ``notes``;
            entries are laid over its entries, and the keys of a stage over those of its stage.
        entries: changes to entries, laid over what each says and inherits, so that entries that extend them have them.
        stages: stage to changes of ``training`` that hold in the run of this stage alone, such as ``patch_size``.
        data: datasets of the benchmark; needed, unless they are another budget's.
        metrics: of the benchmark; one whose backbone is missing is left out.
        seeds: how many runs of every column, unless the command says otherwise.
        checkpoint_every: steps between states to resume from.
        notes: sentences that the table carries.
    """

    summary: Text
    extends: Text | None = None
    entries: dict[str, Any] = {}
    stages: dict[str, dict[str, Any]] = {}
    data: Names = ()
    metrics: Names = ("psnr", "ssim", "lpips_alex", "lpips_squeeze")
    protocol: Literal["y", "y-matlab", "rgb"] = "y"
    seeds: PositiveInt = 1
    checkpoint_every: PositiveInt = 200
    notes: Names = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> Budget:
        if not self.data and (self.extends is None or "data" in self.model_fields_set):
            raise ValueError("data: name at least one dataset to benchmark on")
        return self


class Ablation(Model):
    """A recipe: ``srzoo ablate`` makes a table of it.

    Args:
        title: of the table.
        summary: one line for the list of ablations.
        paper: where the table comes from.
        entries: entries of its own, or changes to the zoo's, that hold in every budget.
        columns: in their order.
        rows: of the table's head.
        figure: images whose crops are shown, as far as their dataset is benchmarked.
    """

    title: Text
    summary: Text
    paper: Text = ""
    entries: dict[str, Any] = {}
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    figure: tuple[Exhibit, ...] = ()
    budgets: dict[str, Budget]

    @pydantic.model_validator(mode="after")
    def _check(self) -> Ablation:
        labels = [column.label for column in self.columns]
        trained = [column.label for column in self.columns if not column.reference]
        if len(set(labels)) < len(labels):
            raise ValueError("columns: two have one label")
        if not trained:
            raise ValueError("columns: give at least one with an entry")
        if not self.budgets:
            raise ValueError("budgets: give at least one")
        for column in self.columns:
            if column.against is not None and column.against not in trained:
                near = did_you_mean(column.against, trained)
                raise ValueError(f"columns: {column.label!r} is against {column.against!r}, which is no column.{near}")
        for name in self.budgets:
            self.lineage(name)
        return self

    def lineage(self, budget: str) -> list[str]:
        """Return a budget's name and those of all that it extends, the first one first."""
        names = [budget]
        while (extended := self.budgets[names[-1]].extends) is not None:
            if extended not in self.budgets:
                near = did_you_mean(extended, self.budgets)
                raise ValueError(f"budgets: {names[-1]!r} extends {extended!r}, which is no budget.{near}")
            if extended in names:
                raise ValueError(f"budgets: {budget!r} extends itself: {' -> '.join([*names, extended])}")
            names.append(extended)
        return names[::-1]

    def budget(self, name: str) -> Budget:
        """Return a budget with all that it has from those it extends, but entries: see ``Source.changes``."""
        first, *others = (self.budgets[part] for part in self.lineage(name))
        found = first
        for own in others:
            given = {key: getattr(own, key) for key in own.model_fields_set}
            stages = {key: found.stages.get(key, {}) | own.stages.get(key, {}) for key in found.stages | own.stages}
            found = found.model_copy(update={**given, "stages": stages})
        return found

    def against(self, column: Column) -> Column | None:
        """Return the column that one is compared with: the one it names, or the one before; None for the first."""
        if column.reference:
            return None
        if column.against is not None:
            return next(other for other in self.columns if other.label == column.against)
        before = self.columns[: self.columns.index(column)]
        return next((other for other in reversed(before) if not other.reference), None)


@dataclass(frozen=True)
class Source:
    """A recipe as it is written, for errors that name its lines.

    Attributes:
        name: the stem of its file.
    """

    name: str
    path: Path
    tree: Node
    ablation: Ablation

    @property
    def distribution(self) -> str:
        """The distribution that its file came with; ``local`` for a file of one's own."""
        records = get_registry().records
        return next((record.distribution for record in records if self.path in record.ablations), "local")

    def changes(self, budget: str) -> list[Node]:
        """Return the changes to the zoo: those of every budget, then those of one and of what it extends.

        Raises:
            UnknownNameError: there is no such budget.
        """
        if budget not in self.ablation.budgets:
            near = did_you_mean(budget, self.ablation.budgets)
            known = ", ".join(self.ablation.budgets)
            raise UnknownNameError(f"{self.name} has no budget {budget!r}.{near} Budgets: {known}.")
        budgets = self.tree.content["budgets"].content
        places = [self.tree, *(budgets[name] for name in self.ablation.lineage(budget))]
        return [place.content["entries"] for place in places if "entries" in place.content]


def recipe_files() -> dict[str, Path]:
    """Return the recipes of all plugins by name; a first-party one is found first."""
    found: dict[str, Path] = {}
    for record in get_registry().records:
        for path in record.ablations:
            found.setdefault(path.stem, path)
    return found


def read_recipe(reference: str | Path) -> Source:
    """Read a recipe by the name of a plugin's, or by its file.

    Raises:
        UnknownNameError: there is no such recipe.
        DataError, EntryError: the file cannot be read, or is no recipe; names file, line and near miss.
    """
    files = recipe_files()
    path = files.get(str(reference), Path(reference))
    if str(reference) not in files and path.suffix not in (".yaml", ".yml"):
        near = did_you_mean(str(reference), files)
        raise UnknownNameError(
            f"No ablation is called {str(reference)!r}.{near} There are {', '.join(files)}; a recipe of your own is "
            "given as its file, ending in .yaml."
        )
    tree = read_yaml(path)
    if not isinstance(tree.content, dict):
        raise EntryError(f"{path}: an ablation must be a mapping with title, columns, rows and budgets.")
    try:
        ablation = Ablation.model_validate(tree.value)
    except pydantic.ValidationError as error:
        raise EntryError(explain(f"ablation {path.stem!r}", error, tree)) from None
    return Source(path.stem, path, tree, ablation)


# --- reading cells off a composition ------------------------------------------------------------------------------


def look_up(written: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, or ``ABSENT``."""
    value: Any = written
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def values_of(value: Any) -> list[str]:
    """Return what a row's patterns are held against: a mapping's keys, a list's items, or the value itself."""
    if value is ABSENT or value is None:
        return []
    if isinstance(value, (Mapping, list, tuple)):
        return [str(part) for part in value]
    if isinstance(value, bool):
        return [str(value).lower()]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def _fits(value: str, pattern: str) -> bool:
    bare = value.rpartition("/")[2]  # of a component, whose name is written out with its owner
    return fnmatchcase(value, pattern) or fnmatchcase(bare, pattern)


def filled_in(label: str, compositions: list[dict[str, Any]]) -> str:
    """Return a row's label with what the columns have in place of ``{dotted.key}``."""

    def found(place: re.Match[str]) -> str:
        values = [", ".join(v.rpartition("/")[2] for v in values_of(look_up(c, place[1]))) for c in compositions]
        return " or ".join(dict.fromkeys(value for value in values if value)) or "none"

    return _PLACE.sub(found, label)
