"""What has to be trained for an ablation, with what columns share trained once. Needs no torch.

An entry is trained stage by stage, each stage a run of its own that starts from the one before. A run is named after a
digest of all that decides its weights: columns whose first stages agree, as those that share generator and data agree
in the PSNR stage, share these runs, whatever their later stages are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..composition import has_adversarial_term, written_out
from ..confinement import ENSEMBLE, Name
from ..entry import Entry, diff_entries
from ..errors import InputError, SrzooError
from ..options import SLOTS
from ..plugins import OWN_DISTRIBUTION
from ..registry import get_registry, without_own_owner
from ..zoo import Source as ZooSource
from ..zoo import Zoo, get_zoo
from .recipe import Ablation, Budget, Column, Row, Source, filled_in

DESCRIPTIVE = ("name", "summary", "paper", "weights", "recorded")
"""Keys of an entry that change nothing about what is trained."""


@dataclass(frozen=True)
class Run:
    """One stage of one or several columns, with one seed.

    Attributes:
        name: of its folder: the stage, the seed and a digest of all that decides its weights.
        entry: with this stage alone.
        parent: the run whose weights it starts from.
    """

    name: str
    digest: str
    entry: Entry
    parent: Run | None

    @property
    def stage(self) -> str:
        """The stage's name."""
        assert self.entry.training is not None
        return next(iter(self.entry.training.stages))

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        assert self.entry.training is not None
        return self.entry.training.stages[self.stage].steps

    def weights_in(self, runs: Path) -> Path:
        """Return the file that the weights are written to at the run's end, whole or not at all."""
        return runs / self.name / f"{self.name}.safetensors"

    def steps_done_in(self, runs: Path) -> int:
        """Return the step of the newest state, 0 where there is none."""
        steps = [int(path.stem.rpartition("-")[2]) for path in (runs / self.name / "states").glob("*-*.pt")]
        return max(steps, default=0)

    def starting_in(self, runs: Path) -> Entry:
        """Return the entry to train, which starts from its parent's folder in ``runs``."""
        if self.parent is None:
            return self.entry
        assert self.entry.training is not None
        training = self.entry.training.model_copy(update={"start_from": str(runs.resolve() / self.parent.name)})
        return self.entry.model_copy(update={"training": training})


@dataclass(frozen=True)
class Planned:
    """A column as it is planned.

    Attributes:
        entry: with all its stages, as the budget has it; None for the reference.
        runs: the last stage's, one for each seed.
        cells: row to text.
        difference: dotted key, value there, value here, for every difference to the column it is compared with.
    """

    column: Column
    entry: Entry | None
    runs: tuple[Run, ...]
    cells: tuple[str, ...]
    difference: tuple[tuple[str, Any, Any], ...]

    @property
    def label(self) -> str:
        """What the column is called."""
        return self.column.label


@dataclass(frozen=True)
class Plan:
    """An ablation at one budget.

    Attributes:
        rows: labels of the rows of the table's head.
        columns: all, in their order.
    """

    source: Source
    budget_name: str
    seeds: int
    rows: tuple[str, ...]
    columns: tuple[Planned, ...]

    def folders(self, out: str | Path | None, runs: str | Path | None) -> tuple[Path, Path]:
        """Return the ablation's folder and that of its runs, each by default if it is None."""
        folder = Path(out) if out is not None else Path("ablations") / f"{self.source.name}-{self.budget_name}"
        return folder, Path(runs) if runs is not None else folder / "runs"

    @property
    def ablation(self) -> Ablation:
        """The recipe."""
        return self.source.ablation

    @property
    def budget(self) -> Budget:
        """The budget."""
        return self.ablation.budget(self.budget_name)

    @property
    def data(self) -> list[str]:
        """The datasets that are benchmarked, as the recipe means their names."""
        return [get_registry().own("dataset", name, self.source.distribution) for name in self.budget.data]

    @property
    def metrics(self) -> list[str]:
        """The metrics, likewise; where the budget leaves them to srzoo, srzoo's own."""
        scope = self.source.distribution if "metrics" in self.budget.model_fields_set else OWN_DISTRIBUTION
        return [get_registry().own("metric", name, scope) for name in self.budget.metrics]

    @property
    def trained(self) -> list[Planned]:
        """The columns that are not the reference."""
        return [planned for planned in self.columns if planned.entry is not None]

    def planned(self, label: str) -> Planned:
        """Return a column by its label."""
        return next(planned for planned in self.columns if planned.label == label)

    def against(self, planned: Planned) -> Planned | None:
        """Return the column that one is compared with."""
        other = self.ablation.against(planned.column)
        return self.planned(other.label) if other is not None else None

    def runs(self) -> list[Run]:
        """Return all runs, each once and after the one it starts from: first the columns of the first seed."""
        found: dict[str, Run] = {}
        for seed in range(self.seeds):
            for planned in self.trained:
                for run in lineage(planned.runs[seed]):
                    found.setdefault(run.name, run)
        return list(found.values())


