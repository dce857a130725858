"""Opening SQLite or PostgreSQL so that what is committed is on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ..errors import DataError, InputError

CONNECTIONS = 12
"""Kept open: as many as the server has threads, since opening one takes longer than what it is opened for."""


def open_engine(url: str) -> sa.Engine:
    """Return an engine whose commits are on disk when they return; it connects when it is used first.

    Raises:
        InputError: the URL is wrong, or its driver is not installed.
        DataError: a file of SQLite cannot be made.
    """
    try:
        parsed = sa.make_url(url)
    except SQLAlchemyError:
        raise InputError(f"{url!r} is no URL of a database; write postgresql://user:password@host/name.") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InputError(f"Studies live in SQLite or PostgreSQL, not in {parsed.get_backend_name()}.")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        if parsed.get_backend_name() == "postgresql":
            if "connect_timeout" not in parsed.query:
                parsed = parsed.update_query_dict({"connect_timeout": "10"})  # seconds; without end by default
            engine = sa.create_engine(parsed, pool_size=CONNECTIONS)
            sa.event.listen(engine, "connect", _set_up_postgresql)
            return engine
        settings = {"timeout": 30, "isolation_level": None}
        engine = sa.create_engine(parsed, pool_size=CONNECTIONS, connect_args=settings)
    except ImportError:
        raise InputError(
            "PostgreSQL needs a driver that is not installed: pip install 'srzoo[mos-postgres]'."
        ) from None
    if parsed.database and parsed.database != ":memory:":
        _make_private(Path(parsed.database))
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Make a file that its owner alone reads, for it holds names and links; what SQLite puts beside it is as private.

    Raises:
        DataError: it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DataError(f"The database {path} cannot be opened: {error.strerror}.") from error


def _set_up_sqlite(connection: Any, _: object) -> None:
    settings = ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "secure_delete = ON", "foreign_keys = ON")
    for setting in settings:
        connection.execute(f"PRAGMA {setting}")


def _set_up_postgresql(connection: Any, _: object) -> None:
    """See to it that a commit waits for the disk, whatever the server or the role is set to."""
    connection.autocommit = True  # a setting that a transaction makes goes when that is rolled back
    if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
        connection.execute("SET synchronous_commit = on")
    connection.autocommit = False


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction as what it is: a reader that were to write later would fail where another has written."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def check_database(url: str) -> None:
    """See whether a database can be reached.

    Raises:
        InputError, DataError: as :func:`open_engine`, or it does not answer.
    """
    engine = open_engine(url)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise DataError(f"The database {where} cannot be opened: {cause(error)}.") from error
    finally:
        engine.dispose()


def cause(error: SQLAlchemyError) -> str:
    """Return in one line what a driver complains of."""
    return str(getattr(error, "orig", None) or error).strip().rstrip(".").splitlines()[0]
