"""The harness: outputs scored together, images in tiles, costs at several input sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import Greedy, photographs
from PIL import Image
from typer.testing import CliRunner

from srzoo import benchmark, latency
from srzoo.benchmark import BenchResult, bench
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.costs import cost_of
from srzoo.errors import DataError, InputError, PluginError, UndefinedScoreError, UpscaleWarning
from srzoo.leaderboard import leaderboard_markdown
from srzoo.merged import merge
from srzoo.picture_paths import output_path
from srzoo.pretrained import Model, load_model
from srzoo.report import unsteady
from srzoo.scoring import Metric, available_metrics
from srzoo.specs import MetricSpec
from srzoo.store import CostRow, Question, Store, Subject

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photographs(tmp_path / "photographs", {"a": (160, 136), "b": (96, 192)})


def values(result: BenchResult) -> dict[tuple[str, str, str], float]:
    return {(row.entry, row.image, row.metric): row.value for row in result.rows}


# --- scored together --------------------------------------------------------------------------------------------


ENTRIES = "bicubic,nearest,srresnet-lite-x4"


@pytest.mark.parametrize("batch", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 8))])
def test_outputs_scored_together_get_the_scores_they_get_alone(folder: Path, squeezenet: Path, batch: int) -> None:
    metrics = "psnr,ssim,lpips_squeeze"
    alone, together = (values(bench(ENTRIES, str(folder), metrics, batch=size)) for size in (1, batch))
    assert len(alone) == 3 * 2 * 3
    assert together.keys() == alone.keys()
    for key, value in alone.items():
        assert together[key] == pytest.approx(value, abs=1e-6 if key[2] == "lpips_squeeze" else 1e-9), key


def test_only_what_an_entry_lacks_is_computed_together(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("bicubic", str(folder), "psnr", out=out, pictures=0)
    both = bench("bicubic,nearest", str(folder), "psnr,ssim", out=out, pictures=0, batch=8)
    assert both.computed == 2 + 4
    assert values(both) == values(bench("bicubic,nearest", str(folder), "psnr,ssim"))


class PicksOnOne:
    """A metric that cannot take one of the outputs."""

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        if bool((sr == hr).all(dim=(1, 2, 3)).any()):
            raise ArithmeticError("equal images")
        return (sr - hr).abs().mean(dim=(1, 2, 3))


class Oracle(torch.nn.Module):
    """Knows the answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.known = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        height, width = 4 * lr.shape[-2], 4 * lr.shape[-1]
        for image in self.known:
            if image.shape[:2] == (height, width):
                return torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        return torch.zeros(1, 3, height, width)


def test_when_scoring_together_fails_the_one_it_fails_for_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Model("oracle", load_model("nearest").entry, Oracle(folder))
    monkeypatch.setattr(benchmark, "load_model", lambda name: oracle if name == "oracle" else load_model(name))
    picky = PicksOnOne()
    spec = MetricSpec("picky", picky, summary="of another package", higher_is_better=False, domain="rgb")
    monkeypatch.setattr(
        benchmark,
        "available_metrics",
        lambda names, device: ([Metric("psnr", "metrics/psnr", spec=spec, function=picky)], {}),
    )
    result = bench("bicubic,oracle,nearest", str(folder), "psnr", batch=8)
    assert list(result.failed) == ["oracle"]
    assert "equal images" in result.failed["oracle"]
    assert [s.entry for s in result.standings] == ["bicubic", "nearest"]


def test_a_metric_that_fails_on_an_image_is_left_out_and_not_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails:
        def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
            if 192 in hr.shape:
                raise ArithmeticError("long")
            return (sr - hr).abs().mean(dim=(1, 2, 3))

    real = available_metrics
    spec = MetricSpec("psnr", Fails(), summary="of another package", higher_is_better=False, domain="rgb")

    def available(names: list[str], device: torch.device) -> tuple[list[Metric], dict[str, str]]:
        found, missing = real(["ssim"], device)
        return [*found, Metric("psnr", "metrics/psnr", spec=spec, function=Fails())], missing

    monkeypatch.setattr(benchmark, "available_metrics", available)
    result = bench("bicubic,nearest", str(folder), "ssim,psnr", out=tmp_path, pictures=0)
    assert list(result.unavailable) == ["psnr"] and "long" in result.unavailable["psnr"]
    assert result.computed == len(result.rows) == 4, "of ssim: all that are shown were computed now"


