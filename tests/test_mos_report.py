"""What the report concludes, checked on raters whose true opinions are known."""

from __future__ import annotations

import json
import math
import random
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mos_studies import made_up_study
from scipy import stats
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.errors import InputError
from srzoo.mos import analysis, pairs
from srzoo.mos.answers import Choice, Choices, Grades
from srzoo.mos.correlation import correlations
from srzoo.mos.ratings import open_ratings
from srzoo.mos.report import make_report, report
from srzoo.report import Row

LEVELS = np.array([4.7, 1.4, 2.4, 3.2, 3.5, 3.3])
BIAS, NOISE = 0.5, 0.6
"""Standard deviations between raters, and of an answer."""


def image_levels(images: int) -> np.ndarray:
    return LEVELS + np.random.default_rng(1).normal(0, 0.25, (images, 1))


def simulated(draw: np.random.Generator, raters: int, images: int = 5, clickers: int = 0) -> Grades:
    """Grades of raters who differ in strictness, and of some who click at random."""
    bias = draw.normal(0, BIAS, (raters, 1, 1))
    values = image_levels(images) + bias + draw.normal(0, NOISE, (raters, images, LEVELS.size))
    values = np.clip(np.rint(values), 1, 5)
    values[:clickers] = draw.integers(1, 6, (clickers, images, LEVELS.size))
    return Grades(tuple(range(1, raters + 1)), values, np.full(raters, np.nan))


