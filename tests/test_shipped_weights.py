"""The weights that come with srzoo are whole, small enough, and score what zoo.yaml says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import srzoo
from srzoo.benchmark import bench
from srzoo.card import Written, model_card
from srzoo.pretrained import load_model
from srzoo.ready import weights_path
from srzoo.recipe import Training
from srzoo.weights import file_sha256, read_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

SHIPPED = [name for name in get_zoo().names() if get_zoo().entry(name).weights is not None]

OWN_FILE = [name for name in SHIPPED if not get_zoo().entry(name).self_ensemble]
"""Self-ensembles share the file, and its card, of the entry that they are the ensembles of."""

FIRST = ("srresnet-lite-x4", "esrgan-lite-x4")
"""Whose scores are computed by the default tests; those of the others by the slow ones."""


def test_a_residual_and_an_rrdb_entry_and_a_gan_sibling_are_shipped() -> None:
    assert {"srresnet-lite-x4", "rrdb-lite-x4"} <= set(SHIPPED)
    assert {"srgan-lite-x4", "esrgan-lite-x4"} & set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_load_and_upscale(name: str) -> None:
    model = load_model(name)
    with torch.inference_mode():
        sr = model.generator(torch.rand(1, 3, 12, 16))
    assert sr.shape == (1, 3, 12 * model.entry.scale, 16 * model.entry.scale)
    assert torch.isfinite(sr).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_weight_file_says_how_it_was_trained_as_the_zoo_does(name: str) -> None:
    entry = get_zoo().entry(name)
    assert entry.training is not None
    assert entry.weights is not None
    path = weights_path(entry)
    assert file_sha256(path) == entry.weights.sha256
    _, description = read_checkpoint(path)
    trained = Training.model_validate(description["training"])  # with the defaults of settings that came later
    assert trained.model_copy(update={"validation": None}) == entry.training.model_copy(update={"validation": None})


@pytest.mark.parametrize("name", OWN_FILE)
def test_the_card_beside_the_weights_is_up_to_date(name: str) -> None:
    path = weights_path(get_zoo().entry(name))
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    told = "python benchmarks/write_cards.py writes them anew"
    assert card == model_card(load_model(name), {"safetensors": Written(path.name, "srzoo")}), told
    assert f"`srzoo train {name}`, seed 0" in card


def test_logs_are_those_of_the_recorded_runs() -> None:
    for entry in map(get_zoo().entry, SHIPPED):
        assert entry.recorded is not None and entry.recorded.log, entry.name
        lines = weights_path(entry).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        assert Path(entry.recorded.log).name == weights_path(entry).with_suffix(".jsonl").name
        last = [json.loads(line) for line in lines if "losses" in json.loads(line)][-1]
        assert last["step"] == entry.recorded.steps
        assert last["seconds"] / 3600 == pytest.approx(entry.recorded.hours, abs=0.02)


def test_all_files_together_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in (weights_path(get_zoo().entry(name)) for name in SHIPPED)}
    assert max(sizes.values()) <= 8 << 20
    assert sum(sizes.values()) <= 40 << 20


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FIRST else pytest.mark.slow) for n in SHIPPED])
def test_recorded_scores_hold_on_set5(name: str, squeezenet: Path) -> None:
    recorded = get_zoo().entry(name).recorded
    assert recorded is not None
    found = bench(name, "set5", list(recorded.scores["set5"]), protocol=recorded.protocol).standings[0].means
    assert found == pytest.approx(recorded.scores["set5"], abs=2e-3)


@pytest.mark.slow
def test_psnr_entries_reach_31_2_db_on_set5(data_root: Path) -> None:
    result = bench("srresnet-lite-x4,rrdb-lite-x4", "set5", "psnr")
    assert min(standing.means["psnr"] for standing in result.standings) >= 31.2


@pytest.mark.parametrize(("name", "least"), [("srresnet-distilled-x4", 31.8), ("srresnet-plus-x4", 31.9)])
def test_the_best_reach_on_set5_what_the_readme_says(name: str, least: float) -> None:
    recorded = get_zoo().entry(name).recorded  # which the test above computes again
    assert recorded is not None
    assert recorded.scores["set5"]["psnr"] >= least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("srcnn-lite-x4", 29.9), ("espcn-lite-x4", 30.2)])
def test_the_first_networks_reach_on_set5_what_small_recipes_can(name: str, least: float, data_root: Path) -> None:
    assert bench(name, "set5", "psnr").standings[0].means["psnr"] >= least


@pytest.mark.slow
@pytest.mark.parametrize(("gan", "parent"), [("srgan-lite-x4", "srresnet-lite-x4"), ("esrgan-lite-x4", "rrdb-lite-x4")])
def test_gan_sibling_is_clearly_below_its_parent_in_lpips(gan: str, parent: str, squeezenet: Path) -> None:
    if gan not in SHIPPED:
        pytest.skip(f"{gan} has no shipped weights yet")
    result = srzoo.bench(f"{gan},{parent}", "set14", "lpips_squeeze")
    means = {standing.entry: standing.means["lpips_squeeze"] for standing in result.standings}
    assert means[gan] < 0.8 * means[parent]