def test_values_that_are_lost_on_the_way_are_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process whose file another benchmark in the folder deleted: else the table is of fewer images, unsaid."""
    add = Store.add

    def forgetful(self: Store, subject: Subject, question: Question, *rest: Any) -> None:
        if question.image == "a":
            add(self, subject, question, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "add", forgetful)
        with pytest.raises(DataError, match=r"2 values were computed and are not in .*run the same command again"):
            bench("bicubic", str(folder), "psnr,ssim", out=tmp_path, pictures=0)
    assert bench("bicubic", str(folder), "psnr,ssim", out=tmp_path, pictures=0).computed == 2


def test_what_is_undefined_for_one_output_is_known_of_those_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfTextures:
        """A metric that does not say for which image of a batch it is not defined, as most do not."""

        def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
            if any(image.std() == 0 for image in sr):
                raise UndefinedScoreError("flat")
            return sr.mean(dim=(1, 2, 3))

    class Black(torch.nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(lr.repeat_interleave(4, 2).repeat_interleave(4, 3))

    black = Model("black", load_model("nearest").entry, Black())
    monkeypatch.setattr(benchmark, "load_model", lambda name: black if name == "black" else load_model(name))
    metric = OfTextures()
    spec = MetricSpec("psnr", metric, summary="of another package", domain="rgb", full_reference=False)
    found = [Metric("psnr", "metrics/psnr", spec=spec, function=metric)]
    monkeypatch.setattr(benchmark, "available_metrics", lambda names, device: (found, {}))
    alone, together = (values(bench("bicubic,black,nearest", str(folder), "psnr", batch=size)) for size in (1, 8))
    assert {key for key, value in together.items() if math.isnan(value)} == {
        ("black", "a", "psnr"),
        ("black", "b", "psnr"),
    }
    assert {k: v for k, v in together.items() if k[0] != "black"} == pytest.approx(
        {k: v for k, v in alone.items() if k[0] != "black"}
    )


@pytest.mark.parametrize("wrong", ["too small", "two outputs"])
def test_a_generator_that_breaks_its_shape_is_named_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    class Odd(torch.nn.Module):
        """Fine for the input that time is measured with, and not for photographs."""

        def forward(self, lr: torch.Tensor) -> Any:
            sr = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
            if lr.shape[-1] == lr.shape[-2]:
                return sr
            return sr[..., :-4, :] if wrong == "too small" else (sr, sr)

    odd = Model("odd", load_model("nearest").entry, Odd())
    monkeypatch.setattr(benchmark, "load_model", lambda name: odd if name == "odd" else load_model(name))
    result = bench("odd,nearest", str(folder), "psnr", sizes=16)
    assert [s.entry for s in result.standings] == ["nearest"]
    told = "(1, 3, 132, 160)" if wrong == "too small" else "tuple"
    assert result.failed == {"odd": f"the generator made {told} of (1, 3, 34, 40); it must make (1, 3, 136, 160)."}


def test_metrics_of_one_name_are_asked_for_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    (psnr,), _ = available_metrics(["psnr"], cpu)
    other = replace(psnr, full_name="mine/psnr")
    monkeypatch.setattr("srzoo.scoring.build_metric", lambda name, device: other if name == "mine/psnr" else psnr)
    assert available_metrics(["psnr", "metrics/psnr"], cpu) == ([psnr], {})
    with pytest.raises(InputError, match="'metrics/psnr' and 'mine/psnr' would both be called 'psnr'"):
        available_metrics(["psnr", "mine/psnr"], cpu)


# --- tiles ------------------------------------------------------------------------------------------------------


def test_images_in_tiles_score_as_whole_ones(folder: Path) -> None:
    whole, tiled = (values(bench("bicubic,nearest", str(folder), "psnr,ssim", tile=tile)) for tile in (0, 16))
    assert whole.keys() == tiled.keys()
    for key, value in whole.items():
        assert tiled[key] == pytest.approx(value, abs=1e-3), key


def test_what_was_computed_in_tiles_does_not_stand_for_whole_images(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0).computed == 2
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0, tile=16).computed == 2
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0, tile=16).computed == 0
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0, tile=0).computed == 0, "whole, as by default"


def test_seams_are_told_where_tiles_overlap_by_less_than_the_generator_sees(folder: Path) -> None:
    with pytest.warns(UpscaleWarning, match="where tiles meet, they differ"):
        bench("srresnet-lite-x4", str(folder), "psnr", tile=16)


def test_seams_are_a_warning_once_a_model_and_a_remark_on_every_image(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = bench("srresnet-lite-x4,rrdb-lite-x4", str(folder), "psnr", tile=16, out=tmp_path, pictures=0)
    assert [w.category for w in caught if "where tiles meet" in str(w.message)] == [UpscaleWarning] * 2
    asked = {(entry, image) for entry in ("srresnet-lite-x4", "rrdb-lite-x4") for image in "ab"}
    assert {(remark.entry, remark.image) for remark in found.remarks if remark.image} == asked
    command = ["bench", "srresnet-lite-x4", "--data", str(folder), "--metric", "psnr", "--tile", "16"]
    again = CliRunner().invoke(app, [*command, "--out", str(tmp_path), "--pictures", "0"])
    assert "That is the worst of 2 such images." in " ".join(again.output.split()), "told by a resumed run too"


def test_whole_images_are_computed_anew_where_tiles_were_taken_for_their_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srzoo.harness.WHOLE_PIXELS", 100)
    monkeypatch.setattr("srzoo.harness.AUTOMATIC_TILE", 16)
    with pytest.warns(UpscaleWarning, match="where tiles meet"):
        first = bench("srresnet-lite-x4", str(folder), "psnr", out=tmp_path, pictures=2)
    assert first.computed == 2 and [remark.image for remark in first.remarks if remark.image] == ["a", "b"]
    tiled = {path: path.read_bytes() for path in tmp_path.rglob("srresnet-lite-x4*.png")}
    whole = bench("srresnet-lite-x4", str(folder), "psnr", out=tmp_path, pictures=2, tile=0)
    assert {path for path, content in tiled.items() if path.read_bytes() != content} == tiled.keys() != set()
    assert whole.computed == 2 and not [remark for remark in whole.remarks if remark.image]
    assert bench("srresnet-lite-x4", str(folder), "psnr", out=tmp_path, pictures=0, tile=0).computed == 0


def test_where_memory_runs_out_tiles_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = Greedy(16 * 16)
    model = Model("greedy", load_model("nearest").entry, greedy)
    monkeypatch.setattr(benchmark, "load_model", lambda name: model if name == "greedy" else load_model(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UpscaleWarning)
        result = bench("greedy,nearest", str(folder), "psnr", sizes=16)
    assert not result.failed
    found = values(result)
    assert greedy.refused
    for image in "ab":
        assert found["greedy", image, "psnr"] == pytest.approx(found["nearest", image, "psnr"], abs=1e-9)


# --- costs ------------------------------------------------------------------------------------------------------


def test_costs_at_several_sizes_reach_table_page_and_markdown(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bench("bicubic,srresnet-lite-x4", str(folder), "psnr", sizes=[16, 32], out=out, pictures=1)
    for costs in result.costs.values():
        assert [cost.size for cost in costs] == [16, 32]
        assert all(0 < cost.quartile_low <= cost.milliseconds <= cost.quartile_high for cost in costs)
    small, large = result.costs["srresnet-lite-x4"]
    assert small.peak_bytes is not None
    assert large.peak_bytes is not None
    assert 2 < large.peak_bytes / small.peak_bytes < 5, "four times the pixels"
    shown = {standing.entry: standing.milliseconds for standing in result.standings}
    assert shown == {entry: costs[0].milliseconds for entry, costs in result.costs.items()}, "the first size's"
    text = (out / "leaderboard.md").read_text()
    assert "median for one 16x16 input" in text
    assert text.index("## Cost") < text.index("| srresnet-lite-x4 | 501 K |")
    assert text.count("| 16x16 |") == text.count("| 32x32 |") == 2
    page = (out / "report.html").read_text()
    assert page.count(">16x16</td>") == page.count(">32x32</td>") == 2
    assert [cost.size for cost in merge([out]).costs["bicubic"]] == [16, 32]
    again = bench("bicubic,srresnet-lite-x4", str(folder), "psnr", sizes=[16, 32], out=out, pictures=0)
    assert again.costs == result.costs, "measured once"


def test_the_command_prints_costs_where_several_sizes_are_asked_for(folder: Path, tmp_path: Path) -> None:
    from srzoo.cli import app

    command = ["bench", "bicubic", "--data", str(folder), "--metric", "psnr", "--out", str(tmp_path / "out")]
    plain = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    both = CliRunner().invoke(app, [*command, "--size", "16", "--size", "32"], env={"COLUMNS": "160"})
    assert plain.exit_code == both.exit_code == 0, both.output
    assert "cost of one forward pass" not in plain.output
    assert "cost of one forward pass" in both.output
    assert "32x32" in both.output
    assert "one 16x16 input" in both.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": []}, "sizes must be"),
        ({"sizes": [64, 0]}, "sizes must be"),
        ({"tile": 8}, "tile must be at least 16 pixels, or 0"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bench("bicubic", str(folder), "psnr", **settings)  # type: ignore[arg-type]


class Machine:
    """A clock for calls that take so many milliseconds each, on a machine that slows down by half way through."""

    def __init__(self, slow_from: float) -> None:
        self.now, self._slow_from = 0.0, slow_from
        self.turns: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, milliseconds: float) -> Callable[[], None]:
        def run() -> None:
            self.turns.append(name)
            self.now += milliseconds / 1000 * (2 if self.now >= self._slow_from else 1)

        return run


def test_a_size_that_memory_does_not_suffice_for_costs_no_scores(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model("greedy", load_model("nearest").entry, Greedy(64 * 64))
    monkeypatch.setattr(benchmark, "load_model", lambda name: model if name == "greedy" else load_model(name))
    result = bench("greedy,nearest", str(folder), "psnr", sizes=[16, 128], out=tmp_path, pictures=0)
    assert "memory" in result.unmeasured["greedy at 128x128"]
    assert "greedy at 128x128 was not measured: " in (tmp_path / "leaderboard.md").read_text()
    assert not result.failed and {s.entry for s in result.standings} == {"greedy", "nearest"}


def test_a_network_that_cannot_be_counted_is_timed_and_scored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def uncounted(entry: Any) -> Any:
        raise PluginError("the generator failed on an input of 64x64")

    monkeypatch.setattr("srzoo.measuring.cost_of", uncounted)
    result = bench("srresnet-lite-x4", str(folder), "psnr", sizes=16)
    (cost,) = result.costs["srresnet-lite-x4"]
    assert (cost.parameters, cost.multiply_adds) == (501_459, None)
    assert cost.milliseconds > 0 and len(result.standings) == 1


@pytest.mark.parametrize("look", [lambda image: float(image.sum()), lambda image: image.numpy()])
def test_a_network_that_looks_at_values_is_counted_with_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, look: Callable[[torch.Tensor], Any]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = load_model("srresnet-lite-x4")
    wanted = cost_of(plain.entry)

    def looking(entry: Any) -> torch.nn.Module:
        generator = build_generator(entry)
        generator.register_forward_pre_hook(lambda module, inputs: (look(inputs[0]), None)[1])
        return generator

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr("srzoo.compose.build_generator", looking)
    found = cost_of(plain.entry)
    assert found.parameters == wanted.parameters
    assert found.multiply_adds == pytest.approx(wanted.multiply_adds, rel=0.02)


@pytest.mark.parametrize("name", ["ж" * 200, "照" * 80, "a" * 255])
def test_a_name_of_any_length_has_a_file(tmp_path: Path, name: str) -> None:
    paths = {output_path(tmp_path, name, image, "digest", name) for image in (name, name + "b")}
    assert len(paths) == 2
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")


def test_networks_are_timed_in_turn_so_that_a_busy_machine_slows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(slow_from=3.0)
    monkeypatch.setattr(latency, "time", machine)
    calls = [machine.call("fast", 100), machine.call("slow", 110)]
    fast, slow = latency.measure_latencies(calls, torch.device("cpu"))
    assert slow.median / fast.median == pytest.approx(1.1), "one after the other, 2.2"
    assert fast.quartile_high - fast.quartile_low > 0.9 * fast.quartile_low, "and the quartiles tell that it was busy"
    assert len([1 for before, after in pairwise(machine.turns) if before != after]) > 4


@pytest.mark.parametrize(("milliseconds", "repeats"), [(0.1, 20), (100, 20), (700, 4), (5000, 3)])
def test_a_call_is_repeated_as_often_as_its_budget_allows(
    monkeypatch: pytest.MonkeyPatch, milliseconds: float, repeats: int
) -> None:
    machine = Machine(slow_from=math.inf)
    monkeypatch.setattr(latency, "time", machine)
    (found,) = latency.measure_latencies([machine.call("call", milliseconds)], torch.device("cpu"))
    assert (found.median, found.repeats) == (pytest.approx(milliseconds), repeats)
    assert (len(machine.turns) == repeats) is (milliseconds == 5000), "what takes seconds needs no warm-up"


def test_entries_of_one_composition_share_a_measurement(folder: Path) -> None:
    costs = bench("srresnet-lite-x4,srgan-lite-x4,bicubic", str(folder), "psnr", sizes=16).costs
    (resnet,), (gan,), (bicubic,) = (costs[name] for name in ("srresnet-lite-x4", "srgan-lite-x4", "bicubic"))
    assert (gan.milliseconds, gan.peak_bytes) == (resnet.milliseconds, resnet.peak_bytes)
    assert gan.entry == "srgan-lite-x4" and bicubic.milliseconds != gan.milliseconds


def test_when_an_entry_joins_all_are_timed_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    alone = bench("bicubic", str(folder), "psnr", out=out, pictures=0, sizes=16).costs["bicubic"]
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0, sizes=16).costs["bicubic"] == alone
    joined = bench("bicubic,nearest", str(folder), "psnr", out=out, pictures=0, sizes=16)
    assert joined.costs["bicubic"] != alone
    assert bench("bicubic", str(folder), "psnr", out=out, pictures=0, sizes=16).costs == {
        "bicubic": joined.costs["bicubic"]
    }


def test_times_of_a_busy_machine_are_pointed_out() -> None:
    steady = CostRow("a", 128, 100.0, 96.0, 104.0, 1, 1, 1)
    busy = CostRow("b", 64, 100.0, 80.0, 125.0, 1, 1, 1)
    short = CostRow("c", 64, 0.1, 0.05, 0.2, 1, 1, 1)
    assert unsteady({"a": [steady], "c": [short]}) == ""
    assert "of b at 64x64, the middle half of the repeats spans 45% of the median" in unsteady(
        {"a": [steady], "b": [busy]}
    )
    assert "45%" not in leaderboard_markdown([], {}, "y", "CPU", 128, costs={"a": [steady]})
    assert "spans 45%" in leaderboard_markdown([], {}, "y", "CPU", 128, costs={"b": [busy]})
