"""Stored results: what is known is not computed again, what changed is, and nothing that was finished is lost."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from PIL import Image
from plugin_site import Site
from typer.testing import CliRunner, Result

from srzoo import benchmark, harness
from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.errors import DataError, InputError
from srzoo.leaderboard import leaderboard_markdown, leaderboards
from srzoo.merged import merge
from srzoo.pretrained import Model, load_model
from srzoo.registry import get_registry
from srzoo.results import Score, export_scores, read_costs, read_scores
from srzoo.store import FILE, CostRow, Environment, Question, Store, Subject
from srzoo.training import train

torch.set_num_threads(1)

HERE = Environment("0.1", {"zoo": "srzoo 0.1"}, "2.6", "CPU", 1)
SUBJECT = Subject("bicubic", 4, "configuration", "weights")
QUESTION = Question("set", "digest", "a", "pixels", "y")
METRICS = {"psnr": "metrics/psnr", "ssim": "metrics/ssim"}
UP = {"psnr": True, "ssim": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "photographs"
    target.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        coarse = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((68, 72), Image.Resampling.BICUBIC).save(target / f"{number:02d}.png")
    return target


def values_of(out: Path) -> dict[tuple[str, ...], str]:
    with open(out / "results.csv", newline="") as file:
        return {tuple(row.values())[:5]: row["value"] for row in csv.DictReader(file)}


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


# --- the store itself -------------------------------------------------------------------------------------------


def test_what_was_added_is_found_again_exactly(tmp_path: Path) -> None:
    values = {"psnr": 0.1 + 0.2, "ssim": float("nan")}
    with Store(tmp_path, HERE) as store:
        store.add(SUBJECT, QUESTION, values, METRICS, UP)
    with Store(tmp_path, HERE) as store:
        found = store.find(SUBJECT, QUESTION, METRICS)
    assert found["psnr"] == 0.1 + 0.2
    assert np.isnan(found["ssim"])


def test_a_folder_of_any_name_is_read_by_processes_that_share_it(tmp_path: Path) -> None:
    folder = tmp_path / "bench #1, 50%20?"
    with Store(folder, HERE) as store:
        store.add(SUBJECT, QUESTION, {"psnr": 1.0}, METRICS, UP)
    with Store(folder, HERE, read_only=True) as store:
        assert store.find(SUBJECT, QUESTION, METRICS) == {"psnr": 1.0}


def test_infinite_values_survive(tmp_path: Path) -> None:
    with Store(tmp_path, HERE) as store:
        store.add(SUBJECT, QUESTION, {"psnr": float("inf")}, METRICS, UP)
        assert store.find(SUBJECT, QUESTION, METRICS) == {"psnr": float("inf")}


@pytest.mark.parametrize(
    "change",
    [
        {"subject": replace(SUBJECT, configuration="other")},
        {"subject": replace(SUBJECT, weights="other")},
        {"subject": replace(SUBJECT, precision="bf16")},
        {"question": replace(QUESTION, image_digest="other")},
        {"question": replace(QUESTION, protocol="rgb")},
        {"metrics": {"psnr": "other/psnr", "ssim": "other/ssim"}},
        {"environment": replace(HERE, srzoo="0.2")},
        {"environment": replace(HERE, torch="2.7")},
        {"environment": replace(HERE, plugins={"zoo": "srzoo 0.2"})},
        {"environment": replace(HERE, device="NVIDIA H100")},
    ],
    ids=str,
)
def test_what_decides_a_value_decides_whether_it_is_known(tmp_path: Path, change: dict[str, Any]) -> None:
    with Store(tmp_path, HERE) as store:
        store.add(SUBJECT, QUESTION, {"psnr": 1.0, "ssim": 0.5}, METRICS, UP)
        assert len(store.find(SUBJECT, QUESTION, METRICS)) == 2
    with Store(tmp_path, change.get("environment", HERE)) as store:
        asked = change.get("subject", SUBJECT), change.get("question", QUESTION), change.get("metrics", METRICS)
        assert store.find(*asked) == {}


@pytest.mark.parametrize("harmless", [replace(HERE, threads=8)], ids=str)
def test_what_decides_no_value_computes_nothing_anew(tmp_path: Path, harmless: Environment) -> None:
    with Store(tmp_path, HERE) as store:
        store.add(SUBJECT, QUESTION, {"psnr": 1.0}, METRICS, UP)
    with Store(tmp_path, harmless) as store:
        assert store.find(SUBJECT, QUESTION, METRICS) == {"psnr": 1.0}


def test_a_row_carries_all_that_decides_it(folder: Path, tmp_path: Path) -> None:
    bench("bicubic", str(folder), "psnr", out=tmp_path / "out", pictures=0)
    score = read_scores(tmp_path / "out")[0]
    assert (score.entry, score.dataset, score.image, score.metric) == ("bicubic", "photographs", "00", "psnr")
    assert (score.protocol, score.scale, score.precision, score.torch) == ("y", 4, "fp32", torch.__version__)
    assert len(score.configuration) == len(score.dataset_digest) == len(score.image_digest) == 64
    assert json.loads(score.plugins)["metrics"].startswith("srzoo ")
    assert score.device.startswith("CPU")
    assert score.time.startswith("20")


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(DataError, match=r"Cannot keep results in .*results\.sqlite: file is not a database"):
        Store(tmp_path, HERE)
    with pytest.raises(InputError, match="is no store of srzoo's results"):
        read_scores(tmp_path)
    with pytest.raises(InputError, match=r"holds no results\.sqlite"):
        read_scores(tmp_path / "missing")


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DataError, match="newer srzoo"):
        Store(tmp_path, HERE)


def test_a_disk_that_is_full_keeps_what_was_finished(tmp_path: Path) -> None:
    with Store(tmp_path, HERE) as store:
        store.add(SUBJECT, QUESTION, {"psnr": 1.0}, METRICS, UP)
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        large = replace(QUESTION, image="x" * 100_000)
        with pytest.raises(DataError, match=r"full.*What was finished before is there"):
            store.add(SUBJECT, large, {"psnr": 1.0}, METRICS, UP)
    with Store(tmp_path, HERE) as store:
        assert store.find(SUBJECT, QUESTION, METRICS) == {"psnr": 1.0}


# --- going on ---------------------------------------------------------------------------------------------------


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many images have been upscaled for scoring since it was last asked."""
    calls = 0
    plain = harness.upscaled

    def counted(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return plain(*arguments)

    def taken() -> int:
        nonlocal calls
        calls, before = 0, calls
        return before

    monkeypatch.setattr(harness, "upscaled", counted)
    return taken


def test_what_is_known_is_not_computed_again(folder: Path, tmp_path: Path, count: Callable[[], int]) -> None:
    out = tmp_path / "out"
    first = bench("bicubic,nearest", str(folder), ["psnr", "ssim"], out=out, pictures=0)
    assert (count(), first.computed) == (24, 48)
    again = bench("bicubic,nearest", str(folder), ["psnr", "ssim"], out=out, pictures=0)
    assert (count(), again.computed) == (0, 0)
    assert again.rows == first.rows
    assert again.costs == first.costs, "latency is a property of the machine, and was measured"
    assert bench("bicubic,nearest", str(folder), ["psnr"], out=out, resume=False, pictures=0).computed == 24
    assert count() == 24


def test_a_metric_a_model_or_an_image_more_computes_just_these(
    folder: Path, tmp_path: Path, count: Callable[[], int]
) -> None:
    out = tmp_path / "out"
    bench("bicubic", str(folder), "psnr", out=out, pictures=0)
    count()
    assert bench("bicubic", str(folder), "psnr,ssim", out=out, pictures=0).computed == 12
    assert bench("bicubic,nearest", str(folder), "psnr,ssim", out=out, pictures=0).computed == 24
    count()
    Image.new("RGB", (64, 64), (9, 8, 7)).save(folder / "new.png")
    assert bench("bicubic,nearest", str(folder), "psnr,ssim", out=out, pictures=0).computed == 4
    assert count() == 2
    Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "new.png")
    assert bench("bicubic", str(folder), "psnr,ssim", out=out, pictures=0).computed == 2, "the file is another"


