"""Upscaling of pictures of every kind, and running generators on images of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import srzoo
from srzoo.entry import ComponentRef, Entry
from srzoo.errors import DataError, InputError, PluginError, SrzooError, UnknownNameError
from srzoo.images import Picture, upscale_bicubic, write_picture
from srzoo.inference import prepare, run_generator
from srzoo.pretrained import Model, load_model
from srzoo.upscaling import upscale, upscale_picture

torch.set_num_threads(1)

HEIGHT, WIDTH = 9, 7


def noise(channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def repeated(image: np.ndarray, scale: int = 4) -> np.ndarray:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def model_of(generator: nn.Module, scale: int = 4, size_multiple: int = 1) -> Model:
    entry = Entry(name="mine", summary="mine", scale=scale, generator=ComponentRef(name="nearest"))
    return Model("mine", entry, generator, size_multiple)


# --- in and out -----------------------------------------------------------------------------------------------


def test_array_gives_an_array() -> None:
    result = upscale(noise(), "nearest")
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, repeated(noise()))


def test_grey_array_gives_a_grey_array() -> None:
    grey = noise()[..., 0]
    result = upscale(grey, "nearest")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, grey.repeat(4, 0).repeat(4, 1))


def test_tensor_gives_a_clamped_tensor_of_every_image_in_the_batch() -> None:
    batch = torch.rand(3, 3, HEIGHT, WIDTH)
    result = upscale(batch, "nearest")
    assert isinstance(result, torch.Tensor)
    torch.testing.assert_close(result, batch.repeat_interleave(4, 2).repeat_interleave(4, 3))
    overshooting = upscale(batch, model_of(Recorder(lambda x: x * 3 - 1)))
    assert (overshooting.min().item(), overshooting.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_tensor_of_another_floating_point_type_is_taken(dtype: torch.dtype) -> None:
    batch = torch.rand(1, 3, HEIGHT, WIDTH).to(dtype)
    torch.testing.assert_close(upscale(batch, "nearest")[..., ::4, ::4].to(dtype), batch)


def test_tensor_that_wants_gradients_is_taken_and_stays_as_it_is() -> None:
    batch = torch.rand(1, 3, HEIGHT, WIDTH, requires_grad=True)
    before = batch.detach().clone()
    assert not upscale(batch, "bicubic").requires_grad
    assert torch.equal(batch, before)


@pytest.mark.parametrize("kind", ["path", "string", "pil"])
def test_path_and_pil_image_give_a_pil_image(tmp_path: Path, kind: str) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.png")
    given: Any = {"path": tmp_path / "x.png", "string": str(tmp_path / "x.png"), "pil": Image.fromarray(noise())}[kind]
    result = upscale(given, "nearest")
    assert isinstance(result, Image.Image)
    assert result.mode == "RGB"
    assert result.size == (4 * WIDTH, 4 * HEIGHT)
    np.testing.assert_array_equal(np.asarray(result), repeated(noise()))


def test_srzoo_upscale_is_the_same_function() -> None:
    np.testing.assert_array_equal(srzoo.upscale(noise(), "nearest"), repeated(noise()))


def test_turned_and_read_only_arrays_are_taken() -> None:
    fixed = noise()
    fixed.flags.writeable = False
    for view in (
        noise()[::-1],
        noise()[:, ::-1],
        np.rot90(noise()),
        noise()[::2, 1:5],
        np.asfortranarray(noise()),
        fixed,
    ):
        np.testing.assert_array_equal(upscale(view, "nearest"), repeated(view))


def test_one_pixel_is_enough() -> None:
    for entry in ("nearest", "bicubic"):
        assert (upscale(np.full((1, 1, 3), 200, np.uint8), entry) == np.full((4, 4, 3), 200)).all()


# --- grey, alpha, 16 bits, orientation ------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "pil"])
def test_grey_stays_grey(tmp_path: Path, source: str) -> None:
    image = Image.fromarray(noise(1))
    image.save(tmp_path / "x.png")
    result = upscale(tmp_path / "x.png" if source == "file" else image, "nearest")
    assert result.mode == "L"
    np.testing.assert_array_equal(np.asarray(result), repeated(noise(1)))


def test_grey_output_is_the_mean_of_a_generators_nearly_equal_channels() -> None:
    tint = torch.tensor([0.0, 3.0, 6.0]).view(1, 3, 1, 1) / 255
    grey = Picture(np.full((4, 5, 3), 100, np.uint8), grey=True)
    result = upscale_picture(model_of(Recorder(lambda x: x + tint)), grey)
    assert result.grey
    assert (result.rgb == 103).all()


def test_opacity_is_enlarged_bicubically(tmp_path: Path) -> None:
    alpha = noise(1, seed=1)
    result = upscale_picture(load_model("nearest"), Picture(noise(), alpha=alpha))
    expected = upscale_bicubic(torch.from_numpy(alpha)[None, None] / 255, 4)[0, 0].mul(255).round()
    np.testing.assert_array_equal(result.alpha, expected.numpy())
    np.testing.assert_array_equal(result.rgb, repeated(noise()))
    write_picture(result, tmp_path / "x.png")
    assert upscale_picture(load_model("nearest"), Picture(noise())).alpha is None


@pytest.mark.parametrize("source", ["file", "pil"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept(tmp_path: Path, source: str, mode: str) -> None:
    colours = noise() if mode == "RGBA" else noise(1)
    image = Image.fromarray(np.dstack([colours, noise(1, seed=1)]))
    assert image.mode == mode
    image.save(tmp_path / "x.png")
    result = upscale(tmp_path / "x.png" if source == "file" else image, "nearest")
    assert result.mode == mode
    pixels = np.asarray(result)
    np.testing.assert_array_equal(pixels[..., :-1].squeeze(), repeated(colours))
    expected = upscale_picture(load_model("nearest"), Picture(noise(), alpha=noise(1, seed=1))).alpha
    np.testing.assert_array_equal(pixels[..., -1], expected)


@pytest.mark.parametrize("source", ["file", "pil"])
def test_sixteen_bit_grey_stays_sixteen_bit(tmp_path: Path, source: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    image = Image.fromarray(values)
    assert image.mode.startswith("I;16")
    image.save(tmp_path / "x.png")
    result = upscale(tmp_path / "x.png" if source == "file" else image, "nearest")
    assert result.mode.startswith("I;16")
    np.testing.assert_array_equal(np.asarray(result), repeated(values))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_arrays_stay_sixteen_bit(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    values = values if channels == 3 else values[..., 0]
    result = upscale(values, "nearest")
    assert result.dtype == np.uint16
    assert result.flags.writeable
    np.testing.assert_array_equal(result, repeated(values))


def test_pil_images_carry_exif_and_profile(tmp_path: Path) -> None:
    icc = bytes(16) + b"RGB " + bytes(200)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    Image.fromarray(noise()).save(tmp_path / "x.jpg", exif=exif, icc_profile=icc)
    result = upscale(tmp_path / "x.jpg", "nearest")
    assert result.info["icc_profile"] == icc
    assert result.getexif()[0x010F] == "A camera"
    assert 0x0112 not in result.getexif()


@pytest.mark.parametrize("source", ["file", "pil"])
def test_exif_orientation_is_applied(tmp_path: Path, source: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(tmp_path / "x.png", exif=exif)
    if source == "file":
        result = upscale(tmp_path / "x.png", "nearest")
    else:
        with Image.open(tmp_path / "x.png") as image:
            result = upscale(image, "nearest")
    np.testing.assert_array_equal(np.asarray(result), repeated(np.rot90(noise(), -1)))


def test_palette_image_is_expanded() -> None:
    image = Image.fromarray(noise()).quantize(8)
    np.testing.assert_array_equal(np.asarray(upscale(image, "nearest")), repeated(np.asarray(image.convert("RGB"))))


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        noise()[..., :1],
        noise(4),
        noise().transpose(2, 0, 1),
        noise() / 255,
        noise().astype(np.int64),
        noise()[None],
        noise()[:0],
        noise()[:, :0],
    ],
    ids=["1 channel", "4 channels", "CHW", "float", "int64", "batch", "no rows", "no columns"],
)
def test_array_of_the_wrong_shape_or_type_is_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"an array must be \(H, W, 3\) or \(H, W\), uint8"):
        upscale(image, "bicubic")


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, HEIGHT, WIDTH),
        torch.rand(1, 1, HEIGHT, WIDTH),
        torch.rand(1, HEIGHT, WIDTH, 3),
        torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.complex64),
        torch.rand(1, 3, 0, WIDTH),
        torch.rand(1, 3, HEIGHT, 0),
    ],
    ids=["3-D", "grey", "NHWC", "uint8", "complex", "no rows", "no columns"],
)
def test_tensor_of_the_wrong_shape_or_type_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"a tensor must be \(N, 3, H, W\)"):
        upscale(image, "bicubic")


@pytest.mark.parametrize("image", [None, 3, b"x.png", [[1, 2, 3]], object()], ids=lambda i: type(i).__name__)
def test_anything_else_is_refused(image: Any) -> None:
    with pytest.raises(InputError, match=f"a path, a PIL image, an array or a tensor, not {type(image).__name__}"):
        upscale(image, "nearest")


def test_missing_picture_and_unknown_entry_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image .*nowhere\.png"):
        upscale(tmp_path / "nowhere.png", "nearest")
    with pytest.raises(UnknownNameError, match="Did you mean 'bicubic'"):
        upscale(noise(), "bicubik")
    with pytest.raises(SrzooError, match=r"nowhere\.safetensors"):
        upscale(noise(), tmp_path / "nowhere.safetensors")


# --- whole images of any size ---------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Nearest-neighbour x4 after a function; remembers its inputs and insists on a multiple."""

    def __init__(self, function: Any = lambda x: x, multiple: int = 1, scale: int = 4) -> None:
        super().__init__()
        self.function, self.multiple, self.scale = function, multiple, scale
        self.inputs: list[torch.Tensor] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        assert lr.shape[2] % self.multiple == 0 and lr.shape[3] % self.multiple == 0, lr.shape
        self.inputs.append(lr)
        return F.interpolate(self.function(lr), scale_factor=self.scale)


