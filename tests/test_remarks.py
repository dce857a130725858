"""What is to be known beside the scores: it is kept with them, and stands wherever they are read."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from srzoo import harness, latency
from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.errors import UpscaleWarning
from srzoo.gallery import build_gallery
from srzoo.page import PageData, page_costs, render_page
from srzoo.precisions import precision_losses, precision_table
from srzoo.remarks import Remark, provenance_note, remark_notes
from srzoo.report import Row
from srzoo.results import merge, read_scores
from srzoo.store import CostRow

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "photographs"
    target.mkdir()
    random = np.random.default_rng(0)
    for name in "abcdef":
        coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(target / f"{name}.png")
    return target


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_remarks_on_several_models_or_images_are_brought_together() -> None:
    remarks = [
        Remark(entry, "photos", "", "trained on 2 of its images (a, b), so its scores flatter.") for entry in "mn"
    ]
    remarks += [Remark("m", "photos", image, f"4 tiles of {image}.") for image in "abc"]
    assert remark_notes(remarks) == [
        "m, n on photos: trained on 2 of its images (a, b), so its scores flatter.",
        "m on photos, a: 4 tiles of a. Of 2 more images the like was noted.",
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
        assert "srresnet-lite-x4 on photographs, a: " in text and "Of 5 more images the like was noted" in text
    assert "where tiles meet" in told("leaderboard", str(out))
    whole = bench("srresnet-lite-x4,bicubic", str(folder), "psnr", sizes=16, pictures=1, out=out)
    assert whole.remarks == [], "of the same weights, upscaled whole"
    assert "where tiles meet" not in (out / "report.html").read_text() + told("leaderboard", str(out))


def test_a_folder_of_before_remarks_is_read(folder: Path, tmp_path: Path) -> None:
    import sqlite3

    bench("bicubic", str(folder), "psnr", sizes=16, pictures=0, out=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "results.sqlite") as database:
        database.execute("DROP TABLE remarks")
    assert merge([tmp_path / "out"]).remarks == ()


def test_by_what_scores_were_computed_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    bench("bicubic", str(folder), "psnr", sizes=16, pictures=1, out=one)
    by = f"srzoo 0.1.0, torch {torch.__version__} on CPU, 1 thread"
    assert f"Scores by {by}." in told("leaderboard", str(one))
    assert f"Scores by {by}." in (one / "report.html").read_text()
    monkeypatch.setattr(harness, "device_name", lambda device: "NVIDIA H200")
    bench("nearest", str(folder), "psnr", sizes=16, pictures=0, out=other)
    text = told("leaderboard", str(one), str(other))
    assert f"Scores were computed by {by} (bicubic); by srzoo 0.1.0, torch {torch.__version__} on NVIDIA H200" in text
    (score, *_) = read_scores(one)
    assert "plugins differ" in provenance_note([score, replace(score, entry="b", plugins="{}")])
    assert provenance_note([replace(score, device="people")]) == ""


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
    (loss,) = precision_losses(rows, ["psnr"], costs)
    assert (loss.entry, loss.precision, loss.dataset) == ("m", "bf16", "set")
    found = loss.differences["psnr"]
    assert found.mean == pytest.approx(-0.095) and -0.1 <= found.low < found.mean < found.high <= -0.09
    assert (loss.time, loss.memory) == (0.5, 0.5), "at the size that both were measured for"
    header, (cells,) = precision_table([loss], {"psnr": True})
    assert header[3:] == ["Δ psnr ↑", "time", "memory"]
    assert cells[3].startswith("-0.0950 [-0.0") and cells[4:] == ["0.50x", "0.50x"]
    page = render_page(PageData(rows, {"psnr": True}, page_costs(costs)), build_gallery({}))
    assert '<section id="precision"' in page and "-0.0950 [-0.0" in page
    alone = [row for row in rows if row.entry != "m (bf16)"]
    assert '<section id="precision"' not in render_page(PageData(alone, {"psnr": True}), build_gallery({}))


def test_precisions_reach_terminal_and_markdown_also_of_merged_folders(folder: Path, tmp_path: Path) -> None:
    asked = ["--data", str(folder), "--metric", "psnr", "--size", "16", "--pictures", "0"]
    text = told("bench", "srresnet-lite-x4", "--precision", "fp32,bf16", *asked, "--out", str(tmp_path / "out"))
    assert "lower precisions against float32" in text
    assert "## Precision" in (tmp_path / "out" / "leaderboard.md").read_text()
    assert "lower precisions against float32" in told("leaderboard", str(tmp_path / "out"))


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
    found = latency.measure_latency(gpu.call, torch.device(device))
    assert found.quartile_high == pytest.approx(milliseconds, rel=0.01)
