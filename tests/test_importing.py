"""Checkpoints of other programs: every layout is recognised, and the converted generator computes the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_nets import EDSR, MSRResNet, RRDBNet, SRGANGenerator, SRResNet
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.errors import InputError, UnknownNameError, WeightsError
from srzoo.importing import Imported, import_checkpoint
from srzoo.pretrained import load_model
from srzoo.registry import get_registry
from srzoo.weights import read_checkpoint
from srzoo.yamlio import parse_value
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

LR = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def rename(tensors: Mapping[str, torch.Tensor], *rules: tuple[str, Any]) -> dict[str, torch.Tensor]:
    """Apply the first rule that matches each name."""
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            new, count = re.subn(pattern, replacement, name)
            if count:
                name = new
                break
        result[name] = tensor
    return result


def rrdb(steps: int = 2, **options: float) -> nn.Module:
    return seeded(lambda: RRDBNet(8, 2, 4, steps, **options))


def as_later_esrgan(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(
        tensors,
        (r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"),
        (r"^conv_body", "trunk_conv"),
        (r"^conv_up", "upconv"),
        (r"^conv_hr", "HRconv"),
    )


def as_first_esrgan(tensors: Mapping[str, torch.Tensor], blocks: int = 2, steps: int = 2) -> dict[str, torch.Tensor]:
    return rename(
        tensors,
        (r"^conv_first", "model.0"),
        (r"^body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0"),
        (r"^conv_body", f"model.1.sub.{blocks}"),
        (r"^conv_up1", "model.3"),
        (r"^conv_up2", "model.6"),
        (r"^conv_up3", "model.9"),
        (r"^conv_hr", f"model.{3 * steps + 2}"),
        (r"^conv_last", f"model.{3 * steps + 4}"),
    )


def msrresnet(scale: int = 4) -> nn.Module:
    return seeded(lambda: MSRResNet(8, 2, scale))


def edsr(scale: int = 4, residual_scale: float = 0.1, value_range: float = 255.0) -> nn.Module:
    return seeded(lambda: EDSR(8, 2, scale, residual_scale, value_range))


def without_means(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if "mean" not in name}


def as_basicsr_edsr(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(
        without_means(tensors),
        (r"^head\.0", "conv_first"),
        (r"^body\.(\d+)\.body\.0", r"body.\1.conv1"),
        (r"^body\.(\d+)\.body\.2", r"body.\1.conv2"),
        (r"^body\.2\.", "conv_after_body."),
        (r"^tail\.0\.(\d)", r"upsample.\1"),
        (r"^tail\.1", "conv_last"),
    )


def as_mmagic_edsr(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = rename(as_basicsr_edsr(tensors), (r"^upsample\.2", "upsample.1.upsample_conv"))
    return rename(renamed, (r"^upsample\.0", "upsample.0.upsample_conv"))


def srgan(steps: int = 2, tanh: bool = True) -> nn.Module:
    return seeded(lambda: SRGANGenerator(8, 2, steps, tanh))


def without_counters(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if "num_batches_tracked" not in name}


def as_lornatang(network: nn.Module) -> dict[str, torch.Tensor]:
    """The same network without the biases that batch normalisation takes out again."""
    tensors = dict(network.state_dict())
    for norm, conv in (("bn1", "conv1"), ("bn2", "conv2"), ("1", "0")):
        for block in ("block2", "block3") if norm != "1" else ("block4",):
            tensors[f"{block}.{norm}.running_mean"] = tensors[f"{block}.{norm}.running_mean"] - tensors.pop(
                f"{block}.{conv}.bias"
            )
    return rename(
        tensors,
        (r"^block1\.", "conv_block1."),
        (r"^block([23])\.conv1", lambda found: f"trunk.{int(found[1]) - 2}.rcb.0"),
        (r"^block([23])\.bn1", lambda found: f"trunk.{int(found[1]) - 2}.rcb.1"),
        (r"^block([23])\.prelu", lambda found: f"trunk.{int(found[1]) - 2}.rcb.2"),
        (r"^block([23])\.conv2", lambda found: f"trunk.{int(found[1]) - 2}.rcb.3"),
        (r"^block([23])\.bn2", lambda found: f"trunk.{int(found[1]) - 2}.rcb.4"),
        (r"^block4\.", "conv_block2."),
        (r"^block5\.(\d)\.conv", r"upsampling.\1.upsample_block.0"),
        (r"^block5\.(\d)\.prelu", r"upsampling.\1.upsample_block.2"),
        (r"^block5\.\d\.", "conv_block3."),
    )


CASES: dict[str, tuple[str, nn.Module, Any, dict[str, Any]]] = {
    # layout, network, what the file holds, answers that are not the published ones
    "esrgan": ("esrgan", rrdb(), as_first_esrgan(rrdb().state_dict()), {}),
    "esrgan x2": ("esrgan", rrdb(1), as_first_esrgan(rrdb(1).state_dict(), steps=1), {"scale": 2}),
    "esrgan x8": ("esrgan", rrdb(3), as_first_esrgan(rrdb(3).state_dict(), steps=3), {}),
    "esrgan x1": ("esrgan", rrdb(0), as_first_esrgan(rrdb(0).state_dict(), steps=0), {}),
    "esrgan with ReLU": (
        "esrgan",
        rrdb(slope=0.0, scale=0.1),
        as_first_esrgan(rrdb().state_dict()),
        {"negative_slope": 0.0, "residual_scale": 0.1},
    ),
    "later esrgan": ("esrgan-rrdbnet", rrdb(), as_later_esrgan(rrdb().state_dict()), {}),
    "later esrgan x2": ("esrgan-rrdbnet", rrdb(1), as_later_esrgan(rrdb(1).state_dict()), {}),
    "basicsr": ("basicsr-rrdbnet", rrdb(), {"params": rrdb().state_dict()}, {}),
    "Real-ESRGAN x2": ("basicsr-rrdbnet", rrdb(unshuffle=2), {"params_ema": rrdb(unshuffle=2).state_dict()}, {}),
    "Real-ESRGAN x1": ("basicsr-rrdbnet", rrdb(unshuffle=4), {"params_ema": rrdb(unshuffle=4).state_dict()}, {}),
    "esrgan unshuffled": ("esrgan", rrdb(unshuffle=2), as_first_esrgan(rrdb(unshuffle=2).state_dict()), {}),
    "mmagic": (
        "basicsr-rrdbnet",
        rrdb(),
        {
            "meta": {"epoch": 3, "mmagic_version": "1.0"},
            "state_dict": {f"generator.{n}": t for n, t in rrdb().state_dict().items()}
            | {"discriminator.features.0.weight": torch.ones(3), "step_counter": torch.tensor(5)},
        },
        {},
    ),
    "DataParallel": ("esrgan-rrdbnet", rrdb(), rename(as_later_esrgan(rrdb().state_dict()), ("^", "module.")), {}),
    "msrresnet": ("basicsr-msrresnet", msrresnet(), {"params": msrresnet().state_dict()}, {}),
    "msrresnet x3": ("basicsr-msrresnet", msrresnet(3), msrresnet(3).state_dict(), {}),
    "mmagic msrresnet": (
        "mmagic-msrresnet",
        msrresnet(),
        rename(
            msrresnet().state_dict(),
            (r"^body", "trunk_net"),
            (r"^upconv(\d)", r"upsample\1.upsample_conv"),
        ),
        {},
    ),
    "KAIR msrresnet": (
        "kair-msrresnet",
        msrresnet(2),
        rename(msrresnet(2).state_dict(), (r"^body", "recon_trunk"), ("^conv_hr", "HRconv")),
        {},
    ),
    "KAIR srresnet": ("esrgan-srresnet", *2 * (seeded(lambda: SRResNet(8, 2, 2)),), {}),
    "leftthomas": ("leftthomas-srgan", *2 * (srgan(),), {}),
    "leftthomas x8": ("leftthomas-srgan", *2 * (srgan(3),), {}),
    "leftthomas without tanh": (
        "leftthomas-srgan",
        srgan(tanh=False),
        srgan().state_dict(),
        {"output_activation": "none"},
    ),
    "leftthomas of torch 0.4.0": ("leftthomas-srgan", srgan(), without_counters(srgan().state_dict()), {}),
    "Lornatang": (
        "lornatang-srgan",
        srgan(tanh=False),
        {"epoch": 3, "state_dict": as_lornatang(srgan(tanh=False))},
        {},
    ),
    "edsr": ("edsr", *2 * (edsr(),), {"residual_scale": 0.1}),
    "edsr on [0, 1]": ("edsr", *2 * (edsr(3, 1.0, 1.0),), {}),
    "basicsr edsr": ("basicsr-edsr", edsr(2, 1.0), {"params": as_basicsr_edsr(edsr(2).state_dict())}, {}),
    "mmagic edsr": ("mmagic-edsr", edsr(4, 1.0, 1.0), as_mmagic_edsr(edsr(4, 1.0, 1.0).state_dict()), {}),
}


def tensors_of(content: Any) -> Any:
    return dict(content.state_dict()) if isinstance(content, nn.Module) else content


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Imported]:
    def load(content: Any, name: str = "theirs.pth", **options: Any) -> Imported:
        torch.save(content, tmp_path / name)
        return import_checkpoint(tmp_path / name, tmp_path / "ours.safetensors", **options)

    return load


@pytest.mark.parametrize("case", CASES)
def test_a_layout_is_recognised_and_the_generator_computes_the_same(case: str, load: Callable[..., Imported]) -> None:
    layout, network, content, answers = CASES[case]
    found = load(tensors_of(content), options=answers, published=True)
    assert found.layout == layout
    model = load_model(found.path)
    with torch.inference_mode():
        expected = network(LR)
        assert model.generator(LR).shape == expected.shape
        assert torch.allclose(model.generator(LR), expected, rtol=1e-4, atol=1e-5)


def test_every_registered_layout_is_tried() -> None:
    assert {case[0] for case in CASES.values()} == {c.name for c in get_registry().find("layout")}


@pytest.mark.parametrize("case", CASES)
def test_what_tensors_cannot_tell_is_asked_for_and_not_guessed(case: str, load: Callable[..., Imported]) -> None:
    _, _, content, answers = CASES[case]
    with pytest.raises(InputError, match="tensors cannot tell") as caught:
        load(tensors_of(content))
    message = str(caught.value)
    assert all(f"--option {word}=" in message for word in answers)
    assert "--published" in message
    offered = re.findall(r"--option (\w+)=('[^']*'|\S+?),? ", message)
    given = {word: parse_value(value.strip("'")) for word, value in offered}
    with pytest.raises(InputError, match=f"tensors cannot tell {offered[0][0]}, [^;]*$"):
        load(tensors_of(content), options=dict(list(given.items())[1:]))
    assert load(tensors_of(content), options=given).layout == CASES[case][0]


def edsr_shifted_by(mean: float, weight: float = 1.0, added: float | None = None) -> dict[str, torch.Tensor]:
    tensors = dict(edsr().state_dict())
    for name, shift in (("sub_mean", -mean), ("add_mean", mean if added is None else added)):
        tensors |= {f"{name}.bias": torch.full((3,), shift), f"{name}.weight": weight * torch.eye(3).view(3, 3, 1, 1)}
    return tensors


def test_the_range_of_images_is_asked_for_where_the_mean_does_not_show_it(load: Callable[..., Imported]) -> None:
    """Biases of a network on [0, 255] would else be taken for those of one on [0, 1]."""
    content = edsr_shifted_by(0.0)
    told = {"activation": "relu", "residual_scale": 0.1}
    with pytest.raises(InputError, match=r"tensors cannot tell rgb_range, .*--option rgb_range=255"):
        load(content, options=told)
    for largest in (255.0, 1.0):
        network = edsr(value_range=largest)
        network.load_state_dict(content)
        model = load_model(load(content, options={**told, "rgb_range": largest}).path)
        assert torch.allclose(model.generator(LR), network(LR), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (edsr_shifted_by(100.0, weight=1 / 60), "sub_mean.weight is not the identity"),
        (edsr_shifted_by(100.0, added=0.0), "add_mean.bias does not add what"),
        (edsr_shifted_by(30_000.0), r"the mean of images neither in \[0, 255\] nor in \[0, 1\]"),
        (edsr_shifted_by(-0.4), "the mean of images neither"),
        (edsr_shifted_by(float("nan")), "add_mean.bias does not add what"),
    ],
)
def test_a_shift_that_no_generator_here_has_is_refused(
    content: dict[str, torch.Tensor], told: str, load: Callable[..., Imported]
) -> None:
    with pytest.raises(WeightsError, match=told):
        load(content, published=True)


def test_the_activation_decides_what_is_computed(load: Callable[..., Imported]) -> None:
    """Shapes alone cannot notice: this is why it is asked for."""
    content = as_first_esrgan(rrdb().state_dict())
    right = load_model(load(content, published=True).path).generator(LR)
    wrong = load_model(load(content, published=True, options={"negative_slope": 0.0}).path).generator(LR)
    assert not torch.allclose(right, wrong, atol=1e-3)


def test_the_moving_average_is_preferred_and_the_other_part_is_named(load: Callable[..., Imported]) -> None:
    average = rrdb().state_dict()
    content = {"params": {n: t + 1 for n, t in average.items()}, "params_ema": average}
    found = load(content, published=True)
    assert (found.part, found.others) == ("params_ema", ("params",))
    assert torch.equal(read_checkpoint(found.path)[0]["tail.weight"], average["conv_last.weight"])
    other = load(content, published=True, part="params")
    assert torch.equal(read_checkpoint(other.path)[0]["tail.weight"], average["conv_last.weight"] + 1)
    with pytest.raises(UnknownNameError, match=r"no part 'param_ema'\. Did you mean 'params_ema'"):
        load(content, published=True, part="param_ema")


def test_the_discriminator_of_a_whole_gan_is_left_out_and_said_so(load: Callable[..., Imported]) -> None:
    found = load(CASES["mmagic"][2], published=True)
    assert found.part == "state_dict/generator"
    assert dict(found.left_out) == {
        "state_dict/discriminator": ["state_dict/discriminator.features.0.weight"],
        "state_dict/step_counter": ["state_dict/step_counter"],
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**rrdb().state_dict(), "attention": {"a.weight": torch.ones(3)}}, "attention/a.weight"),
        ({**rrdb().state_dict(), "conv_last.gamma": [torch.ones(3), 1]}, "conv_last.gamma/0"),
        ({"params": {**rrdb().state_dict(), "x": (torch.ones(1), torch.ones(2))}}, "params/x (2 tensors)"),
        ({"params": rrdb().state_dict(), "attention": {"a": {"b": {"c": [torch.ones(1)]}}}}, "attention/a/b/c/0"),
        (
            {
                "params_ema": rrdb().state_dict(),
                "params": rrdb().state_dict(),  # which is named as the part that --part takes
                "optimizers": [{"state": {0: {"step": torch.tensor(9), "exp_avg": torch.ones(3)}}, "lr": 1e-4}],
                "iter": 9,
            },
            "optimizers (2 tensors)",
        ),
        ({"n_averaged": torch.tensor(3), **rename(rrdb().state_dict(), ("^", "module."))}, "n_averaged"),
        ({"params": rrdb().state_dict(), "epoch": 9}, ""),
    ],
)
def test_every_tensor_beside_the_weights_is_named(
    content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "net.pth")
    done = CliRunner().invoke(app, ["weights", "import", "net.pth", "--published"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"Left out: (.*)\.", done.stdout) == ([said] if said else [])
    assert torch.allclose(load_model("net.safetensors").generator(LR), rrdb()(LR), atol=1e-6)


def test_safetensors_are_read_as_well(tmp_path: Path) -> None:
    save_file(dict(rrdb().state_dict()), tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="is there already"):
        import_checkpoint(tmp_path / "x.safetensors", published=True)
    found = import_checkpoint(tmp_path / "x.safetensors", tmp_path / "y.safetensors", published=True)
    assert torch.allclose(load_model(found.path).generator(LR), rrdb()(LR), atol=1e-6)


def test_half_precision_stays_half_in_the_file(load: Callable[..., Imported]) -> None:
    found = load({n: t.half() for n, t in rrdb().state_dict().items()}, published=True)
    assert read_checkpoint(found.path)[0]["tail.weight"].dtype == torch.float16
    assert load_model(found.path).generator.tail.weight.dtype == torch.float32


def test_the_file_says_where_it_came_from(load: Callable[..., Imported]) -> None:
    _, description = read_checkpoint(load({"params": rrdb().state_dict()}, published=True).path)
    assert description["imported"]["layout"] == "basicsr-rrdbnet"
    assert description["imported"]["part"] == "params"
    assert description["composition"]["generator"]["block"]["growth"] == 4


# --- as an entry ------------------------------------------------------------------------------------------------

ZOO = """
mine:
  extends: esrgan-x4
  training: null
  generator: {num_features: 8, num_blocks: 2, block: {growth: 4}}
