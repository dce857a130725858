"""Many raters at once while the server is killed: for the tests, and for ``benchmarks/rating_load.py``."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
from pathlib import Path

from mos_studies import Client, Server, made_up_study, opinion

from srzoo.mos.ratings import Rater, open_ratings
from srzoo.mos.study import Study


class SimulatedRater(threading.Thread):
    """Answers its whole plan, changes some answers, sends some twice, and goes on after every broken connection."""

    def __init__(self, server: Server, study: Study, rater: Rater, pause: float) -> None:
        super().__init__(daemon=True)
        self.client, self.study, self.rater, self.pause = Client(server.port), study, rater, pause
        self.random = random.Random(rater.slot)
        self.acknowledged: dict[int, list[tuple[int, str]]] = {}
        self.seconds: list[float] = []
        self.failure = ""

    def run(self) -> None:
        try:
            for position in range(len(self.rater.plan)):
                self.answer(position)
                if self.random.random() < 0.1:
                    self.answer(self.random.randrange(position + 1))  # changes an answer, as undo does
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        self.client.close()

    def answer(self, position: int) -> None:
        versions = self.rater.plan[position].versions
        value = opinion(self.study, self.study.versions[versions[0]].label, self.random)
        key = f"{self.random.getrandbits(96):024x}"
        self.send(position, value, key)
        if self.random.random() < 0.1:
            self.send(position, value, key)  # the same again, as after a lost acknowledgment
        self.acknowledged.setdefault(position, []).append((value, key))
        time.sleep(self.random.expovariate(1 / self.pause))

    def send(self, position: int, value: int, key: str) -> None:
        wait = 0.5  # as the page does
        for _ in range(12):
            begin = time.perf_counter()
            try:
                status, found = self.client.rate(self.rater.token, position, value, key, milliseconds=900)
            except (OSError, http.client.HTTPException):
                time.sleep(wait * (0.5 + self.random.random()))
                wait = min(2 * wait, 8.0)
                continue
            self.seconds.append(time.perf_counter() - begin)
            assert status == 200 and found["kept"] == position, (status, found)
            return
        raise AssertionError("the server did not come back")


def rate_under_fire(
    folder: Path, database: str, raters: int, kills: int, pause: float, images: int
) -> tuple[list[float], int]:
    """Let raters rate at once while the server is killed, and check every row.

    Returns:
        seconds that each answer took, ascending, those to raters who come back after a kill among them; and how many
        answers were acknowledged.
    """
    study, secret = made_up_study(folder, images=images, database=database)
    ratings = open_ratings(folder, study, secret)
    people = [ratings.add_rater() for _ in range(raters)]
    server = Server(folder)
    server.start()
    threads = [SimulatedRater(server, study, rater, pause) for rater in people]
    expected = len(people[0].plan) * raters
    for thread in threads:
        thread.start()
    for kill in range(1, kills + 1):
        while sum(len(thread.acknowledged) for thread in threads) < expected * kill / (kills + 1):
            assert any(thread.is_alive() for thread in threads)
            time.sleep(0.02)
        server.stop(signal.SIGKILL)
        server.start()
    for thread in threads:
        thread.join(120)
    server.stop()
    assert not any(thread.failure for thread in threads), [thread.failure for thread in threads]
    history: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for row in ratings.history():
        history.setdefault((row.rater, row.position), []).append((row.value, row.key))
        assert row.revision == len(history[row.rater, row.position])
    for thread in threads:
        for position, answers in thread.acknowledged.items():
            assert history.pop((thread.rater.id, position)) == answers, "every answer once, in order, and no other"
    assert history == {}
    assert all(rater.finished for rater in ratings.raters())
    ratings.close()
    answers = sum(len(a) for thread in threads for a in thread.acknowledged.values())
    return sorted(s for thread in threads for s in thread.seconds), answers
