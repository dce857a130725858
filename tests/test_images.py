"""Reading and writing of images, and the resampling, rounding and colour arithmetic that scores depend on."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image

from srzoo.data import load_image_set
from srzoo.errors import DataError, UpscaleWarning
from srzoo.images import (
    Picture,
    check_writable,
    crop_to_multiple,
    downscale_bicubic,
    luma,
    picture_from_pil,
    read_picture,
    read_rgb,
    round_picture,
    round_to_uint8,
    to_tensor,
    to_uint8,
    upscale_bicubic,
    write_picture,
)

torch.set_num_threads(1)

HEIGHT, WIDTH = 12, 10
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # PNG colour types


def noise(channels: int = 3, seed: int = 0, levels: int = 256) -> np.ndarray:
    dtype = np.uint8 if levels <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, levels, (HEIGHT, WIDTH, channels)).astype(dtype)


def smooth() -> np.ndarray:
    y, x = np.mgrid[0:48, 0:40]
    return np.dstack([80 + y, 90 + x, 100 + (x + y) // 2]).astype(np.uint8)


def grey_picture(values: np.ndarray, alpha: np.ndarray | None = None) -> Picture:
    return Picture(np.repeat(values[..., None], 3, axis=2), grey=True, alpha=alpha)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(pixels: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG of (H, W, C), which Pillow cannot write for C > 1."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png16_of(rows, width, height, colour_type, extra)


def png16_of(rows: bytes, width: int, height: int, colour_type: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG of rows that each start with the number of their filter."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rounded(values: np.ndarray) -> np.ndarray:
    """16 bits to 8: 65535 is 255, so the nearest level of v / 257."""
    return np.rint(values / 257).astype(np.uint8)


def read_unless_refused(path: Path) -> Picture | None:
    """The picture, or None if it is refused by a DataError that names the file; nothing else may be raised."""
    try:
        return read_picture(path)
    except DataError as error:
        message = str(error)
    assert path.name in message
    return None


# --- what can be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str, grey: bool) -> None:
    picture = grey_picture(noise()[..., 0]) if grey else Picture(noise())
    write_picture(picture, tmp_path / f"x{suffix}")
    again = read_picture(tmp_path / f"x{suffix}")
    assert again.grey is grey
    assert again.alpha is None
    assert not again.sixteen_bit
    np.testing.assert_array_equal(again.rgb, picture.rgb)
    assert os.listdir(tmp_path) == [f"x{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_transparency_comes_back_exactly(tmp_path: Path, suffix: str, grey: bool) -> None:
    alpha = noise(1, seed=1)[..., 0]
    picture = grey_picture(noise()[..., 0], alpha) if grey else Picture(noise(), alpha=alpha)
    write_picture(picture, tmp_path / f"x{suffix}")
    again = read_picture(tmp_path / f"x{suffix}")
    assert again.grey is grey
    np.testing.assert_array_equal(again.alpha, alpha)
    np.testing.assert_array_equal(again.rgb, picture.rgb)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    write_picture(Picture(smooth()), tmp_path / f"x{suffix}")
    again = read_picture(tmp_path / f"x{suffix}")
    assert again.rgb.shape == smooth().shape
    assert np.abs(again.rgb.astype(int) - smooth()).max() <= 6


def test_grey_jpeg_is_grey(tmp_path: Path) -> None:
    write_picture(grey_picture(smooth()[..., 0]), tmp_path / "x.jpg")
    again = read_picture(tmp_path / "x.jpg")
    assert again.grey
    assert (again.rgb == again.rgb[..., :1]).all()


def test_one_bit_image_is_grey_with_black_and_white(tmp_path: Path) -> None:
    bits = noise()[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 1], bits * np.uint8(255))


def test_colour_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray(noise(1, levels=4)[..., 0], mode="P")
    colours = np.array([[255, 0, 0], [0, 200, 0], [1, 2, 3], [9, 9, 9]], np.uint8)
    image.putpalette(colours.ravel().tolist())
    image.save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert not picture.grey
    np.testing.assert_array_equal(picture.rgb, colours[noise(1, levels=4)[..., 0]])


def test_palette_of_greys_is_a_grey_image(tmp_path: Path) -> None:
    image = Image.fromarray(noise(1, levels=3)[..., 0], mode="P")
    image.putpalette([200, 200, 200, 10, 10, 10, 77, 77, 77, 255, 0, 0])  # the red is not used
    image.save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 0], np.array([200, 10, 77], np.uint8)[noise(1, levels=3)[..., 0]])


def test_transparent_palette_entry_becomes_opacity(tmp_path: Path) -> None:
    index = noise(1, levels=2)[..., 0]
    image = Image.fromarray(index, mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "x.png", transparency=1)
    picture = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(picture.alpha, np.where(index == 1, 0, 255))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_fully_opaque_alpha_counts_as_none(tmp_path: Path, mode: str) -> None:
    Image.fromarray(noise()).convert(mode).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert picture.alpha is None
    assert picture.grey is (mode == "LA")
    read_rgb(tmp_path / "x.png")


def test_transparent_image_is_refused_for_training_and_scoring(tmp_path: Path) -> None:
    write_picture(Picture(noise(), alpha=noise(1, seed=1)[..., 0]), tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png has transparent pixels.*flatten"):
        read_rgb(tmp_path / "x.png")


# --- sixteen bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_rounded_not_cut(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 255, 32767, 32768, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"x{suffix}")
    picture = read_picture(tmp_path / f"x{suffix}")
    assert picture.sixteen_bit
    assert picture.grey
    assert picture.rgb[0, :, 2].tolist() == [0, 0, 1, 1, 127, 128, 254, 255, 255]


@pytest.mark.parametrize(("channels", "colour_type"), [(1, GREY), (3, RGB), (2, GREY_ALPHA), (4, RGBA)])
def test_sixteen_bit_png_is_rounded_in_every_channel(tmp_path: Path, channels: int, colour_type: int) -> None:
    values = noise(channels, levels=65536)
    (tmp_path / "x.png").write_bytes(png16(values, colour_type))
    picture = read_picture(tmp_path / "x.png")
    assert picture.sixteen_bit
    assert picture.grey is (channels <= 2)
    expected = rounded(values)
    colours = expected[..., [0, 0, 0]] if channels <= 2 else expected[..., :3]
    np.testing.assert_array_equal(picture.rgb, colours)
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, expected[..., -1])
    else:
        assert picture.alpha is None


def unfiltered(rows: np.ndarray, distance: int) -> np.ndarray:
    """The five filters of PNG undone byte by byte, as its specification has them (sec. 9.2)."""
    pixels = np.zeros((len(rows) + 1, rows.shape[1] - 1 + distance), int)  # a row and a pixel of zeros before
    for y, (kind, *values) in enumerate(rows.tolist(), start=1):
        for x, value in enumerate(values, start=distance):
            left, up, corner = pixels[y, x - distance], pixels[y - 1, x], pixels[y - 1, x - distance]
            paeth = min((left, up, corner), key=lambda p: abs(left + up - corner - p))
            pixels[y, x] = (value + (0, left, up, (left + up) // 2, paeth)[kind]) % 256
    return pixels[1:, distance:].astype(np.uint8)


@pytest.mark.parametrize(("channels", "colour_type"), [(1, GREY), (3, RGB), (2, GREY_ALPHA), (4, RGBA)])
def test_sixteen_bit_png_with_every_filter(tmp_path: Path, channels: int, colour_type: int) -> None:
    distance = 2 * channels
    rows = np.random.default_rng(0).integers(0, 256, (HEIGHT, 1 + WIDTH * distance)).astype(np.uint8)
    rows[:, 0] = np.arange(HEIGHT) % 5
    (tmp_path / "x.png").write_bytes(png16_of(rows.tobytes(), WIDTH, HEIGHT, colour_type))
    values = unfiltered(rows, distance).view(">u2").reshape(HEIGHT, WIDTH, channels)
    picture = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(picture.rgb[..., 0], rounded(values)[..., 0])
    if channels > 2:
        np.testing.assert_array_equal(picture.rgb, rounded(values)[..., :3])


@pytest.mark.parametrize(("channels", "colour_type"), [(1, GREY), (3, RGB)])
def test_transparent_colour_of_a_sixteen_bit_png_is_not_lost(tmp_path: Path, channels: int, colour_type: int) -> None:
    values = noise(channels, levels=65536)
    key = chunk(b"tRNS", values[0, 0].astype(">u2").tobytes())
    (tmp_path / "x.png").write_bytes(png16(values, colour_type, key))
    picture = read_unless_refused(tmp_path / "x.png")
    if picture is not None:
        assert picture.alpha is not None
        assert picture.alpha[0, 0] == 0
        assert picture.alpha[5, 5] == 255


def test_sixteen_bit_colour_tiff_is_rounded_or_refused(tmp_path: Path) -> None:
    values = noise(3, levels=65536)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    picture = read_unless_refused(tmp_path / "x.tif")
    if picture is not None:
        assert picture.sixteen_bit
        np.testing.assert_array_equal(picture.rgb, rounded(values))


# --- orientation ----------------------------------------------------------------------------------------------

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation to how the stored pixels are shown
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise()).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png").rgb, UPRIGHT[orientation](noise()))


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_orientation_is_applied_to_sixteen_bit_png(tmp_path: Path, orientation: int) -> None:
    tiff = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    values = noise(3, levels=65536)
    (tmp_path / "x.png").write_bytes(png16(values, RGB, chunk(b"eXIf", tiff)))
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png").rgb, UPRIGHT[orientation](rounded(values)))


def test_exif_orientation_is_applied_to_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth()).save(tmp_path / "x.jpg", quality=95, exif=exif)
    upright = np.rot90(smooth(), -1).astype(int)
    again = read_picture(tmp_path / "x.jpg").rgb
    assert again.shape == upright.shape
    assert np.abs(again - upright).max() <= 6


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mode"), [("x.tif", "CMYK"), ("x.tif", "LAB"), ("x.tif", "YCbCr")])
def test_colour_modes_without_one_meaning_are_refused_by_name(tmp_path: Path, name: str, mode: str) -> None:
    Image.fromarray(noise()).convert(mode).save(tmp_path / name)
    # Pillow before 13 cannot read back the YCbCr TIFF that it writes, and says that it is cut short.
    with pytest.raises(DataError, match=rf"{name} is (in colour mode {mode}; convert it to RGB|damaged)"):
        read_picture(tmp_path / name)


def test_cmyk_jpeg_is_converted_or_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    picture = read_unless_refused(tmp_path / "x.jpg")
    if picture is not None:
        assert np.abs(picture.rgb.astype(int) - smooth()).max() <= 12


def test_floating_point_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise()[..., 0].astype(np.float32) / 255).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif holds floating-point values"):
        read_picture(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_images_in_one_file_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"x{suffix} holds 3 images"):
        read_picture(tmp_path / f"x{suffix}")


def test_what_is_no_image_is_a_data_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    for name in ("empty.png", "text.png", "folder.png", "missing.png", "no_folder/x.png"):
        with pytest.raises(DataError, match=name):
            read_picture(tmp_path / name)


def test_a_pixel_bomb_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(DataError, match=r"x\.png is too large"):
        read_picture(tmp_path / "x.png")


# --- damage ---------------------------------------------------------------------------------------------------


def samples(folder: Path) -> dict[str, bytes]:
    """One small file of every kind, as bytes."""
    image = Image.fromarray(smooth())
    image.save(folder / "rgb.png")
    image.quantize(16).save(folder / "palette.png")
    image.save(folder / "photo.jpg", quality=95)
    image.save(folder / "progressive.jpg", quality=95, progressive=True)
    image.save(folder / "x.webp", quality=95)
    image.save(folder / "x.tif", compression="tiff_deflate")
    image.save(folder / "x.bmp")
    (folder / "deep.png").write_bytes(png16(noise(3, levels=65536), RGB))
    (folder / "deep_grey.png").write_bytes(png16(noise(1, levels=65536), GREY))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_short_is_a_data_error_and_never_wrong_pixels(tmp_path: Path) -> None:
    for name, content in samples(tmp_path).items():
        whole = read_picture(tmp_path / name).rgb
        cuts = sorted({*range(0, len(content), max(1, len(content) // 60)), *range(len(content) - 24, len(content))})
        refused = 0
        for cut in cuts:
            (tmp_path / name).write_bytes(content[:cut])
            found = read_unless_refused(tmp_path / name)
            if found is None:
                refused += 1
            else:  # only what follows the pixels may be missing
                assert cut >= len(content) - 24, (name, cut)
                np.testing.assert_array_equal(found.rgb, whole)
        assert refused >= len(cuts) - 24


@pytest.mark.filterwarnings("ignore")
def test_random_damage_raises_nothing_but_data_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for name, content in samples(tmp_path).items():
        if name == "deep.png":  # in a process of its own, below
            continue
        for _ in range(100):
            damaged = bytearray(content)
            for _ in range(random.integers(1, 4)):
                damaged[random.integers(min(len(damaged), 1000))] = random.integers(256)
            (tmp_path / name).write_bytes(damaged)
            refused += read_unless_refused(tmp_path / name) is None
    assert refused > 100


DAMAGE = """
import contextlib, sys, warnings, zlib
import numpy as np
from srzoo.errors import DataError
from srzoo.images import read_picture

