"""Exports: what other programs load computes the same, at sizes it was not exported with, and is not kept otherwise."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from reference_nets import EDSR, MSRResNet, RRDBNet, SRGANGenerator
from torch import nn
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import CompositionError, InputError, MissingLibraryError, TrainingError, UnknownNameError
from srzoo.exporting import export
from srzoo.importing import import_checkpoint
from srzoo.pickles import load_pickle
from srzoo.pretrained import load_model
from srzoo.weights import read_checkpoint, save_checkpoint
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

LR = torch.rand(2, 3, 13, 22, generator=torch.Generator().manual_seed(0))
SMALL = {
    "esrgan": ("esrgan-x4", {"num_features": 8, "num_blocks": 2}),  # spandrel reads a growth of 32 alone
    "esrgan x2": ("esrgan-x4", {"num_features": 8, "num_blocks": 1}),
    "esrgan x1": ("esrgan-x4", {"num_features": 8, "num_blocks": 1}),
    "msrresnet": ("msrresnet-x4", {"num_features": 8, "num_blocks": 2}),
    "srgan": ("srresnet-mse-x4", {"num_features": 8, "num_blocks": 2, "output_activation": "tanh"}),
    "edsr": ("edsr-x4", {"num_features": 8, "num_blocks": 2}),
    "lite": ("rrdb-lite-x4", {"num_features": 8, "num_blocks": 1, "block.growth": 4}),
}


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., str]:
    """Write a checkpoint of a small relative of a zoo entry, with random weights."""

    def trained(name: str, **changes: Any) -> str:
        entry, options = SMALL[name]
        overrides = {f"generator.{key}": value for key, value in {**options, **changes}.items()}
        scale = int(name[-1]) if name[-2:-1] == "x" else 4
        resolved = get_zoo().entry(entry, {**overrides, "training": None, "scale": scale})
        torch.manual_seed(0)
        path = tmp_path / f"{name.replace(' ', '-')}.safetensors"
        description = {"entry": entry, "composition": full_composition(resolved)}
        generator = build_generator(resolved)
        with torch.no_grad():
            for parameter in generator.parameters():  # biases are zero otherwise, whatever is done to them
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_checkpoint(path, generator.state_dict(), description)
        return str(path)

    return trained


def output_of(path: str) -> torch.Tensor:
    with torch.inference_mode():
        return load_model(path).generator(LR)


# --- in other programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [None, "esrgan", "esrgan-rrdbnet", "basicsr-rrdbnet"])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_the_esrgan_family_loads_in_spandrel_with_equal_output(
    trained: Callable[..., str], tmp_path: Path, layout: str | None, form: str
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="spandrel is in the extra 'test'")
    path = trained("esrgan")
    if form == "safetensors" and layout is None:
        layout = "esrgan"
    found = export(path, tmp_path / "out", form, layout=layout)
    descriptor = spandrel.ModelLoader().load_from_file(found.files[form])
    assert (descriptor.architecture.id, descriptor.scale) == ("ESRGAN", 4)
    with torch.inference_mode():
        assert torch.allclose(descriptor.model.eval()(LR), output_of(path), atol=1e-6)


def test_esrgan_x2_loads_in_spandrel_in_the_layouts_that_have_it(trained: Callable[..., str], tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="spandrel is in the extra 'test'")
    path = trained("esrgan x2")
    with pytest.raises(InputError, match=r"layout basicsr-rrdbnet: it enlarges features by 4, not 2"):
        export(path, tmp_path / "out", "pth", layout="basicsr-rrdbnet")
    found = export(path, tmp_path / "out", "pth")
    assert found.layout == "esrgan"
    with torch.inference_mode():
        assert torch.allclose(
            spandrel.ModelLoader().load_from_file(found.files["pth"]).model.eval()(LR), output_of(path), atol=1e-6
        )


def test_srgan_strict_loads_in_its_code_unless_slopes_differ_by_channel(
    trained: Callable[..., str], tmp_path: Path
) -> None:
    path = trained("srgan")
    with pytest.raises(InputError, match="one PReLU slope for all channels, and here they differ"):
        export(path, tmp_path / "out", "pth", layout="leftthomas-srgan")
    tensors, description = read_checkpoint(Path(path))
    for name, tensor in tensors.items():
        if tensor.dim() == 1 and f"{name.rpartition('.')[0]}.bias" not in tensors and name.endswith("weight"):
            tensor.fill_(float(tensor[0]))
    save_checkpoint(Path(path), tensors, description)
    network = SRGANGenerator(8, 2, 2).eval()
    network.load_state_dict(load_pickle(export(path, tmp_path / "out", "pth", layout="leftthomas-srgan").files["pth"]))
    with torch.inference_mode():
        assert torch.allclose(network(LR), output_of(path), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "unshuffle"), [("esrgan x2", 2), ("esrgan x1", 4)])
def test_real_esrgan_x2_and_x1_load_in_spandrel_with_equal_output(
    trained: Callable[..., str], tmp_path: Path, name: str, unshuffle: int
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="spandrel is in the extra 'test'")
    path = trained(name, input_unshuffle=unshuffle)
    for layout in ("basicsr-rrdbnet", "esrgan"):
        found = export(path, tmp_path / layout, "pth", layout=layout)
        descriptor = spandrel.ModelLoader().load_from_file(found.files["pth"])
        assert descriptor.scale == 4 // unshuffle
        with torch.inference_mode():  # 13x22, which no factor divides
            assert torch.allclose(descriptor.model.eval()(LR), output_of(path), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "layout", "theirs", "loads"),
    [
        ("esrgan", "basicsr-rrdbnet", lambda: RRDBNet(8, 2, 32, 2), "params"),
        ("msrresnet", "basicsr-msrresnet", lambda: MSRResNet(8, 2, 4), "params"),
        ("edsr", "edsr", lambda: EDSR(8, 2, 4, 0.1, 255.0), ""),
    ],
)
def test_strict_loading_in_the_other_programs_network_gives_equal_output(
    trained: Callable[..., str], tmp_path: Path, name: str, layout: str, theirs: Callable[[], nn.Module], loads: str
) -> None:
    path = trained(name)
    content = load_pickle(export(path, tmp_path / "out", "pth", layout=layout).files["pth"])
    network = theirs().eval()
    network.load_state_dict(content[loads] if loads else content)
    with torch.inference_mode():
        assert torch.allclose(network(LR), output_of(path), rtol=1e-4, atol=1e-5)


LAYOUTS = ("esrgan", "esrgan-rrdbnet", "basicsr-rrdbnet", "basicsr-msrresnet", "mmagic-msrresnet", "kair-msrresnet")


@pytest.mark.parametrize("layout", [*LAYOUTS, "edsr", "basicsr-edsr", "mmagic-edsr"])
def test_what_is_exported_imports_again(trained: Callable[..., str], tmp_path: Path, layout: str) -> None:
    name = next(n for n in ("msrresnet", "edsr", "esrgan") if n in layout or n == "esrgan")
    path = trained(name)
    found = export(path, tmp_path / "out", "pth", layout=layout)
    options = {"residual_scale": 0.1} if name == "edsr" else {}
    again = import_checkpoint(
        found.files["pth"], tmp_path / "again.safetensors", layout=layout, options=options, published=True
    )
    assert torch.allclose(output_of(str(again.path)), output_of(path), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"block.negative_slope": 0.1}, "it needs generator.block.negative_slope 0.2, not 0.1"),
        ({"block.residual_scale": 0.1}, "it needs generator.block.residual_scale 0.2, not 0.1"),
        ({"image_skip": "bilinear"}, "it needs generator.image_skip 'none', not 'bilinear'"),
        ({"block": "dense"}, "it needs generator.block.name 'esrgan/rrdb', not 'esrgan/dense'"),
    ],
)
def test_what_another_program_would_compute_differently_is_not_written_under_its_names(
    trained: Callable[..., str], tmp_path: Path, changes: dict[str, Any], about: str
) -> None:
    path = trained("esrgan", **changes)
    with pytest.raises(InputError) as caught:
        export(path, tmp_path / "out", "pth", layout="esrgan")
    assert about in str(caught.value)
    found = export(path, tmp_path / "out", "pth")
    assert found.layout == "srzoo"
    assert "No layout of another program" in found.notes[0]


# --- safetensors of our own -------------------------------------------------------------------------------------


def test_safetensors_are_ours_and_load_as_they_are(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("lite")
    found = export(path, tmp_path / "out")
    assert found.layout == "srzoo"
    assert torch.equal(output_of(str(found.files["safetensors"])), output_of(path))


def test_safetensors_under_other_names_say_what_they_were_made_from(
    trained: Callable[..., str], tmp_path: Path
) -> None:
    found = export(trained("esrgan"), tmp_path / "out", layout="esrgan")
    _, description = read_checkpoint(found.files["safetensors"])
    assert description["exported"]["composition"]["generator"]["block"]["growth"] == 32
    again = import_checkpoint(found.files["safetensors"], tmp_path / "again.safetensors")  # so nothing is asked
    assert torch.equal(output_of(str(again.path)), output_of(str(tmp_path / "esrgan.safetensors")))
    with pytest.raises(InputError, match="is a file of srzoo's own already"):
        import_checkpoint(again.path, tmp_path / "third.safetensors")


# --- programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lite", pytest.param("esrgan", marks=pytest.mark.slow)])
def test_onnx_takes_any_size_and_agrees(trained: Callable[..., str], tmp_path: Path, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra 'test'")
    pytest.importorskip("onnxscript", reason="onnxscript is in the extra 'test'")
    path = trained(name)
    found = export(path, tmp_path / "out", "onnx")
    assert found.errors["onnx"] < 1e-4
    session = onnxruntime.InferenceSession(str(found.files["onnx"]), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 9, 8), (3, 3, 31, 64), (1, 3, 100, 7)):
        image = torch.rand(*shape, generator=torch.Generator().manual_seed(1))
        (sr,) = session.run(None, {"lr": image.numpy()})
        with torch.inference_mode():
            assert np.abs(sr - load_model(path).generator(image).numpy()).max() < 1e-4


def test_torchscript_takes_any_size_and_agrees(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("lite")
    found = export(path, tmp_path / "out", "torchscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it is deprecated
        loaded = torch.jit.load(str(found.files["torchscript"]))
    with torch.inference_mode():
        assert torch.allclose(loaded(LR), output_of(path), atol=1e-5)


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_what_cannot_be_exported_is_told_and_leaves_nothing(tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is in the extra 'test'")
    with pytest.raises(CompositionError, match=r"'bicubic' cannot be exported as .*Nothing was written"):
        export("bicubic", tmp_path / "out", form)
    assert list((tmp_path / "out").iterdir()) == []


class SizeBound(nn.Module):
    """What a careless trace keeps: the size it was exported with, or a value that depends on it."""

    def __init__(self, sized: bool) -> None:
        super().__init__()
        self.sized = sized

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if self.sized:
            return nn.functional.interpolate(lr, tuple(int(side) * 4 for side in lr[0, 0].detach().numpy().shape))
        return nn.functional.interpolate(lr, scale_factor=4.0) * float(lr.mean())


@pytest.mark.parametrize(("sized", "about"), [(True, "holds the size it was exported with"), (False, "differs from")])
def test_a_trace_that_computes_something_else_is_not_kept(
    trained: Callable[..., str], tmp_path: Path, sized: bool, about: str
) -> None:
    from dataclasses import replace

    model = replace(load_model(trained("lite")), generator=SizeBound(sized))
    with pytest.raises(CompositionError, match=about):
        export(model, tmp_path / "out", "torchscript")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_onnx_the_message_names_the_extra(
    trained: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # so that importing it fails
    with pytest.raises(
        MissingLibraryError,
        match=r"ONNX is not available: onnx (is not installed|cannot be imported.*); pip install 'srzoo\[onnx\]'",
    ):
        export(trained("lite"), tmp_path / "out", "onnx")


# --- mistakes ---------------------------------------------------------------------------------------------------


def test_mistakes_are_told(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("esrgan")
    with pytest.raises(InputError, match=r"no format 'onxx'\. Did you mean 'onnx'"):
        export(path, tmp_path / "out", "onxx")
    with pytest.raises(UnknownNameError, match=r"No layout is called 'esrgn'\. Did you mean 'esrgan'"):
        export(path, tmp_path / "out", "pth", layout="esrgn")
    with pytest.raises(InputError, match="'bicubic' has no weights"):
        export("bicubic", tmp_path / "out", "pth")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="Cannot write to"):
        export(path, tmp_path / "file" / "out", "pth")


def test_a_full_disk_leaves_what_was_there(
    trained: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained("esrgan")
    before = export(path, tmp_path / "out", "pth").files["pth"].read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(TrainingError, match=r"Cannot write .*esrgan\.pth.*No space left"):
        export(path, tmp_path / "out", "pth")
    assert (tmp_path / "out" / "esrgan.pth").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "esrgan.pth"]


# --- the model card ---------------------------------------------------------------------------------------------


def test_the_card_says_what_where_from_and_how_good(tmp_path: Path) -> None:
    found = export("rrdb-lite-x4", tmp_path / "out", "safetensors")
    assert found.card is not None
    text = found.card.read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "apache-2.0"
    assert {"super-resolution", "x4"} <= set(header["tags"])
    entry = get_zoo().entry("rrdb-lite-x4")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert blocks[0] == entry.composition()
    assert blocks[1]["stages"]["psnr"]["steps"] == 14000
    assert "Data: bsds500_train, bsds500_test." in text
    assert "Protocol `y`" in text
    assert "| set5 | 31.35 | 0.8843 | 0.1536 |" in text
    assert "615,747 parameters" in text
    assert entry.weights is not None
    assert entry.weights.sha256 in text


def test_a_card_without_scores_or_licence_says_so(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("esrgan")
    text = (export(path, tmp_path / "out", "pth").card or Path()).read_text()
    assert "None recorded" in text
    assert "Not stated" in text
    text = (export(path, tmp_path / "out", "safetensors", licence="MIT").card or Path()).read_text()
    assert "## Licence\n\nMIT" in text
    assert "esrgan.pth" in text, "files of an earlier call are still there"


def test_the_command_writes_several_formats(
    trained: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained("esrgan")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", path, "--format", "pth,torchscript", "--format", "safetensors"])
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "differs from the generator by at most" in told
    assert sorted(p.name for p in Path("exports/esrgan").iterdir()) == [
        "README.md",
        "esrgan.pt",
        "esrgan.pth",
        "esrgan.safetensors",
        "zoo.yaml",
    ]