def lineage(run: Run) -> Iterator[Run]:
    """Yield the runs that one builds on, the first one first, and itself."""
    if run.parent is not None:
        yield from lineage(run.parent)
    yield run


def make_plan(source: Source, budget_name: str, seeds: int | None = None) -> Plan:
    """Plan an ablation.

    Args:
        seeds: how many runs of every column; the budget's number by default.

    Raises:
        InputError: there is no such budget; an entry or a change is not valid; a row has no text for a column.
    """
    zoo, scope = get_zoo(), source.distribution
    for changes in source.changes(budget_name):
        zoo = zoo.amended(changes, ZooSource(source.path, source.distribution, source.name, (source.path.parent,)))
    ablation = source.ablation
    budget = ablation.budget(budget_name)
    count = seeds if seeds is not None else budget.seeds
    if type(count) is not int or count < 1:
        raise InputError(f"seeds={count!r}: give a whole number of at least 1.")
    entries = {c.entry: zoo.entry(c.entry, scope=scope) for c in ablation.columns if c.entry is not None}
    for name, entry in entries.items():
        if entry.training is None:
            raise InputError(f"{source.path}: entry {name!r} has no training recipe, so it cannot be a column.")
        if entry.self_ensemble:
            raise InputError(
                f"{source.path}: entry {name!r} is a self-ensemble, which is not trained, so it cannot be a column. "
                "Name an entry without self_ensemble; 'srzoo bench RUN+' compares the self-ensembles of runs."
            )
    _check_stages(source, budget_name, entries)
    written = {name: written_out(entry) for name, entry in entries.items()}
    first = next(iter(written.values()))
    runs = {name: tuple(_runs(zoo, name, budget, seed, scope) for seed in range(count)) for name in entries}
    columns = []
    for column in ablation.columns:
        if column.entry is None:
            columns.append(Planned(column, None, (), (), ()))
            continue
        own = written[column.entry]
        cells = tuple(_cell(source, row, own, first, column.entry) for row in ablation.rows)
        other = ablation.against(column)
        difference = _difference(entries[other.entry], entries[column.entry]) if other and other.entry else ()
        columns.append(Planned(column, entries[column.entry], runs[column.entry], cells, difference))
    labels = tuple(filled_in(row.label, list(written.values())) for row in ablation.rows)
    return Plan(source, budget_name, count, labels, tuple(columns))


def _cell(source: Source, row: Row, own: dict[str, Any], first: dict[str, Any], entry: str) -> str:
    try:
        return row.cell(own, first, entry)
    except InputError as error:
        raise InputError(f"{source.path}: {error}") from None


def _difference(left: Entry, right: Entry) -> tuple[tuple[str, Any, Any], ...]:
    return tuple(d for d in diff_entries(left, right) if d[0].partition(".")[0] not in DESCRIPTIVE)


def _check_stages(source: Source, budget_name: str, entries: dict[str, Entry]) -> None:
    known = {name for entry in entries.values() if entry.training is not None for name in entry.training.stages}
    for budget in source.ablation.lineage(budget_name):
        for name in source.ablation.budgets[budget].stages:
            if name not in known:
                place = source.tree.place(("budgets", budget, "stages", name))
                raise InputError(f"{place}: no entry has a stage {name!r}; there are {', '.join(sorted(known))}.")