def test_retrained_weights_are_benchmarked_anew_and_replace_the_old(folder: Path, tmp_path: Path, photos: str) -> None:
    changes: dict[str, Any] = {"generator.num_features": 8, "generator.num_blocks": 1, "training.patch_size": 32}
    changes |= {"training.validation": None, "training.batch_size": 2, "training.multiscale": [1.0]}
    found = []
    for steps in (2, 4):
        run = tmp_path / str(steps) / "mine"
        train("srresnet-lite-x4", run, data=photos, steps=steps, overrides=changes)
        found.append(bench(str(run), str(folder), "psnr", out=tmp_path / "out", pictures=0))
    assert found[0].computed == found[1].computed == 12
    assert [s.value for s in read_scores(tmp_path / "out")] == [row.value for row in found[1].rows]
    (merged,) = {score.seed for score in read_scores(tmp_path / "out")}
    assert merged == 0, "the seed is read from the weight file"


METRIC = """import srzoo

class Constant:
    def __call__(self, sr, hr):
        return sr.new_full((len(sr),), 1.0)

def made():
    return Constant()

@srzoo.hookimpl
def srzoo_metrics():
    return [srzoo.MetricSpec("constant", made, summary="One number", higher_is_better=True)]
"""


def test_scores_of_an_edited_metric_are_computed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    module = Site(tmp_path / "site").install("acme", METRIC)
    found = []
    for value in ("1.0", "2.00", "2.00", "1.0"):
        (tmp_path / "site" / f"{module}.py").write_text(METRIC.replace("1.0", value))
        sys.modules.pop(module, None)
        get_registry.cache_clear()
        result = bench("bicubic", str(folder), ["constant", "psnr"], out=tmp_path / "out", pictures=0)
        stored = {s.value for s in read_scores(tmp_path / "out") if s.metric == "constant"}
        assert stored == {row.value for row in result.rows if row.metric == "constant"}
        found.append((*stored, result.computed))
    assert found == [(1.0, 24), (2.0, 12), (2.0, 0), (1.0, 0)]


