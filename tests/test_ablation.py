"""Ablations: what a recipe means, what is shared, what the table says, and that nothing is done twice."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from srzoo.ablation import estimate
from srzoo.ablation import work as work_module
from srzoo.ablation.estimate import StepCosts, measure_steps
from srzoo.ablation.forest import forest_svg, write_forest
from srzoo.ablation.plan import Plan, lineage, make_plan
from srzoo.ablation.recipe import Row as HeadRow
from srzoo.ablation.recipe import read_recipe, recipe_files
from srzoo.ablation.results import Change, StepCost, duration, find_changes, student_interval, what_changed
from srzoo.ablation.table import change_sentences, fewest_images, write_tables
from srzoo.ablation.work import _leave_launcher, _Work, ablate
from srzoo.benchmark import bench
from srzoo.cli import app
from srzoo.data import load_image_set
from srzoo.entry import Entry
from srzoo.errors import DataError, EntryError, InputError, InterruptedRunError, TrainingError, UnknownNameError
from srzoo.report import Row, signed_interval
from srzoo.training import train
from srzoo.weights import read_checkpoint, save_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

TINY = """
title: Tiny
summary: Two columns and the image
columns:
  - {{label: HR, reference: true}}
  - {{label: plain, entry: tiny}}
  - {{label: small, entry: tiny-small}}
  - {{label: sum, entry: tiny-sum}}
rows:
  - {{label: blocks, key: generator.num_blocks}}
  - {{label: halves, key: training.stages.gan.losses.adversarial.halves}}
figure:
  - {{dataset: "{name}[:6]", image: "3", crop: [0, 0, 16]}}
entries:
  tiny:
    summary: a tiny GAN
    generator: {{name: trunk, block: residual, upsampler: pixelshuffle, num_features: 4, num_blocks: 2}}
    discriminator: {{name: srgan, num_features: 4, dense_features: 8}}
    training:
      data: [{folder}]
      patch_size: 32
      batch_size: 2
      precision: fp32
      stages:
        psnr: {{steps: {steps}, losses: {{l1: 1.0}}, optimizer: {{lr: 1e-3}}}}
        gan:
          steps: {steps}
          losses: {{l1: 1.0, adversarial: {{weight: 1e-2, halves: mean}}}}
          optimizer: {{lr: 1e-3}}
  tiny-small: {{extends: tiny, generator.num_blocks: 1}}
  tiny-sum: {{extends: tiny-small, training.stages.gan.losses.adversarial.halves: sum}}
budgets:
  little:
    summary: Next to nothing
    data: "{folder}[:6]"
    metrics: [psnr, ssim]
    checkpoint_every: 1
  more:
    summary: Twice the features
    data: "{folder}[:6]"
    metrics: psnr
    stages: {{psnr: {{batch_size: 1}}}}
    entries:
      tiny: {{generator.num_features: 8}}
"""

SEVERAL = """
  several:
    extends: more
    summary: More than one
    seeds: 2
    stages: {psnr: {patch_size: 32}, gan: {patch_size: 48}}
    entries:
      tiny: {training.stages.psnr.steps: 2}
"""


@pytest.fixture(autouse=True)
def _found_by_name(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo file names datasets, and no path outside its folder."""
    monkeypatch.setenv("SRZOO_DATA", str(Path(photos).parent))


def tiny(tmp_path: Path, photos: str, steps: int = 3) -> Path:
    path = tmp_path / "tiny.yaml"
    name = Path(photos).name
    path.write_text(TINY.format(folder=name, name=name, steps=steps))
    return path


def plan_of(path: Path | str, budget: str, seeds: int | None = None) -> Plan:
    return make_plan(read_recipe(path), budget, seeds)


# --- recipes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(recipe_files()))
def test_every_recipe_resolves_at_every_budget(name: str) -> None:
    source = read_recipe(name)
    for budget in source.ablation.budgets:
        plan = make_plan(source, budget)
        assert len(plan.trained) > 1
        for planned in plan.trained:
            other = plan.against(planned)
            assert other is None or planned.difference, f"{planned.label} is no different from {other.label}"


@pytest.mark.parametrize("budget", ["smoke", "cpu", "cpu-seeds", "gpu", "paper"])
def test_the_head_of_esrgans_table_is_the_papers(budget: str) -> None:
    """arXiv:1809.00219, fig. 8."""
    plan = plan_of("esrgan", budget)
    table = {planned.label: planned.cells for planned in plan.columns}
    assert table == {
        "1": (),
        "2": ("yes", "after", "standard", "no", "no"),
        "3": ("no", "after", "standard", "no", "no"),
        "4": ("no", "before", "standard", "no", "no"),
        "5": ("no", "before", "RaGAN", "no", "no"),
        "6": ("no", "before", "RaGAN", "yes", "no"),
        "7": ("no", "before", "RaGAN", "yes", "yes"),
    }
    changed = [
        [row for row, (a, b) in enumerate(zip(table[str(n - 1)], table[str(n)], strict=True)) if a != b]
        for n in range(3, 8)
    ]
    assert changed == [[0], [1], [2], [3], [4]], "one row a column"
    extractor = "vgg19" if budget == "paper" else "squeezenet1_1"
    assert plan.rows == ("BN", f"Activation of {extractor}", "GAN", "Deeper with RRDB", "More data")


