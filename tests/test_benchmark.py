"""The benchmark: rows, leaderboard, and what it says when something is missing."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import srzoo
from srzoo.benchmark import DEFAULT_METRICS, bench, default_entries, ready_entries
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import DataError, MissingWeightsError, RecipeWarning, UnknownNameError
from srzoo.leaderboard import Standing, leaderboard_markdown, leaderboards, table
from srzoo.merged import merge
from srzoo.report import COLUMNS, Row, format_milliseconds, format_value
from srzoo.store import CostRow
from srzoo.weights import save_checkpoint
from srzoo.zoo import get_zoo, training_entry

torch.set_num_threads(1)


def standings(rows: list[Row], directions: dict[str, bool], costs: dict[str, CostRow]) -> list[Standing]:
    return [standing for board in leaderboards(rows, directions, costs) for standing in board.standings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "photographs"
    target.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((66, 70), Image.Resampling.BICUBIC).save(target / f"{name}.png")
    return target


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_an_image_and_metric(folder: Path, tmp_path: Path) -> None:
    result = bench("bicubic,nearest", str(folder), ["psnr", "ssim"], out=tmp_path / "out", pictures=0)
    rows = rows_of(tmp_path / "out")
    assert tuple(rows[0]) == COLUMNS == ("entry", "dataset", "image", "metric", "protocol", "value")
    keys = {(r["entry"], r["dataset"], r["image"], r["metric"], r["protocol"]) for r in rows}
    assert keys == {
        (e, "photographs", i, m, "y") for e in ("bicubic", "nearest") for i in "ab" for m in ("psnr", "ssim")
    }
    assert len(rows) == len(result.rows) == 8
    assert [float(r["value"]) for r in rows] == [r.value for r in result.rows], "written without loss"


def test_leaderboard_ranks_best_first_and_states_the_protocol(folder: Path, tmp_path: Path) -> None:
    result = srzoo.bench("nearest,bicubic", str(folder), "psnr", protocol="rgb", out=tmp_path / "out", pictures=0)
    assert [s.entry for s in result.standings] == ["bicubic", "nearest"]
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Protocol `rgb`" in text
    assert text.index("| bicubic |") < text.index("| nearest |")


def test_mean_in_the_leaderboard_is_the_mean_of_the_rows(folder: Path) -> None:
    result = bench("bicubic", str(folder), "psnr")
    assert result.standings[0].means["psnr"] == pytest.approx(np.mean([r.value for r in result.rows]), abs=1e-12)


def test_lower_is_better_metrics_rank_the_other_way() -> None:
    rows = [Row("a", "d", "1", "lpips_alex", "y", 0.3), Row("b", "d", "1", "lpips_alex", "y", 0.1)]
    found = standings(rows, {"lpips_alex": False}, {"a": CostRow("a", 128, 1.0, 1.0, 1.0, None, 1, None)})
    assert [s.entry for s in found] == ["b", "a"]
    assert [s.milliseconds for s in found] == [pytest.approx(float("nan"), nan_ok=True), 1.0]


def test_metrics_that_entries_lack_images_of_are_named() -> None:
    rows = [Row(entry, "d", image, "psnr", "y", 30.0) for entry in "ab" for image in "123"]
    rows += [Row("a", "d", image, "mos", "y", 3.0) for image in "12"] + [Row("b", "d", "2", "mos", "y", 4.0)]
    (board,) = leaderboards(rows, {"psnr": True, "mos": True}, {})
    lacking, untested = board.notes
    assert lacking == "mos: ranked on the 1 of 3 images that all entries have; a lacks 1, b lacks 2."
    assert "too few to test" in untested
    assert "- mos: ranked on the 1 of 3" in leaderboard_markdown([board], {"psnr": True, "mos": True}, "y", "", 128)
    (board,) = leaderboards(
        [*rows, Row("c", "d", "2", "psnr", "y", 1.0), Row("c", "d", "4", "mos", "y", 1.0)],
        {"psnr": True, "mos": True},
        {},
    )
    assert board.notes[1] == "mos: not compared, since a and c have no image in common."
    assert list(board.rankings) == ["psnr"]


def test_a_metric_that_no_entry_has_on_all_images_says_so() -> None:
    """As one that failed on an image, or was asked for before the dataset grew: its means are of fewer images."""
    rows = [Row(entry, "d", image, "psnr", "y", 30.0) for entry in "ab" for image in "1234567"]
    rows += [Row(entry, "d", image, "lpips", "y", 0.1) for entry in "ab" for image in "123456"]
    (board,) = leaderboards(rows, {"psnr": True, "lpips": False}, {})
    assert board.notes == ("lpips: ranked on the 6 of 7 images that all entries have; none has the other 1.",)
    (alone,) = leaderboards([row for row in rows if row.entry == "a"], {"psnr": True, "lpips": False}, {})
    assert alone.notes == ("lpips: ranked on the 6 of 7 images that all entries have; a lacks 1.",)


def test_undefined_values_are_left_out_of_means_and_shown_as_a_dash() -> None:
    rows = [Row("a", "d", "1", "ssim", "y", float("nan")), Row("a", "d", "2", "ssim", "y", 0.5)]
    (board,) = leaderboards(rows, {"ssim": True}, {})
    (standing,) = board.standings
    assert standing.means["ssim"] == 0.5
    assert board.notes == ("ssim is undefined for a on 1, of 2 images; means leave them out.",)
    assert format_value(float("nan")) == "-"
    assert [format_value(value, [28.43, 8.0473]) for value in (28.43, 8.0473)] == ["28.43", "8.05"]
    assert format_value(0.15364, [0.15364, 0.0932]) == "0.1536"

    header, cells = table(board, {"ssim": True})
    assert "0.5000" in cells[0]
    assert "| a |" in leaderboard_markdown([board], {"ssim": True}, "y", "CPU", 128)
    assert header[2] == "ssim ↑"


def test_times_have_no_digits_that_were_not_measured() -> None:
    times = [13344.8, 828.46, 99.96, 99.94, 50.123, 1.2345, float("nan")]
    assert [format_milliseconds(time) for time in times] == ["13,345", "828", "100", "99.9", "50.1", "1.23", "-"]


def test_a_metric_without_backbone_is_reported_and_stops_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "data"))
    result = bench("bicubic", str(folder), ["psnr", "lpips_vgg"], out=tmp_path / "out", pictures=0)
    assert {r.metric for r in result.rows} == {"psnr"}
    assert "put vgg16-397923af.pth" in result.unavailable["lpips_vgg"]
    assert "vgg16-397923af.pth" in (tmp_path / "out" / "leaderboard.md").read_text()


def weights_trained_on(path: Path, data: list[str], start_from: str | None = None) -> Path:
    """A weight file of a small network that says what it was trained on."""
    entry = training_entry("espcn-lite-x4", data, None, {})
    description = {
        "composition": full_composition(entry),
        "training": {"data": data, "start_from": start_from},
    }
    save_checkpoint(path, build_generator(entry).state_dict(), description)
    return path


def test_a_model_that_was_trained_on_the_images_is_named(folder: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "renamed.png").write_bytes((folder / "a.png").read_bytes())
    mine = weights_trained_on(tmp_path / "mine.safetensors", [str(copies), "no-such-set"])
    with pytest.warns(RecipeWarning, match=r"^mine: trained on 1 of the benchmarked images \(photographs/a\)"):
        bench(["bicubic", str(mine)], str(folder), "psnr", sizes=16, pictures=1, out=tmp_path / "out")
    note = "mine on photographs: trained on 1 of its images (a), so its scores flatter."
    assert all(note in (tmp_path / "out" / name).read_text() for name in ("report.html", "leaderboard.md"))
    assert merge([tmp_path / "out"]).notes(["photographs"], ["psnr"])[0] == note
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecipeWarning)
        bench(["bicubic", str(mine)], f"{folder}[1:]", "psnr")


def test_what_the_weights_started_from_was_trained_on_counts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = training_entry("espcn-lite-x4", [str(folder)], None, {})
    mine = weights_trained_on(tmp_path / "mine.safetensors", ["no-such-set"], start_from=first.name)
    zoo = get_zoo()
    original = type(zoo).entry
    monkeypatch.setattr(type(zoo), "entry", lambda own, name: first if name == first.name else original(own, name))
    with pytest.warns(RecipeWarning, match="mine: trained on 2 of the benchmarked images"):
        bench(str(mine), str(folder), "psnr")


def test_when_no_metric_can_be_computed_that_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="None of the metrics"):
        bench("bicubic", str(folder), ["lpips_vgg"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("bicubik",), UnknownNameError, "Did you mean 'bicubic'"),
        (("bicubic", "phots"), UnknownNameError, "Did you mean 'photos'"),
        (("bicubic", "photos", "pnsr"), UnknownNameError, "Did you mean 'psnr'"),
        (("esrgan-x4",), MissingWeightsError, "srzoo train esrgan-x4"),
    ],
)
def test_wrong_names_are_refused_with_the_near_miss(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        bench(*arguments)


def test_default_is_every_entry_that_is_ready() -> None:
    names = ready_entries()
    assert {"bicubic", "nearest"} <= set(names)
    assert "esrgan-x4" not in names
    assert DEFAULT_METRICS[:2] == ("psnr", "ssim")


def test_what_is_slow_on_a_cpu_is_benchmarked_there_by_name_only() -> None:
    names, left_out = default_entries(torch.device("cpu"))
    assert "rrdb-wide-x4" in left_out and "rrdb-lite-x4" in names
    assert sorted([*names, *left_out]) == sorted(ready_entries())
    assert default_entries(torch.device("cuda")) == (ready_entries(), [])


def test_scoring_the_reference_itself_gives_the_best_values(folder: Path) -> None:
    from srzoo.data import load_image_set
    from srzoo.scoring import Reference, available_metrics

    metrics, _ = available_metrics(["psnr", "ssim"], torch.device("cpu"))
    _, hr, grey = load_image_set(str(folder)).items[0].read_pair(4)
    image = torch.from_numpy(hr).permute(2, 0, 1)[None]
    values = Reference(image, metrics, "y", 4, grey).score(image)
    assert values["psnr"] == float("inf")
    assert values["ssim"] == pytest.approx(1.0)


class FailsOn(torch.nn.Module):
    """A generator that raises on the second image it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        self.seen += lr.shape[-1] != 128  # not while latency is measured
        if self.seen > 1:
            raise RuntimeError("out of luck")
        return torch.nn.functional.interpolate(lr, scale_factor=4)


