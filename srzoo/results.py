"""Reading stored results back, and exporting them. Needs no torch."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import DataError, InputError
from .files import replacing
from .remarks import Remark
from .report import Row
from .store import FILE, CostRow, label_of


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

    Where an entry's weights or composition, or the images of a dataset, changed between runs, only what belongs to the
    last one counts.

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
        images = _images(database)
    current: dict[tuple[str, ...], Score] = {}
    for row in rows:
        score = Score(**dict(zip(names, _typed(names, row), strict=True)))
        meant = images.get((score.dataset, score.scale))
        if meant is not None and meant.get(score.image) != score.image_digest:
            continue
        current[score.entry, score.precision, score.dataset, score.image, score.metric, score.protocol] = score
    return list(current.values())


def _images(database: sqlite3.Connection) -> dict[tuple[str, int], dict[str, str]]:
    """Return ``(dataset, scale)`` to name and digest of its images; of no dataset for which they were not noted."""
    if not database.execute("SELECT name FROM sqlite_master WHERE name = 'images'").fetchone():
        return {}  # written before they were noted
    found: dict[tuple[str, int], dict[str, str]] = {}
    for dataset, scale, image, digest in database.execute("SELECT dataset, scale, image, image_digest FROM images"):
        found.setdefault((dataset, scale), {})[image] = digest
    return found


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
    return [Remark(label_of(entry, precision), *rest) for entry, precision, *rest in rows]


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
    return label_of(score.entry, score.precision), score.dataset, score.image, score.protocol


def _open_existing(folder: Path) -> sqlite3.Connection:
    path = folder if folder.is_file() else folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {FILE}; name folders that srzoo bench wrote.")
    # Readers of a store share its index of what is not merged yet. Where none can be made, as nobody may write there,
    # nobody does, and what has been merged is all there is. One that may not write cannot clear the index away again.
    mode = "mode=rw"
    if not (os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)):
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        database = sqlite3.connect(f"file:{quote(path.resolve().as_posix())}?{mode}", uri=True, timeout=30)
        database.execute("PRAGMA query_only = ON")
        database.execute("SELECT count(*) FROM scores").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"{path} is no store of srzoo's results: {error}.") from error
    return database


# --- exporting --------------------------------------------------------------------------------------------------


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