def _runs(zoo: Zoo, name: str, budget: Budget, seed: int, scope: str) -> Run:
    """Return the run of an entry's last stage."""
    entry = zoo.entry(name, scope=scope)
    assert entry.training is not None
    start, parent = entry.training.start_from, None
    if start is not None and start in zoo:
        parent, start = _runs(zoo, start, budget, seed, scope), None
    for stage in entry.training.stages:
        parent = _run(zoo, name, stage, budget, seed, start, parent, scope)
        start = None
    assert parent is not None
    return parent


def _run(
    zoo: Zoo,
    name: str,
    stage_name: str,
    budget: Budget,
    seed: int,
    start: str | None,
    parent: Run | None,
    scope: str,
) -> Run:
    changes = {f"training.{key}": value for key, value in budget.stages.get(stage_name, {}).items()}
    try:
        entry = zoo.entry(name, changes, scope)
    except SrzooError as error:
        raise type(error)(f"stage {stage_name!r}: {error}") from None
    assert entry.training is not None
    stage = entry.training.stages[stage_name]
    training = entry.training.of_stages([stage_name]).model_copy(
        update={"start_from": start, "seed": entry.training.seed + seed}
    )
    discriminator = entry.discriminator if has_adversarial_term(stage) else None
    whole = entry.model_copy(update={"training": training, "discriminator": discriminator})
    digest = _digest(whole, parent)
    run_name = f"{re.sub('[^a-z0-9_.-]', '-', stage_name.lower())}-seed{training.seed}-{digest[:12]}"
    # Nothing that is one column's own: the run belongs to all that share it.
    cut = {"name": run_name, "summary": f"stage {stage_name}", "weights": None, "recorded": None, "paper": ""}
    return Run(run_name, digest, whole.model_copy(update=cut), parent)


def _digest(entry: Entry, parent: Run | None) -> str:
    """Return the SHA-256 of all that decides a run's weights and is not a default.

    Defaults are left out, so that an option which a newer version adds does not rename what is trained already. A
    default that has changed is noticed by what the weight files say of themselves.
    """
    assert entry.training is not None
    references: dict[str, Any] = {"start_from": None}
    taught: list[str] = []
    if (teacher := entry.training.teacher) is not None:
        taught = _teacher_digest(teacher)
        if teacher.removesuffix(ENSEMBLE) not in get_zoo():  # where a file lies decides nothing
            references["teacher"] = None
    plain = entry.model_copy(update={"training": entry.training.model_copy(update=references)})
    found = plain.model_dump(mode="json", exclude_defaults=True, exclude=set(DESCRIPTIVE))
    decisive = [_slots_written_out(without_own_owner(found)), parent.digest if parent else None]
    if entry.training.start_from is not None:
        decisive.append(_file_digest(entry.training.start_from))
    decisive += taught
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _slots_written_out(value: Any) -> Any:
    """Return nested values with ``{name: rrdb}`` where a slot says ``rrdb``."""
    if isinstance(value, list):
        return [_slots_written_out(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {"name": part} if key in SLOTS and isinstance(part, str) else _slots_written_out(part)
        for key, part in value.items()
    }


def _teacher_digest(teacher: str) -> list[str]:
    """Return the SHA-256 of a teacher's weights, and what stands for a self-ensemble."""
    plain = teacher.removesuffix(ENSEMBLE)
    suffix = teacher[len(plain) :]
    if plain in get_zoo():
        weights = get_zoo().entry(plain).weights
        return [weights.sha256 if weights is not None else "", suffix]
    if isinstance(teacher, Name):
        raise InputError(
            f"training.teacher: {teacher!r}, which a zoo file gives, is no entry of the zoo, and an ablation trains no "
            "teachers."
        )
    return [_file_digest(plain, "teacher"), suffix]


def _file_digest(start: str, key: str = "start_from") -> str:
    if isinstance(start, Name):
        raise InputError(f"training.{key}: {start!r}, which a zoo file gives, is no entry of the zoo.")
    path = Path(start)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"training.{key}: {start} holds no weights; an ablation needs a run that is finished.")
    try:
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    except OSError as error:
        raise InputError(f"training.{key}: {start} is no entry of the zoo, and cannot be read: {error}.") from None
