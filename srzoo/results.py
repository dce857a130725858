"""Reading stored results back, merging those of several runs, and exporting them. Needs no torch."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import DataError, InputError
from .files import replacing
from .remarks import Remark, other_weights, provenance_note, remark_notes
from .report import Row
from .store import FILE, REFERENCE, CostRow, Pictures, Subject, labelled, output_path
from .timing import Timing, compared_times


@dataclass(frozen=True)
class Score:
    """One value with all that decides it; a row of an export."""

    entry: str
    dataset: str
    image: str
    metric: str
    protocol: str
    value: float
    higher_is_better: bool
    scale: int
    precision: str
    seed: int | None
    recipe: str
    configuration: str
    weights: str
    dataset_digest: str
    image_digest: str
    srzoo: str
    plugins: str
    torch: str
    device: str
    threads: int
    time: str


def read_scores(folder: Path) -> list[Score]:
    """Return the newest value of every (entry, dataset, image, metric, protocol) of a run folder.

    Where an entry's weights or composition changed between runs, only what belongs to the last one counts.

    Raises:
        InputError: the folder holds no results.
    """
    names = [f.name for f in fields(Score)]
    columns = ", ".join(names)
    query = (
        f"SELECT {columns} FROM scores JOIN environments ON scores.environment = environments.id "
        "JOIN current USING (entry, precision, configuration, weights) ORDER BY scores.rowid"
    )
    with closing(_open_existing(folder)) as database:
        rows = database.execute(query).fetchall()
    current: dict[tuple[str, ...], Score] = {}
    for row in rows:
        score = Score(**dict(zip(names, _typed(names, row), strict=True)))
        current[score.entry, score.precision, score.dataset, score.image, score.metric, score.protocol] = score
    return list(current.values())


def read_scores_of(folder: Path, rows: Iterable[Row]) -> list[tuple[str, Score]]:
    """Return what a run folder holds of some rows, whose entries are labels: each label, and all that decides a value.

    Raises:
        InputError: the folder holds no results.
    """
    asked = {(row.entry, row.dataset, row.image, row.protocol, row.metric) for row in rows}
    scores = read_scores(folder)
    return [(_place(score)[0], score) for score in scores if (*_place(score), score.metric) in asked]


def _typed(names: Sequence[str], row: Sequence[Any]) -> Iterator[Any]:
    for name, value in zip(names, row, strict=True):
        if name == "value" and value is None:
            yield math.nan
        else:
            yield bool(value) if name == "higher_is_better" else value


def read_costs(folder: Path) -> list[CostRow]:
    """Return the newest cost of every (entry, precision, device, input size) of a run folder, older ones first.

    Raises:
        InputError: the folder holds no results.
    """
    names = [f.name for f in fields(CostRow)]
    columns = ", ".join(names)
    with closing(_open_existing(folder)) as database:
        rows = database.execute(
            f"SELECT {columns} FROM costs JOIN environments ON costs.environment = environments.id "
            "JOIN current USING (entry, precision, configuration) ORDER BY costs.rowid"
        ).fetchall()
    found = [CostRow(**dict(zip(names, row, strict=True))) for row in rows]
    newest = {(cost.entry, cost.precision, cost.device, cost.size): number for number, cost in enumerate(found)}
    return [found[number] for number in sorted(newest.values())]


def read_panels(folder: Path) -> dict[tuple[str, str, str], int]:
    """Return ``(metric, dataset, protocol)`` to how many people the values are the opinion of.

    Raises:
        InputError: the folder holds no results.
    """
    with closing(_open_existing(folder)) as database:
        if not database.execute("SELECT name FROM sqlite_master WHERE name = 'panels'").fetchone():
            return {}  # written before people were asked
        rows = database.execute("SELECT metric, dataset, protocol, raters FROM panels").fetchall()
    return {(metric, dataset, protocol): raters for metric, dataset, protocol, raters in rows}


def read_remarks(folder: Path) -> list[Remark]:
    """Return what is to be known of the outputs of a run folder's models, as they are now.

    Raises:
        InputError: the folder holds no results.
    """
    with closing(_open_existing(folder)) as database:
        if not database.execute("SELECT name FROM sqlite_master WHERE name = 'remarks'").fetchone():
            return []  # written before anything was noted
        rows = database.execute(
            "SELECT entry, precision, dataset, image, text FROM remarks "
            "JOIN current USING (entry, precision, configuration, weights) ORDER BY remarks.rowid"
        ).fetchall()
    return [Remark(labelled(entry, precision), *rest) for entry, precision, *rest in rows]


@dataclass(frozen=True)
class Opinions:
    """What people said about a run's outputs.

    Attributes:
        directions: metric to whether higher is better.
        panels: dataset to metric to how many people it is the opinion of.
    """

    rows: tuple[Row, ...] = ()
    directions: Mapping[str, bool] = field(default_factory=dict)
    panels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_opinions(folder: Path, rows: Iterable[Row]) -> Opinions:
    """Return the opinions that a run folder holds of the outputs that some rows score.

    Opinions of other weights, another composition or another image of the same name are none of them.

    Args:
        rows: of one protocol, with labels as entries.

    Raises:
        InputError: the folder holds no results.
    """
    asked = {(row.entry, row.dataset, row.image, row.protocol) for row in rows}
    panels = read_panels(folder)
    scores = [s for s in read_scores(folder) if _place(s) in asked] if panels else []
    own = {_place(s): s.image_digest for s in scores if (s.metric, s.dataset, s.protocol) not in panels}
    found = [
        s for s in scores
        if (s.metric, s.dataset, s.protocol) in panels and own.get(_place(s)) == s.image_digest
    ]  # fmt: skip
    raters: dict[str, dict[str, int]] = {}
    for score in found:
        count = panels[score.metric, score.dataset, score.protocol]
        raters.setdefault(score.dataset, {})[score.metric] = count
    return Opinions(
        tuple(Row(*_place(s)[:3], s.metric, s.protocol, s.value) for s in found),
        {score.metric: score.higher_is_better for score in found},
        raters,
    )


def _place(score: Score) -> tuple[str, str, str, str]:
    return labelled(score.entry, score.precision), score.dataset, score.image, score.protocol


def _open_existing(folder: Path) -> sqlite3.Connection:
    path = folder if folder.is_file() else folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {FILE}; name folders that srzoo bench wrote.")
    # Readers of a store share its index of what is not merged yet. Where none can be made, as nobody may write there,
    # nobody does, and what has been merged is all there is.
    is_still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    try:
        mode = "immutable=1" if is_still else "mode=ro"
        database = sqlite3.connect(f"file:{quote(path.resolve().as_posix())}?{mode}", uri=True, timeout=30)
        database.execute("SELECT count(*) FROM scores").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"{path} is no store of srzoo's results: {error}.") from error
    return database


# --- exporting --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """The results of several run folders, ready to be ranked.

    Attributes:
        scores: what was merged, for exports.
        rows: the same, with labels as entries: ``NAME``, ``NAME (bf16)``, or ``NAME [FOLDER]`` where two folders hold
            different models of one name, with as much of the path as tells the folders apart.
        directions: metric to whether higher is better.
        timing: what may be compared of the times that were measured.
        recipes: label to its recipe, where two or more seeds of it are there; one label for each seed.
        pictures: outputs that the runs kept.
        panels: dataset to metric to how many people it is the opinion of.
        remarks: what is to be known of the models' outputs.
    """

    protocol: str
    scores: tuple[Score, ...]
    rows: tuple[Row, ...]
    directions: dict[str, bool]
    timing: Timing
    recipes: dict[str, str]
    pictures: Pictures
    panels: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    def notes(self, datasets: Collection[str], metrics: Collection[str]) -> list[str]:
        """Return in words what is to be known beside the scores by some metrics on some datasets."""
        scores = [
            (row.entry, score)
            for row, score in zip(self.rows, self.scores, strict=True)
            if score.dataset in datasets and score.metric in metrics
        ]
        told = remark_notes(remark for remark in self.remarks if remark.dataset in datasets)
        told += other_weights(self.models)
        return [*told, *filter(None, [provenance_note(scores)])]

    @property
    def models(self) -> dict[str, Score]:
        """Label to a score of its model, which says what it is made by."""
        return {row.entry: score for row, score in zip(self.rows, self.scores, strict=True)}

    @property
    def costs(self) -> dict[str, list[CostRow]]:
        """Label to what it takes at each input size, all on one device, the size that is compared first."""
        return self.timing.measured


def merge(folders: Sequence[Path], protocol: str | None = None) -> Merged:
    """Bring the results of several runs together.

    Args:
        protocol: which to take where the runs have several.

    Raises:
        InputError: a folder holds no results; they have no protocol or scale in common; two folders have different
            images under one name.
    """
    by_folder = {folder: read_scores(folder) for folder in folders}
    everything = [score for scores in by_folder.values() for score in scores]
    if not everything:
        raise InputError(f"{', '.join(map(str, folders))}: no scores are there yet.")
    wanted = _one_protocol(everything, protocol)
    by_folder = {f: [score for score in scores if score.protocol == wanted] for f, scores in by_folder.items()}
    _refuse_mixtures(by_folder)
    labels = _labels(by_folder)
    chosen: dict[tuple[str, str, str, str], Score] = {}
    costs: dict[str, list[CostRow]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            chosen[labels[folder, score.entry, score.precision], score.dataset, score.image, score.metric] = score
        for cost in read_costs(folder):
            if (folder, cost.entry, cost.precision) in labels:
                costs.setdefault(labels[folder, cost.entry, cost.precision], []).append(cost)
    rows = tuple(Row(*key, wanted, score.value) for key, score in chosen.items())
    directions = {score.metric: score.higher_is_better for score in chosen.values()}
    pictures = _pictures(by_folder, labels)
    panels: dict[str, dict[str, int]] = {}
    remarks: list[Remark] = []
    for folder, scores in by_folder.items():
        named = {labelled(entry, p): label for (where, entry, p), label in labels.items() if where == folder}
        there = {score.dataset for score in scores}
        remarks += [
            remark._replace(entry=named[remark.entry])
            for remark in read_remarks(folder)
            if remark.entry in named and remark.dataset in there
        ]
        for (metric, dataset, of_protocol), raters in read_panels(folder).items():
            if of_protocol == wanted:
                panels.setdefault(dataset, {})[metric] = raters
    own = tuple(chosen.values())
    recipes, timing = _recipes(chosen), compared_times(costs)
    return Merged(wanted, own, rows, directions, timing, recipes, pictures, panels, tuple(dict.fromkeys(remarks)))


def _pictures(by_folder: Mapping[Path, Sequence[Score]], labels: Mapping[tuple[Path, str, str], str]) -> Pictures:
    found: Pictures = {}
    for folder, scores in by_folder.items():
        for (dataset, image), score in {(s.dataset, s.image): s for s in scores}.items():
            reference = output_path(folder, dataset, image, score.image_digest)
            if reference.is_file():
                found.setdefault(dataset, {}).setdefault(image, {})[REFERENCE] = reference
        for score in {(s.entry, s.precision, s.dataset, s.image): s for s in scores}.values():
            path = output_path(
                folder,
                score.dataset,
                score.image,
                score.image_digest,
                labelled(score.entry, score.precision),
                (score.configuration, score.weights, score.precision),
            )
            if path.is_file():
                label = labels[folder, score.entry, score.precision]
                found.setdefault(score.dataset, {}).setdefault(score.image, {})[label] = path
    return found


def _recipes(chosen: Mapping[tuple[str, str, str, str], Score]) -> dict[str, str]:
    return group_recipes({label: score for (label, *_), score in chosen.items()})


def group_recipes(models: Mapping[str, Score | Subject]) -> dict[str, str]:
    """Return label to recipe, named by its runs, where there are several seeds of one at one precision.

    A seed counts once, by the first model of it: a copy, a repeat or another precision tells nothing of other seeds.
    """
    seeds: dict[tuple[str, str], dict[int, str]] = {}
    for label, model in models.items():
        if model.recipe and model.seed is not None:
            seeds.setdefault((model.recipe, model.precision), {}).setdefault(model.seed, label)
    groups = [runs.values() for runs in seeds.values() if len(runs) > 1]
    return {label: " and ".join(sorted(runs)) for runs in groups for label in runs}


def _one_protocol(scores: Sequence[Score], protocol: str | None) -> str:
    there = list(dict.fromkeys(score.protocol for score in scores))
    if protocol is not None:
        if protocol not in there:
            raise InputError(f"There are no scores under protocol {protocol!r}; there are {', '.join(there)}.")
        return protocol
    if len(there) > 1:
        entries = {name: next(score.entry for score in scores if score.protocol == name) for name in there}
        named = " and ".join(f"{name!r} ({entry}, ...)" for name, entry in entries.items())
        raise InputError(
            f"Scores under protocols {named} are not comparable; choose one with --protocol, or leave a folder out."
        )
    return there[0]


def _refuse_mixtures(by_folder: Mapping[Path, Sequence[Score]]) -> None:
    scales: dict[int, str] = {}
    images: dict[tuple[str, str, int], tuple[str, Path]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            scales.setdefault(score.scale, score.entry)
            name = (score.dataset, score.image, score.scale)
            digest, where = images.setdefault(name, (score.image_digest, folder))
            if digest != score.image_digest:
                raise InputError(
                    f"{where} and {folder} have different images under the name {score.dataset}/{score.image}; "
                    "benchmark both on the same files."
                )
    if len(scales) > 1:
        named = " and ".join(f"x{scale} ({entry})" for scale, entry in sorted(scales.items()))
        raise InputError(f"Scores of different scales are not comparable: {named}.")


def _labels(by_folder: Mapping[Path, Sequence[Score]]) -> dict[tuple[Path, str, str], str]:
    """Return what each folder's models are called; one label stands for one composition, weights and precision.

    Raises:
        InputError: the folders' names cannot tell two models apart.
    """
    models: dict[str, set[tuple[str, str]]] = {}
    for scores in by_folder.values():
        for score in scores:
            models.setdefault(score.entry, set()).add((score.configuration, score.weights))
    titles = _titles(list(by_folder))
    labels = {}
    meant: dict[str, tuple[str, str, str]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            label = labelled(score.entry, score.precision)
            if len(by_folder) > 1 and len(models[score.entry]) > 1:
                label += f" [{titles[folder]}]"
            labels[folder, score.entry, score.precision] = label
            model = (score.configuration, score.weights, score.precision)
            if meant.setdefault(label, model) != model:
                raise InputError(
                    f"Two models would both be called {label!r}, so their rows could not be told apart; "
                    "rename one and benchmark it again, or leave a folder out."
                )
    return labels


def _titles(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the end of each folder's path, as long as it must be to be no other's, as editors title their tabs."""
    whole = {folder: (folder.parent if folder.name == FILE else folder).resolve() for folder in folders}
    titles = {}
    for folder, path in whole.items():
        others = [other.parts for other in whole.values() if other != path]
        parts = path.parts
        length = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
        titles[folder] = Path(*parts[-length:]).as_posix()
    return titles


def export_scores(scores: Iterable[Score], path: Path) -> None:
    """Write rows with all their columns, in the format of the suffix: ``.csv``, ``.json`` or ``.parquet``.

    Raises:
        InputError: the suffix is none of them, or Parquet's package is not installed.
        DataError: the file cannot be written.
    """
    records = [asdict(score) for score in scores]
    names = [f.name for f in fields(Score)]
    if path.suffix not in (".csv", ".json", ".parquet"):
        raise InputError(f"{path}: write a name that ends in .csv, .json or .parquet.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                with open(temporary, "w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, names)
                    writer.writeheader()
                    writer.writerows(records)
            elif path.suffix == ".json":
                strict = [
                    {k: v if v == v and v not in (math.inf, -math.inf) else None for k, v in r.items()} for r in records
                ]
                temporary.write_text(json.dumps(strict, indent=1) + "\n", encoding="utf-8")
            else:
                _write_parquet(records, names, temporary)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}.") from error


def _write_parquet(records: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet needs a package that is not installed: pip install 'srzoo[parquet]'.") from None
    table = pyarrow.table({name: [record[name] for record in records] for name in names})
    pyarrow.parquet.write_table(table, path)
