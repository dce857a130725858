"""Images: reading, writing, and the resampling, rounding and colour arithmetic that scores depend on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError, UpscaleWarning
from .exif import exif_of, exif_of_size, icc_of, upright
from .files import replacing
from .png16 import read_png16, write_png16

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""File types that count as images in a folder."""

UInt8Array = NDArray[np.uint8]
Pixels = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        rgb: (H, W, 3) uint8, or uint16 where 16 bits a channel were asked for and are there; a grey image has its
            channel three times.
        grey: whether the file holds a grey image.
        alpha: (H, W) opacity of the same type, or None.
        sixteen_bit: whether the file holds more than 8 bits a channel; if ``rgb`` is uint8, they were rounded.
        exif: EXIF data as in a JPEG, without orientation, thumbnail, and what tells how the file stores its pixels.
        icc: ICC colour profile.
    """

    rgb: Pixels
    grey: bool = False
    alpha: Pixels | None = None
    sixteen_bit: bool = False
    exif: bytes = b""
    icc: bytes = b""


def read_picture(path: str | os.PathLike[str], keep_depth: bool = False) -> Picture:
    """Read PNG, JPEG, WebP, TIFF or BMP; EXIF rotation is applied, palettes are expanded.

    Args:
        keep_depth: return 16 bits a channel where the file holds them, instead of rounding to 8.

    Raises:
        DataError: the file is missing, damaged, or of a kind that cannot be read exactly.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            if _loses_its_low_byte(path, image):
                return _read_deep(path, image, keep_depth)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a phone's JPEG: the picture, then a preview or depth map
                raise DataError(f"{path} holds {frames} images; split it into files with one image each.")
            _check_mode(image, str(path))  # before decoding, which not every Pillow can do in these modes
            image.load()
            return picture_from_pil(image, str(path), keep_depth)
    except FileNotFoundError:
        raise DataError(f"There is no image {path}.") from None
    except UnidentifiedImageError:
        if path.suffix.lower() in SUFFIXES:
            raise DataError(f"{path} is no image in spite of its name, or its beginning is damaged.") from None
        raise DataError(f"{path} is not an image that can be read; use {', '.join(SUFFIXES)}.") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large: {error}.") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files: OSError, SyntaxError, struct.error, ...
        raise DataError(f"{path} is damaged or cut short: {error}. Copy or download it again.") from None


