"""Self-ensembles: a model's name with a ``+``, and entries that are one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pictures import photographs
from PIL import Image
from typer.testing import CliRunner

from srzoo import create_generator, upscale
from srzoo.ablation.plan import make_plan
from srzoo.ablation.recipe import read_recipe
from srzoo.benchmark import BenchResult, bench
from srzoo.cli import app
from srzoo.composition import composition_digest
from srzoo.data import load_image_set
from srzoo.errors import InputError, UnknownNameError
from srzoo.exporting import export
from srzoo.inference import SelfEnsemble, prepare, self_ensemble
from srzoo.interpolation import interpolate
from srzoo.merged import group_recipes
from srzoo.mos.making import _at_scale
from srzoo.pretrained import load_model
from srzoo.ready import weights_path
from srzoo.store import Subject
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

PLAIN = "espcn-lite-x4"
PLUS = f"{PLAIN}+"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photographs(tmp_path / "photographs", {"a": (64, 48), "b": (48, 96)})


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An entry that is the self-ensemble of another, whose weights it has."""
    zoo, plain = tmp_path / "own.yaml", get_zoo().entry(PLAIN)
    assert plain.weights is not None
    shutil.copy(weights_path(plain), tmp_path / "w.safetensors")
    weights = {"file": "w.safetensors", "sha256": plain.weights.sha256, "licence": "Apache-2.0"}
    own = {"extends": PLAIN, "summary": "its self-ensemble", "self_ensemble": True, "weights": weights}
    zoo.write_text(yaml.safe_dump({"own-plus": own}))
    monkeypatch.setenv("SRZOO_ZOO", str(zoo))
    get_zoo.cache_clear()
    yield "own-plus"
    get_zoo.cache_clear()


def psnr(result: BenchResult) -> dict[tuple[str, str], float]:
    return {(row.entry, row.image): row.value for row in result.rows}