def test_a_model_that_fails_is_left_out_and_named_and_stops_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srzoo import benchmark
    from srzoo.pretrained import Model, load_model

    broken = Model("broken", load_model("nearest").entry, FailsOn())
    monkeypatch.setattr(benchmark, "load_model", lambda name: broken if name == "broken" else load_model(name))
    result = bench("broken,bicubic", str(folder), "psnr", out=tmp_path / "out", pictures=0)
    assert [s.entry for s in result.standings] == ["bicubic"]
    assert "out of luck" in result.failed["broken"]
    assert "broken failed and is left out" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_two_datasets_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    twin = tmp_path / "other" / folder.name
    twin.parent.mkdir()
    twin.symlink_to(folder)
    with pytest.raises(DataError, match="Two datasets are called 'photographs'"):
        bench("bicubic", [str(folder), str(tmp_path / "other" / "photographs" / ".")], "psnr")


def test_undefined_values_rank_last_in_either_direction() -> None:
    values = {"a": 10.0, "b": float("nan"), "c": 30.0, "d": 20.0}
    rows = [Row(entry, "d", "1", "m", "y", value) for entry, value in values.items()]
    assert [s.entry for s in standings(rows, {"m": True}, {})] == ["c", "d", "a", "b"]
    assert [s.entry for s in standings(rows, {"m": False}, {})] == ["a", "d", "c", "b"]