def picture_from_pil(image: Image.Image, name: str = "the image", keep_depth: bool = False) -> Picture:
    """Return a PIL image of any mode upright and as RGB. ``name`` stands for it in messages.

    Args:
        keep_depth: return 16-bit grey as uint16, instead of rounding to 8 bits.

    Raises:
        DataError: its values cannot be brought to 8-bit RGB exactly.
    """
    _check_mode(image, name)
    exif, icc = exif_of(image), icc_of(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535 or "transparency" in image.info:
            raise DataError(f"{name} has grey values outside 0..65535 or a transparent one; save it as 8-bit.")
        pixels = values.astype(np.uint16) if keep_depth else _to_uint8(values / 257)
        return Picture(_replicate(pixels), grey=True, sixteen_bit=True, exif=exif, icc=icc)
    grey = image.mode in ("1", "L", "LA", "La") or (image.mode == "P" and _grey_palette(image))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        alpha = np.ascontiguousarray(rgba[..., 3])
        rgb = np.ascontiguousarray(rgba[..., :3])
        return Picture(rgb, grey, None if (alpha == 255).all() else alpha, exif=exif, icc=icc)
    return Picture(np.array(image.convert("RGB")), grey, exif=exif, icc=icc)


def _check_mode(image: Image.Image, name: str) -> None:
    """Refuse modes whose values have no one meaning as RGB; in a JPEG, CMYK and YCbCr have one."""
    if image.mode == "F":
        raise DataError(f"{name} holds floating-point values, whose range is not known; save it as 8- or 16-bit.")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr") and image.format not in ("JPEG", "MPO"):
        raise DataError(f"{name} is in colour mode {image.mode}; convert it to RGB first.")


def picture_to_pil(picture: Picture) -> Image.Image:
    """Return a picture as a PIL image of mode L, LA, RGB, RGBA or, for opaque grey of 16 bits, I;16.

    Pillow has no other mode with 16 bits; those pictures are rounded to 8. ``info`` gets ``exif`` and ``icc_profile``.
    """
    if picture.rgb.dtype == np.uint16 and not _is_deep_grey(picture):
        picture = round_picture(picture)
    colour = picture.rgb[..., :1] if picture.grey else picture.rgb
    if picture.alpha is not None:
        colour = np.dstack([colour, picture.alpha])
    image = Image.fromarray(np.ascontiguousarray(colour[..., 0]) if colour.shape[2] == 1 else colour)
    image.info.update(_carried(picture))
    return image


def round_picture(picture: Picture) -> Picture:
    """Return a picture with 8 bits a channel, rounded to the nearest level."""
    if picture.rgb.dtype == np.uint8:
        return picture
    alpha = _to_uint8(picture.alpha / 257) if picture.alpha is not None else None
    if picture.grey:
        return replace(picture, rgb=_replicate(_to_uint8(picture.rgb[..., 0] / 257)), alpha=alpha)
    return replace(picture, rgb=_to_uint8(picture.rgb / 257), alpha=alpha)


def _is_deep_grey(picture: Picture) -> bool:
    return picture.rgb.dtype == np.uint16 and picture.grey and picture.alpha is None


def _carried(picture: Picture) -> dict[str, Any]:
    """Return what Pillow's writers take: EXIF with the picture's size, and the ICC profile if it fits the channels."""
    carried = {}
    if picture.exif:
        carried["exif"] = exif_of_size(picture.exif, picture.rgb.shape[1], picture.rgb.shape[0])
    if picture.icc[16:20] == (b"GRAY" if picture.grey else b"RGB "):  # ICC.1:2022, 7.2: the data colour space
        carried["icc_profile"] = picture.icc
    return carried


def _grey_palette(image: Image.Image) -> bool:
    palette = np.array(image.getpalette() or [0, 0, 0], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    used = used[used < len(palette)]
    return bool((palette[used] == palette[used][:, :1]).all())


def _loses_its_low_byte(path: Path, image: Image.Image) -> bool:
    """Whether a file holds 16 bits a channel that Pillow, which has them for opaque grey only, would cut to 8."""
    if image.mode not in ("RGB", "RGBA", "LA") and not (image.mode.startswith("I") and "transparency" in image.info):
        return False
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24] == 16
    bits = getattr(image, "tag_v2", {}).get(258, 8) if image.format == "TIFF" else 8
    return bool((max(bits) if isinstance(bits, tuple) else bits) > 8)


def _read_deep(path: Path, image: Image.Image, keep_depth: bool) -> Picture:
    if image.format != "PNG":
        raise DataError(f"{path} has 16 bits a channel in a {image.format}; save it as PNG or with 8 bits.")
    image.load()  # Pillow's own check of the whole file, and its metadata
    values = upright(read_png16(path), image)
    pixels: Pixels = values if keep_depth else _to_uint8(values / 257)
    channels = pixels.shape[2]
    alpha = np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None
    if alpha is not None and (alpha == np.iinfo(alpha.dtype).max).all():
        alpha = None
    rgb = _replicate(pixels[..., 0]) if channels <= 2 else np.ascontiguousarray(pixels[..., :3])
    return Picture(rgb, channels <= 2, alpha, True, exif_of(image), icc_of(image))


def _replicate(grey: Pixels) -> Pixels:
    return np.repeat(grey[..., None], 3, axis=2)


def _to_uint8(values: NDArray[np.float64]) -> UInt8Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def read_rgb(path: str | os.PathLike[str]) -> tuple[UInt8Array, bool]:
    """Read an image for training or scoring as ``(rgb, grey)``.

    Raises:
        DataError: as :func:`read_picture`; also if it has transparent pixels, which have no defined colour.
    """
    picture = read_picture(path)
    if picture.alpha is not None:
        raise DataError(f"{path} has transparent pixels, so its colours are not defined; flatten it onto a background.")
    assert picture.rgb.dtype == np.uint8
    return cast(UInt8Array, picture.rgb), picture.grey


_LOSSY = (".jpg", ".jpeg", ".webp")
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}