def true_scores(images: int = 5) -> np.ndarray:
    """The mean grade of all possible raters, (versions,): from the normal distribution, cut into grades."""
    deviation = math.hypot(BIAS, NOISE)
    above = [stats.norm.sf((grade - 0.5 - image_levels(images)) / deviation) for grade in range(2, 6)]
    return np.asarray((1 + sum(above)).mean(axis=0))


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand resamples estimate the ends of an interval well enough where hundreds of intervals are made."""
    full = analysis.rater_weights
    monkeypatch.setattr(analysis, "rater_weights", lambda raters, resamples=999: full(raters, resamples))


@pytest.mark.parametrize("raters", [8, 26])
def test_intervals_cover_the_truth_at_their_rate(fewer_resamples: None, raters: int) -> None:
    draw = np.random.default_rng(3)
    truth = true_scores()
    covered = []
    for _ in range(200):
        found = analysis.opinions(simulated(draw, raters), range(5))
        covered += [o.low <= true <= o.high for o, true in zip(found, truth, strict=True)]
    # Of 200 independent panels, 0.95 +- three standard errors; the versions of a panel share its raters.
    assert 0.90 < np.mean(covered) < 0.99


def test_intervals_cover_the_truth_where_raters_stop_early(fewer_resamples: None) -> None:
    draw = np.random.default_rng(4)
    truth = true_scores()
    covered = []
    for _ in range(100):
        grades = simulated(draw, 20)
        grades.values[draw.random(grades.values.shape) < 0.3] = np.nan
        found = analysis.opinions(grades, range(5))
        covered += [o.low <= true <= o.high for o, true in zip(found, truth, strict=True)]
    assert 0.88 < np.mean(covered) < 0.995


def test_an_interval_that_forgets_whose_answers_they_are_would_be_too_narrow() -> None:
    """Which is why raters are resampled, not answers: the naive interval covers far less."""
    draw = np.random.default_rng(5)
    truth = true_scores()
    covered = []
    for _ in range(200):
        values = simulated(draw, 26).values.reshape(-1, LEVELS.size)
        half = stats.t.ppf(0.975, values.shape[0] - 1) * values.std(axis=0, ddof=1) / math.sqrt(values.shape[0])
        covered += list(np.abs(values.mean(axis=0) - truth) <= half)
    assert np.mean(covered) < 0.85


@pytest.mark.parametrize("raters", [8, 12, 26])
def test_a_random_clicker_is_screened_out_and_nobody_else(raters: int) -> None:
    draw = np.random.default_rng(6)
    found = [analysis.screen(simulated(draw, raters, clickers=1)) for _ in range(100)]
    assert np.mean([screenings[0].rejected for screenings in found]) > 0.95
    assert np.mean([s.rejected for screenings in found for s in screenings[1:]]) < 0.02


@pytest.mark.parametrize("answers", [10, 15])
def test_who_stops_early_is_not_taken_for_a_clicker(answers: int) -> None:
    """Few answers cannot be told from chance, whoever gave them, which is no reason to leave them out."""
    draw = np.random.default_rng(12)
    honest, clickers = [], []
    for _ in range(60):
        grades = simulated(draw, 13, clickers=1)
        for rater in range(4):
            grades.values[rater].reshape(-1)[draw.permutation(30)[answers:]] = np.nan
        clicker, *others = analysis.screen(grades)
        clickers.append(clicker.rejected)
        honest += [s.rejected for s in others[:3]]
    assert np.mean(honest) < 0.03
    assert np.mean(clickers) > 0.6


def test_a_strict_rater_is_kept_and_one_who_gives_the_same_grade_is_not() -> None:
    grades = simulated(np.random.default_rng(7), 20)
    grades.values[0] = np.clip(grades.values[0] - 1, 1, 5)
    grades.values[1] = 3
    strict, same, *_ = analysis.screen(grades)
    assert not strict.rejected
    assert same.rejected and same.reason.endswith("unrelated to the others")


def test_bt500_counts_what_lies_beyond_two_deviations_where_grades_look_normal() -> None:
    """By hand: raters give 2, 3, 3, 3, 4 (kurtosis 2.5, deviation 0.65), so that the limits are 1.70 and 4.30."""
    values = np.tile(np.array([2.0, 3, 3, 3, 4] * 4)[:, None, None], (1, 4, 5))
    values[0] = 5.0
    values[0, :2] = 1.0
    first = analysis.screen(Grades(tuple(range(1, 21)), values, np.full(20, np.nan)))[0]
    column = np.array([1.0, 3, 3, 3, 4, *[2.0, 3, 3, 3, 4] * 3])
    centred = column - column.mean()
    assert 2 < (centred**4).mean() / (centred**2).mean() ** 2 < 4
    assert (first.above, first.below, first.answers) == (10, 10, 20) and first.inconsistent


def test_agreement_is_krippendorffs() -> None:
    """The example of Krippendorff (Computing Krippendorff's Alpha-Reliability, 2011, C.): 4 observers, 12 units."""
    nan = np.nan
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    found = [round(analysis.alpha(table, level), 3) for level in ("nominal", "ordinal", "interval")]
    assert found == [0.743, 0.815, 0.849]
    assert math.isnan(analysis.alpha(np.full((3, 4), 2.0), "ordinal")), "nobody used another grade"


def test_tests_find_differences_that_are_there_and_hold_their_level() -> None:
    draw = np.random.default_rng(8)
    false, found = [], []
    for _ in range(60):
        grades = simulated(draw, 12)
        grades.values[:, :, 5] = np.clip(np.rint(grades.values[:, :, 4] + draw.normal(0, 0.7, (12, 5))), 1, 5)
        found.append(analysis.differences(grades, range(5), [0, 1])[0].told_apart)
        false.append(analysis.differences(grades, range(5), [4, 5])[0].told_apart)
    assert all(found)
    assert np.mean(false) <= 0.1
    assert [analysis.raters_needed(pairs) for pairs in (1, 6, 15, 66)] == [6, 8, 10, 12]
    for raters, told_apart in ((9, False), (10, True)):
        unanimous = np.tile(np.arange(6.0), (raters, 5, 1))
        every = analysis.differences(
            Grades(tuple(range(raters)), unanimous, np.full(raters, np.nan)), range(5), range(6)
        )
        assert {d.told_apart for d in every} == {told_apart}
        assert {d.verdict for d in every} == ({"p = 0.029"} if told_apart else {"too few raters"})
    assert analysis.differences(simulated(draw, 5), range(5), [0, 1])[0].verdict == "too few raters"


@pytest.mark.parametrize("size", [7, 11])
def test_the_signed_rank_test_is_scipys_with_and_without_ties(size: int) -> None:
    draw = np.random.default_rng(9)
    for values in (draw.normal(0.4, 1, size), np.rint(draw.normal(0.4, 2, size))):
        given = values[values != 0]
        assert analysis._signed_rank(values) == pytest.approx(stats.wilcoxon(given).pvalue, abs=1e-9)


# --- pairs --------------------------------------------------------------------------------------------------


def simulated_choices(
    draw: np.random.Generator, raters: int, strength: np.ndarray, images: int = 6, clickers: int = 0
) -> Choices:
    values = []
    for rater in range(raters):
        for image in range(images):
            for a in range(strength.size):
                for b in range(a):
                    chance = 0.5 if rater < clickers else 1 / (1 + math.exp(strength[b] - strength[a]))
                    winner, loser = (a, b) if draw.random() < chance else (b, a)
                    values.append(Choice(rater, image, winner, loser))
    nan = np.full(raters, np.nan)
    return Choices(tuple(range(1, raters + 1)), tuple(values), nan, nan)


def test_bradley_terry_scores_are_recovered_and_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RESAMPLES", 99)
    strength = np.array([1.2, -1.0, 0.1, -0.3])
    draw = np.random.default_rng(10)
    found = [pairs.preferences(simulated_choices(draw, 15, strength), range(6), 4) for _ in range(15)]
    means = np.mean([[p.score for p in panel] for panel in found], axis=0)
    assert np.abs(means - strength).max() < 0.12
    covered = [p.low <= true <= p.high for panel in found for p, true in zip(panel, strength, strict=True)]
    assert np.mean(covered) > 0.88


def test_a_version_that_always_wins_has_a_finite_score() -> None:
    choices = simulated_choices(np.random.default_rng(0), 4, np.array([50.0, 0.0, -50.0]))
    found = pairs.preferences(choices, range(6), 3)
    assert [p.share for p in found] == [1.0, 0.5, 0.0]
    assert all(math.isfinite(p.score) for p in found) and found[0].score > found[1].score > found[2].score


def test_who_chooses_by_a_coin_is_screened_out() -> None:
    draw = np.random.default_rng(11)
    strength = np.array([1.5, -1.0, 0.2, -0.7])
    found = [pairs.screen(simulated_choices(draw, 10, strength, 12, clickers=1)) for _ in range(40)]
    assert np.mean([screenings[0].rejected for screenings in found]) > 0.9
    assert np.mean([s.rejected for screenings in found for s in screenings[1:]]) < 0.02


def test_honest_raters_are_kept_where_versions_hardly_differ() -> None:
    draw = np.random.default_rng(13)
    found = [pairs.screen(simulated_choices(draw, 10, np.array([0.6, -0.4, 0.1, -0.3]), 6)) for _ in range(30)]
    assert np.mean([s.p >= analysis.CHANCE for screenings in found for s in screenings]) > 0.3, "like coins"
    assert np.mean([s.rejected for screenings in found for s in screenings]) < 0.02


def test_two_raters_cannot_screen_each_other() -> None:
    found = pairs.screen(simulated_choices(np.random.default_rng(0), 2, np.array([1.0, -1.0]), 40, clickers=1))
    assert [s.answers for s in found] == [0, 0] and not any(s.rejected for s in found)


# --- metrics ------------------------------------------------------------------------------------------------


def test_metrics_are_correlated_by_version_and_by_image() -> None:
    opinions, rows = {}, []
    for v, version in enumerate("abcde"):
        for image in range(6):
            opinions[version, "set", str(image)] = v + 0.1 * image
            rows.append(Row(version, "set", str(image), "good", "y", 10 * v + image))
            rows.append(Row(version, "set", str(image), "error", "y", -v - 0.1 * image))
            rows.append(Row(version, "set", str(image), "noise", "y", (v * 7 + image * 5) % 11))
    opinions["f", "set", "0"] = math.nan
    rows.append(Row("f", "set", "0", "good", "y", 99.0))
    found = {
        (c.metric, c.level): c for c in correlations(opinions, rows, {"good": True, "error": False, "noise": True})
    }
    assert (found["good", "versions"].spearman, found["good", "versions"].kendall) == pytest.approx((1.0, 1.0))
    assert found["error", "images"].spearman == pytest.approx(-1.0) and found["error", "images"].points == 30
    noise = found["noise", "images"]
    assert abs(noise.spearman) < 0.5 and noise.low < noise.spearman < noise.high


# --- from a study to a report -------------------------------------------------------------------------------


def rated(folder: Path, raters: int = 9, clickers: int = 1, **changes: Any) -> Any:
    """A made-up study that simulated raters answered."""
    study, secret = made_up_study(folder, **changes)
    levels = {"HR": 4.7, "nearest": 1.3, "net-a": 3.6, "net-b": 2.8}
    ratings = open_ratings(folder, study, secret)
    draw = random.Random(0)
    for number in range(raters):
        rater = ratings.add_rater(f"<i>rater {number}</i>", begun=True)
        for position, trial in enumerate(rater.plan):
            truth = [levels[study.versions[v].label] for v in trial.versions] if trial.kind != "example" else [3.0] * 2
            if len(trial.versions) == 2:
                value = 1 if draw.random() < 1 / (1 + math.exp(2 * (truth[1] - truth[0]))) else 2
                value = draw.choice((1, 2)) if number < clickers else value
            else:
                value = round(min(5, max(1, truth[0] + draw.gauss(0, 0.5))))
                value = draw.randint(1, 5) if number < clickers else value
            ratings.rate(rater.token, position, value, f"key-{position:05}", milliseconds=1500)
    return study, ratings


def test_a_study_is_reported(tmp_path: Path, database: str) -> None:
    study, ratings = rated(tmp_path / "study", database=database, title="Good <b>images</b>")
    answered = ratings.raters(), ratings.ratings()
    ratings.close()
    result = CliRunner().invoke(app, ["mos", "report", str(tmp_path / "study")], terminal_width=120)
    assert result.exit_code == 0, result.output
    found = make_report(study, *answered)
    asked = len(study.images) * len(study.versions)
    assert found.answers == 8 * asked, "examples, repeats and who is left out do not count"
    assert not any("Tests between" in note for note in found.notes)
    few = make_report(study, answered[0], [a for a in answered[1] if a.rater <= answered[0][5].id])
    assert any("Tests between all pairs of 4 versions need 8 raters" in note for note in few.notes)
    assert "8 of 9 raters kept" in result.output and "rater 1 left out" in result.output
    page = (tmp_path / "study" / "report.html").read_text()
    assert "Good &lt;b&gt;images&lt;/b&gt;" in page and "<i>rater" not in page
    assert not re.search(r"https?:|<script|<link", page)
    assert page.count('class="distribution"') == 3, "one, two, and all together"
    lines = (tmp_path / "study" / "mos.csv").read_text().splitlines()
    assert lines[0] == "dataset,version,mos,low,high,share_won,raters,images,answers"
    order = [line.split(",")[1] for line in lines if line.startswith("all,")]
    assert order == ["HR", "net-a", "net-b", "nearest"]
    found = CliRunner().invoke(app, ["mos", "report", str(tmp_path / "study"), "--json", "--no-screening"])
    told = json.loads(found.output)
    assert told["raters"]["kept"] == 9 and told["screening"][0]["rejected"]
    assert set(told["tables"][0]["differences"][0]) >= {"first", "second", "mean", "p_holm"}


def test_a_pair_study_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RESAMPLES", 99)
    study, ratings = rated(tmp_path / "study", mode="pair", images=6)
    found = make_report(study, ratings.raters(), ratings.ratings())
    ratings.close()
    table = next(t for t in found.tables if t.dataset == "all")
    assert [s.label for s in table.standings] == ["HR", "net-a", "net-b", "nearest"]
    assert found.screenings[0].rejected and found.kept == 8
    result = CliRunner().invoke(app, ["mos", "report", str(tmp_path / "study")], terminal_width=120)
    assert result.exit_code == 0 and "won" in result.output, result.output


def test_repeats_and_examples_do_not_count_and_drop_outs_do(tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study")
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater(begun=True)
    repeat = next(p for p, t in enumerate(rater.plan) if t.kind == "repeat")
    for position, trial in enumerate(rater.plan[: repeat + 1]):
        ratings.rate(rater.token, position, {"example": 5, "trial": 3, "repeat": 1}[trial.kind], f"key-{position:05}")
    found = make_report(study, ratings.raters(), ratings.ratings())
    shares = [s.opinion.shares for t in found.tables for s in t.standings if s.opinion and s.opinion.answers]
    assert all(share == (0, 0, 1, 0, 0) for share in shares)
    assert found.repeats == 0.0 and found.states == {"rating": 1}
    ratings.close()


def test_a_study_without_answers_cannot_be_reported(tmp_path: Path) -> None:
    made_up_study(tmp_path / "study")
    with pytest.raises(InputError, match="Nobody has answered anything yet"):
        report(tmp_path / "study")
    with pytest.raises(InputError, match=r"holds no study\.json"):
        report(tmp_path)


# --- beside automatic metrics -------------------------------------------------------------------------------


def test_opinions_stand_in_the_leaderboard_and_on_the_page(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bicubic and nearest, benchmarked and rated: the store, the leaderboard, the page and the correlations."""
    monkeypatch.setattr("srzoo.mos.correlation.RESAMPLES", 99)
    from srzoo.benchmark import bench
    from srzoo.mos.making import new_study

    folder, out = tmp_path / "study", tmp_path / "bench"
    study = new_study(folder, "bicubic", photos, examples=0, repeats=0, title="Which is good?")
    bench("bicubic,nearest", photos, "psnr", out=out, pictures=1)
    from srzoo.mos.study import load_study

    ratings = open_ratings(folder, study, load_study(folder)[1])
    draw = random.Random(1)
    for _ in range(7):
        rater = ratings.add_rater(begun=True)
        for position, trial in enumerate(rater.plan):
            level = {"HR": 4.8, "bicubic": 3.0, "nearest": 1.6}[study.versions[trial.versions[0]].label]
            ratings.rate(rater.token, position, round(min(5, max(1, draw.gauss(level, 0.6)))), f"key-{position:05}")
    ratings.close()
    result = CliRunner().invoke(app, ["mos", "report", str(folder), "--bench", str(out)], terminal_width=140)
    assert result.exit_code == 0, result.output
    assert "Rank correlation of metrics with the opinion" in result.output and "psnr" in result.output
    board = CliRunner().invoke(app, ["leaderboard", str(out), "--metric", "mos,psnr", "--json"])
    (told,) = json.loads(board.output)
    assert [s["entry"] for s in told["standings"]] == ["bicubic", "nearest"]
    assert told["standings"][0]["estimates"]["mos"]["images"] == 12
    first = next(iter(told["rankings"]["mos"]["comparisons"]))
    assert first["p"] < 0.01 and not first["tied"]
    table = CliRunner().invoke(app, ["leaderboard", str(out)], terminal_width=140)
    alone = CliRunner().invoke(app, ["leaderboard", str(folder)], terminal_width=140)
    assert "HR" not in alone.output
    mean = told["standings"][0]["estimates"]["mos"]["mean"]
    assert told["panel"] == {"mos": 7} and f"{mean:.4f}" != f"{mean:.2f}00"
    page = re.sub('data-key="[^"]*"', "", (out / "report.html").read_text())  # which columns are sorted by
    for text in ((out / "leaderboard.md").read_text(), page, table.output, alone.output):
        assert "mos of 7 raters" in " ".join(text.split())
        assert f"{mean:.2f}" in text and f"{mean:.4f}" not in text, "grades are not known to the fourth digit"
    ranked = CliRunner().invoke(app, ["leaderboard", str(out), "--metric", "mos"], terminal_width=140)
    assert re.search(r"bicubic - nearest: mos \+\d\.\d\d \[\+\d\.\d\d, \+\d\.\d\d\]", ranked.output)
    again = bench("bicubic,nearest", photos, "psnr", out=out, pictures=1)
    assert again.computed == 0, "the store is what it was for the benchmark"
    assert {row.metric for row in again.rows} == {"psnr", "mos"}


@pytest.mark.parametrize("resume", [True, False])
def test_opinions_outlive_a_later_benchmark_of_the_same_outputs(tmp_path: Path, photos: str, resume: bool) -> None:
    from srzoo.benchmark import bench
    from srzoo.mos.making import new_study
    from srzoo.mos.scores import enter_scores

    out = tmp_path / "bench"
    study = new_study(tmp_path / "study", "bicubic", photos, versions="nearest", examples=0)
    bench("bicubic,nearest", photos, "psnr", out=out, pictures=0)
    opinions = {(v.label, shown.dataset, shown.image): 3.0 for v in study.versions for shown in study.images}
    enter_scores(study, opinions, {study.images[0].dataset: 7}, out, "y")
    asked = {"metrics": "psnr,ssim", "out": out, "pictures": 1, "resume": resume}
    found = CliRunner().invoke(app, ["bench", "bicubic", "--data", photos, "--out", str(out), "--metric", "psnr"])
    assert "mos of 7 raters" in " ".join(found.output.split()), found.output
    both = bench("bicubic,nearest", photos, **asked)
    assert list(both.directions) == ["psnr", "ssim", "mos"]
    assert sum(row.metric == "mos" for row in both.rows) == 24
    for text in ((out / "report.html").read_text(), (out / "leaderboard.md").read_text()):
        assert "mos of 7 raters" in text and "How far another panel might differ" in text
    assert ",mos,y,3.0" in (out / "results.csv").read_text()
    other = bench("bicubic", photos, "psnr", protocol="rgb", out=out, pictures=1)
    assert {row.metric for row in other.rows} == {"psnr"}, "entered under y"
    with sqlite3.connect(out / "results.sqlite") as database:
        database.execute("UPDATE scores SET image_digest = 'others' WHERE metric = 'mos' AND entry = 'bicubic'")
    database.close()
    assert {row.entry for row in bench("bicubic,nearest", photos, **asked).rows if row.metric == "mos"} == {"nearest"}


def test_another_model_of_the_same_name_is_not_taken_for_the_one_that_was_rated(tmp_path: Path, photos: str) -> None:
    from srzoo.benchmark import bench
    from srzoo.mos.making import new_study
    from srzoo.mos.scores import read_benchmark

    study = new_study(tmp_path / "study", "bicubic", photos, examples=0)
    bench("bicubic,nearest", photos, "psnr", out=tmp_path / "bench", pictures=0)
    assert {row.entry for row in read_benchmark(study, tmp_path / "bench").rows} == {"bicubic", "nearest"}
    with sqlite3.connect(tmp_path / "bench" / "results.sqlite") as database:
        for table in ("scores", "current"):
            database.execute(f"UPDATE {table} SET weights = 'others' WHERE entry = 'bicubic'")
    database.close()
    found = read_benchmark(study, tmp_path / "bench")
    assert {row.entry for row in found.rows} == {"nearest"}
    assert any("other weights or another composition of bicubic" in note for note in found.left_out)
