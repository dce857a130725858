"""The commands that compute, as a user runs them: what they write, and one clear message for each mistake."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from srzoo.cli import _zoo_first, app
from srzoo.cli.values import split_names
from srzoo.errors import InputError, InterruptedRunError, UpscaleWarning
from srzoo.images import read_picture
from srzoo.png16 import write_png16
from srzoo.pretrained import load_model
from srzoo.weights import file_sha256, read_checkpoint, save_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

ZOO = """
mine:
  extends: srresnet-lite-x4
  generator: {num_features: 8, num_blocks: 1}
  training: {patch_size: 32, batch_size: 2, data: [photos], validation: null}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Path:
    """An empty folder with a zoo file of its own, as the current one."""
    (tmp_path / "zoo.yaml").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    return tmp_path


def srzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def assert_clear(result: Result, code: int, *fragments: str) -> None:
    """One error message with all the fragments, the right exit code, and no traceback."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    message = " ".join(result.stderr.split())
    assert message.count("error:") == 1, message
    for fragment in fragments:
        assert fragment in message, message


@pytest.fixture
def photograph(here: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(here / "photo.png")
    return here / "photo.png"


@pytest.fixture
def trained(here: Path) -> Path:
    result = srzoo("train", "mine", "--steps", "3", "--out", "run")
    assert result.exit_code == 0, result.output
    return here / "run"


@pytest.mark.parametrize(
    ("data", "option"),
    [
        ("photos[:3]", ' --data "photos[3:]"'),
        ("photos", " --data mine"),
        ("photos,mine", " --data FOLDER_OF_OTHER_IMAGES"),
        ("mine", ""),
    ],
)
def test_a_run_ends_with_a_comparison_on_images_it_has_not_seen(
    here: Path, monkeypatch: pytest.MonkeyPatch, data: str, option: str
) -> None:
    (here / "sets" / "mine").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (72, 72, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(here / "sets" / "mine" / "1.png")
    monkeypatch.setenv("SRZOO_DATA", str(here / "sets"))
    result = srzoo("train", "mine", "--steps", "1", "--out", "run", "--data", data)
    assert result.exit_code == 0, result.output
    assert f"srzoo bench run bicubic{option} compares it" in result.output


def test_a_run_folder_is_no_entry_to_train(here: Path) -> None:
    (here / "run").mkdir()
    (here / "run" / "entry.json").write_text("{}")
    assert_clear(srzoo("train", "run"), 2, "run is no entry of the zoo", "training.start_from=run")


def test_train_then_bench_then_upscale(trained: Path, photograph: Path, here: Path) -> None:
    benched = srzoo("bench", "run", "bicubic", "--metric", "psnr", "--metric", "ssim", "--out", "table")
    assert benched.exit_code == 0, benched.output
    with open("table/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["entry"] for r in rows} == {"run", "bicubic"}
    assert len(rows) == 2 * 2 * 9
    upscaled = srzoo("upscale", "photo.png", "--entry", "run/mine.safetensors", "--out", "large.png")
    assert upscaled.exit_code == 0, upscaled.output
    assert Image.open("large.png").size == (96, 80)


def test_upscale_of_a_folder_goes_on_after_a_bad_image_and_names_it(photograph: Path, here: Path) -> None:
    folder = here / "pictures"
    folder.mkdir()
    photograph.rename(folder / "good.png")
    (folder / "bad.png").write_bytes((folder / "good.png").read_bytes()[:200])
    result = srzoo("upscale", "pictures", "--entry", "bicubic", "--out", "large")
    assert_clear(result, 2, "bad.png", "damaged or cut short")
    assert Image.open("large/good.png").size == (96, 80)
    assert not Path("large/bad.png").exists()


def test_upscale_of_what_is_no_image_does_not_name_the_suffix_it_has(here: Path) -> None:
    (here / "photo.png").write_text("hello")
    (here / "photo.txt").write_text("hello")
    for name, words in (("photo.png", "no image in spite of its name"), ("photo.txt", "use .png, .jpg")):
        result = srzoo("upscale", name, "--entry", "bicubic", "--out", "large.png")
        assert_clear(result, 2, name, words)
        assert "1 failed" in result.stderr
        assert "large.png" not in result.stderr


def test_upscale_of_a_folder_needs_a_folder_to_write_to(photograph: Path, here: Path) -> None:
    (here / "pictures").mkdir()
    photograph.rename(here / "pictures" / "good.png")
    assert_clear(
        srzoo("upscale", "pictures", "--entry", "bicubic", "--out", "large.png"),
        2,
        "--out must be a folder",
        "large.png",
    )
    assert not Path("large.png").exists()


def test_upscale_never_overwrites_its_input(photograph: Path) -> None:
    before = photograph.read_bytes()
    assert_clear(
        srzoo("upscale", "photo.png", "--entry", "bicubic", "--out", "photo.png"), 2, "overwrite its own input"
    )
    assert photograph.read_bytes() == before


def test_upscale_keeps_sixteen_bits_exif_profile_and_opacity(here: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (10, 12, 4)).astype(np.uint16)
    exif, icc = Image.Exif(), bytes(16) + b"RGB " + bytes(200)
    exif[0x010F], exif[0x0112] = "A camera", 3
    with open("deep.png", "wb") as file:
        write_png16(file, values[..., :3], values[..., 3], exif.tobytes(), icc)
    result = srzoo("upscale", "deep.png", "--entry", "nearest", "--out", "large.png")
    assert result.exit_code == 0, result.output
    assert "16 bits" not in result.output
    large = read_picture("large.png", keep_depth=True)
    assert large.alpha is not None
    assert large.alpha.dtype == np.uint16
    np.testing.assert_array_equal(large.rgb, values[::-1, ::-1, :3].repeat(4, 0).repeat(4, 1))
    with Image.open("large.png") as written:
        assert written.info["icc_profile"] == icc
        assert dict(written.getexif()) == {0x010F: "A camera"}


def test_upscale_says_what_a_format_cannot_hold(here: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (10, 12, 3)).astype(np.uint16)
    with open("deep.png", "wb") as file:
        write_png16(file, values, None)
    with pytest.warns(UpscaleWarning, match="16 bits a channel were rounded"):
        assert srzoo("upscale", "deep.png", "--entry", "nearest", "--out", "large.jpg").exit_code == 0
    with open("deep.png", "wb") as file:
        write_png16(file, values, values[..., 0])
    assert_clear(
        srzoo("upscale", "deep.png", "--entry", "nearest", "--out", "large.jpg"), 2, "cannot hold transparency"
    )


def test_upscale_in_tiles_and_with_self_ensemble(trained: Path, here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    for name, options in {
        "whole": ["--tile", "0"],
        "tiled": ["--tile", "48", "--overlap", "16", "--tile-batch", "2"],
        "mean": ["--tile", "64", "--self-ensemble"],
    }.items():
        result = srzoo("upscale", "photo.png", "--entry", "run", "--out", f"{name}.png", *options)
        assert result.exit_code == 0, result.output
    whole, tiled, mean = (np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("whole", "tiled", "mean"))
    assert np.abs(whole - tiled).max() <= 1
    assert (whole != mean).any()
    command = ("upscale", "photo.png", "--entry", "run", "--out", "x.png")
    assert_clear(srzoo(*command, "--tile", "8"), 2, "tile must be at least 16 pixels, or 0 for no tiles, not 8")
    assert_clear(srzoo(*command, "--tile", "32", "--overlap", "20"), 2, "overlap of 20 leaves nothing of a tile of 32")


def test_typo_in_a_zoo_file(here: Path) -> None:
    (here / "zoo.yaml").write_text(ZOO.replace("batch_size", "batchsize"))
    assert_clear(srzoo("train", "mine"), 2, "zoo.yaml, line 5", "'batchsize'", "Did you mean 'batch_size'")


def test_typo_in_an_override(here: Path) -> None:
    assert_clear(srzoo("train", "mine", "generator.num_blok=3"), 2, "num_blok", "Did you mean 'num_blocks'")
    assert_clear(srzoo("train", "mine", "generator.num_blocks=three"), 2, "num_blocks", "'three'", "integer")
    assert_clear(srzoo("train", "mine", "num_blocks"), 2, "dotted.key=value")


def test_truncated_training_image(here: Path, photograph: Path) -> None:
    folder = here / "data"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:300])
    assert_clear(srzoo("train", "mine", "--steps", "5", "--data", "data"), 2, "cut.png", "damaged or cut short")


def test_truncated_benchmark_image(here: Path, photograph: Path) -> None:
    (here / "set").mkdir()
    (here / "set" / "cut.png").write_bytes(photograph.read_bytes()[:300])
    assert_clear(srzoo("bench", "bicubic", "--data", "set"), 2, "cut.png", "damaged or cut short")


def entry_with_weights(here: Path, weights: Path, generator: str = "{num_features: 8, num_blocks: 1}") -> None:
    (here / "zoo.yaml").write_text(
        ZOO + f"\nshipped:\n  extends: mine\n  generator: {generator}\n"
        f"  weights: {{file: {weights.name}, sha256: {file_sha256(weights)}}}\n"
    )
    get_zoo.cache_clear()


def test_weights_of_an_entry_are_used(trained: Path, here: Path, photograph: Path) -> None:
    (trained / "mine.safetensors").rename(here / "w.safetensors")
    entry_with_weights(here, here / "w.safetensors")
    result = srzoo("upscale", "photo.png", "--entry", "shipped", "--out", "large.png")
    assert result.exit_code == 0, result.output


def test_weight_file_with_a_flipped_byte(trained: Path, here: Path, photograph: Path) -> None:
    path = (trained / "mine.safetensors").rename(here / "w.safetensors")
    entry_with_weights(here, path)
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    result = srzoo("upscale", "photo.png", "--entry", "shipped", "--out", "large.png")
    assert_clear(result, 2, "w.safetensors", "damaged or another file", "get it again")


def test_checkpoint_of_another_model(trained: Path, here: Path, photograph: Path) -> None:
    path = (trained / "mine.safetensors").rename(here / "w.safetensors")
    entry_with_weights(here, path, "{num_features: 8, num_blocks: 1, block: {activation: leaky_relu}}")
    result = srzoo("upscale", "photo.png", "--entry", "shipped", "--out", "large.png")
    assert_clear(result, 2, "another composition", "generator.block.activation: 'relu' in the file, 'leaky_relu' here")


def test_checkpoint_with_other_tensors(trained: Path, here: Path, photograph: Path) -> None:
    tensors, description = read_checkpoint(trained / "mine.safetensors")
    tensors["surplus"] = tensors.pop("tail.bias")
    save_checkpoint(here / "odd.safetensors", tensors, description)
    result = srzoo("upscale", "photo.png", "--entry", "odd.safetensors", "--out", "large.png")
    assert_clear(result, 2, "belongs to another model", "tail.bias", "surplus")


def test_weights_that_are_not_there(photograph: Path) -> None:
    assert_clear(srzoo("upscale", "photo.png", "--entry", "mine", "--out", "x.png"), 2, "srzoo train mine")


def test_file_that_is_no_checkpoint(photograph: Path, here: Path) -> None:
    (here / "x.safetensors").write_bytes(b"rubbish")
    result = srzoo("upscale", "photo.png", "--entry", "x.safetensors", "--out", "x.png")
    assert_clear(result, 2, "not a whole safetensors file")


def test_run_that_is_not_finite_exits_with_one(here: Path) -> None:
    result = srzoo(
        "train", "mine", "--steps", "30", "training.stages.psnr.optimizer.lr=1e30", "training.precision=fp32"
    )
    assert_clear(result, 1, "not finite: l1")


def test_unknown_protocol_dataset_and_entry(here: Path) -> None:
    assert_clear(srzoo("bench", "bicubic", "--protocol", "x"), 2, "y, y-matlab, rgb")
    assert_clear(srzoo("bench", "bicubic", "--data", "photo"), 2, "Did you mean 'photos'")
    assert_clear(srzoo("train", "srresnet-lte-x4"), 2, "Did you mean 'srresnet-lite-x4'")


def test_pretrained_model_in_python_is_the_one_of_the_command_line(trained: Path) -> None:
    model = load_model(trained)
    assert model.name == "run"
    assert not model.generator.training


def test_a_run_says_what_it_goes_on_from(trained: Path, here: Path) -> None:
    finished = srzoo("train", "mine", "--steps", "3", "--out", "run", "--track", "tensorboard")
    assert finished.exit_code == 0
    assert "a finished run of 3 steps; there was nothing left to do" in " ".join(finished.output.split())
    assert not list(trained.glob("events*")), "nothing was logged, so there is nothing to look at"
    command = ("train", "mine", "--steps", "4", "--checkpoint-every", "2", "--out", "other")
    assert srzoo(*command).exit_code == 0
    (here / "other" / "states" / "psnr-00000004.pt").unlink()
    assert "going on from step 2 of 4 of stage psnr" in srzoo(*command).output


def test_refused_settings_leave_no_folder(here: Path, photograph: Path) -> None:
    (here / "images").mkdir()
    photograph.rename(here / "images" / "photo.png")
    assert_clear(srzoo("train", "mine", "--data", "images", "--out", "run"), 2, "smaller than the patch of 32")
    assert not (here / "run").exists()
    for out in ("zoo.yaml", "zoo.yaml/run"):
        assert_clear(srzoo("train", "mine", "--out", out), 2, "zoo.yaml is a file")


def test_models_that_are_not_there(here: Path) -> None:
    assert_clear(srzoo("bench", "runs/first"), 2, "runs/first does not exist; write a zoo entry")
    (here / "model.pth").write_bytes(b"x")
    assert_clear(srzoo("bench", "model.pth"), 2, "model.pth")
    assert_clear(srzoo("bench", "bicubic", "--metric", "lpips"), 2, "'lpips_alex'")
    assert_clear(srzoo("interpolate", "bicubic", "nearest"), 2, "bicubic has no weights to interpolate")


@pytest.mark.parametrize(
    ("command", "default"),
    [("bench", "[default: photos]"), ("train", "[default: 50]"), ("interpolate", "[default: photos]")],
)
def test_help_states_the_defaults(command: str, default: str) -> None:
    """Rich would take an unescaped bracket for markup and swallow it."""
    helped = CliRunner().invoke(app, [command, "--help"], terminal_width=250)
    assert default in " ".join(helped.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [
        (InterruptedRunError("stopped by SIGTERM after step 3.", "SIGTERM"), 143, "stopped by SIGTERM after step 3."),
        (InterruptedRunError("stopped by SIGINT after step 3.", "SIGINT"), 130, "stopped by SIGINT after step 3."),
        (KeyboardInterrupt(), 130, "stopped by SIGINT."),
    ],
    ids=["SIGTERM", "Ctrl-C", "Ctrl-C before the first step"],
)
def test_a_run_that_is_asked_to_stop_says_so_and_does_not_call_it_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, code: int, words: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr("srzoo.training.train", stopped)
    result = srzoo("train", "mine")
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split()) and "error" not in result.stderr


def test_images_to_validate_on_that_are_not_there_are_told_before_torch_is_loaded(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "srzoo.training", None)  # importing it would fail
    assert_clear(srzoo("train", "mine", "training.validation={data: nix}"), 2, "No dataset is called 'nix'")


def test_a_zoo_file_may_be_named_after_the_command() -> None:
    assert _zoo_first(["train", "mine", "--zoo", "a.yaml", "--steps", "3"]) == [
        *("--zoo", "a.yaml", "train", "mine", "--steps", "3")
    ]
    assert _zoo_first(["list", "--zoo=a.yaml"]) == ["--zoo=a.yaml", "list"]
    assert _zoo_first(["list", "--", "--zoo"]) == ["list", "--", "--zoo"]
    assert _zoo_first(["train", "--help"]) == ["train", "--help"]


def test_an_option_of_names_that_names_nothing_is_refused() -> None:
    assert split_names(None) == [] and split_names(["a, b", "c"]) == ["a", "b", "c"]
    with pytest.raises(InputError, match="was given none"):
        split_names([""])


def test_a_run_at_another_scale_is_not_to_be_compared_with_bicubic(here: Path) -> None:
    """There is no bicubic at that scale but one of one's own, which the error says how to write."""
    result = srzoo("train", "mine", "scale=2", "--steps", "1", "--out", "x2")
    assert "srzoo bench x2 --data" in result.output
    compared = srzoo("bench", "x2", "bicubic", "--metric", "psnr")
    assert compared.exit_code == 2 and "{extends: bicubic, scale: 2}" in compared.output
    (here / "zoo.yaml").write_text(ZOO + "bicubic-x2: {extends: bicubic, scale: 2}\n")
    get_zoo.cache_clear()
    assert srzoo("bench", "x2", "bicubic-x2", "--metric", "psnr", "--data", "photos[:1]").exit_code == 0
