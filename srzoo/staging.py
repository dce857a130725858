"""Files that belong together: made in a hidden folder beside their places, and put there when all are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from .errors import SrzooError, TrainingError
from .files import acquired

_PATIENCE = 60.0
"""Seconds after which a staging folder that nobody holds is that of a process that was killed."""


@contextlib.contextmanager
def staged(folder: Path, purpose: str, shown: str = "") -> Iterator[Path]:
    """Give an empty folder within a folder, which is made, to prepare files in; it is gone afterwards.

    What a killed process left of its own is removed. If the folder was made here and holds nothing, it goes as well.

    Args:
        shown: what messages have in place of the name of the folder that is gone; by default, the folder it is in.

    Raises:
        TrainingError: the folder cannot be made or written to, or an ``OSError`` was raised in this context.
    """
    is_new = not folder.exists()
    staging = folder / f".{purpose}-{uuid.uuid4().hex}"
    lock = filelock.FileLock(staging / ".lock")
    try:
        staging.mkdir(parents=True)
        acquired(lock, -1)
        _sweep(folder, purpose)
        yield staging
    except SrzooError as error:
        if str(staging) not in str(error):
            raise
        raise type(error)(str(error).replace(str(staging), shown or str(folder))) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(
            f"Cannot write to {folder}: {reason}. What was there before is untouched; write to another folder, or make "
            "room in this one."
        ) from error
    finally:
        lock.release()
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # it holds something now
                folder.rmdir()


def _sweep(folder: Path, purpose: str) -> None:
    """Remove the staging folders of processes that are no more."""
    for old in folder.glob(f".{purpose}-*"):
        lock = filelock.FileLock(old / ".lock")
        with contextlib.suppress(OSError, filelock.Timeout):
            if time.time() - old.stat().st_mtime < _PATIENCE or not (old / ".lock").is_file():
                continue
            if acquired(lock, 0):
                shutil.rmtree(old, ignore_errors=True)
                lock.release()


def put_in_place(staging: Path, folder: Path, names: Sequence[str]) -> None:
    """Give prepared files their names, in this order; if one cannot have its own, none has, and the old ones stay.

    Raises:
        OSError: one cannot be put in place.
    """
    for name in names:
        with open(staging / name, "rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave a name on an empty file
    done: list[str] = []
    try:
        for name in names:
            if (folder / name).is_file():
                with contextlib.suppress(OSError):  # of a disk without hard links
                    os.link(folder / name, staging / f".before-{name}")
            os.replace(staging / name, folder / name)
            done.append(name)
    except OSError:
        for name in done:
            before = staging / f".before-{name}"
            if before.is_file():
                os.replace(before, folder / name)
            else:
                (folder / name).unlink()
        raise