mine-edsr:
  extends: edsr-x4
  training: null
  generator: {num_features: 8, num_blocks: 2}
mine-srresnet:
  extends: srresnet-mse-x4
  training: null
  generator: {num_features: 8, num_blocks: 2}
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> None:
    (tmp_path / "zoo.yaml").write_text(ZOO)
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))


def test_an_entry_tells_what_tensors_cannot(zoo: None, load: Callable[..., Imported]) -> None:
    found = load(as_first_esrgan(rrdb().state_dict()), entry="mine")
    assert torch.allclose(load_model(found.path).generator(LR), rrdb()(LR), atol=1e-6)
    with pytest.raises(InputError, match=r"the entry 'mine' tells negative_slope"):
        load(as_first_esrgan(rrdb().state_dict()), entry="mine", options={"negative_slope": 0.1})


def test_an_entry_does_not_tell_the_range_of_values(zoo: None, load: Callable[..., Imported]) -> None:
    content = as_basicsr_edsr(edsr().state_dict())
    with pytest.raises(InputError, match="cannot tell rgb_range, largest value") as caught:
        load(content, entry="mine-edsr")
    assert "residual_scale" not in str(caught.value)
    found = load(content, entry="mine-edsr", options={"rgb_range": 255})
    assert torch.allclose(load_model(found.path).generator(LR), edsr()(LR), rtol=1e-4, atol=1e-5)