@pytest.mark.parametrize("size", [(8, 16), (9, 7), (1, 1), (15, 8), (8, 17)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_input_is_padded_to_the_generators_multiple_and_the_output_cut(size: tuple[int, int], scale: int) -> None:
    generator = Recorder(multiple=8, scale=scale)
    lr = torch.rand(2, 3, *size)
    sr = run_generator(generator, lr, scale, size_multiple=8)
    torch.testing.assert_close(sr, lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3))
    (seen,) = generator.inputs
    assert seen.shape[-2:] == tuple(-(-side // 8) * 8 for side in size)
    assert torch.equal(seen[..., : size[0], : size[1]], lr)
    edge = lr[..., -1:, -1:].expand(2, 3, seen.shape[2] - size[0] + 1, seen.shape[3] - size[1] + 1)
    assert torch.equal(seen[..., size[0] - 1 :, size[1] - 1 :], edge)  # replicated, not zero


def test_multiple_reaches_upscale_through_the_model() -> None:
    generator = Recorder(multiple=8)
    np.testing.assert_array_equal(upscale(noise(), model_of(generator, size_multiple=8)), repeated(noise()))
    with pytest.raises(PluginError, match="AssertionError"):
        upscale(noise(), model_of(generator, size_multiple=1))


def test_output_is_float32_and_not_clamped_whatever_the_generator_computes_in() -> None:
    class Half(nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.dtype == torch.bfloat16
            return image * 2

    sr = run_generator(Half(3, 3, 1).bfloat16(), torch.ones(1, 3, 4, 4), scale=1)
    assert sr.dtype == torch.float32
    assert (sr == 2).all()


def test_prepared_generator_does_not_train() -> None:
    generator = prepare(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)), "cpu")
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    first = run_generator(generator, torch.rand(1, 3, 5, 5), scale=1)
    assert not first.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


# --- interpolation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_nearest_repeats_every_pixel(scale: int) -> None:
    lr = torch.rand(2, 3, HEIGHT, WIDTH)
    sr = srzoo.create("generator", "nearest", scale=scale)(lr)
    np.testing.assert_array_equal(sr.numpy(), lr.numpy().repeat(scale, axis=2).repeat(scale, axis=3))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_bicubic_of_a_constant_is_that_constant(scale: int, level: int) -> None:
    generator = srzoo.create("generator", "bicubic", scale=scale)
    result = upscale(np.full((HEIGHT, WIDTH, 3), level, np.uint8), model_of(generator, scale))
    assert result.shape == (HEIGHT * scale, WIDTH * scale, 3)
    assert (result == level).all()


def test_bicubic_never_wraps_around_at_an_edge() -> None:
    step = np.zeros((8, 8, 3), np.uint8)
    step[:, 4:] = 255
    result = upscale(step, "bicubic").astype(int)
    assert (np.diff(result[..., 0], axis=1) >= -20).all()  # undershoot is clamped, not 250
    assert result[:, :12].max() < 128
    assert result[:, 20:].min() > 128