def test_a_plus_benchmarks_what_upscale_makes_with_self_ensemble(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scores = psnr(bench([PLAIN, PLUS], str(folder), "psnr", out=out, pictures=[(folder.name, "b")]))
    assert set(scores) == {(name, image) for name in (PLAIN, PLUS) for image in "ab"}
    assert all(scores[PLAIN, image] != scores[PLUS, image] for image in "ab")
    lr, _, _ = next(item for item in load_image_set(str(folder)) if item.name == "b").read_pair(4)
    expected = upscale(lr, PLAIN, self_ensemble=True)
    kept = [np.asarray(Image.open(path)) for path in (out / "pictures").rglob("*.png")]
    assert sum(np.array_equal(pixels, expected) for pixels in kept) == 1


def test_it_costs_eight_passes_and_no_parameter_more(folder: Path) -> None:
    costs = bench([PLAIN, PLUS], str(folder), "psnr").costs
    plain, plus = costs[PLAIN][0], costs[PLUS][0]
    assert plus.parameters == plain.parameters
    assert plus.multiply_adds == 8 * plain.multiply_adds


def test_what_is_known_of_one_is_not_taken_for_the_other(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bench(PLAIN, str(folder), "psnr", out=out, pictures=0).computed == 2
    assert bench([PLAIN, PLUS], str(folder), "psnr", out=out, pictures=0).computed == 2
    assert bench([PLUS], str(folder), "psnr", out=out, pictures=0).computed == 0


@pytest.mark.slow
def test_precisions_and_tiles_of_it_are_benchmarked_too(folder: Path) -> None:
    whole = psnr(bench(PLUS, str(folder), "psnr", precision="fp32,bf16"))
    tiled = psnr(bench(PLUS, str(folder), "psnr", tile=16))
    for image in "ab":
        assert whole[PLUS, image] == pytest.approx(whole[f"{PLUS} (bf16)", image], abs=0.1)
        assert tiled[PLUS, image] == pytest.approx(whole[PLUS, image], abs=0.01)


def test_an_entry_may_be_a_self_ensemble(entry: str, folder: Path) -> None:
    scores = psnr(bench([entry, PLUS], str(folder), "psnr"))
    for image in "ab":
        assert scores[entry, image] == scores[PLUS, image]
    resolved = get_zoo().entry(entry)
    assert resolved.model_dump()["self_ensemble"] is True
    assert "self_ensemble" not in get_zoo().entry(PLAIN).model_dump()  # as it was before there were any
    assert composition_digest(resolved) != composition_digest(get_zoo().entry(PLAIN))


def test_upscaling_takes_the_mean_once(entry: str) -> None:
    lr = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    expected = upscale(lr, PLAIN, self_ensemble=True)
    for name, asked in ((entry, False), (entry, True), (PLUS, False), (PLUS, True)):
        assert np.array_equal(upscale(lr, name, self_ensemble=asked), expected)


def test_a_generator_to_train_is_plain_and_a_pretrained_one_is_what_was_benchmarked(entry: str) -> None:
    assert not isinstance(create_generator(entry), SelfEnsemble)
    image = torch.rand(1, 3, 9, 12)
    with torch.inference_mode():
        found, wanted = (network(image) for network in (create_generator(entry, True), load_model(PLUS).generator))
    torch.testing.assert_close(found, wanted)


def test_a_file_and_a_run_folder_may_have_a_plus(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    shutil.copy(weights_path(get_zoo().entry(PLAIN)), run / "w.safetensors")
    assert load_model(f"{run}+").name == "mine+"
    assert load_model(f"{run / 'w.safetensors'}+").name == "w+"
    assert isinstance(load_model(f"{run}+").generator, SelfEnsemble)
    (tmp_path / "mine+").mkdir()  # a folder of that name is meant by its name
    shutil.copy(run / "w.safetensors", tmp_path / "mine+")
    assert not isinstance(load_model(f"{run}+").generator, SelfEnsemble)


def test_the_sum_is_in_float32_whatever_the_generator_ends_in() -> None:
    torch.manual_seed(0)
    generator = torch.nn.Conv2d(3, 3, 3, padding=1)
    network = prepare(SelfEnsemble(generator), "cpu", "bf16")
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        found = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            wanted = self_ensemble(lambda lr: generator(lr).float())(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert not SelfEnsemble(generator).training  # as the generator is, which was put into evaluation mode


def test_training_an_ensemble_trains_its_generator(entry: str, photos: str, tmp_path: Path) -> None:
    small = ["training.patch_size=24", "training.batch_size=2", "training.validation=null"]
    run = ["train", entry, "--data", photos, "--steps", "2", "--out", str(tmp_path / "run"), *small]
    found = CliRunner().invoke(app, run)
    assert found.exit_code == 0, found.output
    assert "the generator alone" in " ".join(found.output.split())
    assert "self_ensemble" not in (tmp_path / "run" / "entry.json").read_text()
    assert not load_model(tmp_path / "run").entry.self_ensemble


def test_an_ablation_of_ensembles_is_refused(entry: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    named = {"title": "t", "summary": "s"}
    budget = {"summary": "s", "data": ["photos"], "metrics": ["psnr"]}
    columns, rows = (
        [{"label": "a", "entry": PLAIN}, {"label": "b", "entry": entry}],
        [{"label": "Generator", "key": "generator.name"}],
    )
    recipe.write_text(yaml.safe_dump({**named, "columns": columns, "rows": rows, "budgets": {"tiny": budget}}))
    with pytest.raises(InputError, match="'own-plus' is a self-ensemble, which is not trained"):
        make_plan(read_recipe(recipe), "tiny")


def test_people_are_shown_the_ensemble_at_another_scale(tmp_path: Path) -> None:
    model = _at_scale(load_model("bicubic+"), 2)
    assert (model.name, model.entry.scale, model.entry.self_ensemble) == ("bicubic+", 2, True)
    assert isinstance(model.generator, SelfEnsemble)


def test_seeds_of_one_are_none_of_the_other() -> None:
    plain, plus = load_model("srresnet-lite-x4"), load_model("srresnet-lite-x4+")
    assert plain.recipe

    def subject(name: str, recipe: str, seed: int) -> Subject:
        return Subject(name, 4, "", "", "fp32", recipe=recipe, seed=seed)

    assert group_recipes({"a": subject("a", plain.recipe, 0), "b": subject("b", plain.recipe, 1)})
    assert not group_recipes({"a": subject("a", plain.recipe, 0), "b": subject("b", plus.recipe, 1)})


def test_what_makes_no_sense_is_told(entry: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="own-plus is a self-ensemble already"):
        load_model("own-plus+")
    with pytest.raises(UnknownNameError, match=r"'espcn-lite-x5'.*espcn-lite-x4"):
        load_model("espcn-lite-x5+")
    with pytest.raises(InputError, match=r"'espcn-lite-x4\+' is a self-ensemble.*generator alone, espcn-lite-x4, and"):
        export(PLUS, tmp_path / "exported")
    with pytest.raises(InputError, match=r"'own-plus' is a self-ensemble.*generator alone, .*w.safetensors, and"):
        export(entry, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    with pytest.raises(InputError, match=r"espcn-lite-x4\+: weights are interpolated of generators"):
        interpolate(PLAIN, PLUS, out=tmp_path / "between")
