"""spandrel and pyiqa behind their extras: what they bring works where they are, and is named where they are not."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_nets import RRDBNet
from safetensors.torch import save_file
from typer.testing import CliRunner

import srzoo
from srzoo.cli import app
from srzoo.errors import InputError, MissingLibraryError, MissingWeightsError, UnknownNameError, WeightsError
from srzoo.pretrained import load_model, load_start
from srzoo.registry import get_registry
from srzoo.scoring import build_metric
from srzoo.specs import MetricSpec
from srzoo.upscaling import upscale
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

LR = torch.rand(2, 3, 13, 22, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")
SWINIR: dict[str, Any] = {
    "img_size": 16, "window_size": 8, "depths": [2], "embed_dim": 16, "num_heads": [2], "upscale": 2
}  # fmt: skip

with_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed; it is in the extra 'test'"
)
with_pyiqa = pytest.mark.skipif(
    importlib.util.find_spec("pyiqa") is None, reason="pyiqa is not installed; it is heavy, and in no extra for tests"
)


def without(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports of a library fail as where it is not installed."""
    for name in [n for n in sys.modules if n.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refuse(library), *sys.meta_path])


class Refuse:
    """A finder that finds one library nowhere."""

    def __init__(self, library: str) -> None:
        self.library = library

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] == self.library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def rrdbnet(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    network = RRDBNet(8, 1, 32, 2).eval()
    with torch.no_grad():
        network.conv_last.bias.fill_(0.5)  # so that nothing is clamped
    torch.save({"params_ema": network.state_dict()}, tmp_path / "4x-mine.pth")
    return tmp_path / "4x-mine.pth", network


def written(folder: Path, name: str, network: torch.nn.Module) -> Path:
    torch.save(network.state_dict(), folder / f"{name}.pth")
    return folder / f"{name}.pth"


# --- spandrel ---------------------------------------------------------------------------------------------------


@with_spandrel
def test_a_checkpoint_is_a_generator_at_once(rrdbnet: tuple[Path, torch.nn.Module]) -> None:
    path, network = rrdbnet
    model = load_model(path)
    assert (model.name, model.entry.scale) == ("4x-mine", 4)
    assert "ESRGAN" in model.entry.summary
    assert model.digest
    with torch.inference_mode():
        expected = network(LR)
        assert expected.min() > 0
        assert expected.max() < 1
        assert torch.equal(model.generator(LR), expected)


@with_spandrel
def test_safetensors_of_other_programs_work_as_well(rrdbnet: tuple[Path, torch.nn.Module]) -> None:
    path, network = rrdbnet
    save_file(network.state_dict(), path.with_suffix(".safetensors"))
    with torch.inference_mode():
        assert torch.equal(load_model(path.with_suffix(".safetensors")).generator(LR), network(LR))


@with_spandrel
def test_other_architectures_and_sizes_that_need_padding(tmp_path: Path) -> None:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet as Unshuffled
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    networks = {
        "compact": SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2),
        "unshuffled": Unshuffled(num_filters=8, num_blocks=1, in_nc=12, scale=4, shuffle_factor=2),
        "swinir": SwinIR(**SWINIR, upsampler="pixelshuffledirect"),
    }
    for name, network in networks.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of how SwinIR is written
            model = load_model(written(tmp_path, name, network))
        assert model.entry.scale == 2
        picture = np.random.default_rng(0).integers(0, 256, (21, 17, 3), dtype=np.uint8)
        assert upscale(picture, model).shape == (42, 34, 3)
        assert upscale(picture[..., 0], model).shape == (42, 34)


