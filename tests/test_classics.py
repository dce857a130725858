"""The networks before and beside SRGAN: their layers, counts and colour handling against their papers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import srzoo
from srzoo.colour import to_rgb, to_ycbcr, with_bicubic_chroma
from srzoo.compose import build_generator
from srzoo.costs import cost_of
from srzoo.errors import CompositionError
from srzoo.images import downscale_bicubic, luma, read_rgb, to_tensor, to_uint8, upscale_bicubic
from srzoo.zoo import get_zoo

torch.set_num_threads(1)


def count(entry: str, **options: object) -> int:
    with torch.device("meta"):
        generator = srzoo.create_generator(entry, **options) if options else build_generator(get_zoo().entry(entry))
    return sum(p.numel() for p in generator.parameters())


@pytest.mark.parametrize(
    ("entry", "options", "parameters", "source"),
    [
        ("srcnn-x4", {"kernel_sizes": [9, 1, 5]}, 8_032 + 97, "arXiv:1501.00092, sec. 4.3.2, and biases"),
        ("srcnn-x4", {"kernel_sizes": [9, 3, 5]}, 24_416 + 97, "arXiv:1501.00092, sec. 4.3.2, and biases"),
        ("srcnn-x4", {}, 57_184 + 97, "arXiv:1501.00092, sec. 4.3.2, and biases"),
        ("espcn-x4", {}, 24_752, "5-3-3 with 64, 32 and 16 channels: 1,664 + 18,464 + 4,624"),
        ("drcn-x4", {}, 1_774_080 + 1_025 + 16, "1,774 K weights, as later papers count; biases, ensemble"),
        ("rcan-x4", {}, 15_592_379 - 24, "15.59 M; the public code counts 24 fixed ones of its mean shift"),
        ("enhancenet-e-x4", {}, 852_867, "arXiv:1612.07919, table 1, layer by layer"),
    ],
)
def test_parameter_counts_equal_the_papers(entry: str, options: dict, parameters: int, source: str) -> None:
    assert count(entry, **options) == parameters, source


@pytest.mark.parametrize(
    ("entry", "giga", "source"),
    [
        ("srcnn-x4", 52.7, "CARN, arXiv:1803.08664, table 1"),
        ("drcn-x4", 17_974.3, "CARN, arXiv:1803.08664, table 1"),
    ],
)
def test_multiply_adds_equal_the_published_ones(entry: str, giga: float, source: str) -> None:
    """For an output of 1280x720."""
    assert cost_of(get_zoo().entry(entry)).multiply_adds == pytest.approx(giga * 1e9, rel=1e-3), source


# --- colour -------------------------------------------------------------------------------------------------


def test_ycbcr_of_known_colours_is_matlabs() -> None:
    """rgb2ycbcr of MATLAB's documentation and BT.601: black, white, red, green, blue as eight-bit codes."""
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).view(5, 3, 1, 1)
    codes = (to_ycbcr(colours) * 255).round().view(5, 3).tolist()
    assert codes == [[16, 128, 128], [235, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110]]


def test_rgb_comes_back_from_ycbcr() -> None:
    rgb = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(to_rgb(to_ycbcr(rgb)), rgb, rtol=0, atol=1e-9)
    assert torch.equal(to_ycbcr(rgb)[:, :1], luma(rgb))


def test_luma_is_the_networks_and_chroma_is_bicubic() -> None:
    lr = torch.rand(1, 3, 6, 5)
    made = torch.rand(1, 1, 24, 20)
    sr = with_bicubic_chroma(lr, 4, lambda planes: made)
    torch.testing.assert_close(luma(sr), made, rtol=0, atol=1e-6)
    torch.testing.assert_close(to_ycbcr(sr)[:, 1:], upscale_bicubic(to_ycbcr(lr)[:, 1:], 4), rtol=0, atol=1e-6)


def test_colour_is_computed_in_float32_under_autocast() -> None:
    rgb = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(to_rgb(to_ycbcr(rgb)), rgb, rtol=0, atol=1e-6)