warnings.simplefilter("ignore")
path, random = sys.argv[1], np.random.default_rng(1)
content = open(path, "rb").read()
start = content.index(b"IDAT")
end = start + 4 + int.from_bytes(content[start - 4 : start], "big")
for trial in range(300):
    damaged = bytearray(content)
    if trial == 0:
        damaged[end] ^= 1  # nothing but the checksum
    for _ in range(random.integers(1, 4) if trial else 0):
        damaged[random.integers(8, len(damaged))] = random.integers(256)
    if trial % 2:
        damaged[end : end + 4] = zlib.crc32(damaged[start:end]).to_bytes(4, "big")  # the checksum tells nothing
    open(path, "wb").write(damaged)
    with contextlib.suppress(DataError):
        read_picture(path)
print("survived")
"""


def test_damage_in_a_sixteen_bit_png_does_not_kill_the_process(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png16(noise(3, levels=65536), RGB))
    run = subprocess.run([sys.executable, "-c", DAMAGE, str(tmp_path / "x.png")], capture_output=True, text=True)
    assert run.returncode == 0, f"ended with {run.returncode}: {run.stderr[-300:]}"
    assert run.stdout == "survived\n"


# --- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp"])
def test_formats_without_transparency_refuse_it(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"x{suffix}: {suffix} cannot hold transparency; write a \.png"):
        write_picture(Picture(noise(), alpha=noise(1)[..., 0]), tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.gif", "x.xyz", "x"])
def test_unknown_format_is_refused_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: no format.*\.png, \.jpg"):
        write_picture(Picture(noise()), tmp_path / name)


def test_writing_into_a_missing_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot write .*no_folder.x\.png"):
        write_picture(Picture(noise()), tmp_path / "no_folder" / "x.png")


def test_an_image_too_large_for_its_format_is_a_data_error(tmp_path: Path) -> None:
    for name in ("x.webp", "x.jpg"):  # at most 16383 and 65500 pixels a side
        with pytest.raises(DataError, match=f"Cannot write .*{name}"):
            write_picture(Picture(np.zeros((1, 70000, 3), np.uint8)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["encoding", "renaming"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "x.png"
    write_picture(Picture(noise()), path)

    def full_disk(*arguments: object, **options: object) -> None:
        if failing == "encoding":
            Path(str(arguments[1])).write_bytes(b"half an image")
        raise OSError(28, "No space left on device")

    target = (Image.Image, "save") if failing == "encoding" else (os, "replace")
    monkeypatch.setattr(*target, full_disk)
    with pytest.raises(DataError, match=r"Cannot write .*x\.png.*No space left"):
        write_picture(Picture(noise(seed=1)), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    np.testing.assert_array_equal(read_picture(path).rgb, noise())


# --- rounding and colour --------------------------------------------------------------------------------------


def test_all_levels_survive_the_way_to_a_tensor_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = to_tensor(levels)
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == (0.0, 1.0)
    np.testing.assert_array_equal(to_uint8(tensor), levels)


def test_rounding_to_uint8_clamps_and_rounds_to_nearest_without_wrapping() -> None:
    values = torch.tensor(
        [-9.0, -0.004, 0.4 / 255, 0.6 / 255, 127.4 / 255, 127.6 / 255, 254.6 / 255, 1.004, 1.7, 300.0]
    )
    assert round_to_uint8(values).tolist() == [0, 0, 0, 1, 127, 128, 255, 255, 255, 255]
    assert round_to_uint8(values.double()).tolist() == [0, 0, 0, 1, 127, 128, 255, 255, 255, 255]


def test_to_uint8_keeps_channels_and_places() -> None:
    image = torch.rand(1, 3, 5, 7)
    pixels = to_uint8(image)
    assert pixels.shape == (5, 7, 3)
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels[4, 1, 2] == round(image[0, 2, 4, 1].item() * 255)


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((1, 1, 1), 235),  # limited range: full range would be 255
        ((0, 0, 0), 16),
        ((1, 0, 0), 16 + 65.481),
        ((0, 1, 0), 16 + 128.553),
        ((0, 0, 1), 16 + 24.966),
        ((0.5, 0.25, 0.75), 16 + 0.5 * 65.481 + 0.25 * 128.553 + 0.75 * 24.966),
    ],
)
def test_luma_is_bt601_in_limited_range(rgb: tuple[float, ...], y: float) -> None:
    result = luma(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1))
    assert result.shape == (1, 1, 1, 1)
    assert result.item() * 255 == pytest.approx(y, abs=1e-9)


def test_crop_to_multiple_cuts_bottom_and_right() -> None:
    image = noise()  # 12 x 10
    np.testing.assert_array_equal(crop_to_multiple(image, 4), image[:12, :8])
    np.testing.assert_array_equal(crop_to_multiple(image, 1), image)


# --- resampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["set5", "set14"])
def test_downscaling_reproduces_matlabs_files(data_root: Path, name: str) -> None:
    differing = total = 0
    for item in load_image_set(name):
        lr, hr, _ = item.read_pair(4)  # the shipped file, made by MATLAB
        difference = np.abs(downscale_bicubic(hr, 4).astype(int) - lr)
        assert difference.max() <= 1
        differing += int((difference > 0).sum())
        total += difference.size
    assert total > 1e5
    assert differing / total <= 0.0006


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_resampling_keeps_a_constant_and_has_the_right_size(scale: int) -> None:
    low = downscale_bicubic(np.full((24, 48, 3), 77, np.uint8), scale)
    assert low.shape == (24 // scale, 48 // scale, 3)
    assert (low == 77).all()
    high = upscale_bicubic(torch.full((2, 3, 5, 7), 0.3), scale)
    assert high.shape == (2, 3, 5 * scale, 7 * scale)
    torch.testing.assert_close(high, torch.full_like(high, 0.3))


def test_resampling_by_one_changes_nothing() -> None:
    np.testing.assert_array_equal(downscale_bicubic(noise(), 1), noise())
    torch.testing.assert_close(upscale_bicubic(to_tensor(noise()), 1), to_tensor(noise()))


def test_upscaling_uses_keys_kernel_with_a_of_minus_one_half() -> None:
    row = torch.full((1, 1, 1, 9), 0.5)
    row[..., 4] = 0.9
    found = (upscale_bicubic(row, 2)[0, 0, 0] - 0.5) / 0.4
    # w(1.75), w(1.25), w(0.75), w(0.25) of Keys' cubic, by hand; a = -0.75 (OpenCV) would give -0.0352, -0.1055, ...
    kernel = [-0.0234375, -0.0703125, 0.2265625, 0.8671875]
    torch.testing.assert_close(found[5:13], torch.tensor([*kernel, *reversed(kernel)]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[[0, 1, 2, 3, 4, 13, 14, 15, 16, 17]], torch.zeros(10), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_upscaling_mirrors_the_border_with_the_edge_sample_repeated(scale: int) -> None:
    image = torch.rand(1, 3, 9, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25  # clamping cannot hide it
    padded = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (6, 6), (6, 6)), mode="symmetric"))
    expected = upscale_bicubic(padded, scale)[..., 6 * scale : -6 * scale, 6 * scale : -6 * scale]
    found = upscale_bicubic(image, scale)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    unpadded = F.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
    assert (found - unpadded).abs().max() > 0.005


def test_upscaling_an_image_smaller_than_the_padding_works() -> None:
    assert torch.isfinite(upscale_bicubic(torch.rand(1, 3, 1, 2), 4)).all()


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (24, 33)])
def test_what_exporters_follow_computes_the_same(scale: int, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(lambda image: upscale_bicubic(image, scale), torch.rand(1, 3, 9, 8))
    torch.testing.assert_close(traced(images), upscale_bicubic(images, scale), atol=5e-6, rtol=0)


def test_upscaling_is_clamped_and_keeps_the_type() -> None:
    step = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    step[..., 4:] = 1
    high = upscale_bicubic(step, 4)
    assert high.dtype == torch.float64
    assert (high.min().item(), high.max().item()) == (0.0, 1.0)


def test_reading_warns_of_nothing_and_uses_no_deprecated_api(tmp_path: Path) -> None:
    write_picture(Picture(noise()), tmp_path / "x.png")
    (tmp_path / "deep.png").write_bytes(png16(noise(3, levels=65536), RGB))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("x.png", "deep.png"):
            to_tensor(read_rgb(tmp_path / name)[0])


# --- what is carried from file to file ------------------------------------------------------------------------


def profile(space: bytes, size: int = 600) -> bytes:
    """Bytes with the header of an ICC profile; nothing here looks at more."""
    return bytes(16) + space + np.random.default_rng(0).integers(0, 256, size).astype(np.uint8).tobytes()


def camera_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0131] = "A camera", orientation, "A program"
    exif.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0xA002: WIDTH, 0xA003: HEIGHT})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 15.0)})
    return exif


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_exif_and_profile_are_carried_and_orientation_and_size_are_not(
    tmp_path: Path, source: str, target: str
) -> None:
    exif = camera_exif(6).tobytes()  # Pillow writes an Exif object's folders into every format but TIFF
    Image.fromarray(noise()).save(tmp_path / f"x{source}", exif=exif, icc_profile=profile(b"RGB "))
    picture = read_picture(tmp_path / f"x{source}")
    assert picture.rgb.shape == (WIDTH, HEIGHT, 3)
    write_picture(picture, tmp_path / f"y{target}")
    with Image.open(tmp_path / f"y{target}") as written:
        found = written.getexif()
        assert written.info["icc_profile"] == profile(b"RGB ")
        assert found[0x010F] == "A camera"
        assert found.get(0x0112, 1) == 1
        assert found.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert found.get_ifd(0x8825)[2] == (47.0, 30.0, 15.0)
        assert (found.get_ifd(0x8769)[0xA002], found.get_ifd(0x8769)[0xA003]) == (HEIGHT, WIDTH), (
            "turned, so is the size"
        )
        assert written.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read_picture(tmp_path / f"y{target}").rgb.shape, picture.rgb.shape)


def test_a_tiff_without_exif_gives_none_of_its_layout_away(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.tif", compression="tiff_deflate")
    assert read_picture(tmp_path / "x.tif").exif == b""


def test_reading_leaves_a_pil_images_exif_alone(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.jpg", exif=camera_exif(6))
    with Image.open(tmp_path / "x.jpg") as image:
        picture_from_pil(image)
        assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("space", [b"GRAY", b"RGB ", b"CMYK"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_profile_for_other_channels_is_left_out_with_a_warning(tmp_path: Path, space: bytes, grey: bool) -> None:
    colours = grey_picture(noise()[..., 0]) if grey else Picture(noise())
    picture = replace(colours, icc=profile(space))
    if space == (b"GRAY" if grey else b"RGB "):
        write_picture(picture, tmp_path / "x.png")
        assert Image.open(tmp_path / "x.png").info["icc_profile"] == profile(space)
    else:
        with pytest.warns(UpscaleWarning, match=f"the {space.decode().strip()} colour profile does not fit"):
            write_picture(picture, tmp_path / "x.png")
        assert "icc_profile" not in Image.open(tmp_path / "x.png").info


def test_what_a_format_cannot_hold_is_left_out_with_a_warning(tmp_path: Path) -> None:
    exif = camera_exif()
    with pytest.warns(UpscaleWarning, match=r"x\.bmp: a \.bmp cannot hold EXIF or a colour profile"):
        write_picture(Picture(noise(), exif=exif.tobytes()), tmp_path / "x.bmp")
    exif[0x010E] = "long " * 20000
    with pytest.warns(UpscaleWarning, match=r"x\.jpg: EXIF of more than 64 KiB"):
        write_picture(Picture(noise(), exif=exif.tobytes()), tmp_path / "x.jpg")
    assert not Image.open(tmp_path / "x.jpg").getexif()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_takes_nothing_else_with_it(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage")
    picture = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(picture.rgb, noise())
    write_picture(picture, tmp_path / "y.png")


@pytest.mark.parametrize(("channels", "colour_type"), [(1, GREY), (3, RGB), (2, GREY_ALPHA), (4, RGBA)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bits_come_back_exactly_with_all_they_carry(
    tmp_path: Path, channels: int, colour_type: int, orientation: int
) -> None:
    values = noise(channels, levels=65536)
    icc, exif = profile(b"GRAY" if channels <= 2 else b"RGB "), camera_exif(orientation).tobytes()[6:]
    extra = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc)) + chunk(b"eXIf", exif)
    (tmp_path / "x.png").write_bytes(png16(values, colour_type, extra))
    picture = read_picture(tmp_path / "x.png", keep_depth=True)
    assert picture.rgb.dtype == np.uint16
    assert picture.sixteen_bit
    write_picture(picture, tmp_path / "y.png")
    shown = UPRIGHT[orientation](values)
    for again in (picture, read_picture(tmp_path / "y.png", keep_depth=True)):
        assert again.grey is (channels <= 2)
        np.testing.assert_array_equal(again.rgb, shown[..., [0, 0, 0] if channels <= 2 else [0, 1, 2]])
        assert (again.alpha is None) is (channels in (1, 3))
        if again.alpha is not None:
            np.testing.assert_array_equal(again.alpha, shown[..., -1])
    with Image.open(tmp_path / "y.png") as written:
        written.load()  # Pillow checks it as well
        assert written.info["icc_profile"] == icc
        assert written.getexif()[0x010F] == "A camera"
        assert 0x0112 not in written.getexif()
    both = read_picture(tmp_path / "x.png")
    assert both.rgb.dtype == np.uint8
    np.testing.assert_array_equal(round_picture(picture).rgb, both.rgb)
    if channels in (1, 3):
        np.testing.assert_array_equal(read_rgb(tmp_path / "x.png")[0], both.rgb)


def test_sixteen_bit_grey_comes_back_from_tiff(tmp_path: Path) -> None:
    values = noise(1, levels=65536)[..., 0]
    Image.fromarray(values).save(tmp_path / "x.tif", icc_profile=profile(b"GRAY"))
    picture = read_picture(tmp_path / "x.tif", keep_depth=True)
    write_picture(picture, tmp_path / "y.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "y.tif", keep_depth=True).rgb[..., 1], values)
    assert Image.open(tmp_path / "y.tif").info["icc_profile"] == profile(b"GRAY")


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".jpg", 1), (".webp", 3), (".tif", 3), (".bmp", 1), (".bmp", 3), (".jpg", 3)]
)
def test_sixteen_bits_are_rounded_with_a_warning_where_the_format_has_eight(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    values = noise(channels, levels=65536)
    picture = Picture(np.repeat(values, 3, axis=2)[..., :3] if channels == 1 else values, grey=channels == 1)
    with pytest.warns(UpscaleWarning, match=rf"x{suffix}: 16 bits a channel were rounded.*\.png keeps them"):
        write_picture(picture, tmp_path / f"x{suffix}")
    again = read_picture(tmp_path / f"x{suffix}", keep_depth=True)
    assert again.rgb.dtype == np.uint8
    assert again.grey is (channels == 1)
    if suffix in (".tif", ".bmp"):
        np.testing.assert_array_equal(again.rgb[..., 0], rounded(values[..., 0]))


def test_pictures_that_a_format_cannot_hold_are_refused_before_they_are_computed(tmp_path: Path) -> None:
    check_writable(tmp_path / "x.png", 100_000, 100_000, transparent=True)
    check_writable(tmp_path / "x.jpg", 65500, 65500, transparent=False)
    with pytest.raises(DataError, match=r"x\.webp: 16384x10 pixels are more than the 16383 a side"):
        check_writable(tmp_path / "x.webp", 16384, 10, transparent=False)
    with pytest.raises(DataError, match="cannot hold transparency"):
        check_writable(tmp_path / "x.jpg", 10, 10, transparent=True)