def test_another_entry_is_refused_with_what_differs(zoo: None, load: Callable[..., Imported]) -> None:
    with pytest.raises(WeightsError) as caught:
        load(as_first_esrgan(rrdb().state_dict()), entry="esrgan-x4")
    assert "generator.num_features: 8 in the file, 64 in the entry" in str(caught.value)
    assert "generator.block.growth: 4 in the file, 32 in the entry" in str(caught.value)
    with pytest.raises(WeightsError, match=r"block\.name: 'esrgan/rrdb' in the file, 'srgan/residual' in the entry"):
        load(as_first_esrgan(rrdb().state_dict()), entry="srresnet-lite-x4")


@pytest.mark.parametrize("entry", ["mine", "mine-srresnet"])
def test_our_own_names_without_a_description_need_the_entry(
    entry: str, zoo: None, load: Callable[..., Imported]
) -> None:
    from srzoo import create_generator

    torch.manual_seed(1)
    generator = create_generator(entry).eval()
    content = {"params": {f"module.{n}": t for n, t in without_counters(generator.state_dict()).items()}}
    with pytest.raises(WeightsError, match=r"say which: --as ENTRY"):
        load(content)
    found = load(content, entry=entry)
    assert found.layout == "srzoo"
    assert torch.allclose(load_model(found.path).generator(LR), generator(LR), atol=1e-6)