@with_spandrel
def test_the_commands_just_work(
    rrdbnet: tuple[Path, torch.nn.Module], photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = rrdbnet
    monkeypatch.chdir(path.parent)
    run = CliRunner().invoke
    benched = run(app, ["bench", "./4x-mine.pth", "bicubic", "--data", photos, "--metric", "psnr", "--out", "table"])
    assert benched.exit_code == 0, benched.output
    assert "4x-mine" in benched.stdout
    Image.fromarray(np.full((8, 9, 3), 99, np.uint8)).save("small.png")
    upscaled = run(app, ["upscale", "small.png", "--entry", "./4x-mine.pth", "--out", "large.png"])
    assert upscaled.exit_code == 0, upscaled.output
    assert Image.open("large.png").size == (36, 32)
    exported = run(app, ["export", "./4x-mine.pth", "--format", "torchscript"])
    assert exported.exit_code == 0, exported.output
    refused = run(app, ["export", "./4x-mine.pth", "--format", "pth"])
    assert refused.exit_code == 2
    assert "is a checkpoint of another program as it is" in " ".join(refused.stderr.split())


@with_spandrel
@pytest.mark.slow
def test_costs_are_those_of_the_file_and_not_of_another(tmp_path: Path, photos: str) -> None:
    paths = []
    for features in (8, 16):
        torch.manual_seed(0)
        paths.append(str(written(tmp_path, f"net{features}", RRDBNet(features, 1, 32, 2))))
    out = tmp_path / "run"
    costs = {name: found[0] for name, found in srzoo.bench(paths, photos, "psnr", out=out).costs.items()}
    assert costs["net8"].parameters == sum(p.numel() for p in RRDBNet(8, 1, 32, 2).parameters())
    assert costs["net16"].parameters == sum(p.numel() for p in RRDBNet(16, 1, 32, 2).parameters())
    assert costs["net16"].multiply_adds > costs["net8"].multiply_adds > 0
    os.replace(paths[1], paths[0])  # under the name of a file whose cost is known
    assert srzoo.bench(paths[0], photos, "psnr", out=out).costs["net8"][0].parameters == costs["net16"].parameters


@with_spandrel
@pytest.mark.parametrize(
    ("content", "about"),
    [
        ({"some.weight": torch.zeros(2)}, "no architecture that spandrel recognises"),
        ({"conv_first.weight": torch.zeros(2)}, "no architecture that spandrel recognises"),
        ({**RRDBNet(8, 1, 4, 2).state_dict()}, "cannot be loaded by spandrel"),
        ({**RRDBNet(8, 1, 32, 2).state_dict(), "conv_last.bias": torch.full((3,), torch.nan)}, "not finite"),
        ([torch.zeros(2)], "holds a list, not named tensors"),
    ],
)
def test_what_spandrel_does_not_read_is_told_with_what_else_there_is(content: Any, about: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        load_model(tmp_path / "x.pth")
    assert about in str(caught.value)
    assert f"srzoo weights import {tmp_path / 'x.pth'}" in str(caught.value)


def test_a_damaged_file_is_told_without_advice_that_it_would_not_follow(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"hello")
    with pytest.raises(WeightsError, match=r"x\.pth cannot be loaded as plain tensors: it is no file.*writes\.$"):
        load_model(tmp_path / "x.pth")


@with_spandrel
def test_grey_networks_are_refused(tmp_path: Path) -> None:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    network = SwinIR(**SWINIR, in_chans=1, upsampler="pixelshuffle")
    with pytest.raises(WeightsError, match="from 1 to 1 channels; generators here map RGB to RGB"):
        load_model(written(tmp_path, "grey", network))


def test_without_spandrel_the_message_names_the_extra(
    rrdbnet: tuple[Path, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("spandrel", monkeypatch)
    with pytest.raises(MissingLibraryError) as caught:
        load_model(rrdbnet[0])
    assert "spandrel is not installed; pip install 'srzoo[spandrel]'" in str(caught.value)
    assert "srzoo weights import" in str(caught.value)


def test_an_entry_cannot_name_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_registry: None
) -> None:
    """Which would be a path out of its folder."""
    (tmp_path / "zoo.yaml").write_text(
        "a: {generator: {name: spandrel, checkpoint: x}}\nb: {generator: spandrel}\n"
        "c: {generator: {name: spandrel, checkpoint: x.pth}}\n"
    )
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    with pytest.raises(InputError, match=r"gets 'checkpoint' from the file whose path is written for an entry's name"):
        get_zoo().entry("a")
    with pytest.raises(InputError, match="is built from a checkpoint file alone"):
        srzoo.create_generator("b")
    with pytest.raises(InputError, match="a zoo file may name no path outside its folder"):
        get_zoo().entry("c")


def test_other_paths_are_told_as_before(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(UnknownNameError, match=r"x\.txt has none of the endings \.pth, \.pt"):
        load_model(tmp_path / "x.txt")
    with pytest.raises(UnknownNameError, match=r"y\.pth does not exist"):
        load_model(tmp_path / "y.pth")
    with pytest.raises(InputError):
        load_start(torch.nn.Linear(1, 1), str(tmp_path / "y.pth"), get_zoo().entry("srresnet-lite-x4"))


# --- pyiqa ------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    return [c.name for c in get_registry().find("metric", "pyiqa/*")]


def test_metrics_are_listed_with_direction_colour_and_licence_without_importing_pyiqa() -> None:
    import subprocess

    code = (
        "import sys; from srzoo.cli import main\n"
        "for sys.argv in (['srzoo', 'list', 'metric', 'pyiqa/*'], ['srzoo', 'show', 'metric/niqe']):\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "assert not {'pyiqa', 'torch', 'spandrel'} & set(sys.modules), 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    for fragment in ("dists", "topiq_nr", "higher_is_better: False", "luma", "Noncommercial"):
        assert fragment in told
    assert {"dists", "niqe", "pi", "topiq_fr", "topiq_nr", "musiq", "clipiqa_plus"} <= set(names())


def test_none_takes_a_name_from_our_own_metrics() -> None:
    own = {c.name for c in get_registry().find("metric") if c.owner.name != "pyiqa"}
    assert not own & set(names())
    assert not {"psnr", "ssim", "lpips"} & set(names())


def test_without_pyiqa_the_message_names_the_extra_and_the_others_go_on(
    photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("pyiqa", monkeypatch)
    found = srzoo.bench("bicubic", photos, ["psnr", "pyiqa/niqe"])
    assert "pyiqa is not installed; pip install 'srzoo[pyiqa]'" in found.unavailable["pyiqa/niqe"]
    assert "not available" in found.unavailable["pyiqa/niqe"]
    assert found.standings[0].means.keys() == {"psnr"}


@with_pyiqa
def test_the_table_agrees_with_pyiqas_own() -> None:
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    for component in get_registry().find("metric", "pyiqa/*"):
        spec = component.spec
        assert isinstance(spec, MetricSpec)
        theirs: Any = DEFAULT_CONFIGS[spec.factory.name]  # type: ignore[union-attr]
        assert spec.higher_is_better is not theirs.get("lower_better", False), spec.name
        assert spec.full_reference is (theirs["metric_mode"] == "FR"), spec.name
        assert ("luma" in spec.summary) is theirs["metric_opts"].get("test_y_channel", False), spec.name


@with_pyiqa
@pytest.mark.parametrize("name", ["gmsd", "vif", "ms_ssim", "fsim", "cw_ssim", "mad", "nlpd", "vsi", "piqe"])
def test_those_without_weights_rank_a_blur_below_the_original(name: str) -> None:
    """And give, through the bridge, what pyiqa itself gives."""
    import pyiqa

    if name not in names():
        pytest.skip(f"{name} is not offered")
    metric = build_metric(f"pyiqa/{name}", CPU)
    source = torch.Generator().manual_seed(0)
    hr = torch.nn.functional.interpolate(torch.rand(1, 3, 48, 48, generator=source), size=(192, 224), mode="bicubic")
    hr = (hr + 0.1 * torch.randn(hr.shape, generator=source)).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(hr, 5, 1, 2)
    with torch.inference_mode():
        same, worse = metric.function(hr, hr), metric.function(blurred, hr)
        arguments = (blurred, hr) if metric.spec.full_reference else (blurred,)
        assert torch.allclose(worse, pyiqa.create_metric(name, device=CPU)(*arguments).reshape(1).float())
    assert worse.shape == (1,)
    if metric.spec.full_reference:
        assert (same > worse) if metric.spec.higher_is_better else (same < worse)


@with_pyiqa
def test_a_metric_whose_weights_cannot_be_fetched_is_named_and_stops_no_other(
    photos: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SRZOO_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"pyiqa/dists is not available: .*SRZOO_OFFLINE is set"):
        build_metric("pyiqa/dists", CPU)
    found = srzoo.bench("bicubic", photos, ["psnr", "pyiqa/dists", "pyiqa/gmsd"])
    assert found.unavailable.keys() == {"pyiqa/dists"}
    assert found.standings[0].means.keys() == {"psnr", "gmsd"}


@with_pyiqa
def test_an_image_too_small_for_a_metric_leaves_the_others(photos: str) -> None:
    found = srzoo.bench("bicubic", photos, ["psnr", "pyiqa/ms_ssim"])  # needs 160 pixels
    assert found.failed == {}
    assert found.standings[0].means["psnr"] > 0
