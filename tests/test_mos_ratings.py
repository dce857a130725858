"""Raters and ratings in SQLite and in a real PostgreSQL: once, in order, with history, and forgotten when asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mos_studies import made_up_study

from srzoo.errors import InputError
from srzoo.mos.progress import consistency, export_csv, progress_rows
from srzoo.mos.ratings import MAX_NAME, RatingStore, RefusedRatingError, UnknownRaterError, open_ratings


@pytest.fixture
def ratings(database: str, tmp_path: Path) -> Iterator[RatingStore]:
    study, secret = made_up_study(tmp_path / "study", database=database)
    store = open_ratings(tmp_path / "study", study, secret)
    yield store
    store.close()


def test_an_answer_is_kept_once_and_a_change_keeps_the_first(ratings: RatingStore) -> None:
    rater = ratings.add_rater("Anna")
    for _ in range(3):
        assert ratings.rate(rater.token, 0, 4, "key-0001", 1200, 2.0).done == 1
    assert ratings.rate(rater.token, 0, 2, "key-0002").done == 1
    assert ratings.rate(rater.token, 1, 5, "key-0003").done == 2
    found = [(r.position, r.revision, r.value) for r in ratings.history()]
    assert found == [(0, 1, 4), (0, 2, 2), (1, 1, 5)]
    assert [(r.position, r.value) for r in ratings.ratings()] == [(0, 2), (1, 5)]
    assert (ratings.history()[0].milliseconds, ratings.history()[0].pixel_ratio) == (1200, 2.0)
    assert ratings.value(rater, 0) == (2, 2) and ratings.value(rater, 7) == (None, 0)


def test_an_answer_that_waited_does_not_undo_a_later_one(ratings: RatingStore) -> None:
    """A phone was offline with answers to 0 and 1 while 0 was answered, and changed, at a desk."""
    rater = ratings.add_rater()
    ratings.rate(rater.token, 0, 4, "desk-0001", replaces=0)
    ratings.rate(rater.token, 0, 5, "desk-0002", replaces=1)
    for stale in (0, 1, 3):
        with pytest.raises(RefusedRatingError, match="answered elsewhere"):
            ratings.rate(rater.token, 0, 1, "phone-0001", replaces=stale)
    assert ratings.rate(rater.token, 1, 2, "phone-0002", replaces=0).done == 2
    assert ratings.rate(rater.token, 0, 5, "desk-0002", replaces=1).done == 2, "sent again"
    assert [(r.position, r.value) for r in ratings.ratings()] == [(0, 5), (1, 2)]


@pytest.mark.parametrize(
    ("position", "value", "key", "message"),
    [
        (2, 3, "key-0009", "before is not answered"),
        (-1, 3, "key-0009", "nothing at this position"),
        (20, 3, "key-0009", "nothing at this position"),
        (0, 6, "key-0009", "not on the scale"),
        (0, 4, "key-0001", "was changed since"),
        (1, 4, "key-0001", "was changed since"),
    ],
)
def test_what_contradicts_is_refused(ratings: RatingStore, position: int, value: int, key: str, message: str) -> None:
    rater = ratings.add_rater()
    ratings.rate(rater.token, 0, 4, "key-0001")
    ratings.rate(rater.token, 0, 3, "key-0002")
    before = ratings.history()
    with pytest.raises(RefusedRatingError, match=message):
        ratings.rate(rater.token, position, value, key)
    with pytest.raises(UnknownRaterError):
        ratings.rate(rater.token[::-1], 0, 3, "key-0003")
    assert ratings.history() == before


def test_one_answer_sent_by_many_at_once_is_one_row(ratings: RatingStore) -> None:
    rater = ratings.add_rater()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: ratings.rate(rater.token, 0, 4, "key-0001").done, range(24)))
        changes = list(pool.map(lambda n: ratings.rate(rater.token, 0, n % 5 + 1, f"key-1{n:03}").done, range(16)))
    assert set(done) == set(changes) == {1}
    assert [r.revision for r in ratings.history()] == list(range(1, 18))


def test_a_person_is_forgotten_with_or_without_the_answers(ratings: RatingStore) -> None:
    anna, bo = ratings.add_rater("Anna"), ratings.add_rater("Bo")
    for rater in (anna, bo):
        ratings.rate(rater.token, 0, 4, "key-0001")
    assert ratings.forget([anna.slot]) == 0
    assert len(ratings.history()) == 2
    with pytest.raises(UnknownRaterError):
        ratings.rater(anna.token)
    assert ratings.forget([bo.slot], ratings=True) == 1
    assert [r.name for r in ratings.raters()] == ["", ""] and len(ratings.history()) == 1
    with pytest.raises(InputError, match="There is no rater 9; there are 2"):
        ratings.forget([0, 8])
    assert ratings.add_rater().slot == 2, "numbers are not used again"


def test_names_are_one_line_and_short(ratings: RatingStore) -> None:
    rater = ratings.add_rater("  A\x00\x1b[31mnna\r\n\u202eSmith \u2028" + "x" * 500)
    assert rater.name.startswith("A [31mnna Smith x") and len(rater.name) == MAX_NAME


def test_an_invited_rater_comes_once(ratings: RatingStore) -> None:
    rater = ratings.add_rater("Anna")
    assert rater.begun is None
    ratings.begin(rater)
    begun = ratings.rater(rater.token).begun
    time.sleep(0.01)
    ratings.begin(rater)
    assert begun is not None and ratings.rater(rater.token).begun == begun


def test_two_studies_share_a_database(ratings: RatingStore, tmp_path: Path) -> None:
    rater = ratings.add_rater("Anna")
    study, _ = made_up_study(tmp_path / "other")
    other = RatingStore(study, ratings._engine.url.render_as_string(hide_password=False))
    assert other.raters() == [] and other.add_rater().slot == 0
    with pytest.raises(UnknownRaterError):
        other.rater(rater.token)
    other.close()


def test_the_environment_says_another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, secret = made_up_study(tmp_path / "study", database="postgresql://rater@127.0.0.1:1/nowhere")
    monkeypatch.setenv("SRZOO_MOS_DATABASE", f"sqlite:///{tmp_path / 'elsewhere.sqlite'}")
    store = open_ratings(tmp_path / "study", study, secret)
    assert store.add_rater().slot == 0 and (tmp_path / "elsewhere.sqlite").exists()
    store.close()


def test_progress_and_export(ratings: RatingStore) -> None:
    rater = ratings.add_rater("=HYPERLINK(evil)", begun=True)
    ratings.add_rater("invited")
    for position, trial in enumerate(rater.plan):
        value = {"example": 5, "trial": 3, "repeat": 4}[trial.kind]
        ratings.rate(rater.token, position, value, f"key-{position:05}", 2000)
    ratings.rate(rater.token, 3, 1, "another-key", 4000)
    rows = progress_rows(ratings.study, ratings.raters(), ratings.ratings())
    assert [(r.state, r.done, r.seconds) for r in rows] == [("finished", 20, 2.0), ("invited", 0, None)]
    finished = ratings.raters()[0]
    assert consistency(finished, ratings.ratings()) in (1.0, 0.5), "within one grade, but for a change"
    lines = export_csv(ratings.study, ratings.raters(), ratings.history()).splitlines()
    assert len(lines) == 1 + 21 and not any("HYPERLINK" in line for line in lines)
    changed = [line.split(",") for line in lines if line.startswith("1,3,")]
    assert [(line[7], line[8], line[9]) for line in changed] == [("3", "1", "0"), ("1", "2", "1")]
