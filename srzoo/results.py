"""Reading stored results back, merging those of several runs, and exporting them. Needs no torch."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .errors import DataError, InputError
from .store import FILE, CostRow


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


def _typed(names: Sequence[str], row: Sequence[Any]) -> Iterator[Any]:
    for name, value in zip(names, row, strict=True):
        if name == "value" and value is None:
            yield math.nan
        else:
            yield bool(value) if name == "higher_is_better" else value


def read_costs(folder: Path) -> list[CostRow]:
    """Return the newest cost of every (entry, precision, device) of a run folder.

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
    return list({(cost.entry, cost.precision, cost.device, cost.size): cost for cost in found}.values())


def _open_existing(folder: Path) -> sqlite3.Connection:
    path = folder if folder.is_file() else folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {FILE}; name folders that srzoo bench wrote.")
    try:
        database = sqlite3.connect(f"file:{path.resolve().as_posix()}?mode=ro", uri=True, timeout=30)
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
    temporary = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        elif path.suffix == ".parquet":
            _write_parquet(records, names, temporary)
        else:
            raise InputError(f"{path}: write a name that ends in .csv, .json or .parquet.")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"Cannot write {path}: {error}.") from error


def _write_parquet(records: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet needs a package that is not installed: pip install 'srzoo[parquet]'.") from None
    table = pyarrow.table({name: [record[name] for record in records] for name in names})
    pyarrow.parquet.write_table(table, path)
