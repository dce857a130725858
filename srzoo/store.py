"""Where benchmark results live: one SQLite file a run folder, a row for each image and metric.

A row is looked up by what decides its value: the generator's composition and code, its weights, the image, the
metric and its code, the protocol, the precision, the kind of device and the versions of srzoo, torch and all plugins.
What is found is not computed again; what has changed is.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from .errors import DataError, InputError
from .remarks import Remark

FILE = "results.sqlite"
"""Name of the store in a run folder."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS environments (
    id INTEGER PRIMARY KEY, srzoo TEXT NOT NULL, plugins TEXT NOT NULL, torch TEXT NOT NULL,
    device TEXT NOT NULL, threads INTEGER NOT NULL, UNIQUE (srzoo, plugins, torch, device, threads));
CREATE TABLE IF NOT EXISTS scores (
    entry TEXT NOT NULL, dataset TEXT NOT NULL, image TEXT NOT NULL, metric TEXT NOT NULL, protocol TEXT NOT NULL,
    value REAL, higher_is_better INTEGER NOT NULL, scale INTEGER NOT NULL, precision TEXT NOT NULL, seed INTEGER,
    recipe TEXT NOT NULL, configuration TEXT NOT NULL, weights TEXT NOT NULL, dataset_digest TEXT NOT NULL,
    image_digest TEXT NOT NULL, environment INTEGER NOT NULL REFERENCES environments, time TEXT NOT NULL,
    key TEXT NOT NULL, PRIMARY KEY (entry, dataset, image, metric, key));
CREATE TABLE IF NOT EXISTS costs (
    entry TEXT NOT NULL, configuration TEXT NOT NULL, precision TEXT NOT NULL, size INTEGER NOT NULL,
    milliseconds REAL, quartile_low REAL, quartile_high REAL, peak_bytes INTEGER, parameters INTEGER NOT NULL,
    multiply_adds INTEGER, environment INTEGER NOT NULL REFERENCES environments, time TEXT NOT NULL,
    PRIMARY KEY (entry, configuration, precision, size, environment));
CREATE TABLE IF NOT EXISTS current (
    entry TEXT NOT NULL, precision TEXT NOT NULL, configuration TEXT NOT NULL, weights TEXT NOT NULL,
    PRIMARY KEY (entry, precision));
CREATE TABLE IF NOT EXISTS panels (
    metric TEXT NOT NULL, dataset TEXT NOT NULL, protocol TEXT NOT NULL, raters INTEGER NOT NULL, study TEXT NOT NULL,
    time TEXT NOT NULL, PRIMARY KEY (metric, dataset, protocol));
CREATE TABLE IF NOT EXISTS remarks (
    entry TEXT NOT NULL, precision TEXT NOT NULL, configuration TEXT NOT NULL, weights TEXT NOT NULL,
    dataset TEXT NOT NULL, image TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (entry, precision, configuration, weights, dataset, image));
CREATE TABLE IF NOT EXISTS images (
    dataset TEXT NOT NULL, scale INTEGER NOT NULL, image TEXT NOT NULL, image_digest TEXT NOT NULL,
    PRIMARY KEY (dataset, scale, image));
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Environment:
    """What a value was computed by.

    Attributes:
        plugins: every working plugin with its distribution and version.
        device: in words, e.g. ``NVIDIA H200`` or ``CPU``.
        threads: of torch, on a CPU.
    """

    srzoo: str
    plugins: Mapping[str, str]
    torch: str
    device: str
    threads: int


@dataclass(frozen=True)
class Subject:
    """A model as the store knows it.

    Attributes:
        configuration: digest of the composition written out and of its parts' source files; with the file's own,
            where a generator is built from a file alone.
        weights: SHA-256 of the weight file; empty where there are none.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        recipe: digest of what it was trained by, but for the seed; empty where that is not known.
        seed: of its training.
    """

    entry: str
    scale: int
    configuration: str
    weights: str = ""
    precision: str = "fp32"
    recipe: str = ""
    seed: int | None = None

    @property
    def label(self) -> str:
        """How results name it: the entry, with its precision where that is not the usual one."""
        return label_of(self.entry, self.precision)