def check_writable(path: str | os.PathLike[str], width: int, height: int, transparent: bool) -> None:
    """Check that the format of a path's suffix can hold such a picture, before it is computed.

    Raises:
        DataError: the format is not known, cannot hold transparency, or not so many pixels a side.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: no format for {path.suffix or 'a name without suffix'}; use {', '.join(SUFFIXES)}.")
    if transparent and suffix in (".jpg", ".jpeg", ".bmp"):
        raise DataError(f"{path}: {path.suffix} cannot hold transparency; write a .png.")
    if max(width, height) > _LONGEST_SIDE.get(suffix, max(width, height)):
        raise DataError(
            f"Cannot write {path}: {width}x{height} pixels are more than the {_LONGEST_SIDE[suffix]} a side that "
            f"{path.suffix} can hold; write a .png."
        )


def write_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write an image whole or not at all, in the format of the path's suffix, with EXIF and ICC profile.

    16 bits a channel are kept in PNG, and for opaque grey in TIFF. What the file does not hold in the end (16 bits,
    a colour profile for other channels, EXIF in a BMP) is told by an ``UpscaleWarning``.

    Raises:
        DataError: the format is not known or cannot hold the image, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_writable(path, picture.rgb.shape[1], picture.rgb.shape[0], picture.alpha is not None)
    deep_png = picture.rgb.dtype == np.uint16 and suffix == ".png"
    if picture.rgb.dtype == np.uint16 and not deep_png and not (_is_deep_grey(picture) and suffix.startswith(".tif")):
        _warn(f"{path}: 16 bits a channel were rounded to the 8 that this {path.suffix} holds; a .png keeps them.")
        picture = round_picture(picture)
    carried = _carried(picture)
    if picture.icc and "icc_profile" not in carried:
        space = picture.icc[16:20].decode("ascii", "replace").strip()
        _warn(f"{path}: the {space} colour profile does not fit {'grey' if picture.grey else 'RGB'} and was left out.")
    if suffix == ".bmp" and carried:
        _warn(f"{path}: a .bmp cannot hold EXIF or a colour profile, which were left out; a .png keeps them.")
        carried = {}
    if suffix in (".jpg", ".jpeg") and len(carried.get("exif", b"")) > 65533:  # one segment of a JPEG
        _warn(f"{path}: EXIF of more than 64 KiB does not fit a {path.suffix} and was left out; a .png keeps it.")
        del carried["exif"]
    try:
        with replacing(path) as temporary:
            if deep_png:
                with open(temporary, "wb") as file:
                    colour = picture.rgb[..., :1] if picture.grey else picture.rgb
                    write_png16(file, colour, picture.alpha, carried.get("exif", b""), carried.get("icc_profile", b""))
            else:
                options: dict[str, Any] = {"quality": 95} if suffix in _LOSSY else {}
                form = Image.registered_extensions()[suffix]
                picture_to_pil(picture).save(temporary, form, **options, **carried)
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot write {path}: {error}.") from error


def _warn(message: str) -> None:
    warnings.warn(UpscaleWarning(message), stacklevel=3)


def to_tensor(rgb: UInt8Array) -> torch.Tensor:
    """Return (H, W, 3) uint8 as (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).unsqueeze(0).float().div_(255.0)


def to_uint8(image: torch.Tensor) -> UInt8Array:
    """Return (1, 3, H, W) in [0, 1] as (H, W, 3) uint8: clamped and rounded, as a saved file would be."""
    return round_to_uint8(image)[0].permute(1, 2, 0).contiguous().cpu().numpy()


def round_to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Return [0, 1] values as uint8, clamped and rounded to the nearest level."""
    return image.detach().float().mul(255.0).clamp(0, 255).round().to(torch.uint8)


def downscale_bicubic(rgb: UInt8Array, scale: int) -> UInt8Array:
    """Make a low-resolution image as MATLAB's ``imresize`` does on uint8: antialiased bicubic, Keys a = -0.5.

    Rows first, rounded between the two passes, then columns; against MATLAB's own files for Set5 and Set14, at
    most 0.06 % of the samples differ, by one level. ``PIL.Image.resize`` differs in 16 % of them.

    Args:
        rgb: (H, W, 3) with both sides multiples of the scale.
    """
    assert rgb.shape[0] % scale == 0 and rgb.shape[1] % scale == 0, "crop to a multiple of the scale first"
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1).unsqueeze(0).float()
    rows = _resize_axis(image, image.shape[2] // scale, axis=2, pad=4 * scale, padder=_pad_replicate)
    both = _resize_axis(
        rows.round().clamp(0, 255), image.shape[3] // scale, axis=3, pad=4 * scale, padder=_pad_replicate
    )
    return both.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()


def shrink_bicubic(rgb: UInt8Array, factor: float) -> UInt8Array:
    """Shrink (H, W, 3) uint8 by a factor of at most 1, each side rounded; antialiased bicubic, Keys a = -0.5."""
    if factor == 1:
        return rgb
    size = [max(1, round(side * factor)) for side in rgb.shape[:2]]
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1).unsqueeze(0).float()
    small = F.interpolate(image, size=size, mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()


def upscale_bicubic(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Enlarge (N, C, H, W) in [0, 1] as MATLAB's ``imresize`` does, within one grey level; clamped to [0, 1]."""
    result = image.float()
    for axis in (2, 3):
        if is_traced():
            result = _enlarge_axis(result, scale, axis)
            continue
        result = _resize_axis(result, result.shape[axis] * scale, axis=axis, pad=4, padder=_pad_symmetric)
    return result.clamp(0, 1).to(image.dtype)


