"""A study as it is served: what an answer may rely on, and what is refused."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mos_load import rate_under_fire
from mos_studies import Client, Server, made_up_study, served

from srzoo.mos.ratings import Rater, RatingStore, open_ratings
from srzoo.mos.study import IMAGES, Secret, Study

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


# --- durable, and once -----------------------------------------------------------------------------------------


def test_no_answer_is_lost_or_doubled_when_the_server_is_killed(tmp_path: Path, database: str) -> None:
    _, answers = rate_under_fire(tmp_path / "study", database, raters=6, kills=1, pause=0.03, images=5)
    assert answers > 6 * 24


@pytest.mark.slow
def test_26_raters_and_five_kills(tmp_path: Path, database: str) -> None:
    """SRGAN's number of raters, each about ten times as fast as a person, with tests beside them on the other core."""
    _, answers = rate_under_fire(tmp_path / "study", database, raters=26, kills=5, pause=0.25, images=8)
    assert answers > 26 * 36


def test_sqlite_writes_ahead_and_waits_for_the_disk(tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study")
    ratings = open_ratings(tmp_path / "study", study, secret)
    with ratings._engine.connect() as connection:
        names = ("journal_mode", "synchronous", "fullfsync")
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    assert settings == ["wal", 2, 1], "FULL"
    ratings.close()


def test_postgresql_waits_for_the_disk_where_its_role_would_not(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    study, _ = made_up_study(tmp_path / "study")
    for role, session in (("off", "on"), ("local", "local")):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE rater SET synchronous_commit = {role}")
        ratings = RatingStore(study, postgres_url)
        ratings.add_rater()
        with ratings._engine.connect() as kept:
            assert kept.exec_driver_sql("SHOW synchronous_commit").scalar() == session
        ratings.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE rater RESET synchronous_commit")


def test_names_links_and_tokens_are_for_the_owner_alone(tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study")
    ratings = open_ratings(tmp_path / "study", study, secret)
    ratings.add_rater("Anna")
    private = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "study").iterdir() if path.is_file()}
    assert {name for name, mode in private.items() if mode == 0} >= {"secret.json", "mos.sqlite", "mos.sqlite-wal"}
    ratings.close()


# --- what is refused ----------------------------------------------------------------------------------------


def rows(ratings: RatingStore) -> list[tuple[Any, ...]]:
    with ratings._engine.connect() as database:
        tables = [f"SELECT * FROM {table} ORDER BY id" for table in ("mos_raters", "mos_ratings")]
        return [tuple(row) for query in tables for row in database.exec_driver_sql(query)]


def hostile_requests(study: Study, secret: Secret, mine: Rater, other: Rater) -> Iterator[tuple[str, str, bytes, dict]]:
    """Yield method, path, body and headers of a hundred requests of which none may succeed or change anything."""
    good = {"key": "0123456789abcdef", "position": 1, "value": 3}
    file = study.images[0].files["HR"]
    r, admin = f"/r/{mine.token}", f"/admin/{secret.admin}"

    for path in (
        "/../study.json", "/..%2fstudy.json", "/static/../study.json", "/static/..%2f..%2fsecret.json",
        "/static/%2e%2e/secret.json", f"{r}/images/../../study.json", f"{r}/images/..%2f{file}", f"{r}/images/{file}",
        f"/images/{file}", "/study.json", "/secret.json", "/mos.sqlite", f"{r}/images/%00", f"{r}/images/....//etc",
        "//etc/passwd", "/static/etc/passwd", "/static/mos.css", "/static/", f"{r}/images/", "/%c0%ae%c0%ae/study.json",
        "/.git/config", "/openapi.json", "/docs", "/redoc", f"{r}/images/{file}%2f..%2f..%2fstudy.json",
        f"{r}/trials/..%2f0", "/static/..\\..\\secret.json", "/" + "a/" * 300, f"/{'x' * 600}",
    ):  # fmt: skip
        yield "GET", path, b"", {}
    forged = [other.token[:-1] + "A", other.token.swapcase(), "A" * 22, "", "0", other.token + "=", other.token[:21]]
    forged += [
        "%27%20OR%201=1--",
        "..",
        secret.open,
        secret.admin,
        secret.key[:22],
        "%00" * 22,
        "%ff" * 22,
        "%C3%A9" * 22,
    ]
    for number, token in enumerate(forged):  # fewer in all than would be slowed down, so that each is looked at
        if number % 2:
            yield "GET", f"/r/{token}/rate", b"", {}
        else:
            yield "POST", f"/r/{token}/ratings", json.dumps(good).encode(), JSON
    for token in (mine.token, secret.open, "A" * 22, "'", "%00"):
        yield "GET", f"/admin/{token}", b"", {}
        yield "POST", f"/admin/{token}/invite", b"name=x", FORM
    yield "POST", f"/join/{mine.token}", b"name=x", FORM
    for names in (secret.stimulus(mine.id, 12, 0), secret.stimulus(other.id, 0, 0), secret.stimulus(mine.id, 0, 1)):
        yield "GET", f"{r}/images/{names}", b"", {}  # far ahead, of another rater, of no such part
    for position in ("9", "-1", "1e3", "x", "99999999999999999999"):
        yield "GET", f"{r}/trials/{position}", b"", {}
    for wrong in (
        {"value": 0}, {"value": 6}, {"value": -3}, {"value": "3"}, {"value": 3.5}, {"value": None}, {"value": True},
        {"value": [3]}, {"position": -1}, {"position": 2}, {"position": 10**9}, {"position": "1"}, {"position": 1.0},
        {"key": "short"}, {"key": "x" * 65}, {"key": "' OR 1=1 --"}, {"key": "<script>alert(1)</script>"}, {"key": 5},
        {"milliseconds": -1}, {"milliseconds": 10**12}, {"pixel_ratio": 0}, {"pixel_ratio": 1e9}, {"rater": other.id},
        {"revision": 7}, {"version": "HR"}, {"replaces": -1}, {"replaces": "0"}, {"replaces": 3},
    ):  # fmt: skip
        yield "POST", f"{r}/ratings", json.dumps({**good, **wrong}).encode(), JSON
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 2000, b'{"key": NaN}'):
        yield "POST", f"{r}/ratings", body, JSON
    yield "POST", f"{r}/ratings", json.dumps(good).encode(), FORM
    yield "POST", f"{r}/ratings", json.dumps({**good, "key": "replayed-key", "value": 1}).encode(), JSON
    yield "POST", f"{r}/ratings", json.dumps({**good, "key": "replayed-key", "position": 0, "value": 2}).encode(), JSON
    yield "POST", f"{r}/ratings", b" " * 5000 + json.dumps(good).encode(), JSON
    yield "POST", f"/join/{secret.open}", b"name=" + b"x" * 5000, FORM
    yield "POST", f"/join/{secret.open}", b"name=" + b"&a=" * 900, FORM
    yield "POST", f"/join/{secret.open}", b'{"name": "<script>"}', JSON
    yield "POST", f"/join/{secret.open}", b"name=%3Cscript%3Ealert(1)%3C/script%3E", FORM
    yield "POST", f"{admin}/invite", b"name=Bo%3Cimg src=x onerror=alert(1)%3E", FORM
    yield "POST", f"/join/{secret.open}", b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        yield method, f"{r}/ratings", b"", {}
    for method, path in (("POST", r), ("POST", f"{r}/rate"), ("DELETE", admin), ("GET", f"{r}/ratings"), ("PUT", "/")):
        yield method, path, b"", {}
    yield "GET", f"{admin}/invite", b"", {}
    for path in (f"{r}/", f"{r}/rate/", f"{admin}/", f"/join/{secret.open}/"):
        yield "GET", path, b"", {"Host": "elsewhere.example"}


