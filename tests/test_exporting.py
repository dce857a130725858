"""Exports: what other programs load computes the same, at sizes it was not exported with, and is not kept otherwise."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
import yaml
from reference_nets import EDSR, MSRResNet, RRDBNet, SRGANGenerator
from torch import nn
from typer.testing import CliRunner

from srzoo.card import model_card
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import CompositionError, InputError, MissingLibraryError, TrainingError, UnknownNameError
from srzoo.exporting import FORMATS, export
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
    "srcnn": ("srcnn-x4", {"num_features": [8, 4]}),  # after bicubic enlargement, whose sizes must stay symbols
    "drcn": ("drcn-x4", {"num_features": 8}),
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
    assert found.layouts == {"pth": "esrgan"}
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
    assert found.layouts == {"pth": "srzoo"}
    assert "No layout of another program" in found.notes[0]


# --- safetensors of our own -------------------------------------------------------------------------------------


def test_safetensors_are_ours_and_load_as_they_are(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("lite")
    found = export(path, tmp_path / "out")
    assert found.layouts == {"safetensors": "srzoo"}
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


@pytest.mark.parametrize(
    "name", ["lite", "srcnn", *(pytest.param(slow, marks=pytest.mark.slow) for slow in ("esrgan", "drcn"))]
)
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
    place = r"srzoo_internal_patches/generator\.py, line \d+"
    with pytest.raises(CompositionError, match=rf"cannot be exported as {form}: {place}, takes .*Nothing was written"):
        export("internal-patches", tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


class SizeBound(nn.Module):
    """Keeps, in a trace, the size that it was exported with."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(lr, tuple(int(side) * 4 for side in lr.shape[2:]))