def test_entries_of_different_scales_are_not_ranked_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from srzoo import benchmark
    from srzoo.pretrained import Model, load_model

    def x2(name: str) -> Model:
        model = load_model("nearest")
        return Model(name, model.entry.model_copy(update={"scale": 2 if name == "twice" else 4}), model.generator)

    monkeypatch.setattr(benchmark, "load_model", x2)
    with pytest.raises(DataError, match="x2 \\(twice\\) and x4 \\(nearest\\)"):
        bench("nearest,twice", str(folder), "psnr")


def test_precisions_are_compared_like_entries(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bench("srresnet-lite-x4", str(folder), "psnr", precision="fp32,bf16", out=out, pictures=0)
    found = {s.entry: s for s in result.standings}
    assert set(found) == {"srresnet-lite-x4", "srresnet-lite-x4 (bf16)"}
    assert found["srresnet-lite-x4"].means["psnr"] != found["srresnet-lite-x4 (bf16)"].means["psnr"]
    assert abs(found["srresnet-lite-x4"].means["psnr"] - found["srresnet-lite-x4 (bf16)"].means["psnr"]) < 0.02
    again = bench("srresnet-lite-x4", str(folder), "psnr", precision=["bf16"], out=out, pictures=0)
    assert again.computed == 0
    assert [s.entry for s in again.standings] == ["srresnet-lite-x4 (bf16)"]
    with pytest.raises(DataError, match="There is no precision 'int8'; use fp32, bf16, fp16"):
        bench("bicubic", str(folder), "psnr", precision="int8")


def test_the_report_shows_the_outputs_of_some_images(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("bicubic,nearest", str(folder), "psnr", out=out, pictures=1)
    kept = sorted(path.relative_to(out / "pictures").as_posix() for path in out.rglob("*.png"))
    assert [name.partition("-")[0] for name in kept] == [f"photographs/a/{e}" for e in ("HR", "bicubic", "nearest")]
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp") >= 3
    for path in out.rglob("bicubic*.png"):
        path.unlink()
    again = bench("bicubic,nearest", str(folder), "psnr", out=out, pictures=1)
    assert again.computed == 0
    assert len(list(out.rglob("*.png"))) == 3, "what was lost is made again, and nothing is scored"


def test_without_pictures_no_report_of_an_earlier_call_is_left(folder: Path, tmp_path: Path) -> None:
    """It would show other scores than the tables beside it."""
    bench("nearest", str(folder), "psnr", out=tmp_path, pictures=1)
    assert (tmp_path / "report.html").is_file()
    bench("bicubic", str(folder), "psnr", out=tmp_path, pictures=0)
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "leaderboard.md").is_file()


def test_a_page_of_several_runs_has_the_pictures_of_all(folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from srzoo.cli import app
    from srzoo.merged import merge

    for name in ("bicubic", "nearest"):
        bench(name, str(folder), "psnr", out=tmp_path / name, pictures=2)
    merged = merge([tmp_path / "bicubic", tmp_path / "nearest"])
    assert set(merged.pictures["photographs"]["a"]) == {"HR", "bicubic", "nearest"}
    command = ["leaderboard", str(tmp_path / "bicubic"), str(tmp_path / "nearest"), "--page", str(tmp_path / "p.html")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert "nearest" in (tmp_path / "p.html").read_text()