def test_a_hundred_hostile_requests_change_nothing(tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database, open_raters=3)
    ratings = open_ratings(tmp_path / "study", study, secret)
    mine, other = ratings.add_rater("Anna"), ratings.add_rater("Bo")
    ratings.rate(mine.token, 0, 1, "replayed-key")
    ratings.rate(mine.token, 0, 2, "another-key-now")
    before = rows(ratings)
    found = []
    with served(tmp_path / "study") as server:
        client = Client(server.port)
        for method, path, body, headers in hostile_requests(study, secret, mine, other):
            status, text, _ = client.ask(method, path, body, headers)
            found.append(status)
            assert 400 <= status < 500 and status != 429, (method, path, body[:80], status)
            assert b"Traceback" not in text and str(tmp_path).encode() not in text
            client.close()
        assert rows(ratings) == before
        for raw in (
            b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000,
            b"POST /r/x/ratings HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
            b"POST /r/x/ratings HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /r/x/ratings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1000\r\n" + b"x" * 4096 + b"\r\n1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n",
        ):  # fmt: skip
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(raw)
                answer = connection.recv(4096)
                assert answer == b"" or answer.split(b" ")[1][:1] == b"4", answer
                found.append(400)
        status, kept = client.rate(mine.token, 0, 2, "another-key-now")
        assert (status, kept["done"]) == (200, 1), "what was kept is acknowledged again"
        assert rows(ratings) == before
    assert len(found) >= 100
    ratings.close()


