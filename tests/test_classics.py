"""The networks before and beside SRGAN: their layers, counts and colour handling against their papers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import srzoo
from srzoo.colour import to_rgb, to_ycbcr, with_bicubic_chroma
from srzoo.compose import build_generator
from srzoo.errors import CompositionError
from srzoo.images import luma, upscale_bicubic
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
    ],
)
def test_parameter_counts_equal_the_papers(entry: str, options: dict, parameters: int, source: str) -> None:
    assert count(entry, **options) == parameters, source


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
    g = srzoo.create_generator("srcnn-x4", channels="rgb", init="default").eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str, pad: int) -> torch.Tensor:
        return F.conv2d(F.pad(x, (pad,) * 4, mode="replicate"), w[f"{name}.weight"], w[f"{name}.bias"])

    lr = torch.rand(1, 3, 7, 9)
    x = conv(upscale_bicubic(lr, 4), "extract", 4).relu()
    expected = conv(conv(x, "map", 2).relu(), "reconstruct", 2)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)
    assert [tuple(w[f"{n}.weight"].shape[:3]) for n in ("extract", "map", "reconstruct")] == [
        (64, 3, 9),
        (32, 64, 5),
        (3, 32, 5),
    ]


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
    x = torch.tanh(F.conv2d(lr, w["body.0.weight"], w["body.0.bias"], padding=2))
    x = torch.tanh(F.conv2d(x, w["body.2.weight"], w["body.2.bias"], padding=1))
    x = F.conv2d(x, w["reconstruct.weight"], w["reconstruct.bias"], padding=1)  # (1, 48, 7, 9)
    expected = x.view(1, 3, 4, 4, 7, 9).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 28, 36)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry", ["srcnn-x4", "espcn-x4"])
@pytest.mark.parametrize("bad", [{"kernel_sizes": [9, 2, 5]}, {"num_features": [64, 0]}])
def test_impossible_options_are_refused(entry: str, bad: dict) -> None:
    with pytest.raises(CompositionError, match=next(iter(bad))):
        srzoo.create_generator(entry, **bad)