@pytest.mark.parametrize("entry", ["srcnn-x4", "espcn-x4"])
def test_a_luma_network_keeps_grey_grey_and_sees_no_colour(entry: str) -> None:
    generator = srzoo.create_generator(entry).eval()
    torch.manual_seed(0)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.05)
    lr = torch.rand(1, 3, 8, 9)
    grey = (luma(lr) * 255 - 16) / 219
    with torch.no_grad():
        of_colour, of_grey = generator(lr), generator(grey.expand(1, 3, 8, 9))
    torch.testing.assert_close(luma(of_colour), luma(of_grey), rtol=0, atol=1e-6)
    torch.testing.assert_close(of_grey[:, :1].expand_as(of_grey), of_grey, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["l1", "mse", "charbonnier"])
def test_a_loss_on_luma_is_that_loss_of_the_luma_planes(name: str) -> None:
    sr, hr = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 6)
    of_luma = srzoo.create("loss", name, channels="y")(sr, hr)
    torch.testing.assert_close(of_luma, srzoo.create("loss", name)(luma(sr), luma(hr)))
    chroma_alone = to_rgb(torch.cat([luma(hr), to_ycbcr(sr)[:, 1:]], dim=1))
    least = srzoo.create("loss", name)(hr, hr).item()
    assert srzoo.create("loss", name, channels="y")(chroma_alone, hr).item() == pytest.approx(least, abs=1e-6)


# --- SRCNN and ESPCN ----------------------------------------------------------------------------------------


def test_srcnn_computes_what_its_definition_says() -> None:
    """Sec. 3.1: F3(max(0, F2(max(0, F1(bicubic))))), on RGB to leave colour out."""
    torch.manual_seed(0)
    g = srzoo.create_generator("srcnn-x4", channels="rgb", init="kaiming").eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str, pad: int) -> torch.Tensor:
        return F.conv2d(F.pad(x, (pad,) * 4, mode="replicate"), w[f"{name}.weight"], w[f"{name}.bias"])

    lr = torch.rand(1, 3, 7, 9)
    x = conv(upscale_bicubic(lr, 4) - 0.5, "extract", 4).relu()
    expected = 0.5 + conv(conv(x, "map", 2).relu(), "reconstruct", 2)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)
    assert [tuple(w[f"{n}.weight"].shape[:3]) for n in ("extract", "map", "reconstruct")] == [
        (64, 3, 9),
        (32, 64, 5),
        (3, 32, 5),
    ]


def test_srcnns_loss_is_half_the_sum_over_what_the_paper_has_of_a_crop() -> None:
    """Sec. 4: crops of 33 px, no padding, and Caffe's loss, which is divided by twice the number of crops."""
    g = srzoo.create_generator("srcnn-x4")
    pixels = (33 - sum(layer.weight.shape[-1] - 1 for layer in (g.extract, g.map, g.reconstruct))) ** 2
    assert get_zoo().entry("srcnn-x4").training.stages["psnr"].losses["mse"].weight == pixels / 2


def test_srcnn_starts_as_in_the_paper() -> None:
    torch.manual_seed(0)
    g = srzoo.create_generator("srcnn-x4")
    assert g.map.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert all(layer.bias.abs().sum() == 0 for layer in (g.extract, g.map, g.reconstruct))


def test_espcn_computes_what_its_definition_says() -> None:
    """Sec. 3.1: tanh after the first two layers, periodic shuffling of the last; nothing at high resolution."""
    g = srzoo.create_generator("espcn-x4", channels="rgb").eval()
    w = dict(g.named_parameters())
    lr = torch.rand(1, 3, 7, 9)

    def conv(x: torch.Tensor, name: str, pad: int) -> torch.Tensor:
        return F.conv2d(F.pad(x, (pad,) * 4, mode="replicate"), w[f"{name}.weight"], w[f"{name}.bias"])

    x = torch.tanh(conv(lr - 0.5, "body.0", 2))
    x = conv(torch.tanh(conv(x, "body.2", 1)), "reconstruct", 1)  # (1, 48, 7, 9)
    expected = 0.5 + x.view(1, 3, 4, 4, 7, 9).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 28, 36)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry", ["srcnn-x4", "espcn-x4"])
