"""Files that are there whole or not at all, and locks on disks that may know none. Needs no torch."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import filelock

ABANDONED = 3600.0
"""Seconds after which what was being written is that of a process that was killed."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside a path to write a file at, which takes the path's place at once when all went well.

    Otherwise nothing is left of it, and what was there before stays. Several processes may do so at the same time.

    Raises:
        OSError: the file cannot take its place.
    """
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.writing"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED:
                old.unlink()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.writing")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # which is what people asked to write
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remedy(error: BaseException) -> str:
    """Say what to do about a file that cannot be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space and run the same command again."
    return "Make it writable and run the same command again, or give another --out."


def acquired(lock: filelock.BaseFileLock, timeout: float) -> bool:
    """Acquire a lock; returns False where the disk knows no locks. Newer versions of filelock mark the file instead.

    Raises:
        filelock.Timeout: another process holds it for longer than that; -1 waits for it.
    """
    try:
        lock.acquire(timeout=timeout)
    except NotImplementedError:
        return False
    return True