def is_traced() -> bool:
    """Whether an exporter is following what is computed, for which a size must not become a number of Python's."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # newer than torch 2.6
    return bool(torch.jit.is_tracing() or exporting())  # type: ignore[attr-defined, no-untyped-call]


def _enlarge_axis(image: torch.Tensor, scale: int, axis: int) -> torch.Tensor:
    """Enlarge one axis as :func:`_resize_axis` does, by convolution: one filter for each position within a pixel."""
    offset = (torch.arange(scale, device=image.device) + 0.5) / scale - 0.5
    x = (torch.arange(-2, 3, device=image.device) - offset[:, None]).abs()  # (scale, 5)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2  # Keys, a = -0.5
    filters = torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
    length = image.shape[axis]
    index = torch.arange(-2, length + 2, device=image.device)
    index = torch.where(index < 0, -1 - index, index)  # mirrored as by _pad_symmetric, without a remainder
    index = torch.minimum(index, 2 * length - 1 - index).clamp(min=0)
    planes = image.index_select(axis, index).flatten(0, 1).unsqueeze(1)  # (N*C, 1, H+4, W)
    weight = filters[:, None, :, None] if axis == 2 else filters[:, None, None, :]
    phases = F.conv2d(planes, weight)  # (N*C, scale, H, W)
    merged = phases.movedim(1, axis).flatten(axis - 1, axis)  # (N*C, scale*H, W)
    return merged.reshape(*image.shape[:2], *merged.shape[1:])


def _resize_axis(
    image: torch.Tensor, size: int, axis: int, pad: int, padder: Callable[[torch.Tensor, int, int], torch.Tensor]
) -> torch.Tensor:
    """Resize one axis with the border extended by ``pad`` samples, and cut the extension off again."""
    length = image.shape[axis]
    padded = padder(image, axis, pad)
    target = list(image.shape[2:])
    target[axis - 2] = round(padded.shape[axis] * size / length)
    resized = F.interpolate(padded, size=target, mode="bicubic", antialias=True)
    return resized.narrow(axis, round(pad * size / length), size)


def _pad_replicate(image: torch.Tensor, axis: int, pad: int) -> torch.Tensor:
    return F.pad(image, (0, 0, pad, pad) if axis == 2 else (pad, pad, 0, 0), mode="replicate")


def _pad_symmetric(image: torch.Tensor, axis: int, pad: int) -> torch.Tensor:
    """Mirror at the border with the edge sample repeated, as MATLAB does; torch's 'reflect' does not repeat it."""
    length = image.shape[axis]
    index = torch.arange(-pad, length + pad, device=image.device) % (2 * length)
    index = torch.where(index < length, index, 2 * length - 1 - index)
    return image.index_select(axis, index)


def luma(rgb: torch.Tensor) -> torch.Tensor:
    """Return Y of BT.601, limited range, of RGB (N, 3, H, W) in [0, 1]: (N, 1, H, W) in [16/255, 235/255].

    This is MATLAB's ``rgb2ycbcr`` before rounding; full-range luma would read about 1.3 dB lower.
    """
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((rgb * weights).sum(dim=1, keepdim=True) + 16.0) / 255.0


def crop_to_multiple(rgb: UInt8Array, multiple: int) -> UInt8Array:
    """Cut bottom and right so that both sides are multiples."""
    height, width = rgb.shape[0] // multiple * multiple, rgb.shape[1] // multiple * multiple
    return rgb[:height, :width]