class ValueBound(nn.Module):
    """Decides by a value of its input, which none of the images that are compared need decide otherwise."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if lr.mean() > 0.9:
            lr = 2 * lr
        return nn.functional.interpolate(lr, scale_factor=4.0)


class WindowBound(nn.Module):
    """Takes windows of 8x8, and refuses other sides."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = lr.shape
        if height % 8 or width % 8:
            raise ValueError("sides must be multiples of 8")
        windows = lr.view(count, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
        centred = windows - windows.mean((-2, -1), keepdim=True)
        image = centred.permute(0, 1, 2, 4, 3, 5).reshape(lr.shape)
        return nn.functional.interpolate(image, scale_factor=4.0)


@pytest.mark.parametrize(
    ("network", "about"),
    [
        (SizeBound, "holds the size it was exported with"),
        (ValueBound, r"test_exporting.py, line \d+, takes a value of the image out of torch.* torch.where"),
    ],
)
def test_a_trace_that_computes_something_else_is_not_kept(
    trained: Callable[..., str], tmp_path: Path, network: type[nn.Module], about: str
) -> None:
    from dataclasses import replace

    model = replace(load_model(trained("lite")), generator=network())
    with pytest.raises(CompositionError, match=rf"{about}.*Nothing was written.* as safetensors or pth"):
        export(model, tmp_path / "out", ["safetensors", "torchscript"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_generator_of_certain_sizes_is_exported_for_them(
    trained: Callable[..., str], tmp_path: Path, form: str
) -> None:
    from dataclasses import replace

    model = replace(load_model(trained("lite")), generator=WindowBound(), size_multiple=8)
    found = export(model, tmp_path / "out", form)
    assert found.errors[form] < 1e-5
    assert "multiples of 8" in found.card.read_text()


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


def test_a_layout_that_does_not_fit_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        export("edsr-lite-x4", tmp_path / "out", "pth", layout="esrgan")
    assert str(caught.value).endswith("Layouts that can stand for it: srzoo, basicsr-edsr, edsr, mmagic-edsr.")
    with pytest.raises(InputError, match="A layout names tensors, which onnx hide; ask for safetensors or pth"):
        export("edsr-lite-x4", tmp_path / "out", "onnx", layout="edsr")
    assert not (tmp_path / "out").exists()


# --- all or nothing ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond 100 kB, which is what a full disk does to torch's own writers."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("form", "layout"),
    [("safetensors", None), ("safetensors", "edsr"), ("pth", None), ("torchscript", None)],
)
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, form: str, layout: str | None) -> None:
    model = load_model("edsr-lite-x4")
    target = tmp_path / f"edsr-lite-x4{FORMATS[form]}"
    target.write_text("before")
    with pytest.raises(
        TrainingError, match=rf"Cannot write .*{tmp_path}.*File too large.*before is untouched"
    ) as found:
        export(model, tmp_path, form, layout=layout)
    assert ".export-" not in str(found.value)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_one_format_that_fails_leaves_none_of_them(
    trained: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained("lite")
    before = {file: file.read_bytes() for file in export(path, tmp_path / "out", "safetensors").folder.iterdir()}
    monkeypatch.setattr("srzoo.exporting.model_card", lambda *_, **__: "\ud800")  # which cannot be encoded
    with pytest.raises(ValueError, match="surrogates"):
        export(path, tmp_path / "out", ["safetensors", "pth"], licence="MIT")
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_a_name_that_cannot_be_taken_takes_the_others_back(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("lite")
    export(path, tmp_path / "out", "pth")
    before = (tmp_path / "out" / "lite.pth").read_bytes()
    (tmp_path / "out" / "lite.pt").mkdir()
    with pytest.raises(TrainingError, match=r"Cannot write to .*directory.* untouched"):
        export(path, tmp_path / "out", ["pth", "safetensors", "torchscript"])
    assert (tmp_path / "out" / "lite.pth").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "lite.pt", "lite.pth"]


def test_what_a_killed_export_left_is_gone_after_the_next(trained: Callable[..., str], tmp_path: Path) -> None:
    path, out = trained("lite"), tmp_path / "out"
    for name in (".export-dead", ".export-alive"):
        (out / name).mkdir(parents=True)
        (out / name / ".lock").touch()
        (out / name / "lite.pth").write_text("half of it")
        os.utime(out / name, (0, 0))
    with filelock.FileLock(out / ".export-alive" / ".lock"):
        export(path, out, "pth")
    assert sorted(p.name for p in out.iterdir()) == [".export-alive", "README.md", "lite.pth"]


def test_what_is_of_something_else_is_not_written_over(trained: Callable[..., str], tmp_path: Path) -> None:
    path, out = trained("lite"), tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("# My project\n")
    assert export(path, out, "pth").card == out / "lite.md"
    (out / "zoo.yaml").write_text("mine: {extends: edsr-lite-x4}\n")
    with pytest.raises(InputError, match=r"zoo\.yaml is the zoo file of something else.*give another folder"):
        export(path, out, "safetensors")
    assert (out / "README.md").read_text() == "# My project\n"
    assert not (out / "lite.safetensors").exists()


def test_files_of_other_weights_are_not_on_the_card(trained: Callable[..., str], tmp_path: Path) -> None:
    path, out = trained("esrgan"), tmp_path / "out"
    export(path, out, ["pth", "safetensors"])
    text = export(path, out, "safetensors", layout="esrgan").card.read_text()
    assert "| `esrgan.pth` | ComfyUI, chaiNNer and whatever reads layout `basicsr-rrdbnet` |" in text
    assert "| `esrgan.safetensors` | ComfyUI, chaiNNer and whatever reads layout `esrgan` |" in text
    assert not (out / "zoo.yaml").exists(), "the weights that it names are no more"
    trained("esrgan", image_skip="bilinear")
    text = export(path, out, "safetensors").card.read_text()
    assert "esrgan.pth" not in text


# --- the model card ---------------------------------------------------------------------------------------------


def test_the_card_says_what_where_from_and_how_good(tmp_path: Path) -> None:
    found = export("rrdb-lite-x4", tmp_path / "out", "safetensors")
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
    assert "615,747 parameters" in text
    assert entry.recorded is not None and entry.weights is not None
    set5 = entry.recorded.scores["set5"]
    assert f"| set5 | {set5['psnr']:.2f} | {set5['ssim']:.4f} | {set5['lpips_squeeze']:.4f} |" in text
    assert entry.weights.sha256 in text
    assert "Discriminator" not in text and "favours" not in text and "of its" not in text


def test_the_card_says_what_a_reader_might_take_for_granted() -> None:
    def card(name: str) -> str:
        return model_card(load_model(name), {})

    assert ", seed 0: 20,000 of its 37,400 steps in 0.094 hours on one" in card("srresnet-muon-x4")
    gan = card("esrgan-lite-x4")
    assert "A loss of its training looks at images by the backbone of lpips_squeeze, which favours it there." in gan
    (discriminator,) = re.findall(r" Discriminator: `(.*?)`\.", gan)
    written = yaml.safe_load(discriminator)
    assert written == {"name": "vgg128", "num_features": 16}
    assert "entry `srresnet-plus-x4`: set5 31.97 / 0.8930 / 0.1580; set14" in card("srresnet-annealed-x4")


def test_a_card_without_scores_or_licence_says_so(trained: Callable[..., str], tmp_path: Path) -> None:
    path = trained("esrgan")
    text = export(path, tmp_path / "out", "pth").card.read_text()
    assert "None recorded" in text
    assert "Not stated" in text
    text = export(path, tmp_path / "out", "safetensors", licence="MIT").card.read_text()
    assert "## Licence\n\nMIT" in text
    assert "esrgan.pth" in text, "files of an earlier call are still there"


def test_files_of_other_weights_that_stay_are_told(trained: Callable[..., str], tmp_path: Path) -> None:
    path, out = trained("esrgan"), tmp_path / "out"
    assert not export(path, out, ["pth", "torchscript"]).notes
    assert not export(path, out, "safetensors").notes, "they are of the same weights"
    assert not export(out / "esrgan.safetensors", out, "pth").notes
    other = tmp_path / "esrgan.safetensors"
    tensors, description = read_checkpoint(Path(path))
    save_checkpoint(other, {name: tensor + 0.01 for name, tensor in tensors.items()}, description)
    (note,) = export(other, out, "safetensors").notes
    assert note.startswith(f"esrgan.pth and esrgan.pt in {out} are from before and may be of other weights")
    assert (out / "esrgan.pth").is_file(), "nothing says that srzoo wrote it"


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
