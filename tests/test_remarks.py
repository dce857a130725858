"""What is to be known beside the scores: it is kept with them, and stands wherever they are read."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import Greedy, photographs
from PIL import Image
from typer.testing import CliRunner

from srzoo import benchmark, harness, latency, results
from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import DataError, RecipeWarning, UpscaleWarning
from srzoo.gallery import build_gallery
from srzoo.inference import device_name
from srzoo.merged import merge
from srzoo.page import PageData, page_costs, render_page
from srzoo.precisions import float32_of, precision_losses, precision_table
from srzoo.pretrained import Model, load_model
from srzoo.remarks import Remark, provenance_note, remark_notes
from srzoo.report import Row
from srzoo.results import read_scores
from srzoo.store import FILE, CostRow, Environment, Question, Store, Subject
from srzoo.weights import save_checkpoint
from srzoo.zoo import get_zoo, training_entry

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photographs(tmp_path / "photographs", dict.fromkeys("abcdef", (96, 80)))


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_remarks_on_several_models_or_images_are_brought_together() -> None:
    remarks = [
        Remark(entry, "photos", "", "trained on 2 of its images (a, b), so its scores flatter.") for entry in "mn"
    ]
    remarks += [
        Remark("m", "photos", image, f"where tiles meet, they differ by up to {levels} of 255 levels.")
        for image, levels in zip("abc", ("0.4", "12.5", "9"), strict=True)
    ]
    assert remark_notes(remarks) == [
        "m, n on photos: trained on 2 of its images (a, b), so its scores flatter.",
        "m on photos, b: where tiles meet, they differ by up to 12.5 of 255 levels. "
        "That is the worst of 3 such images.",
    ]
    assert remark_notes([]) == []


def test_seams_stay_with_the_scores_of_a_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = {"tile": 16, "sizes": 16, "pictures": 1, "out": out}
    with pytest.warns(UpscaleWarning, match="where tiles meet"):
        first = bench("srresnet-lite-x4,bicubic", str(folder), "psnr", **asked)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UpscaleWarning)
        again = bench("srresnet-lite-x4,bicubic", str(folder), "psnr", **asked)  # type: ignore[arg-type]
    assert again.computed == 0 and again.remarks == first.remarks
    assert {(remark.entry, remark.image) for remark in first.remarks} == {("srresnet-lite-x4", i) for i in "abcdef"}
    for name in ("leaderboard.md", "report.html"):
        text = (out / name).read_text()
        assert "srresnet-lite-x4 on photographs, " in text and "That is the worst of 6 such images" in text
    assert "where tiles meet" in told("leaderboard", str(out))
    whole = bench("srresnet-lite-x4,bicubic", str(folder), "psnr", sizes=16, pictures=1, out=out)
    assert whole.remarks == [], "of the same weights, upscaled whole"
    assert "where tiles meet" not in (out / "report.html").read_text() + told("leaderboard", str(out))


def test_a_folder_of_before_remarks_is_read(folder: Path, tmp_path: Path) -> None:
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, out=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "results.sqlite") as database:
        database.execute("DROP TABLE remarks")
    assert merge([tmp_path / "out"]).remarks == ()


def test_by_what_scores_were_computed_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=1, out=one)
    by = f"srzoo 0.1.0, torch {torch.__version__} on {device_name(torch.device('cpu'))}"
    assert f"Scores by {by}." in told("leaderboard", str(one))
    assert f"Scores by {by}." in (one / "report.html").read_text()
    monkeypatch.setattr(harness, "device_name", lambda device: "NVIDIA H200")
    bench("nearest", str(folder), "psnr", sizes=16, pictures=0, out=other)
    text = told("leaderboard", str(one), str(other))
    assert f"Scores were computed by {by} (bicubic); by srzoo 0.1.0, torch {torch.__version__} on NVIDIA H200" in text
    (score, *_) = read_scores(one)
    assert "plugins differ" in provenance_note([("a", score), ("b", replace(score, plugins="{}"))])
    assert provenance_note([("a", replace(score, device="people"))]) == ""
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, precision="bf16", out=other)
    assert "NVIDIA H200 (nearest, bicubic (bf16))" in told("leaderboard", str(one), str(other))


def test_pictures_are_made_anew_where_all_is(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=1, out=out)
    for path in (out / "pictures").rglob("*.png"):
        os.truncate(path, 10)
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=1, out=out, resume=False)
    pictures = list((out / "pictures").rglob("*.png"))
    assert len(pictures) == 2
    assert all(np.asarray(Image.open(path)).std() > 0 for path in pictures)


def test_json_has_null_where_nothing_is_known(folder: Path, tmp_path: Path) -> None:
    bench("bicubic,nearest", f"{folder}[:2]", "psnr", sizes=16, pictures=0, out=tmp_path / "out")
    shown = CliRunner().invoke(app, ["leaderboard", str(tmp_path / "out"), "--json"]).output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    (board,) = json.loads(shown, parse_constant=refuse)
    assert board["standings"][0]["estimates"]["psnr"]["low"] is None


# --- precisions -------------------------------------------------------------------------------------------------


def cost(entry: str, precision: str, milliseconds: float, peak: int, size: int = 64) -> CostRow:
    return CostRow(entry, size, milliseconds, milliseconds, milliseconds, peak, 10, 20, precision, "CPU")


def test_a_lower_precision_is_compared_image_by_image_with_itself_in_float32() -> None:
    rows = [Row("m", "set", str(i), "psnr", "y", 30.0 + i) for i in range(8)]
    rows += [Row("m (bf16)", "set", str(i), "psnr", "y", 29.9 + i + 0.01 * (i % 2)) for i in range(8)]
    rows += [Row("n", "set", str(i), "psnr", "y", 20.0) for i in range(8)]
    costs = {
        "m": [cost("m", "fp32", 100, 40)],
        "m (bf16)": [cost("m", "bf16", 25, 20, size=32), cost("m", "bf16", 50, 20)],
        "n": [cost("n", "fp32", 10, 1)],
    }
    bases = {"m (bf16)": ("m", "bf16")}
    (loss,) = precision_losses(rows, ["psnr"], bases, costs)
    assert (loss.entry, loss.precision, loss.dataset) == ("m", "bf16", "set")
    found = loss.differences["psnr"]
    assert found.mean == pytest.approx(-0.095) and -0.1 <= found.low < found.mean < found.high <= -0.09
    assert (loss.size, loss.time, loss.memory) == (64, 0.5, 0.5), "at the size that both were measured for"
    header, (cells,) = precision_table([loss], {"psnr": True})
    assert header[3:] == ["images", "Δ psnr ↑", "input", "time", "memory"]
    assert cells[3] == "8" and cells[4].startswith("-0.0950 [-0.0") and cells[5:] == ["64x64", "0.50x", "0.50x"]
    page = render_page(PageData(rows, {"psnr": True}, page_costs(costs), bases=bases), build_gallery({}))
    assert '<section id="precision"' in page and "-0.0950 [-0.0" in page
    alone = [row for row in rows if row.entry != "m (bf16)"]
    assert '<section id="precision"' not in render_page(PageData(alone, {"psnr": True}), build_gallery({}))


def test_precisions_reach_terminal_and_markdown_also_of_merged_folders(folder: Path, tmp_path: Path) -> None:
    asked = ["--data", str(folder), "--metric", "psnr", "--size", "16", "--pictures", "0"]
    text = told("bench", "srresnet-lite-x4", "--precision", "fp32,bf16", *asked, "--out", str(tmp_path / "out"))
    assert "lower precisions against float32" in text
    assert "## Precision" in (tmp_path / "out" / "leaderboard.md").read_text()
    assert "lower precisions against float32" in told("leaderboard", str(tmp_path / "out"))


HERE = Environment("0.1", {}, "2.6", "CPU", 1)


def stored(folder: Path, *models: Subject) -> Path:
    """A run folder with scores of models; only the first of each label counts any more if a later one is of it."""
    with Store(folder, HERE) as store:
        for model in models:
            store.present(model)
            for image in "abcdef":
                question = Question("set", "digest", image, image, "y")
                store.add(model, question, {"psnr": 30.0}, {"psnr": "psnr"}, {"psnr": True})
    return folder


WHOLE = Subject("m", 4, "composition", "weights")
LOWER = replace(WHOLE, precision="bf16")


def test_other_weights_are_not_compared_as_a_precision(tmp_path: Path) -> None:
    alike = merge([stored(tmp_path / "alike", WHOLE, LOWER)])
    assert float32_of(alike.models) == {"m (bf16)": ("m", "bf16")}
    assert not any("other weights" in note for note in alike.notes(["set"], ["psnr"]))
    retrained = merge([stored(tmp_path / "one", WHOLE, replace(LOWER, weights="newer"))])
    assert float32_of(retrained.models) == {}
    note = "m (bf16) has other weights or another composition than m in float32."
    assert note in retrained.notes(["set"], ["psnr"])
    whole, lower = stored(tmp_path / "fp32", WHOLE), stored(tmp_path / "bf16", replace(LOWER, weights="newer"))
    merged = merge([whole, lower])
    assert set(merged.models) == {"m [fp32]", "m (bf16) [bf16]"} and float32_of(merged.models) == {}
    assert float32_of(merge([whole, stored(tmp_path / "same", LOWER)]).models) == {"m (bf16)": ("m", "bf16")}


# --- what is kept -----------------------------------------------------------------------------------------------


def test_values_of_one_image_are_of_one_output(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in folder.iterdir():
        Image.open(path).resize((160, 136)).save(path)
    greedy = Greedy(16 * 16)
    model = Model("greedy", load_model("nearest").entry, greedy)
    monkeypatch.setattr(benchmark, "load_model", lambda name: model)
    with pytest.warns(UpscaleWarning, match="memory ran out"):
        tiled = bench("greedy", str(folder), "psnr", sizes=16, pictures=0, out=tmp_path / "out")
    assert len(tiled.remarks) == 6
    greedy.pixels = 10**6
    whole = bench("greedy", str(folder), "psnr,ssim", sizes=16, pictures=0, out=tmp_path / "out")
    assert whole.computed == 12 and whole.remarks == [], "psnr as well, which was that of tiles"


def test_an_overlap_is_not_forgotten_where_the_training_images_are_gone(folder: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(folder, copies)
    entry = training_entry("espcn-lite-x4", [str(copies)], None, {})
    description = {"composition": full_composition(entry), "training": {"data": [str(copies)]}}
    save_checkpoint(tmp_path / "mine.safetensors", build_generator(entry).state_dict(), description)
    asked = {"sizes": 16, "pictures": 0, "out": tmp_path / "out"}

    def stop(entry: str, dataset: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    mine = str(tmp_path / "mine.safetensors")
    with pytest.warns(RecipeWarning, match="trained on 6"), pytest.raises(KeyboardInterrupt):
        bench(mine, str(folder), "psnr", progress=stop, **asked)  # type: ignore[arg-type]
    (note,) = merge([tmp_path / "out"]).remarks
    assert note.text.startswith("trained on 6 of its images"), "known although the run was stopped"
    shutil.rmtree(copies)
    assert bench(mine, str(folder), "psnr", **asked).remarks == [note]  # type: ignore[arg-type]


def test_what_a_killed_process_left_is_taken_in_by_one_process_too(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, out=out)
    with closing(sqlite3.connect(out / FILE)) as database:
        database.execute("DROP TABLE remarks")  # as files of before have none
        database.commit()
    os.replace(out / FILE, out / "results.1.sqlite")
    (out / "results.2.sqlite").touch()  # of one that was killed at once
    assert bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, out=out).computed == 0
    assert not list(out.glob("results.*.sqlite"))
    (out / "results.3.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match=r"results\.3\.sqlite, which a process left that was stopped.*Delete it"):
        bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, out=out)


def test_a_folder_that_nobody_may_write_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = stored(tmp_path / "published", WHOLE)
    opened = []
    original = sqlite3.connect
    monkeypatch.setattr(results.sqlite3, "connect", lambda *a, **k: (opened.append(a[0]), original(*a, **k))[1])
    monkeypatch.setattr(results.os, "access", lambda path, mode: False)
    assert len(merge([there]).scores) == 6
    assert all("immutable=1" in address for address in opened)


def test_labels_that_would_be_two_models_are_refused(tmp_path: Path) -> None:
    for name in ("m", "m (bf16)"):
        entry = get_zoo().entry("espcn-lite-x4", {"training": None})
        description = {"composition": full_composition(entry)}
        save_checkpoint(tmp_path / f"{name}.safetensors", build_generator(entry).state_dict(), description)
    paths = [str(tmp_path / "m.safetensors"), str(tmp_path / "m (bf16).safetensors")]
    with pytest.raises(DataError, match=r"Two models are called 'm \(bf16\)'"):
        bench(paths, "photos", "psnr", precision=["fp32", "bf16"])


# --- times on a GPU ---------------------------------------------------------------------------------------------


class Gpu:
    """A clock for a GPU whose calls take ten times as long until it has been busy for 0.1 s."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def call(self) -> None:
        self.now += 0.01 if self.now < 0.1 else 0.001


@pytest.mark.parametrize(("device", "milliseconds"), [("cuda", 1.0), ("cpu", 10.0)])
def test_a_gpu_is_busy_for_a_while_before_it_is_timed(
    monkeypatch: pytest.MonkeyPatch, device: str, milliseconds: float
) -> None:
    gpu = Gpu()
    monkeypatch.setattr(latency, "time", gpu)
    monkeypatch.setattr(latency, "_synchronise", lambda device: None)
    (found,) = latency.measure_latencies([gpu.call], torch.device(device))
    assert found.quartile_high == pytest.approx(milliseconds, rel=0.01)