def test_guessing_joining_and_hurrying_are_slowed_down(tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database, open_raters=2)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    with served(tmp_path / "study") as server:
        client = Client(server.port)
        guesses = [client.ask("GET", f"/r/{n:022}")[0] for n in range(60)]
        assert set(guesses[:30]) == {404} and 429 in guesses[30:]
        assert client.ask("GET", f"/r/{rater.token}")[0] == 200, "who has a link is not shut out by who guesses"
        assert client.ask("POST", f"/join/{secret.open}", b"name=Anna", FORM)[0] == 303
        assert client.ask("POST", f"/join/{secret.open}", b"name=Bo", FORM)[0] == 403, "the study is full"
        hurried = [client.ask("GET", f"/r/{rater.token}/trials/0") for _ in range(300)]
        assert {status for status, _, _ in hurried} == {200, 429}
        assert next(headers for status, _, headers in hurried if status == 429)["retry-after"]
        client.close()
    assert len(ratings.raters()) == 2
    ratings.close()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def waits(connection: socket.socket) -> bool:
    """Whether the server keeps a connection open and has nothing to say."""
    connection.setblocking(False)
    try:
        return connection.recv(1 << 16) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def gone(connection: socket.socket, drip: bytes = b"") -> bool:
    """Whether the server ends a connection within three seconds, over which a drop comes now and then."""
    for _ in range(30):
        try:
            connection.send(drip[:1])
        except OSError:
            return True
        if not waits(connection):
            return True
        time.sleep(0.1)
    return False


def test_who_sends_slowly_is_not_waited_for(tmp_path: Path) -> None:
    made_up_study(tmp_path / "study")
    with served(tmp_path / "study", "import srzoo.mos.connections as c; c.HEAD_SECONDS = 0.5") as server:
        silent, second = connected(server), connected(server)
        second.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert second.recv(1 << 16).startswith(b"HTTP/1.1 200")
        time.sleep(0.7)
        assert waits(second), "which may ask again"
        slow = connected(server)
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        second.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert gone(silent) and gone(slow, b"y") and gone(second, b"y")


def test_connections_are_bounded_and_who_does_not_read_loses_one(tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study")
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    ratings.close()
    for file in (tmp_path / "study" / IMAGES).iterdir():
        os.truncate(file, 32_000_000)  # more than the system's buffers take for who does not read
    image = f"/r/{rater.token}/images/{secret.stimulus(rater.id, 0, 0)}"
    setting = "import srzoo.mos.connections as c; c.CONNECTIONS, c.MOST, c.ANSWER_SECONDS = 2, 4, 2.5"
    with served(tmp_path / "study", setting) as server:
        time.sleep(0.3)  # the connection that saw it listen is gone
        client, reader = Client(server.port), connected(server)
        reader.sendall(f"GET {image} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        assert client.ask("GET", "/")[0] == 503
        client.close()
        opened = [connected(server) for _ in range(6)]
        time.sleep(0.3)
        assert sum(map(waits, opened)) == 3, "the others are closed at once"
        for connection in opened:
            connection.close()
        time.sleep(2.5)
        assert client.ask("GET", "/")[0] == 200, "the one that does not read is no more"
        client.close()
        reader.close()


def test_who_is_forgotten_while_the_study_is_served_is_gone(tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database)
    ratings = open_ratings(tmp_path / "study", study, secret)
    with served(tmp_path / "study") as server:
        client = Client(server.port)
        assert client.ask("POST", f"/join/{secret.open}", b"name=Anna+Smith", FORM)[0] == 303
        (anna,) = ratings.raters()
        for position in (0, 1):
            assert client.rate(anna.token, position, 5, f"of-anna-{position}")[0] == 200
        assert b"Anna Smith" in client.ask("GET", f"/r/{anna.token}")[1]
        assert ratings.forget([anna.slot], ratings=True) == 2
        assert client.ask("GET", f"/r/{anna.token}")[0] == 404
        assert client.rate(anna.token, 0, 5, "of-anna-0")[0] == 404
        assert b"Anna Smith" not in client.ask("GET", f"/admin/{secret.admin}")[1]
        files = b"".join(path.read_bytes() for path in (tmp_path / "study").glob("mos.sqlite*"))
        assert not any(text in files for text in (b"Anna Smith", anna.token.encode(), b"of-anna"))
        client.close()
    assert ratings.history() == []
    ratings.close()


def test_every_answer_has_strict_headers(tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    ratings.close()
    with served(tmp_path / "study") as server:
        client = Client(server.port)
        image = f"/r/{rater.token}/images/{secret.stimulus(rater.id, 0, 0)}"
        for path in ("/", f"/r/{rater.token}", f"/r/{rater.token}/rate", image, "/nowhere", f"/admin/{secret.admin}"):
            status, _, headers = client.ask("GET", path)
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers and "set-cookie" not in headers and "etag" not in headers
            kept = "private, max-age=86400, immutable" if path == image else "no-store"
            assert (status == 404) == (path == "/nowhere") and headers["cache-control"] == kept
        client.close()


def test_many_join_at_once_and_get_plans_of_their_own(tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database)
    ratings = open_ratings(tmp_path / "study", study, secret)
    with served(tmp_path / "study") as server:

        def join(number: int) -> int:
            client = Client(server.port)
            status, _, _ = client.ask("POST", f"/join/{secret.open}", b"name=%d" % number, FORM)
            client.close()
            return status

        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(join, range(24))) == {303}
    raters = ratings.raters()
    assert [rater.slot for rater in raters] == list(range(24))
    assert len({rater.token for rater in raters}) == 24
    ratings.close()