SLOW = """
import sys, time
import torch
torch.set_num_threads(1)
from srzoo import benchmark, harness
plain = harness.upscaled
def slow(*arguments):
    time.sleep(0.02)
    return plain(*arguments)
harness.upscaled = slow
benchmark.bench("bicubic,nearest", sys.argv[1], "psnr,ssim", out=sys.argv[2], pictures=0)
"""


def test_a_benchmark_killed_at_random_moments_ends_with_the_same_rows(folder: Path, tmp_path: Path) -> None:
    """SIGKILL, ten times; what was finished when it came is there afterwards."""
    moments = random.Random(0)
    whole, out = tmp_path / "whole", tmp_path / "out"
    bench("bicubic,nearest", str(folder), "psnr,ssim", out=whole, pictures=0)
    known, kills = 0, 0
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(folder), str(out)])
        while process.poll() is None and not (out / FILE).exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        now = _rows_in(out)
        assert now >= known, "nothing that was finished is lost"
        assert now % 2 == 0, "an image's metrics are there together"
        known = now
    assert kills >= 3, "else it was not interrupted at all"
    bench("bicubic,nearest", str(folder), "psnr,ssim", out=out, pictures=0)
    assert values_of(out) == values_of(whole)


def _rows_in(out: Path) -> int:
    if not (out / FILE).exists():
        return 0
    database = sqlite3.connect(out / FILE)
    try:
        return int(database.execute("SELECT count(*) FROM scores").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0
    finally:
        database.close()


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(folder: Path, tmp_path: Path) -> None:
    bench("bicubic,nearest", str(folder), "psnr,ssim", out=tmp_path / "one", pictures=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command += ["-m", "srzoo", "bench", "bicubic,nearest", "--data", str(folder), "--metric", "psnr,ssim"]
    command += ["--out", str(tmp_path / "two"), "--pictures", "0"]
    for known in (0, 48):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("protocol y") == 1, "one process speaks"
        assert ("48 of 48 known from before" in " ".join(done.stdout.split())) == (known == 48)
    assert values_of(tmp_path / "two") == values_of(tmp_path / "one")
    assert not list((tmp_path / "two").glob("results.*.sqlite")), "brought together in one file"
    strip = lambda score: replace(score, time="", device="", threads=1)  # noqa: E731
    one, two = ({strip(s) for s in read_scores(tmp_path / name)} for name in ("one", "two"))
    assert one == two


def test_what_a_killed_process_left_is_taken_in(folder: Path, tmp_path: Path) -> None:
    bench("bicubic", str(folder), "psnr", out=tmp_path / "out", pictures=0)
    (tmp_path / "out" / FILE).rename(tmp_path / "out" / "results.1.sqlite")
    with Store(tmp_path / "out", HERE) as store:
        store.present(replace(SUBJECT, configuration="other"))
        store.take_in(tmp_path / "out" / "results.1.sqlite")
    database = sqlite3.connect(tmp_path / "out" / FILE)
    assert database.execute("SELECT count(*) FROM scores").fetchone() == (12,)
    assert not (tmp_path / "out" / "results.1.sqlite").exists()


# --- reading, merging, exporting --------------------------------------------------------------------------------


@pytest.fixture
def two_runs(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    bench("bicubic", str(folder), "psnr,ssim", out=tmp_path / "first", pictures=0)
    bench("nearest", str(folder), "psnr,ssim", out=tmp_path / "second", pictures=0)
    return tmp_path / "first", tmp_path / "second"


def test_runs_are_ranked_together(two_runs: tuple[Path, Path]) -> None:
    result = cli("leaderboard", *map(str, two_runs))
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert text.index("bicubic") < text.index("nearest")
    assert "bicubic - nearest: psnr +" in text
    assert "p = 0.000" not in text
    boards = json.loads(cli("leaderboard", *map(str, two_runs), "--json").output)
    assert [s["entry"] for s in boards[0]["standings"]] == ["bicubic", "nearest"]
    best = json.loads(cli("leaderboard", *map(str, two_runs), "--metric", "ssim", "--json").output)
    assert list(best[0]["rankings"]) == ["ssim"]


def test_too_few_images_for_the_entries_are_said_wherever_places_are(tmp_path: Path) -> None:
    with Store(tmp_path, HERE) as store:
        for number in range(14):
            subject = replace(SUBJECT, entry=f"e{number}")
            store.present(subject)
            for image in range(9):
                question = replace(QUESTION, image=str(image))
                store.add(subject, question, {"psnr": 30.0 - number - image}, {"psnr": METRICS["psnr"]}, UP)
    note = "9 images are too few for 13 comparisons: the places are by the mean alone."
    shown = cli("leaderboard", str(tmp_path), "--page", str(tmp_path / "page.html"))
    text = " ".join(shown.output.split())
    assert note in text and "1=" not in text
    assert note in (tmp_path / "page.html").read_text()
    merged = merge([tmp_path])
    assert note in leaderboard_markdown(leaderboards(merged.rows, {"psnr": True}, {}), {"psnr": True}, "y", "CPU", 128)


def test_a_benchmark_prints_that_its_places_are_by_the_mean_alone(folder: Path, tmp_path: Path) -> None:
    asked = ["--data", f"{folder}[:3]", "--metric", "psnr", "--size", "16", "--pictures", "0", "--out", str(tmp_path)]
    result = cli("bench", "bicubic", "nearest", *asked)
    note = "3 images are too few to test: the places are by the mean alone. Give at least 6."
    assert note in " ".join(result.output.split()), result.output


def test_different_protocols_are_not_ranked_together(folder: Path, two_runs: tuple[Path, Path]) -> None:
    bench("bicubic", str(folder), "psnr", protocol="rgb", out=two_runs[1], pictures=0)
    result = cli("leaderboard", *map(str, two_runs))
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "Scores under protocols 'y' (bicubic, ...) and 'rgb' (bicubic, ...) are not comparable" in message
    chosen = cli("leaderboard", *map(str, two_runs), "--protocol", "rgb")
    assert chosen.exit_code == 0
    assert "nearest" not in chosen.output
    assert "there are y, rgb" in cli("leaderboard", *map(str, two_runs), "--protocol", "x").stderr


def test_different_images_of_one_name_are_not_ranked_together(folder: Path, two_runs: tuple[Path, Path]) -> None:
    Image.new("RGB", (64, 64)).save(folder / "00.png")
    bench("nearest", str(folder), "psnr", out=two_runs[1], pictures=0)
    with pytest.raises(InputError, match="different images under the name photographs/00"):
        merge(two_runs)


def pictures_in(folder: Path, names: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        colour = tuple(int(c) for c in np.random.default_rng(ord(name)).integers(0, 256, 3))
        Image.new("RGB", (32, 32 + number), colour).save(folder / f"{name}.png")
    return str(folder)


def test_another_dataset_of_one_name_is_refused(tmp_path: Path) -> None:
    """Two folders called alike would else become one dataset, of which means are taken over both."""
    ours, theirs = (pictures_in(tmp_path / whose / "faces", names) for whose, names in (("a", "ab"), ("b", "cdef")))
    bench("bicubic", ours, "psnr", out=tmp_path / "out", pictures=0)
    with pytest.raises(InputError, match=r"'faces' \(a, b\) than those given now \(c, d, e, \.\.\.\).*another --out"):
        bench("bicubic", theirs, "psnr", out=tmp_path / "out", pictures=0)
    bench("bicubic", theirs, "psnr", out=tmp_path / "other", pictures=0)
    result = cli("leaderboard", str(tmp_path / "out"), str(tmp_path / "other"))
    assert result.exit_code == 2
    assert "different datasets under the name 'faces', without a common image" in " ".join(result.stderr.split())


def test_parts_of_one_dataset_from_two_runs_are_ranked_together(tmp_path: Path) -> None:
    """As of two runs that broke: the digest of the dataset says that it is one."""
    folders = [run_of(tmp_path / name, SUBJECT, images) for name, images in (("x", "ab"), ("y", "cd"))]
    assert {row.image for row in merge(folders).rows} == set("abcd")


def test_images_that_left_a_dataset_leave_its_leaderboard(tmp_path: Path) -> None:
    out, data = tmp_path / "out", pictures_in(tmp_path / "faces", "abcd")
    bench("bicubic,nearest", data, "psnr,ssim", out=out, pictures=0)
    (tmp_path / "faces" / "b.png").unlink()
    Image.new("RGB", (48, 48), (7, 7, 7)).save(tmp_path / "faces" / "c.png")
    found = bench("bicubic", data, "psnr", out=out, pictures=0)
    assert {row.image for row in found.rows} == set("acd")
    there = {(s.entry, s.image, s.metric) for s in read_scores(out)}
    psnr = {("bicubic", image, "psnr") for image in "acd"} | {("nearest", image, "psnr") for image in "ad"}
    ssim = {(entry, image, "ssim") for entry in ("bicubic", "nearest") for image in "ad"}
    assert there == psnr | ssim, "neither what is gone nor a score of what the file was before"


def test_two_models_of_one_name_are_told_apart(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = load_model("nearest")
    for name, digest in (("first", "x"), ("second", "y")):
        model = Model("mine", real.entry, real.generator, digest=digest, seed=len(name), recipe="one")
        monkeypatch.setattr(benchmark, "load_model", lambda reference, model=model: model)
        bench("mine", str(folder), "psnr", out=tmp_path / name, pictures=0)
    merged = merge([tmp_path / "first", tmp_path / "second"])
    assert {row.entry for row in merged.rows} == {"mine [first]", "mine [second]"}
    assert set(merged.costs) == {"mine [first]", "mine [second]"}
    assert merged.recipes == dict.fromkeys(merged.costs, "mine [first] and mine [second]")
    output = cli("leaderboard", str(tmp_path / "first"), str(tmp_path / "second")).output
    assert "standard deviation 0.0000 over 2 seeds" in " ".join(output.split())
    assert "2=" not in output
    assert output.count("1=") == 2, "equal on every image"


def run_of(out: Path, subject: Subject, images: str = "a", environment: Environment = HERE) -> Path:
    """A run folder with one value of a model for each image, the n-th of which is n."""
    with Store(out, environment) as store:
        store.present(subject)
        for number, image in enumerate(images):
            store.add(subject, replace(QUESTION, image=image), {"psnr": float(number)}, METRICS, UP)
    return out


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folders = [tmp_path / "x1" / "bench", tmp_path / "y1" / "bench", tmp_path / "x1" / "other"]
    for folder, weights in zip(folders, "abc", strict=True):
        run_of(folder, replace(SUBJECT, weights=weights))
    merged = merge([*folders, folders[0] / FILE])
    labels = {"bicubic [x1/bench]": "a", "bicubic [y1/bench]": "b", "bicubic [other]": "c"}
    assert {row.entry for row in merged.rows} == set(labels)
    assert len(merged.scores) == 3
    assert {score.weights for score in merged.scores} == set(labels.values())
    assert {row.entry for row in merge([folders[0], folders[0] / ".." / "bench"]).rows} == {"bicubic"}


def test_entries_are_ranked_on_the_images_that_all_of_them_have(tmp_path: Path) -> None:
    """Of nine, the second entry has the first six, on which it is better by one; its mean is lower all the same."""
    whole = run_of(tmp_path / "u1", SUBJECT, "abcdefghi")
    part = tmp_path / "u2"
    with Store(part, HERE) as store:
        store.present(replace(SUBJECT, entry="espcn"))
        for number, image in enumerate("abcdef"):
            question = replace(QUESTION, image=image)
            store.add(replace(SUBJECT, entry="espcn"), question, {"psnr": number + 1.0}, METRICS, UP)
    note = "ranked on the 6 of 9 images that all entries have; espcn lacks 3."
    page = tmp_path / "page.html"
    result = cli("leaderboard", str(whole), str(part), "--page", str(page), "--export", str(tmp_path / "all.json"))
    assert note in result.output
    assert "set: 6 images" in result.output
    assert note in page.read_text()
    assert len(json.loads((tmp_path / "all.json").read_text())) == 15, "what was computed is exported"
    (board,) = json.loads(cli("leaderboard", str(whole), str(part), "--json").output)
    assert [(s["entry"], s["images"], s["estimates"]["psnr"]["mean"]) for s in board["standings"]] == [
        ("espcn", 6, 3.5),
        ("bicubic", 6, 2.5),
    ]
    assert board["notes"] == [note]
    (alone,) = json.loads(cli("leaderboard", str(whole), "--json").output)
    assert not alone["notes"]


def test_entries_without_a_common_image_are_refused(tmp_path: Path) -> None:
    folders = [run_of(tmp_path / "u1", SUBJECT, "abc"), run_of(tmp_path / "u2", replace(SUBJECT, entry="espcn"), "de")]
    result = cli("leaderboard", *map(str, folders))
    assert result.exit_code == 2
    assert "bicubic and espcn have no image of set in common under psnr" in " ".join(result.stderr.split())


def test_one_label_never_stands_for_two_models(tmp_path: Path) -> None:
    first = run_of(tmp_path / "x", replace(SUBJECT, entry="mine (bf16)"))
    second = run_of(tmp_path / "y", replace(SUBJECT, entry="mine", precision="bf16"))
    with pytest.raises(InputError, match=r"both be called 'mine \(bf16\)'.*rename one"):
        merge([first, second])


def test_seeds_of_a_recipe_are_counted_once_at_each_precision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds and a copy of one, at two precisions: two times two seeds, on paper, page and console alike."""
    entry = load_model("nearest")
    seeds = {"zero": 0, "one": 1, "copy": 1}
    models = {
        name: Model(name, entry.entry, entry.generator, digest=str(seed), seed=seed, recipe="r")
        for name, seed in seeds.items()
    }
    monkeypatch.setattr(benchmark, "load_model", models.get)
    out = tmp_path / "out"
    result = bench(list(models), f"{folder}[:2]", "psnr", precision="fp32,bf16", sizes=16, out=out, pictures=1)
    names = ["one and zero", "one (bf16) and zero (bf16)"]
    expected = {"zero": names[0], "one": names[0], "zero (bf16)": names[1], "one (bf16)": names[1]}
    assert result.recipes == merge([out]).recipes == expected
    text = (out / "leaderboard.md").read_text()
    shown = " ".join(cli("leaderboard", str(out)).output.split())
    page = (out / "report.html").read_text()
    for name in names:
        assert re.search(rf"{re.escape(name)} on .*: psnr .* over 2 seeds", text)
        assert re.search(rf"{re.escape(name)} on .*: psnr .* over 2 seeds", shown)
        assert re.search(rf'<th scope="row">{re.escape(name)}</th><td>[^<]*</td><td class="number">2</td>', page)
    assert "4 seeds" not in text + shown


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_exports_hold_every_row_and_column(two_runs: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all.{suffix}"
    assert cli("leaderboard", *map(str, two_runs), "--export", str(path)).exit_code == 0
    if suffix == "csv":
        with open(path, newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    elif suffix == "json":
        rows = json.loads(path.read_text())
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
    expected = merge(two_runs).scores
    assert len(rows) == len(expected) == 48
    assert list(rows[0]) == list(Score.__dataclass_fields__)
    assert [float(row["value"]) for row in rows] == [score.value for score in expected]


def test_exports_to_other_formats_are_refused(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    result = cli("leaderboard", str(two_runs[0]), "--export", str(tmp_path / "x.xlsx"))
    assert result.exit_code == 2
    assert ".csv, .json or .parquet" in " ".join(result.stderr.split())
    assert not (tmp_path / "x.xlsx").exists()
    infinite = replace(read_scores(two_runs[0])[0], value=float("inf"))
    export_scores([infinite], tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())[0]["value"] is None, "JSON has no infinity"


def test_wrong_names_for_the_leaderboard(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    assert "No metric 'pnsr' is there. Did you mean 'psnr'" in cli(
        "leaderboard", str(two_runs[0]), "--metric", "pnsr"
    ).stderr.replace("\n", " ")
    assert cli("leaderboard", str(tmp_path)).exit_code == 2


def test_times_of_one_size_and_device_are_compared(tmp_path: Path) -> None:
    def measured(name: str, size: int, milliseconds: float, **place: Any) -> Path:
        subject, environment = replace(SUBJECT, entry=name), replace(HERE, **place)
        out = run_of(tmp_path / name, subject, environment=environment)
        with Store(out, environment) as store:
            cost = CostRow(name, size, milliseconds, milliseconds, milliseconds, None, 7, None)
            store.add_cost(subject, cost)
        return out

    folders = [measured("other-size", 128, 1.0), measured("other-device", 64, 2.0, device="CPU, 8 threads", threads=8)]
    for name, milliseconds in (("first", 3.0), ("second", 4.0)):
        measured(name, 128, 5.0)
        folders.append(measured(name, 64, milliseconds))
    merged = merge(folders)
    times = {label: cost.milliseconds for label, cost in merged.timing.compared.items() if cost.milliseconds > 0}
    assert times == {"first": 3.0, "second": 4.0}
    assert {cost.parameters for cost in merged.timing.compared.values()} == {7}, "which no machine decides"
    assert [cost.size for cost in merged.costs["first"]] == [64, 128]
    assert "other-device" not in merged.costs
    result = cli("leaderboard", *map(str, folders), "--page", str(tmp_path / "p.html"))
    assert "ms: median for one 64x64 input, CPU; not measured so: other-size, other-device" in result.output
    assert re.search("one 64.64 input, float32, CPU", (tmp_path / "p.html").read_text())


def test_the_size_that_was_asked_for_last_is_the_one_compared(folder: Path, tmp_path: Path) -> None:
    for sizes in (16, [8, 24], 16):
        bench("bicubic", str(folder), "psnr", sizes=sizes, out=tmp_path / "out", pictures=0)
        first = sizes if isinstance(sizes, int) else sizes[0]
        assert merge([tmp_path / "out"]).timing.size == first


def test_costs_are_stated_with_their_spread(two_runs: tuple[Path, Path]) -> None:
    (cost,) = read_costs(two_runs[0])
    assert 0 < cost.quartile_low <= cost.milliseconds <= cost.quartile_high
    assert cost.images_per_second == pytest.approx(1000 / cost.milliseconds)
    assert cost.peak_bytes is not None
    assert cost.peak_bytes >= 3 * 512 * 512 * 4, "its output alone is that large"
    assert cost.parameters == 0


def test_two_benchmarks_at_a_time_do_not_share_a_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with filelock.FileLock(out / ".lock"), pytest.raises(InputError, match=r"Another benchmark is at work in .*out"):
        bench("bicubic", str(folder), "psnr", out=out)
    assert not (out / "results.sqlite").exists()
    assert bench("bicubic", str(folder), "psnr", out=out).computed > 0, "it is free again"
    read_scores(out)
    assert [path.name for path in out.glob("results.sqlite*")] == ["results.sqlite"], "nothing else belongs to it"