@dataclass(frozen=True)
class CostRow:
    """What one forward pass costs, batch 1.

    Attributes:
        size: side of the square low-resolution input.
        milliseconds: median; ``quartile_low`` and ``quartile_high`` enclose the middle half of the repeats.
        peak_bytes: most memory that tensors took at a time beyond what was there before, so without the weights; None
            where it could not be measured.
        time: when a benchmark last stated it; empty until it is stored.
    """

    entry: str
    size: int
    milliseconds: float
    quartile_low: float
    quartile_high: float
    peak_bytes: int | None
    parameters: int
    multiply_adds: int | None
    precision: str = "fp32"
    device: str = ""
    time: str = field(default="", compare=False)

    @property
    def images_per_second(self) -> float:
        """How many such inputs are upscaled in a second."""
        return 1000 / self.milliseconds if self.milliseconds > 0 else math.nan


@dataclass(frozen=True)
class Question:
    """One image under one protocol, as asked of one model."""

    dataset: str
    dataset_digest: str
    image: str
    image_digest: str
    protocol: str


class Store:
    """The results of one run folder. Every method may be called at any time; what is added is there at once.

    Args:
        folder: holds ``results.sqlite``; made if missing. None keeps the results in memory.
        environment: of values that will be added.
        name: of the file, for a process that shares the folder with others.
        read_only: for looking up what a file holds that nobody writes to.

    Raises:
        DataError: the file cannot be made, or is no store of this version.
    """

    def __init__(
        self, folder: Path | None, environment: Environment, name: str = FILE, *, read_only: bool = False
    ) -> None:
        self.path = folder / name if folder is not None else Path(":memory:")
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._database = _connect(self.path, read_only)
            if not read_only:
                self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"Cannot keep results in {self.path}: {error}. Give another --out.") from error
        self._environment = environment
        self._environment_id = -1 if read_only else self._identify(environment)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def _identify(self, environment: Environment) -> int:
        columns = {**asdict(environment), "plugins": json.dumps(environment.plugins, sort_keys=True)}
        names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        where = " AND ".join(f"{name} = :{name}" for name in columns)
        with self._writing() as database:
            database.execute(f"INSERT OR IGNORE INTO environments ({names}) VALUES ({marks})", columns)
        return int(self._database.execute(f"SELECT id FROM environments WHERE {where}", columns).fetchone()[0])

    def _writing(self) -> _Writing:
        return _Writing(self._database, self.path)

    def key(self, subject: Subject, question: Question, metric: str) -> str:
        """Return the digest of all that decides a value.

        Args:
            metric: what it is by: its full name, ``owner/name``, and the digest of its code.
        """
        here = self._environment
        decisive = [subject.configuration, subject.weights, subject.precision, subject.scale, question.image_digest]
        decisive += [question.protocol, metric, here.srzoo, here.torch, dict(here.plugins), here.device[:3]]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]

    def find(self, subject: Subject, question: Question, metrics: Mapping[str, str]) -> dict[str, float]:
        """Return the values that are known already.

        Args:
            metrics: name to what it is by; see :meth:`key`.
        """
        found = {}
        for metric, identity in metrics.items():
            row = self._database.execute(
                "SELECT value FROM scores WHERE entry = ? AND dataset = ? AND image = ? AND metric = ? AND key = ?",
                (subject.entry, question.dataset, question.image, metric, self.key(subject, question, identity)),
            ).fetchone()
            if row is not None:
                found[metric] = math.nan if row[0] is None else float(row[0])
        return found

    def present(self, subject: Subject) -> None:
        """Make this the model that is meant by its name from now on; rows of others remain, but are not read."""
        row = {name: getattr(subject, name) for name in ("entry", "precision", "configuration", "weights")}
        self._insert("current", [row])

    def present_images(self, scale: int, questions: Iterable[Question]) -> None:
        """Make these the images that are meant by their datasets' names from now on, as :meth:`present` does a model.

        A dataset may grow, shrink or be mended: the scores of what is no longer in it remain, but are not read.

        Args:
            scale: of the models that are asked.

        Raises:
            InputError: what is known under a dataset's name has no image in common with it, not even by name, so the
                two are different datasets.
        """
        by_dataset: dict[str, dict[str, str]] = {}
        for question in questions:
            by_dataset.setdefault(question.dataset, {})[question.image] = question.image_digest
        for dataset, images in by_dataset.items():
            known = self._known_images(dataset, scale)
            if known and not known.keys() & images.keys() and not set(known.values()) & set(images.values()):
                raise InputError(
                    f"{self.path.parent} holds scores on other images under the name {dataset!r} ({_some(known)}) than "
                    f"those given now ({_some(images)}), with none in common; rename a folder, or give another --out."
                )
        with self._writing() as database:
            for dataset, images in by_dataset.items():
                database.execute("DELETE FROM images WHERE dataset = ? AND scale = ?", (dataset, scale))
                rows = [(dataset, scale, image, digest) for image, digest in images.items()]
                database.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)

    def _known_images(self, dataset: str, scale: int) -> dict[str, str]:
        """Return name to digest of the images that a dataset had last; or, if not noted, of all that were scored."""
        asked = (dataset, scale)
        found = "SELECT image, image_digest FROM {} WHERE dataset = ? AND scale = ?"
        last = self._database.execute(found.format("images"), asked).fetchall()
        return dict(last or self._database.execute(found.format("scores") + " ORDER BY rowid", asked).fetchall())

    def add(
        self,
        subject: Subject,
        question: Question,
        values: Mapping[str, float],
        metrics: Mapping[str, str],
        directions: Mapping[str, bool],
    ) -> None:
        """Add the values of one image, all or none.

        Raises:
            DataError: the disk is full, or another process holds the file.
        """
        common = {**asdict(subject), **asdict(question), "environment": self._environment_id, "time": _now()}
        rows = [
            {
                **common,
                "metric": metric,
                "value": None if math.isnan(value) else value,
                "higher_is_better": int(directions[metric]),
                "key": self.key(subject, question, metrics[metric]),
            }
            for metric, value in values.items()
        ]
        self._insert("scores", rows)

    def renew(self, asked: Iterable[tuple[Subject, Question]], metrics: Mapping[str, str]) -> None:
        """Make the values that :meth:`find` returns the newest, for readers that know no key.

        Else what was computed by other code or on another device in between would be read, where both are there.
        """
        columns = "entry = :entry AND dataset = :dataset AND image = :image AND metric = :metric"
        same = "protocol = :protocol AND precision = :precision AND weights = :weights"
        with self._writing() as database:
            for subject, question in asked:
                row = {**asdict(subject), **asdict(question)}
                for metric, identity in metrics.items():
                    database.execute(
                        f"UPDATE scores SET rowid = (SELECT max(rowid) + 1 FROM scores) WHERE {columns} AND key = :key "
                        f"AND rowid < (SELECT max(rowid) FROM scores WHERE {columns} AND {same})",
                        {**row, "metric": metric, "key": self.key(subject, question, identity)},
                    )

    def add_panel(self, metric: str, dataset: str, protocol: str, raters: int, study: str) -> None:
        """Note how many people a metric on a dataset is the opinion of; ``study`` identifies when they were asked."""
        row = {"metric": metric, "dataset": dataset, "protocol": protocol, "raters": raters, "study": study}
        self._insert("panels", [{**row, "time": _now()}])

    def set_remark(self, subject: Subject, dataset: str, image: str, text: str) -> None:
        """Note what is to be known of a model's outputs, instead of what was noted before.

        Args:
            image: empty for what is said of the whole dataset.
            text: empty where there is nothing to be known any more.
        """
        row = {name: getattr(subject, name) for name in ("entry", "precision", "configuration", "weights")}
        self._insert("remarks", [{**row, "dataset": dataset, "image": image, "text": text}])

    def remark(self, subject: Subject, dataset: str, image: str) -> str:
        """Return what was noted of an image, or of the whole dataset; empty for nothing."""
        found = [remark.text for remark in self.remarks(subject, [dataset]) if remark.image == image]
        return found[0] if found else ""

    def remarks(self, subject: Subject, datasets: Sequence[str]) -> list[Remark]:
        """Return what is to be known of a model's outputs on some datasets."""
        rows = self._database.execute(
            "SELECT dataset, image, text FROM remarks "
            "WHERE entry = ? AND precision = ? AND configuration = ? AND weights = ? ORDER BY rowid",
            (subject.entry, subject.precision, subject.configuration, subject.weights),
        ).fetchall()
        return [Remark(subject.label, *row) for row in rows if row[0] in datasets and row[2]]

    def add_cost(self, subject: Subject, cost: CostRow) -> None:
        """Add what a model costs on this device; again, so that it counts as the newest."""
        row = {k: v for k, v in asdict(cost).items() if k != "device"}
        row |= {"configuration": subject.configuration, "environment": self._environment_id, "time": _now()}
        self._insert("costs", [row])

    def cost(self, subject: Subject, size: int) -> CostRow | None:
        """Return what a model costs on this device, if that was measured already."""
        names = [f.name for f in fields(CostRow) if f.name != "device"]
        row = self._database.execute(
            f"SELECT {', '.join(names)} FROM costs "
            "WHERE entry = ? AND configuration = ? AND precision = ? AND size = ? AND environment = ?",
            (subject.entry, subject.configuration, subject.precision, size, self._environment_id),
        ).fetchone()
        if row is None:
            return None
        return CostRow(**dict(zip(names, row, strict=True)), device=self._environment.device)

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        with self._writing() as database:
            database.executemany(f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)

    def take_in(self, other: Path) -> None:
        """Add all rows of another process' file, and delete it.

        Raises:
            DataError: it is no such file.
        """
        try:
            self._take_in(other)
        except sqlite3.Error as error:
            raise DataError(
                f"{other}, which a process left that was stopped, cannot be read: {error}. Delete it, and what it held "
                "is computed again."
            ) from error
        for path in (other, *(other.with_name(other.name + suffix) for suffix in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)

    def _take_in(self, other: Path) -> None:
        with closing(_connect(other)) as database:
            database.executescript(_SCHEMA)  # which one that was stopped early lacks, or one of before a table
            for (number,) in database.execute("SELECT id FROM environments").fetchall():
                row = database.execute(
                    "SELECT srzoo, plugins, torch, device, threads FROM environments WHERE id = ?", (number,)
                ).fetchone()
                environment = Environment(row[0], json.loads(row[1]), *row[2:])
                own = self._identify(environment)
                for table in ("scores", "costs"):
                    cursor = database.execute(f"SELECT * FROM {table} WHERE environment = ?", (number,))
                    names = [column[0] for column in cursor.description]
                    rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
                    self._insert(table, [{**found, "environment": own} for found in rows])
            cursor = database.execute("SELECT * FROM remarks")
            names = [column[0] for column in cursor.description]
            self._insert("remarks", [dict(zip(names, values, strict=True)) for values in cursor.fetchall()])


class _Writing:
    """A transaction whose failure is told as the user's."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path

    def __enter__(self) -> sqlite3.Connection:
        return self._database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._database.commit()
            else:
                self._database.rollback()
        except sqlite3.Error as failure:
            error = failure
        if isinstance(error, sqlite3.Error):
            raise DataError(
                f"Cannot write to {self._path}: {error}. What was finished before is there; free some space, or make "
                "the folder writable, and run the same command again."
            ) from error


def _connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    if read_only:  # nobody writes meanwhile, so that no lock is needed, which a shared disk may not have
        return sqlite3.connect(f"file:{quote(path.resolve().as_posix())}?immutable=1", uri=True)
    database = sqlite3.connect(path, timeout=30)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, 1):
        database.close()
        raise DataError(f"{path} was written by a newer srzoo; update srzoo, or give another --out.")
    database.execute("PRAGMA journal_mode = WAL")  # a row that is committed survives the process
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def label_of(entry: str, precision: str) -> str:
    """Return the name of an entry with its precision, unless that is fp32."""
    return entry if precision == "fp32" else f"{entry} ({precision})"


def _some(images: Iterable[str]) -> str:
    names = sorted(images)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