# --- what does not fit ------------------------------------------------------------------------------------------


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors = {**rrdb().state_dict(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("content", "about"),
    [
        (changed(conv_up2__bias=None), "1 of 72 tensors are missing (conv_up2.bias)"),
        (changed(extra__weight=torch.ones(2)), "1 are not known here (extra.weight)"),
        (changed(conv_hr__weight=torch.ones(8, 8, 1, 1)), "conv_hr.weight is (8, 8, 1, 1) there and (8, 8, 3, 3) here"),
        (changed(conv_last__bias=torch.tensor([0, float("nan"), 0])), "not finite in conv_last.bias"),
        (changed(conv_last__bias=torch.tensor([0, 1, 0])), "conv_last.bias is int64 there and float32 here"),
        (rrdb(1, unshuffle=4).state_dict(), "its output would be smaller than its input"),
        (changed(conv_first__weight=torch.ones(8, 1, 3, 3)), "takes 1 channels; generators here take RGB"),
        (changed(conv_first__weight=torch.ones(8)), "has shape (8,), which is not that of a convolution"),
    ],
)
def test_what_does_not_fit_is_told_in_the_names_of_the_file(
    content: Any, about: str, load: Callable[..., Imported], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        load(content, published=True)
    assert about in str(caught.value)
    assert "theirs.pth" in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize("content", [{"a": {"b": 1}}, {}, [torch.ones(2)], 5, {"epoch": 3}, {1: torch.ones(2)}])
def test_files_without_named_tensors_are_told(content: Any, load: Callable[..., Imported]) -> None:
    with pytest.raises(WeightsError, match="named tensors"):
        load(content)


def test_an_answer_to_nothing_is_an_error_with_the_near_miss(load: Callable[..., Imported]) -> None:
    with pytest.raises(InputError, match=r"nothing is asked about 'negativ_slope'\. Did you mean 'negative_slope'"):
        load(rrdb().state_dict(), options={"negativ_slope": 0.2}, published=True)
    with pytest.raises(InputError, match=r"residual_scale: float.* cannot be 'much'"):
        load(rrdb().state_dict(), options={"residual_scale": "much"}, published=True)


def test_the_command_tells_what_it_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": rrdb().state_dict()}, "net.pth")
    run = CliRunner().invoke
    asked = run(app, ["weights", "import", "net.pth"])
    assert asked.exit_code == 2
    assert "--option negative_slope=0.2" in " ".join(asked.stderr.split())
    done = run(
        app, ["weights", "import", "net.pth", "--option", "negative_slope=0.2", "--option", "residual_scale=0.2"]
    )
    assert done.exit_code == 0, done.output
    assert "layout basicsr-rrdbnet in params, x4, 8 features, 2 blocks, 72 tensors" in " ".join(done.stdout.split())
    assert torch.allclose(load_model("net.safetensors").generator(LR), rrdb()(LR), atol=1e-6)


def test_objects_that_may_hold_tensors_are_named(tmp_path: Path) -> None:
    network = build_generator(get_zoo().entry("srresnet-lite-x4", {"training": None}))
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2))
    torch.save({"state_dict": network.state_dict(), "ema": averaged}, tmp_path / "both.pth")
    found = import_checkpoint(tmp_path / "both.pth", entry="srresnet-lite-x4")
    assert found.not_read == {"ema": "torch.optim.swa_utils.AveragedModel"}
    command = ["weights", "import", str(tmp_path / "both.pth"), "--as", "srresnet-lite-x4"]
    shown = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "again.safetensors")])
    assert "Not read, being objects and not plain tensors: ema (torch.optim.swa_utils.AveragedModel)." in shown.output