@pytest.mark.parametrize("bad", [{"kernel_sizes": [9, 2, 5]}, {"num_features": [64, 0]}])
def test_impossible_options_are_refused(entry: str, bad: dict) -> None:
    with pytest.raises(CompositionError, match=next(iter(bad))):
        srzoo.create_generator(entry, **bad)


# --- DRCN ---------------------------------------------------------------------------------------------------


def test_drcn_computes_what_its_definition_says() -> None:
    """Sec. 3.2: one convolution again and again, an image from each, and their weighted sum."""
    torch.manual_seed(0)
    g = srzoo.create_generator("drcn-x4", channels="rgb", num_features=8, recursions=3).eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    torch.nn.init.normal_(w["ensemble"])
    lr = torch.rand(2, 3, 5, 6)
    enlarged = upscale_bicubic(lr, 4)
    h = conv(conv(enlarged - 0.5, "embed.0").relu(), "embed.2").relu()
    images = []
    for _ in range(3):
        h = conv(h, "recursion").relu()
        images.append(enlarged + conv(conv(h, "reconstruct.0").relu(), "reconstruct.2"))
    expected = sum(weight * image for weight, image in zip(w["ensemble"], images, strict=True))
    sr, intermediate = g(lr, intermediate=True)
    torch.testing.assert_close(sr, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(intermediate, torch.stack(images), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(g(lr), sr, rtol=0, atol=0)


def test_drcn_starts_with_a_recursion_that_changes_nothing() -> None:
    g = srzoo.create_generator("drcn-x4", num_features=4)
    features = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(g.recursion(features), features)
    assert g.ensemble.tolist() == [1 / 16] * 16


def test_drcns_recursions_have_the_chroma_of_their_output() -> None:
    g = srzoo.create_generator("drcn-x4", num_features=4, recursions=2).eval()
    lr = torch.rand(2, 3, 5, 6)
    with torch.no_grad():
        sr, intermediate = g(lr, intermediate=True)
    assert intermediate.shape == (2, 2, 3, 20, 24)
    chroma = upscale_bicubic(to_ycbcr(lr)[:, 1:], 4)
    for image in (sr, *intermediate):
        torch.testing.assert_close(to_ycbcr(image)[:, 1:], chroma, rtol=0, atol=1e-6)


# --- RCAN ---------------------------------------------------------------------------------------------------


def test_channel_attention_weights_channels_by_all_their_means() -> None:
    torch.manual_seed(0)
    block = srzoo.create("block", "channel_attention", channels=8, reduction=2)
    w = dict(block.named_parameters())
    x = torch.randn(2, 8, 6, 5)
    residual = F.conv2d(x, w["body.0.weight"], w["body.0.bias"], padding=1).relu()
    residual = F.conv2d(residual, w["body.2.weight"], w["body.2.bias"], padding=1)
    means = residual.mean((2, 3))
    hidden = (means @ w["body.3.squeeze.weight"][:, :, 0, 0].T + w["body.3.squeeze.bias"]).relu()
    factor = torch.sigmoid(hidden @ w["body.3.excite.weight"][:, :, 0, 0].T + w["body.3.excite.bias"])
    assert hidden.shape == (2, 4)
    torch.testing.assert_close(block(x), x + residual * factor[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_a_residual_group_takes_any_block_and_has_rcans_by_default() -> None:
    default = srzoo.create("block", "residual_group", channels=16, num_blocks=2)
    assert [type(layer).__name__ for layer in default.body] == ["ChannelAttentionBlock"] * 2 + ["Conv2d"]
    group = srzoo.create("block", "residual_group", channels=8, num_blocks=3, block={"name": "rrdb", "growth": 4})
    assert [type(layer).__name__ for layer in group.body] == ["RRDB"] * 3 + ["Conv2d"]
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(group(x), x + group.body(x))


def test_a_mistake_within_a_residual_group_is_named() -> None:
    with pytest.raises(srzoo.SrzooError, match="Did you mean 'reduction'"):
        srzoo.create_generator(
            "rcan-x4", block={"name": "residual_group", "block": {"name": "channel_attention", "reducton": 8}}
        )


# --- EnhanceNet ---------------------------------------------------------------------------------------------


def test_enhancenet_has_the_papers_layers() -> None:
    """Table 1 written out with plain functions; ReLU throughout."""
    g = srzoo.create_generator("enhancenet-e-x4", num_blocks=2, num_features=8).eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    lr = torch.rand(1, 3, 7, 9)
    x = conv(lr, "head.0").relu()
    for i in range(2):
        x = x + conv(conv(x, f"blocks.{i}.body.0").relu(), f"blocks.{i}.body.3")
    for i in range(2):
        x = conv(F.interpolate(x, scale_factor=2, mode="nearest"), f"upsampler.convs.{i}").relu()
    expected = conv(conv(x, "hr_conv.0").relu(), "tail") + upscale_bicubic(lr, 4)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)


def test_enhancenets_discriminator_has_the_papers_layers() -> None:
    d = srzoo.create("discriminator", "enhancenet", input_size=128)
    convs = [layer for layer in d.features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convs] == [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.stride[0] for layer in convs] == [1, 2] * 5
    assert d.classifier[1].in_features == 512 * 4 * 4
    with pytest.raises(ValueError, match="128x128"):
        d(torch.rand(1, 3, 64, 64))


def test_features_of_mean_one_make_a_loss_blind_to_their_scale() -> None:
    """Sec. 5.3; a backbone whose features are ten times as large then gives the same losses."""
    sr, hr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    for name in ("perceptual", "texture"):
        torch.manual_seed(0)
        loss = srzoo.create(
            "loss", name, extractor={"name": "vgg19", "pretrained": False}, layers={"relu1_1": 1.0}, normalise="mean"
        )
        with torch.no_grad():
            before = loss(sr, hr)
            first = loss.extractor.features[0]
            first.weight.mul_(10)
            first.bias.mul_(10)
            torch.testing.assert_close(loss(sr, hr), before)


# --- internal patches ---------------------------------------------------------------------------------------


def test_internal_patches_find_detail_that_recurs_in_the_image() -> None:
    """A grating that gets finer from left to right has its fine bars' detail elsewhere, at another scale."""
    x = torch.linspace(0, 1, 192)
    hr = (0.5 + 0.4 * torch.sign(torch.sin(40 * x + 60 * x**2))).expand(1, 3, 96, 192)
    lr = to_tensor(downscale_bicubic(to_uint8(hr), 2))
    error = {}
    for name in ("internal_patches", "bicubic"):
        sr = srzoo.create("generator", name, scale=2)(lr)
        error[name] = (sr - hr)[..., 4:-4, 4:-4].square().mean().item()
    assert error["internal_patches"] < 0.75 * error["bicubic"]


def test_internal_patches_agree_with_the_input_when_shrunk() -> None:
    lr = torch.rand(1, 3, 12, 14) * 0.8 + 0.1
    sr = srzoo.create("generator", "internal_patches", scale=4)(lr)
    shrunk = F.interpolate(luma(sr), size=(12, 14), mode="bicubic", antialias=True)
    assert (shrunk - luma(lr)).abs().mean() < 0.25 * 4 / 255


def test_internal_patches_stand_where_the_docs_say_against_published_scores(data_root: Path) -> None:
    """Per-image scores as MATLAB computed them: ahead of Glasner's method, behind SelfExSR but for the butterfly."""
    published: dict[tuple[str, str], float] = {}
    with open(data_root / "reference" / "selfexsr_x4.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == "set5":
                published[row["method"], row["image"]] = float(row["psnr_y"])
    generator = srzoo.create("generator", "internal_patches", scale=4)
    metric = srzoo.create("metric", "psnr")
    for image, distance in {"002": -0.8, "003": 0.3, "005": -0.5}.items():
        lr, hr = (to_tensor(read_rgb(data_root / "set5" / folder / f"{image}.png")[0]) for folder in ("LR_x4", "HR"))
        y = [(luma(x) * 255).round()[..., 4:-4, 4:-4].double() / 255 for x in (to_tensor(to_uint8(generator(lr))), hr)]
        found = metric(*y).item()
        assert found > published["glasner", image] + 0.9
        assert found - published["selfexsr", image] == pytest.approx(distance, abs=0.1)