@pytest.mark.parametrize("budget", ["smoke", "cpu", "cpu-seeds", "gpu", "paper"])
def test_columns_of_one_generator_and_data_share_their_psnr_stage(budget: str) -> None:
    plan = plan_of("esrgan", budget)
    starts = {planned.label: planned.runs[0].parent for planned in plan.trained}
    assert starts["3"] == starts["4"] == starts["5"]
    names = {label: start.name for label, start in starts.items() if start is not None}
    assert len(set(names.values())) == 4
    assert len(plan.runs()) == 10 * plan.seeds
    seen: set[str] = set()
    for run in plan.runs():
        assert run.parent is None or run.parent.name in seen, "a run comes after what it starts from"
        seen.add(run.name)


def test_seeds_multiply_the_runs() -> None:
    runs = plan_of("esrgan", "cpu", 3).runs()
    assert len({run.name for run in runs}) == 30
    assert {run.entry.training.seed for run in runs if run.entry.training} == {0, 1, 2}


def test_a_run_is_named_by_all_that_decides_its_weights(tmp_path: Path, photos: str) -> None:
    path = tiny(tmp_path, photos)
    before = {run.name for run in plan_of(path, "little").runs()}
    text = path.read_text()
    path.write_text(text.replace("steps: 3, losses", "steps: 4, losses"))  # of the first stage
    assert not before & {run.name for run in plan_of(path, "little").runs()}, "what comes after changes with it"
    path.write_text(text.replace("weight: 1e-2", "weight: 2e-2"))
    after = {run.name for run in plan_of(path, "little").runs()}
    assert before & after == {name for name in before if name.startswith("psnr")}


def test_an_option_that_comes_to_be_renames_no_run(tmp_path: Path, photos: str) -> None:
    """Nor does one that is written out although it is the default."""
    path = tiny(tmp_path, photos)
    before = [run.name for run in plan_of(path, "little").runs()]
    text = path.read_text()
    path.write_text(text.replace("batch_size: 2", "batch_size: 2\n      augment: true\n      accumulate: 1"))
    assert [run.name for run in plan_of(path, "little").runs()] == before
    path.write_text(text.replace("block: residual", "block: {name: residual}"))
    assert [run.name for run in plan_of(path, "little").runs()] == before


def test_a_default_that_changed_since_is_noticed(tmp_path: Path, photos: str) -> None:
    recipe, out = tiny(tmp_path, photos), tmp_path / "out"
    run = plan_of(recipe, "little").runs()[0]
    train(run.starting_in(out / "runs"), out / "runs" / run.name)
    path = out / "runs" / run.name / f"{run.name}.safetensors"
    tensors, description = read_checkpoint(path)
    del description["training"]["deterministic"]  # of an older version, which had no such option
    save_checkpoint(path, tensors, description)
    work = _Work(plan_of(recipe, "little"), out, out / "runs", lambda *_: None, lambda _: None)
    work.check()
    description["training"]["augment"] = False
    save_checkpoint(path, tensors, description)
    with pytest.raises(InputError, match=r"trained with other settings: training.augment \(there False, now True\)"):
        work.check()


def test_a_budget_changes_entries_and_those_that_extend_them(tmp_path: Path, photos: str) -> None:
    path = tiny(tmp_path, photos)
    for planned in plan_of(path, "more").trained:
        assert planned.entry is not None and planned.entry.generator.options["num_features"] == 8
        psnr, gan = lineage(planned.runs[0])
        assert psnr.entry.training and psnr.entry.training.batch_size == 1
        assert gan.entry.training and gan.entry.training.batch_size == 2
        assert psnr.entry.discriminator is None
    assert "tiny" not in get_zoo().names(), "the zoo itself is as it was"


def test_a_budget_that_extends_another_says_what_is_different(tmp_path: Path, photos: str) -> None:
    path = tiny(tmp_path, photos)
    path.write_text(path.read_text() + SEVERAL)
    plan = plan_of(path, "several")
    assert plan.budget.data == plan_of(path, "more").budget.data
    assert plan.budget.metrics == ("psnr",)
    assert plan.budget.summary == "More than one" and plan.seeds == 2
    assert plan.budget.stages == {"psnr": {"batch_size": 1, "patch_size": 32}, "gan": {"patch_size": 48}}
    for planned in plan.trained:
        assert planned.entry is not None and planned.entry.generator.options["num_features"] == 8
        psnr, gan = lineage(planned.runs[1])
        assert psnr.entry.training and gan.entry.training
        assert (psnr.steps, gan.steps, psnr.entry.training.patch_size) == (2, 3, 32)
    assert plan_of(path, "more").runs()[0].steps == 3, "the budget that is extended is as it was"


