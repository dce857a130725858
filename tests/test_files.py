"""Files that are there whole or not at all, and locks of disks that know none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import filelock
import pytest

from srzoo.files import ABANDONED, acquired, replacing


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("one")
        second.write_text("two")
    assert path.read_text() == "one", "the last to be done"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_what_a_killed_process_left_goes_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a[1].csv"
    for name, age in (("old", 2 * ABANDONED), ("new", 0.0)):
        left = tmp_path / f".{path.name}.{name}.writing"
        left.touch()
        os.utime(left, (time.time() - age,) * 2)
    with replacing(path) as temporary:
        temporary.touch()
    assert sorted(os.listdir(tmp_path)) == [".a[1].csv.new.writing", "a[1].csv"]


def test_a_disk_without_locks_is_told_from_a_lock_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = filelock.FileLock(tmp_path / ".lock")
    assert acquired(lock, 0)
    with pytest.raises(filelock.Timeout):
        acquired(filelock.FileLock(tmp_path / ".lock"), 0)

    def unknown(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", unknown)
    assert not acquired(filelock.FileLock(tmp_path / "other"), 0)
