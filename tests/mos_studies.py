"""Studies that tests make quickly, a server to kill, and a client that rates."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the packages of the extra 'mos'")

import numpy as np
from PIL import Image

from srzoo.mos.study import IMAGES, Example, Secret, Shown, Study, Version, new_token, save_study

LABELS = ("HR", "nearest", "net-a", "net-b")
LEVELS = {"HR": 4.7, "nearest": 1.5, "bicubic": 2.3, "net-a": 3.6, "net-b": 3.0}


def made_up_study(
    folder: Path, images: int = 4, labels: tuple[str, ...] = LABELS, database: str = "", **changes: Any
) -> tuple[Study, Secret]:
    """A study of small random pictures, without any network; stored in SQLite where no database is given."""
    (folder / IMAGES).mkdir(parents=True)
    draw = np.random.default_rng(0)

    def picture() -> str:
        name = f"{new_token()}.png"
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / IMAGES / name)
        return name

    shown = [
        Shown(
            dataset="one" if index % 2 else "two",
            dataset_digest="d",
            image=f"image {index}",
            image_digest=f"digest {index}",
            left=0,
            top=0,
            width=48,
            height=40,
            whole=True,
            files={label: picture() for label in labels},
        )
        for index in range(images)
    ]
    study = Study(
        **{
            "id": new_token(),
            "title": "A study",
            "mode": "rating",
            "seed": 0,
            "scale": 4,
            "versions": tuple(Version(label=label) for label in labels),
            "images": tuple(shown),
            "calibration": (Example(lowest=picture(), highest=picture()),),
            "examples": 2,
            "repeats": 2,
            **changes,
        }
    )
    secret = Secret.draw(database)
    save_study(folder, study, secret)
    return study, secret


class Server:
    """``srzoo mos serve`` as a process of its own, at a free port.

    Args:
        setting: Python that is run before.
    """

    def __init__(self, folder: Path, setting: str = "") -> None:
        self.folder, self.setting = folder, setting
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        code = "import sys; from srzoo.mos.serving import serve; serve(sys.argv[1], '127.0.0.1', int(sys.argv[2]))"
        code = f"{self.setting}\n{code}"
        arguments = [str(self.folder), str(self.port)]
        self.process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE)
        for _ in range(600):
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise AssertionError(self.process.stderr.read().decode()[-2000:])
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server does not listen")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def served(folder: Path, setting: str = "") -> Iterator[Server]:
    server = Server(folder, setting)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Client:
    """One rater's connection, which is made anew where it broke."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            return response.status, response.read(), {k.lower(): v for k, v in response.getheaders()}
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def rate(self, token: str, position: int, value: int, key: str, **more: Any) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"key": key, "position": position, "value": value, **more}).encode()
        status, text, _ = self.ask("POST", f"/r/{token}/ratings", body, {"Content-Type": "application/json"})
        return status, json.loads(text)


def opinion(study: Study, label: str, random_: random.Random, bias: float = 0.0, noise: float = 0.6) -> int:
    """What a simulated rater says of a version."""
    return round(min(5.0, max(1.0, LEVELS.get(label, 3.0) + bias + random_.gauss(0, noise))))


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def postgres_programs() -> Path | None:
    """The folder of Debian's newest PostgreSQL, or of the one on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, in a new folder under /tmp; gives the URL of its database."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs a PostgreSQL server; Debian: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra 'mos-postgres'")
    as_user: list[str] = []
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]

    base = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path may have 107 characters
    try:
        if as_user:
            shutil.chown(base, "postgres")
        run = [*as_user, "env", "-i", "LC_ALL=C.UTF-8", f"PATH={os.environ['PATH']}"]
        data = base / "data"
        initdb = [*run, programs / "initdb", "-D", data, "-A", "trust", "-U", "rater", "--no-instructions", "--no-sync"]
        subprocess.run([*map(str, initdb)], check=True, capture_output=True, cwd=base)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={base} -p {port}"
        control = [*run, programs / "pg_ctl", "-D", data, "-w"]
        log = base / "log"
        subprocess.run([*map(str, [*control, "-l", log, "-o", options, "start"])], check=True, stdout=-3, cwd=base)
        try:
            yield f"postgresql://rater@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*map(str, [*control, "-m", "immediate", "stop"])], check=True, stdout=-3, cwd=base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