def test_changes_are_told_in_the_words_of_the_head(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little")
    assert [what_changed(plan, planned) for planned in plan.trained] == ["", "blocks: 2 → 1", "halves: mean → sum"]


WRONG = {
    "unknown key": ("title: Tiny", "titel: Tiny", "line 2: ablation 'tiny': titel: unknown key 'titel'. Did you mean"),
    "no entry": ("entry: tiny-sum", "entry: tiny-some", "No entry is called 'tiny-some'. Did you mean"),
    "no such option": ("num_features: 8", "num_feature: 8", "generator 'trunk' .*has no option 'num_feature'"),
    "no such stage": ("stages: {psnr: {batch", "stages: {prsn: {batch", "no entry has a stage 'prsn'"),
    "extends": ("tiny: {generator.num_features: 8}", "tiny: {extends: bicubic}", "exists already"),
    "two labels": ("label: sum", "label: small", "two have one label"),
    "nothing to show": ("generator.num_blocks}", "generator.block.norm, text: {a: group}}", "no text fits"),
    "no such budget": ("  more:", "  more:\n    extends: littel", "'more' extends 'littel', .* Did you mean 'little'"),
    "itself": ("  more:", "  more:\n    extends: more", "'more' extends itself: more -> more"),
    "no data": ("  more:", "  less: {summary: Less}\n  more:", "line 38: .*budgets.less: data: name at least one"),
    "no data of its own": (
        "  more:",
        "  less: {extends: more, summary: L, data: []}\n  more:",
        "data: name at least",
    ),
    "no such stage of the budget extended": (
        "  more:",
        "  less: {summary: Less, data: photos, stages: {prsn: {}}}\n  more:\n    extends: less",
        "line 38: no entry has a stage 'prsn'; there are gan, psnr",
    ),
    "no such key": ("key: generator.num_blocks", "key: generator.depth", "has no generator.depth; give otherwise"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_a_recipe_is_named_with_its_place(case: str, tmp_path: Path, photos: str) -> None:
    old, new, message = WRONG[case]
    path = tiny(tmp_path, photos)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        plan_of(path, "more")


def test_names_of_recipes_and_budgets_are_guessed() -> None:
    with pytest.raises(UnknownNameError, match=r"No ablation is called 'esrgn'. Did you mean 'esrgan'"):
        read_recipe("esrgn")
    with pytest.raises(UnknownNameError, match=r"no budget 'gqu'. Did you mean 'gpu'"):
        make_plan(read_recipe("esrgan"), "gqu")
    with pytest.raises(DataError, match="Cannot read"):
        read_recipe("nowhere.yaml")


def test_a_row_without_texts_shows_the_value_and_otherwise_where_there_is_none() -> None:
    row = HeadRow(label="penalty", key="losses.penalty.weight", otherwise="no")
    assert row.cell({"losses": {"penalty": {"weight": 10.0}}}, {}, "e") == "10"
    assert row.cell({"losses": {}}, {}, "e") == "no"


def test_the_head_of_the_table_of_criteria() -> None:
    head = [planned.cells for planned in plan_of("gan-criteria", "cpu").trained]
    criteria, pairings = ("bce", "LSGAN", "hinge", "WGAN-GP"), ("standard", "relativistic", "average")
    assert head == [(c, p, "10" if c == "WGAN-GP" else "no") for c in criteria for p in pairings]


def test_more_data_is_what_holds_the_first_columns_and_more() -> None:
    row = HeadRow(label="data", key="d", relative={"same": "no", "more": "yes"})
    assert row.cell({"d": ["a"]}, {"d": ["a"]}, "e") == "no"
    assert row.cell({"d": ["a", "b"]}, {"d": ["a"]}, "e") == "yes"
    with pytest.raises(InputError, match="neither"):
        row.cell({"d": ["b"]}, {"d": ["a"]}, "e")


def test_an_entry_with_an_error_is_an_entry_error(tmp_path: Path, photos: str) -> None:
    path = tiny(tmp_path, photos)
    path.write_text(path.read_text().replace("patch_size: 32", "patch_size: thirty"))
    with pytest.raises(EntryError, match=r"tiny\.yaml, line \d+: entry 'tiny': training\.patch_size"):
        plan_of(path, "little")


# --- parts of datasets ------------------------------------------------------------------------------------------


def test_a_part_of_a_dataset(photos: str) -> None:
    whole = [item.name for item in load_image_set(photos)]
    assert [item.name for item in load_image_set(f"{photos}[:5]")] == whole[:5]
    assert [item.name for item in load_image_set(f"{photos}[5:]")] == whole[5:]
    assert load_image_set("photos[2:4]").name == "photos[2:4]"
    with pytest.raises(DataError, match="holds no images"):
        load_image_set("photos[100:]")


# --- the documentation ------------------------------------------------------------------------------------------

DOCS = (Path(__file__).parents[1] / "docs" / "ablations.md").read_text()


def test_the_recipe_of_the_documentation_is_complete(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    plan = plan_of(tmp_path / "mine.yaml", "minute")
    assert [(planned.label, planned.cells) for planned in plan.trained] == [("narrow", ("8",)), ("wide", ("16",))]
    assert [run.steps for run in plan.runs()] == [20, 20]


def test_the_documentation_names_every_ablation() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \| [^|]*\|$", DOCS, flags=re.MULTILINE)) >= set(recipe_files())


# --- statistics -------------------------------------------------------------------------------------------------


def scores(entry: str, values: list[float]) -> list[Row]:
    return [Row(entry, "d", str(image), "lpips", "y", value) for image, value in enumerate(values)]


def test_a_change_is_better_where_interval_and_test_say_so(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little")
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.6, 30)
    rows = scores("a0", list(base)) + scores("b0", list(base - 0.05 + random.normal(0, 0.01, 30)))
    rows += scores("c0", list(base + random.normal(0, 0.01, 30)))
    members = {"a": ["a0"], "b": ["b0"], "c": ["c0"]}
    pairs = [("b", "a", "x"), ("c", "a", "y")]
    found = {c.first: c for c in find_changes(plan, rows, members, pairs, {"lpips": False})}
    assert found["b"].verdict == "better" and found["c"].verdict == "not shown"
    assert found["b"].comparison.difference == pytest.approx(-0.05, abs=0.01)
    upwards = {c.first: c.verdict for c in find_changes(plan, rows, members, pairs, {"lpips": True})}
    assert upwards == {"b": "worse", "c": "not shown"}
    for tolerance, verdict in ((0.04, "better"), (0.06, "negligible")):
        tolerant = find_changes(plan, rows, members, pairs, {"lpips": False}, {"lpips": tolerance})
        assert {c.first: c.verdict for c in tolerant} == {"b": verdict, "c": "not shown"}


def test_more_changes_than_the_images_can_tell_apart_are_not_tested(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little")
    names = [f"c{k}" for k in range(14)]
    rows = [row for k, name in enumerate(names) for row in scores(name, [k + 0.1 * image for image in range(9)])]
    pairs = [(name, "c0", "x") for name in names[1:]]
    members = {name: [name] for name in names}
    for count, verdict in ((13, "not tested"), (12, "worse")):
        found = find_changes(plan, rows, members, pairs[:count], {"lpips": False})
        assert {change.verdict for change in found} == {verdict}
        needed = fewest_images(found)
        assert needed == f"6 images for one change, or {10 if count == 13 else 9} for {count} of them,"
    assert fewest_images(found[:1]) == "6 images"


def test_seeds_that_disagree_show_nothing(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little", 2)
    base = list(np.linspace(0.2, 0.6, 30))
    rows = [row for seed in (0, 1) for row in scores(f"a{seed}", base)]
    for seed, shift in ((0, 0.001), (1, -0.1)):  # better in one run by far, a little worse in the other
        rows += scores(f"b{seed}", [value + shift + 1e-4 * k for k, value in enumerate(base)])
    (change,) = find_changes(plan, rows, {"a": ["a0", "a1"], "b": ["b0", "b1"]}, [("b", "a", "x")], {"lpips": False})
    assert change.comparison.p_holm is not None and change.comparison.p_holm < 0.001, "images alone would say better"
    assert change.by_seed == (pytest.approx(0.001 + 29e-4 / 2), pytest.approx(-0.1 + 29e-4 / 2))
    assert change.over_seeds is not None and change.over_seeds[0] < 0 < change.over_seeds[1]
    assert change.arithmetic_over_seeds.startswith("-0.0481 [-0.6")
    assert change.verdict == "not shown"


def test_columns_are_compared_on_the_seeds_that_both_have(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little", 3)
    base = np.linspace(0.2, 0.6, 30)
    shifts = {"a0": 0.0, "a1": 0.3, "a2": 0.5, "b0": -0.1, "b1": 0.21, "b2": 0.39}
    rows = {run: scores(run, list(base + shift)) for run, shift in shifts.items()}
    members = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}

    def change(*without: str) -> Change:
        known = [row for run in rows if run not in without for row in rows[run]]
        (found,) = find_changes(plan, known, members, [("b", "a", "x")], {"lpips": False})
        return found

    whole = change()
    assert whole.by_seed == tuple(pytest.approx(difference) for difference in (-0.1, -0.09, -0.11))
    assert whole.comparison.difference == pytest.approx(-0.1) and whole.verdict == "better"
    two = change("a0")
    assert two.by_seed == tuple(pytest.approx(difference) for difference in (-0.09, -0.11))
    assert two.comparison.difference == pytest.approx(-0.1), "b0, which has nothing to stand against, is left out"
    one = change("a0", "b2")
    assert one.by_seed == (pytest.approx(-0.09),) and one.over_seeds is None
    assert one.comparison.difference == pytest.approx(-0.09) and one.verdict == "too few seeds"
    none = [row for run in ("a0", "b1") for row in rows[run]]
    assert find_changes(plan, none, members, [("b", "a", "x")], {"lpips": False}) == []


def test_the_plot_of_changes_shows_every_difference_and_what_is_certain_of_it(tmp_path: Path, photos: str) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little", 2)
    base = np.linspace(0.2, 0.6, 30)
    values = {"a": base, "b": base - 0.05, "c": base + 0.05, "d": base + np.tile([0.1, -0.1], 15), "e": base * np.inf}
    rows = [
        row for name in values for seed in (0, 1) for row in scores(f"{name}{seed}", list(values[name] + seed / 1e3))
    ]
    members = {name: [f"{name}0", f"{name}1"] for name in values}
    pairs = [(name, "a", f"<{name}>") for name in "bcde"]
    found = find_changes(plan, rows, members, pairs, {"lpips": False})
    svg = forest_svg(found, {"lpips": False}, "own", "What was found")
    marks = dict(re.findall(r'<g id="own-change(\d)">\s*<title>(.*?)</title>', svg, re.DOTALL))
    assert len(marks) == 3, "an infinite difference has no place"
    assert marks["0"].startswith("b against a: &lt;b&gt;; lpips on d: -0.050") and marks["0"].endswith(", better")
    assert marks["1"].endswith(", worse") and ", over seeds +0.05" in marks["1"] and marks["2"].endswith(", not shown")
    colours = [set(re.findall(r"var\(--(\w+)\)", part)) for part in re.split(r'id="own-change', svg)[1:3]]
    assert "better" in colours[0] and "changed" in colours[1]
    assert "← better" in svg and "better →" not in svg and "#0b0" not in svg
    assert "better →" in forest_svg(found, {"lpips": True}, "own", "")
    assert forest_svg(found[3:], {"lpips": False}, "own", "") == ""
    write_forest(found, {"lpips": False}, tmp_path / "changes.png")
    assert Image.open(tmp_path / "changes.png").size[0] > 600
    write_forest(found[3:], {"lpips": False}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    write_forest(found[3:], {"lpips": False}, tmp_path / "changes.png")
    assert not (tmp_path / "changes.png").exists(), "one of an earlier call would say something else than the table"
    write_forest(found, {"lpips": False}, tmp_path / "changes.png")
    with pytest.raises(DataError, match="Cannot write"):
        write_forest(found, {"lpips": False}, tmp_path / "nowhere" / "changes.png")


def test_students_interval() -> None:
    low, high = student_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 4.302653 / math.sqrt(3)), pytest.approx(2 + 4.302653 / math.sqrt(3)))


def test_durations_in_words() -> None:
    found = [duration(seconds) for seconds in (0.2, 80, 300, 3 * 3600 + 1200, 60 * 86400)]
    assert found == ["1 s", "80 s", "5 min", "3 h 20 min", "60 days"]


def test_differences_show_their_digits_and_zero_has_no_sign() -> None:
    assert signed_interval(0.5, 0.25, 0.75) == "+0.500 [+0.250, +0.750]"
    assert signed_interval(-0.00004, -0.00006, 1e-8) == "-0.000040 [-0.000060, 0.000000]"
    assert signed_interval(0.0, math.nan, math.nan) == "0.0000"
    assert signed_interval(math.nan, math.nan, math.nan) == "-"
    assert signed_interval(math.inf, math.nan, math.nan) == "+inf", "of an output that is equal to its reference"
    assert signed_interval(-math.inf, -math.inf, 1.0) == "-inf"


# --- from recipe to table ---------------------------------------------------------------------------------------


def test_an_ablation_end_to_end_and_again(tmp_path: Path, photos: str) -> None:
    recipe, out = tiny(tmp_path, photos), tmp_path / "out"
    said: list[str] = []
    result = ablate(recipe, "little", out, announce=said.append)
    assert len(result.trained) == len(set(result.trained)) == 5, "the PSNR stage of small and sum once"
    assert said[0].startswith("5 of 5 runs to train, 15 steps: about ")
    assert result.computed == (3 + 2) * 6 * 2, "three columns and two PSNR stages, six images, two metrics"
    assert result.findings is not None and result.findings.failed == {}
    text = (out / "table.md").read_text()
    assert "| blocks | HR | 2 | **1** | 1 |" in text and "| halves |  | mean | mean | **sum** |" in text
    assert "- sum against small (halves: mean → sum): " in text
    page = (out / "ablation.html").read_text()
    assert '<td class="changed">sum</td>' in page and page.count("data:image/webp") == 4
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page), "it asks for nothing"
    assert Image.open(out / "figure.png").size[0] > 600
    assert Image.open(out / "changes.png").size[0] > 600
    assert page.count('<svg class="plot"') == 2 and 'id="changes-change3"' in page and 'id="starts-change5"' in page
    assert "95 % interval over seeds" not in page, "there is one"

    again = ablate(recipe, "little", out, announce=said.append)
    assert (again.trained, again.computed, said[-1]) == ([], 0, "5 runs, all trained.")
    assert (out / "table.md").read_text() == text
    ablate(recipe, "little", out, figure=[])
    assert "data:image/webp" not in (out / "ablation.html").read_text()
    ablate(recipe, "little", out, figure=[f"{Path(photos).name}[:6]"])
    assert (out / "ablation.html").read_text() == page
    with pytest.raises(UnknownNameError, match=f"nothing of 'elsewhere'. It has {Path(photos).name}"):
        ablate(recipe, "little", out, figure=["elsewhere"])
    with pytest.raises(InputError, match="holds the ablation tiny at budget little; give another --out"):
        ablate(recipe, "more", out)

    more = ablate(recipe, "little", out, seeds=2)
    assert len(more.trained) == 5 and more.computed == 5 * 6 * 2, "one more seed costs one more seed"
    with open(out / "table.csv", newline="") as file:
        own = {(r["column"], r["metric"]): r for r in csv.DictReader(file)}
    assert {label for label, _ in own} == {"plain", "small", "sum", "psnr stage of plain", "psnr stage of small, sum"}
    with open(out / "bench" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [run.name for run in more.plan.planned("small").runs]
    means = [np.mean([float(r["value"]) for r in rows if (r["entry"], r["metric"]) == (n, "psnr")]) for n in names]
    found = own["small", "psnr"]
    assert (found["seeds"], found["images"], found["blocks"]) == ("2", "6", "1")
    assert float(found["mean"]) == pytest.approx(np.mean(means), abs=1e-9)
    assert float(found["deviation"]) == pytest.approx(np.std(means, ddof=1), rel=1e-6)
    assert "| difference | over seeds | p |" in (out / "table.md").read_text()
    assert "95 % interval over seeds" in (out / "ablation.html").read_text()
    assert "of the first seed, which is seed 0." in (out / "table.md").read_text()

    plan = plan_of(recipe, "little", 2)
    work = _Work(plan, out, out / "runs", lambda *_: None, lambda _: None)
    for label, seed in (("small", 0), ("sum", 1)):
        failed = plan.planned(label).runs[seed].name
        shutil.rmtree(out / "runs" / failed)
        work.failed[failed] = "not finite."
    findings = work.outcome.find(work.benchmark(work.outcome.finished()), work.failed)
    write_tables(findings, out)
    text = (out / "table.md").read_text()
    assert "- small, seed 0: not finite." in text and "- sum, seed 1: not finite." in text
    assert text.count("<br>1 of 2 seeds |") == 2 * 2, "two columns, two metrics, and no interval"
    assert "which is seed 0; those of column small of seed 1." in text
    changes = {(c.first, c.metric): c for c in findings.changes}
    assert [len(changes[label, "psnr"].by_seed) for label in ("small", "sum") if (label, "psnr") in changes] == [1]
    assert findings.shown["small"] is plan.planned("small").runs[1]


def test_a_stage_that_fails_leaves_the_other_columns(tmp_path: Path, photos: str) -> None:
    path = tiny(tmp_path, photos)
    text = path.read_text().replace(
        "tiny-sum: {extends: tiny-small, training.stages.gan.losses.adversarial.halves: sum}",
        "tiny-sum: {extends: tiny-small, training.stages.gan: {optimizer: {name: sgd, lr: 1e30}}}",
    )
    path.write_text(text)
    result = ablate(path, "little", tmp_path / "out")
    assert result.findings is not None
    assert list(result.findings.failed) == [("sum", 0)] and list(result.findings.failures) == ["sum"]
    assert "not finite" in result.findings.failures["sum"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert re.search(r"\| psnr ↑ \| - \| [\d.]+<br>.* \| failed \|", table)
    assert change_sentences(result.findings)[0].startswith("small against plain (blocks: 2 → 1): ")


def train_but(full: str, meanwhile: Callable[[Path], object], entry: Entry, out: Path, **options: Any) -> object:
    """Train, but for one run: the disk is full then."""
    if out.name != full:
        return train(entry, out, **options)
    meanwhile(out)
    raise TrainingError("Cannot write the state: no space left on device.")


@pytest.mark.slow
def test_a_fault_that_another_process_does_not_meet_fails_nothing(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(tmp_path, photos)
    there = ablate(recipe, "little", tmp_path / "there")
    stage = there.plan.planned("small").runs[0].parent
    assert stage is not None
    shared = stage.name

    # while this process's disk is full, another one comes to the run's end
    full = partial(train_but, shared, lambda out: shutil.copytree(there.out / "runs" / shared, out))
    monkeypatch.setattr(work_module, "train", full)
    here = ablate(recipe, "little", tmp_path / "here")
    assert here.findings is not None and here.findings.failed == {}
    assert here.computed == there.computed


@pytest.mark.slow
def test_a_column_whose_first_stage_is_another_by_now_is_not_taken_for_finished(tmp_path: Path, photos: str) -> None:
    recipe, out = tiny(tmp_path, photos), tmp_path / "out"
    result = ablate(recipe, "little", out)
    column = result.plan.planned("plain").runs[0]
    assert column.parent is not None
    parent = out / "runs" / column.parent.name
    parent.rename(tmp_path / "aside")
    with pytest.raises(InputError, match=f"{column.name} started from weights of {column.parent.name} that are no"):
        ablate(recipe, "little", out)
    (tmp_path / "aside").rename(parent)
    small, other = (result.plan.planned(label).runs[0] for label in ("small", "sum"))
    assert small.parent is not None and small.parent == other.parent
    (out / "runs" / small.parent.name).rename(tmp_path / "aside")
    with pytest.raises(
        InputError, match=f"{small.name}, {other.name} started from .* or delete {small.name}, {other.name}"
    ):
        ablate(recipe, "little", out)
    planned = CliRunner().invoke(
        app, ["ablate", str(recipe), "--budget", "little", "--plan", "--out", str(out)], env={"COLUMNS": "200"}
    )
    found = {words[0]: words[2] for line in planned.output.splitlines() if len(words := line.split()) > 3}
    assert (found[small.name], found[small.parent.name]) == ("all", "0"), planned.output
    (tmp_path / "aside").rename(out / "runs" / small.parent.name)
    assert ablate(recipe, "little", out).computed == 0
    weights = parent / f"{parent.name}.safetensors"
    tensors, description = read_checkpoint(weights)
    save_checkpoint(weights, {name: tensor + 1 for name, tensor in tensors.items()}, description)
    with pytest.raises(InputError, match=f"or delete {column.name} too, to train it anew"):
        ablate(recipe, "little", out)


@pytest.mark.slow
def test_a_column_that_has_begun_does_not_go_on_from_another_first_stage(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tiny(tmp_path, photos), tmp_path / "out"
    column = plan_of(recipe, "little").planned("plain").runs[0]
    assert column.parent is not None

    def stopped(entry: Entry, out: Path, **options: Any) -> object:
        if out.name != column.name:
            return train(entry, out, **options)

        def stop(stage: str, step: int, *_: object) -> None:
            if (stage, step) == ("gan", 2):
                raise InterruptedRunError("stopped")

        return train(entry, out, **{**options, "progress": stop})

    with monkeypatch.context() as patched:
        patched.setattr(work_module, "train", stopped)
        with pytest.raises(InterruptedRunError):
            ablate(recipe, "little", out)
    assert any((out / "runs" / column.name / "states").iterdir())
    weights = out / "runs" / column.parent.name / f"{column.parent.name}.safetensors"
    tensors, description = read_checkpoint(weights)
    save_checkpoint(weights, {name: tensor + 1 for name, tensor in tensors.items()}, description)
    with pytest.raises(InputError, match=f"{column.name} started from weights of {column.parent.name} that are no"):
        ablate(recipe, "little", out)
    save_checkpoint(weights, tensors, description)
    assert column.name in ablate(recipe, "little", out).trained


@pytest.mark.slow
def test_a_run_that_another_process_ends_during_the_benchmark_is_in_the_table(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(tmp_path, photos)
    there = ablate(recipe, "little", tmp_path / "there")
    late = there.plan.planned("sum").runs[0].name

    def scored(*arguments: Any, **options: Any) -> object:
        if not (tmp_path / "here" / "runs" / late).exists():
            shutil.copytree(there.out / "runs" / late, tmp_path / "here" / "runs" / late)
        return bench(*arguments, **options)

    monkeypatch.setattr(work_module, "train", partial(train_but, late, lambda out: None))
    monkeypatch.setattr(work_module, "bench", scored)
    here = ablate(recipe, "little", tmp_path / "here")
    assert here.findings is not None and here.findings.failed == {} and here.computed == there.computed
    assert " failed |" not in (tmp_path / "here" / "table.md").read_text()


def test_steps_that_are_compared_are_measured_in_turn(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tiny(tmp_path, photos), "little")
    entries = {planned.label: planned.runs[0].entry for planned in plan.trained}
    measured: list[int] = []

    def watched(entries: Sequence[Entry], budget: float = 0.05) -> list[StepCost]:
        measured.append(len(entries))
        return measure_steps(entries, 0.05)

    monkeypatch.setattr(estimate, "measure_steps", watched)
    costs = StepCosts(tmp_path / "steps.json")
    costs.alone(entries["plain"])
    found = costs.in_turn({"plain": entries["plain"]})
    assert found["plain"].quartile_low <= found["plain"].milliseconds <= found["plain"].quartile_high
    found = costs.in_turn(entries)
    assert found["small"] is found["sum"], "one composition"
    assert measured == [1, 1, 2], "what was measured at another time is measured again beside the new one"
    assert StepCosts(tmp_path / "steps.json").in_turn(entries) == found and len(measured) == 3
    (tmp_path / "steps.json").write_text('{"of an older version": {"milliseconds": 1.0, "peak_bytes": 1}}')
    assert StepCosts(tmp_path / "steps.json").alone(entries["plain"]).precision == "fp32" and len(measured) == 4


def test_an_image_of_the_figure_may_have_another_name_here(tmp_path: Path, photos: str) -> None:
    path, name = tiny(tmp_path, photos), f"{Path(photos).name}[:6]"
    path.write_text(path.read_text().replace('image: "3"', 'image: [baboon, "3"]'))
    work = _Work(plan_of(path, "little"), tmp_path / "out", tmp_path / "runs", lambda *_: None, lambda _: None)
    work.check()
    assert work.exhibits == [(name, "3")]
    path.write_text(path.read_text().replace('image: [baboon, "3"]', "image: [baboon, mandrill]"))
    work = _Work(plan_of(path, "little"), tmp_path / "out", tmp_path / "runs", lambda *_: None, lambda _: None)
    with pytest.raises(UnknownNameError, match=r"'baboon' or 'mandrill'\. It has 0, 1, 10, 11, 2 and others\.$"):
        work.check()
    work.check(figure=[])


def test_what_is_missing_or_unknown_is_told_before_anything_is_trained(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny(tmp_path, photos)
    text = path.read_text()
    path.write_text(text.replace(f"data: [{Path(photos).name}]", "data: [flicker2k]"))
    with pytest.raises(UnknownNameError, match="No dataset is called 'flicker2k'"):
        ablate(path, "little", tmp_path / "out")
    path.write_text(text.replace('image: "3"', 'image: "33"'))
    with pytest.raises(UnknownNameError, match="has no image '33'"):
        ablate(path, "little", tmp_path / "out")
    path.write_text(text.replace("metrics: [psnr, ssim]", "metrics: [psnr, lpipss_alex]"))
    with pytest.raises(UnknownNameError, match="Did you mean 'lpips_alex'"):
        ablate(path, "little", tmp_path / "out")
    part = f"{Path(photos).name}[:6]"
    path.write_text(text.replace(f'data: "{part}"', f'data: ["{part}", "./{part}"]', 1))
    monkeypatch.chdir(Path(photos).parent)
    with pytest.raises(DataError, match="Two datasets are called"):
        ablate(path, "little", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- processes --------------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys, torch
torch.set_num_threads(1)
from srzoo.ablation.work import ablate
result = ablate(sys.argv[1], "little", sys.argv[2])
print(json.dumps([result.trained, result.computed, result.findings is not None]))
"""


def start(recipe: Path, out: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(recipe), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(out: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in out.glob("runs/*/*.safetensors")}


@pytest.mark.slow
def test_an_ablation_that_is_killed_goes_on_where_it_was(tmp_path: Path, photos: str) -> None:
    recipe, out = tiny(tmp_path, photos, steps=12), tmp_path / "out"
    recipe.write_text(re.sub(r"figure:\n.*\n", "", recipe.read_text()))
    first = start(recipe, out)
    while first.poll() is None and not (len(finished(out)) >= 2 and _under_way(out)):
        time.sleep(0.002)
    assert first.poll() is None, first.communicate()
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before, reached = finished(out), _under_way(out)
    assert before and reached and not (out / "table.md").exists(), "killed within a run"
    second = start(recipe, out)
    told, problem = second.communicate()
    assert second.returncode == 0, problem
    trained, computed, _ = json.loads(told.splitlines()[-1])
    names = {run.name for run in plan_of(recipe, "little").runs()}
    assert set(trained) == names - set(before), "nothing that was finished is trained again"
    assert {name: finished(out)[name] for name in before} == before
    assert computed == 5 * 6 * 2
    for run in plan_of(recipe, "little").runs():
        if run.name in reached or (run.parent is not None and run.parent.name in reached):
            whole = train(run.starting_in(tmp_path / "whole"), tmp_path / "whole" / run.name)
            pieces = out / "runs" / run.name / f"{run.name}.safetensors"
            assert _tensors(pieces) == _tensors(whole.weights), "the weights are those of a run that was not killed"
        elif run.name in before:
            shutil.copytree(out / "runs" / run.name, tmp_path / "whole" / run.name)


def _under_way(out: Path) -> list[str]:
    """Runs that have saved a state and not ended."""
    begun = {path.parents[1].name for path in out.glob("runs/*/states/*-*[3-9].pt")}
    return sorted(begun - set(finished(out)))


def _tensors(path: Path) -> dict[str, bytes]:
    from safetensors.torch import load_file

    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.slow
def test_processes_share_the_columns(tmp_path: Path, photos: str) -> None:
    """As a launcher starts them: every rank trains runs of its own, and the first one benchmarks."""
    recipe, out = tiny(tmp_path, photos, steps=40), tmp_path / "out"
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    ranks = [start(recipe, out, RANK=str(rank), LOCAL_RANK=str(rank), **launched) for rank in range(2)]
    told = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], told
    (first, computed, wrote), (second, none, silent) = (json.loads(text.splitlines()[-1]) for text, _ in told)
    assert sorted(first + second) == sorted(run.name for run in plan_of(recipe, "little").runs()), "each run once"
    assert first and second
    assert (computed, wrote, none, silent) == (5 * 6 * 2, True, 0, False)


# --- command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpus", "local", "devices"), [(0, 4, 8), (1, 8, 1), (4, 4, 8), (2, 4, 4), (8, 4, 8)])
def test_processes_on_one_gpu_are_not_taken_for_as_many_gpus(
    gpus: int, local: int, devices: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name, value in {"RANK": 7, "WORLD_SIZE": 8, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": local}.items():
        monkeypatch.setenv(name, str(value))
    assert _leave_launcher() == (7, 8, devices)
    assert chosen == ([3 % gpus] if gpus else [])
    assert "RANK" not in os.environ, "it is no part of a group any more"
    assert _leave_launcher() == (0, 1, 1)


def test_the_command_lists_plans_and_says_what_is_wrong() -> None:
    listed = CliRunner().invoke(app, ["ablate"])
    assert listed.exit_code == 0 and "esrgan" in listed.output
    planned = CliRunner().invoke(app, ["ablate", "esrgan", "--budget", "paper", "--plan"], env={"COLUMNS": "120"})
    assert planned.exit_code == 0 and "1,000,000" in planned.output and "3, 4, 5" in planned.output
    wrong = CliRunner().invoke(app, ["ablate", "esrgan", "--budget", "papre"])
    assert wrong.exit_code == 2


def test_a_broken_recipe_of_one_plugin_leaves_the_others_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {**recipe_files(), "gone": tmp_path / "gone.yaml"}
    monkeypatch.setattr("srzoo.ablation.recipe.recipe_files", lambda: files)
    listed = CliRunner().invoke(app, ["ablate"])
    assert listed.exit_code == 2
    assert all(name in listed.stdout for name in files if name != "gone")
    assert "gone.yaml" in " ".join(listed.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["esrgan", "gan-criteria"])
def test_the_smoke_budget_needs_nothing_but_what_is_installed(name: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("SRZOO_DATA", "SRZOO_WEIGHTS")}
    environment |= {"OMP_NUM_THREADS": "1", "SRZOO_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "srzoo", "ablate", name, "--budget", "smoke", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = plan_of(name, "smoke").runs()
    told = f"{len(runs)} runs trained and {len(runs) * 9 * 2} scores computed"
    assert told in " ".join(done.stdout.split())
    with open(tmp_path / "out" / "table.csv", newline="") as file:
        columns = {row["column"] for row in csv.DictReader(file)}
    assert columns >= {planned.label for planned in plan_of(name, "smoke").trained}


@pytest.mark.slow
def test_ablations_may_share_their_runs(tmp_path: Path, photos: str) -> None:
    recipe, runs = tiny(tmp_path, photos), tmp_path / "shared"
    recipe.write_text(re.sub(r"figure:\n.*\n", "", recipe.read_text()))
    first = ablate(recipe, "little", tmp_path / "one", runs=runs)
    other = tmp_path / "other.yaml"
    other.write_text(recipe.read_text().replace("title: Tiny", "title: Other"))
    second = ablate(other, "little", tmp_path / "two", runs=runs)
    assert len(first.trained) == 5 and second.trained == []
    assert second.computed == first.computed, "scores belong to a folder"
