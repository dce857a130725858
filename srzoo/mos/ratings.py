"""Raters and their ratings, in SQLite or PostgreSQL through SQLAlchemy.

A rating is a row that is never changed: a rater who changes an answer adds a row of the next revision, and the last
one counts. A method that writes returns once the database has the row on disk, so that whoever is told so may rely on
it: SQLite runs in write-ahead mode with ``synchronous = FULL``, and on a Mac with ``fullfsync``; of PostgreSQL's
``synchronous_commit`` everything goes but ``off``. What is sent twice under one key is stored once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ..errors import DataError, InputError
from .database import CONNECTIONS, cause, open_engine
from .plan import Trial, make_plan
from .study import DATABASE_FILE, DATABASE_VARIABLE, Secret, Study, new_token

MAX_NAME = 80
"""Characters of a rater's name."""

_metadata = sa.MetaData()
_raters = sa.Table(
    "mos_raters",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(32), nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("token", sa.String(64), unique=True),  # NULL once the rater is forgotten
    sa.Column("name", sa.String(MAX_NAME)),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("invited", sa.BigInteger, nullable=False),
    sa.Column("begun", sa.BigInteger),
    sa.Column("seen", sa.BigInteger),
    sa.UniqueConstraint("study", "slot"),
)
_ratings = sa.Table(
    "mos_ratings",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("rater", sa.Integer, sa.ForeignKey("mos_raters.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("value", sa.SmallInteger, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("milliseconds", sa.Integer),
    sa.Column("pixel_ratio", sa.Float),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("rater", "position", "revision"),
    sa.UniqueConstraint("rater", "key"),
)


class UnknownRaterError(Exception):
    """No rater has this token, or the rater was forgotten."""


class RefusedRatingError(Exception):
    """A rating that contradicts what is there; nothing was changed."""


@dataclass(frozen=True)
class Rater:
    """A person who rates.

    Attributes:
        id: unique in the database.
        slot: number within the study, from 0; decides the plan.
        token: of the personal link; empty once the rater was forgotten.
        name: what the rater or the inviter gave; may be empty.
        plan: the session, as it was fixed when the rater was made.
        done: how many of the plan are answered; always the first ones.
        invited, begun, seen: milliseconds since 1970 in UTC; None for what has not happened.
    """

    id: int
    slot: int
    token: str
    name: str
    plan: tuple[Trial, ...]
    done: int
    invited: int
    begun: int | None
    seen: int | None

    @property
    def finished(self) -> bool:
        """Whether all of the plan is answered."""
        return self.done >= len(self.plan)


@dataclass(frozen=True)
class Rating:
    """One answer.

    Attributes:
        position: in the rater's plan, from 0.
        revision: 1 for the first answer, 2 for the first change, ...
        value: 1 to 5; of a pair 1 for the left and 2 for the right one.
        key: that the client made up for it.
        milliseconds: from when the image was seen to the answer, by the client's clock.
        pixel_ratio: device pixels a CSS pixel of the rater's screen.
        time: milliseconds since 1970 in UTC.
    """

    rater: int
    position: int
    revision: int
    value: int
    key: str
    milliseconds: int | None
    pixel_ratio: float | None
    time: int


class RatingStore:
    """The raters and ratings of one study.

    Args:
        url: SQLAlchemy's URL of a database; several studies may share one.

    Raises:
        InputError: the URL is wrong, or its driver is not installed.
        DataError: the database cannot be opened.
    """

    def __init__(self, study: Study, url: str) -> None:
        self.study = study
        self._engine = open_engine(url)
        self._lock = threading.Lock() if self._engine.dialect.name == "sqlite" else nullcontext()
        self.where = self._engine.url.render_as_string(hide_password=True)
        try:
            _metadata.create_all(self._engine)
        except SQLAlchemyError as error:
            raise DataError(f"The database {self.where} cannot be opened: {cause(error)}.") from error

    def warm_up(self) -> None:
        """Open all connections and put each question once, so that the first raters need not wait for it."""
        with ExitStack() as opened:
            for _ in range(CONNECTIONS):
                opened.enter_context(self._engine.connect())
        with suppress(UnknownRaterError):
            self.rate("", 0, 1, "")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that is on disk when the block ends. SQLite has one writer, so that threads queue here."""
        with self._lock, self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    # --- raters ---------------------------------------------------------------------------------------------

    def add_rater(self, name: str = "", *, begun: bool = False) -> Rater:
        """Add a rater, who gets the next free plan.

        Args:
            name: kept as given but for control characters and what exceeds ``MAX_NAME``.
            begun: whether the rater is here already, rather than invited.
        """
        now = _now()
        with self._writing() as connection:
            if self._engine.dialect.name == "postgresql":  # one after another, so that no two get the same number
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(self.study.id))))
            last = connection.scalar(sa.select(sa.func.max(_raters.c.slot)).where(_raters.c.study == self.study.id))
            slot = 0 if last is None else last + 1
            row: dict[str, Any] = {
                "study": self.study.id,
                "slot": slot,
                "token": new_token(),
                "name": clean_name(name) or None,
                "plan": json.dumps([astuple(trial) for trial in make_plan(self.study, slot)]),
                "done": 0,
                "invited": now,
                "begun": now if begun else None,
            }
            identifier = connection.execute(_raters.insert().values(row)).inserted_primary_key
            assert identifier is not None
            found = connection.execute(sa.select(_raters).where(_raters.c.id == identifier[0])).one()
        return _rater(found)

    def rater(self, token: str) -> Rater:
        """Return the rater with a token.

        Raises:
            UnknownRaterError: there is none.
        """
        with self._engine.connect() as connection:
            return self._by_token(connection, token)

    def _by_token(self, connection: sa.Connection, token: str, lock: bool = False) -> Rater:
        query = sa.select(_raters).where(_raters.c.token == token, _raters.c.study == self.study.id)
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None or not token:
            raise UnknownRaterError
        return _rater(row)

    def raters(self) -> list[Rater]:
        """Return all raters, by number."""
        query = sa.select(_raters).where(_raters.c.study == self.study.id).order_by(_raters.c.slot)
        with self._engine.connect() as connection:
            return [_rater(row) for row in connection.execute(query)]

    def count(self) -> int:
        """Return how many raters there are."""
        query = sa.select(sa.func.count()).select_from(_raters).where(_raters.c.study == self.study.id)
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def begin(self, rater: Rater) -> None:
        """Note that an invited rater has come, unless it is noted already."""
        begun = sa.func.coalesce(_raters.c.begun, _now())
        with self._writing() as connection:
            connection.execute(_raters.update().where(_raters.c.id == rater.id).values(begun=begun))

    def forget(self, slots: Sequence[int], *, ratings: bool = False) -> int:
        """Delete the names and links of raters, so that nothing leads from a rating to a person.

        Args:
            slots: numbers of raters, from 0.
            ratings: delete their ratings as well, with all history.

        Returns:
            how many ratings were deleted.

        Raises:
            InputError: there is no such rater; nothing is deleted then.
        """
        known = {rater.slot: rater.id for rater in self.raters()}
        for slot in slots:
            if slot not in known:
                raise InputError(f"There is no rater {slot + 1}; there are {len(known)}.")
        chosen = [known[slot] for slot in slots]
        deleted = 0
        with self._writing() as connection:
            changes: dict[str, Any] = {"name": None, "token": None}
            if ratings:
                gone = connection.execute(_ratings.delete().where(_ratings.c.rater.in_(chosen)))
                deleted = gone.rowcount
                changes |= {"done": 0, "begun": None, "seen": None}
            connection.execute(_raters.update().where(_raters.c.id.in_(chosen)).values(changes))
        if self._engine.dialect.name == "sqlite":
            self._engine.dispose()
            with self._engine.connect() as connection:  # deleted content leaves the log as well
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    # --- ratings --------------------------------------------------------------------------------------------

    def rate(
        self,
        token: str,
        position: int,
        value: int,
        key: str,
        milliseconds: int | None = None,
        pixel_ratio: float | None = None,
        replaces: int | None = None,
    ) -> Rater:
        """Keep an answer and return the rater as it is then; it is on disk when this returns.

        The same answer under the same key is kept once, however often it is sent. Under another key it is a change.

        Args:
            replaces: revision of the answer that the rater saw here, 0 for none; None for whichever there is. An answer
                that waited on one device does not undo what was said later on another.

        Raises:
            UnknownRaterError: no rater has this token.
            RefusedRatingError: the position has not been reached; the value is none of the scale; the key was used for
                another answer, or for one that was changed since; the answer is another one than ``replaces`` says.
        """
        with self._writing() as connection:
            rater = self._by_token(connection, token, lock=True)
            if not 0 <= position < len(rater.plan):
                raise RefusedRatingError("there is nothing at this position")
            if not 1 <= value <= (2 if len(rater.plan[position].versions) == 2 else 5):
                raise RefusedRatingError("the value is not on the scale")
            if position > rater.done:
                raise RefusedRatingError("what comes before is not answered yet")
            mine = _ratings.c.rater == rater.id
            earlier = connection.execute(
                sa.select(_ratings.c.position, _ratings.c.revision, _ratings.c.key, _ratings.c.value)
                .where(mine, sa.or_(_ratings.c.position == position, _ratings.c.key == key))
                .order_by(_ratings.c.revision)
            ).all()
            here = [row for row in earlier if row.position == position]
            if here and here[-1].key == key and here[-1].value == value:
                return rater
            if any(row.key == key for row in earlier):
                raise RefusedRatingError("this answer was given before, and was changed since")
            if replaces is not None and replaces != len(here):
                raise RefusedRatingError("it was answered elsewhere meanwhile")
            now = _now()
            row = Rating(rater.id, position, len(here) + 1, value, key, milliseconds, pixel_ratio, now)
            connection.execute(_ratings.insert().values(vars(row)))
            done = max(rater.done, position + 1)
            connection.execute(_raters.update().where(_raters.c.id == rater.id).values(done=done, seen=now))
            return Rater(**{**vars(rater), "done": done, "seen": now})

    def value(self, rater: Rater, position: int) -> tuple[int | None, int]:
        """Return what a rater answered at a position, and the revision of it; None and 0 without an answer."""
        query = (
            sa.select(_ratings.c.value, _ratings.c.revision)
            .where(_ratings.c.rater == rater.id, _ratings.c.position == position)
            .order_by(_ratings.c.revision.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        return (None, 0) if found is None else (found.value, found.revision)

    def history(self) -> list[Rating]:
        """Return all answers with all that were changed since, by rater, position and revision."""
        query = (
            sa.select(*(column for column in _ratings.c if column.name != "id"))
            .join(_raters, _raters.c.id == _ratings.c.rater)
            .where(_raters.c.study == self.study.id)
            .order_by(_ratings.c.rater, _ratings.c.position, _ratings.c.revision)
        )
        with self._engine.connect() as connection:
            return [Rating(**row) for row in connection.execute(query).mappings()]

    def ratings(self) -> list[Rating]:
        """Return the answers that count, by rater and position."""
        return list({(rating.rater, rating.position): rating for rating in self.history()}.values())


def open_ratings(folder: str | Path, study: Study, secret: Secret) -> RatingStore:
    """Return the ratings of the study in a folder; see :class:`RatingStore` for errors."""
    url = os.environ.get(DATABASE_VARIABLE) or secret.database
    return RatingStore(study, url or f"sqlite:///{(Path(folder) / DATABASE_FILE).resolve().as_posix()}")


def clean_name(name: str) -> str:
    """Return a name on one line, without what a terminal or a table might obey, of bounded length."""
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:MAX_NAME].strip()


def _rater(row: sa.Row[Any]) -> Rater:
    found = dict(row._mapping)
    return Rater(
        found["id"],
        found["slot"],
        found["token"] or "",
        found["name"] or "",
        _plan(found["plan"]),
        found["done"],
        found["invited"],
        found["begun"],
        found["seen"],
    )


@lru_cache(maxsize=512)  # read for every rating, and never changed
def _plan(text: str) -> tuple[Trial, ...]:
    return tuple(Trial(kind, image, tuple(versions)) for kind, image, versions in json.loads(text))


def _now() -> int:
    return time.time_ns() // 1_000_000
