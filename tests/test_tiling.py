"""Tiles: they give what the whole image does, within bounded memory, and say so where they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import srzoo
from srzoo.entry import ComponentRef, Entry
from srzoo.errors import InputError, MemoryShortageError, PluginError, UpscaleWarning
from srzoo.inference import self_ensemble
from srzoo.pretrained import Model
from srzoo.receptive import Field, measure_field, receptive_radius
from srzoo.tiling import Layout, _Work, choose_layout, is_out_of_memory, upscale_tiled
from srzoo.upscaling import Settings, upscale, upscale_picture

torch.set_num_threads(1)


def model_of(generator: nn.Module, scale: int = 4, size_multiple: int = 1, radius: int | None = None) -> Model:
    entry = Entry(name="mine", summary="mine", scale=scale, generator=ComponentRef(name="nearest"))
    return Model("mine", entry, generator.eval(), size_multiple, receptive_radius=radius)


def trunk(block: str, scale: int = 4, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    options = {"num_features": 8, "num_blocks": 2, "upsampler": "pixelshuffle", **options}
    return srzoo.create("generator", "trunk", scale=scale, block=block, **options).eval()


class Convs(nn.Module):
    """Averages over (2 r + 1)^2 pixels in r steps of a 3x3 filter, or of a wider one; zeros beyond the border."""

    def __init__(self, kernels: tuple[int, ...] = (3, 3, 5), scale: int = 2) -> None:
        super().__init__()
        self.kernels, self.scale = kernels, scale

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        for kernel in self.kernels:
            lr = F.avg_pool2d(lr, kernel, stride=1, padding=kernel // 2)
        return F.interpolate(lr, scale_factor=self.scale)


class Strided(nn.Module):
    """Halves the size twice and comes back, so that sides must be multiples of 4, and the phase matters."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Upsample(scale_factor=8), nn.Conv2d(8, 3, 3, 1, 1))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        assert lr.shape[2] % 4 == 0 and lr.shape[3] % 4 == 0, lr.shape
        return F.interpolate(lr, scale_factor=2) + self.up(self.down(lr))


class Pooled(nn.Module):
    """Has the mean of the whole image in every output."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.interpolate(0.5 * lr + 0.5 * lr.mean(dim=(2, 3), keepdim=True), scale_factor=4)


def picture(height: int, width: int, channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    top = 256 if dtype == np.uint8 else 65536
    return np.random.default_rng(seed).integers(0, top, (height, width, channels)).astype(dtype)


# --- tiled equals whole ---------------------------------------------------------------------------------------

GENERATORS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "residual": (lambda: trunk("residual"), 4, 1),
    "residual x3": (lambda: trunk("residual", scale=3), 3, 1),
    "rrdb": (lambda: trunk("rrdb", upsampler="nearest_conv", hr_conv=True), 4, 1),
    "srresnet": (lambda: trunk("residual", head_kernel=9, tail_kernel=9, image_skip="bicubic"), 4, 1),
    "transposed": (lambda: trunk("residual", upsampler="transposed_conv", scale=2), 2, 1),
    "convs": (Convs, 2, 1),
    "strided": (Strided, 2, 4),
    "bicubic": (lambda: srzoo.create("generator", "bicubic", scale=4), 4, 1),
}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("height", "width", "tile"), [(101, 75, 64), (150, 40, 96), (33, 130, 72)])
def test_tiled_equals_whole(name: str, height: int, width: int, tile: int) -> None:
    make, scale, multiple = GENERATORS[name]
    model = model_of(make(), scale, multiple)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    whole = upscale(image, model, tile=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UpscaleWarning)
        tiled = upscale(image, model, tile=tile)
    assert tiled.shape == (1, 3, height * scale, width * scale)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("name", ["residual", "strided"])
def test_batches_of_tiles_give_the_same(name: str, batch: int) -> None:
    make, scale, multiple = GENERATORS[name]
    model = model_of(make(), scale, multiple)
    image = torch.rand(1, 3, 90, 131, generator=torch.Generator().manual_seed(1))
    tiled = upscale(image, model, tile=48, tile_batch=batch)
    torch.testing.assert_close(tiled, upscale(image, model, tile=0), atol=1e-5, rtol=0)


def test_every_pixel_is_written_once_and_windows_have_one_size_and_the_multiple() -> None:
    for height, width, tile, overlap, multiple in [
        (40, 40, 16, 1, 1),
        (41, 97, 24, 8, 4),
        (16, 100, 32, 8, 8),
        (99, 17, 20, 9, 1),
    ]:
        shapes = set()

        def enlarge(lr: torch.Tensor, shapes: set[Any] = shapes, multiple: int = multiple) -> torch.Tensor:
            shapes.add(tuple(lr.shape))
            assert lr.shape[2] % multiple == 0 and lr.shape[3] % multiple == 0
            return lr

        image = picture(height, width)
        result, report = upscale_tiled(enlarge, image, 1, Layout(tile, overlap), size_multiple=multiple)
        np.testing.assert_array_equal(result, image)
        assert len(shapes) == 1
        assert max(shapes.pop()[2:]) <= tile
        assert report.tiles > 1
        assert report.seam_error == 0


def test_progress_counts_tiles() -> None:
    seen: list[tuple[int, int]] = []
    report = upscale_tiled(lambda x: x, picture(64, 64), 1, Layout(32, 4), progress=lambda *a: seen.append(a))[1]
    assert seen == [(i + 1, report.tiles) for i in range(report.tiles)]


def test_a_window_is_not_mostly_overlap_with_its_neighbour() -> None:
    shapes: list[Any] = []
    upscale_tiled(lambda x: shapes.append(x.shape[2:]) or x, picture(70, 64), 1, Layout(64, 4))  # type: ignore[func-returns-value]
    assert [tuple(shape) for shape in shapes] == [(39, 64), (39, 64)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_rounded_and_clamped_in_their_own_range(dtype: Any) -> None:
    image = picture(30, 40, dtype=dtype)
    result, _ = upscale_tiled(lambda x: 2 * x - 0.5, image, 1, Layout(16, 2))
    peak = np.iinfo(dtype).max
    expected = np.clip(np.rint(2 * image.astype(np.float64) - peak / 2), 0, peak)
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= 1


# --- the receptive field --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [(), (3,), (3, 3), (5, 3, 3, 7), (9, 9, 9, 9)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_radius_of_a_stack_of_convolutions_is_the_theoretical_one(kernels: tuple[int, ...], scale: int) -> None:
    expected = sum(kernel // 2 for kernel in kernels)
    assert receptive_radius(Convs(kernels, scale), scale) == expected


def test_longer_strips_are_tried_until_the_field_fits() -> None:
    field = measure_field(Convs((41, 41, 41), 2), 2)
    assert field.radius == 60
    assert field.effective is not None
    assert field.effective <= 60
    assert measure_field(Convs((41, 41, 41), 2), 2, longest=64) == Field()


def test_radius_in_high_resolution_counts_in_low_resolution_pixels() -> None:
    class Tail(nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(F.interpolate(lr, scale_factor=4), 9, stride=1, padding=4)

    assert receptive_radius(Tail(), 4) == 1
    assert receptive_radius(srzoo.create("generator", "nearest", scale=4), 4) == 0
    assert receptive_radius(srzoo.create("generator", "bicubic", scale=4), 4) == 2


def test_field_is_measured_in_both_directions_and_keeps_to_the_multiple() -> None:
    class Lopsided(nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return lr + 0.5 * F.pad(lr, (0, 0, 7, 0))[..., :-7, :] + 0.5 * F.pad(lr, (0, 3))[..., 3:]

    assert receptive_radius(Lopsided(), 1) == 7
    field = measure_field(Strided(), 2, size_multiple=4)
    assert field.radius is not None
    assert 4 <= field.radius <= 12


def test_deep_networks_see_far_less_than_their_theoretical_radius() -> None:
    field = measure_field(trunk("rrdb", num_blocks=4, upsampler="nearest_conv"), 4)
    assert field.effective is not None
    assert field.radius is None or field.effective < field.radius
    assert field.effective < 40  # 4 blocks of 15 convolutions


def test_operations_over_the_whole_image_have_no_bound() -> None:
    assert measure_field(Pooled(), 4) == Field()

    class NoStrips(nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            raise ValueError("square images only")

    assert measure_field(NoStrips(), 4) == Field()


def test_measuring_leaves_the_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    measure_field(Convs(), 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_declared_radius_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srzoo.upscaling.measure_field", lambda *a: pytest.fail("measured"))
    shapes: list[Any] = []
    generator = Convs((9,), 2)
    generator.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-2:]))
    upscale(picture(100, 30), model_of(generator, 2, radius=4), tile=32)
    assert shapes
    assert max(max(shape) for shape in shapes) <= 32


def test_a_spec_declares_a_radius() -> None:
    spec = srzoo.GeneratorSpec("mine", Convs, summary="mine", receptive_radius=7)
    assert spec.receptive_radius == 7
    assert srzoo.GeneratorSpec("mine", Convs, summary="mine").receptive_radius is None
    with pytest.raises(ValueError, match="receptive_radius -1 must not be negative"):
        srzoo.GeneratorSpec("mine", Convs, summary="mine", receptive_radius=-1)


# --- the layout -----------------------------------------------------------------------------------------------


def test_layout_by_the_field() -> None:
    """A pixel more than the field, by which tiles are compared."""
    assert choose_layout(Field(19, 14)) == Layout(256, 20, sees=14)
    assert choose_layout(Field(None, 17)) == Layout(256, 18, sees=17)
    assert choose_layout(Field(60, 40)) == Layout(320, 41, sees=40)
    assert choose_layout(Field(None, 120)) == Layout(512, 121, sees=120)
    assert choose_layout(Field(None, 200)) == Layout(512, 65, sees=200)
    assert choose_layout(Field()) == Layout(256, 33)
    assert choose_layout(Field(0, 0)) == Layout(256, 1, sees=0)
    assert choose_layout(Field(19, 14), tile=64) == Layout(64, 15, sees=14)
    assert choose_layout(Field(19, 14), tile=32) == Layout(32, 5, sees=14)
    assert choose_layout(Field(19, 14), tile=64, overlap=14).exact
    assert not choose_layout(Field(19, 14), tile=64, overlap=13).exact
    assert not choose_layout(Field(), tile=64, overlap=13).exact
    assert choose_layout(Field(19, 14), tile=100, size_multiple=8) == Layout(96, 16, sees=14)


def test_layouts_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="an overlap of 40 leaves nothing of a tile of 64 pixels; give at most 30"):
        choose_layout(Field(), 64, 40)
    assert choose_layout(Field(), 64, 30).overlap == 31
    with pytest.raises(InputError, match="a tile of 20 pixels is too small; give at least 32"):
        choose_layout(Field(), 20, size_multiple=8)
    with pytest.raises(InputError, match="tile must be at least 16"):
        Settings(tile=8)
    with pytest.raises(InputError, match="overlap must not be negative"):
        upscale(picture(8, 8), "nearest", overlap=-1)
    with pytest.raises(InputError, match="tile_batch must be at least 1"):
        Settings(tile_batch=0)


# --- seams ----------------------------------------------------------------------------------------------------


def test_a_field_that_does_not_fit_is_reported_with_the_seam_it_leaves() -> None:
    image = picture(100, 100)
    image[:, :50] //= 4
    with pytest.warns(UpscaleWarning, match=r"no bound .* they differ by up to \d+.* of 255 levels") as caught:
        tiled = upscale(image, model_of(Pooled()), tile=64)
    (said,) = [str(w.message) for w in caught]
    told = float(said.partition("up to ")[2].split()[0])
    whole = upscale(image, model_of(Pooled()), tile=0)
    assert 5 < told < 100
    assert tiled.shape == whole.shape
    with pytest.warns(UpscaleWarning, match="is 4; where tiles meet"):
        upscale(image, model_of(Convs((9,), 2), 2), tile=64, overlap=1)


def test_the_seam_error_is_the_difference_between_two_tiles_where_they_meet() -> None:
    calls: list[int] = []

    def brighter(lr: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return lr + (len(calls) - 1) * 10 / 255

    image = np.full((32, 60, 1), 50, np.uint8)
    for dtype in (np.uint8, np.uint16):
        calls.clear()
        given = image if dtype == np.uint8 else image.astype(np.uint16) * 257
        report = upscale_tiled(brighter, given, 1, Layout(32, 2))[1]
        assert report.tiles == 2
        assert report.seam_error == pytest.approx(10, abs=0.01)


def test_a_wrong_declaration_is_noticed() -> None:
    with pytest.warns(UpscaleWarning, match="differ by up to"):
        upscale(picture(100, 100), model_of(Convs((15, 15)), 2, radius=0), tile=64)


# --- memory ---------------------------------------------------------------------------------------------------


class Limited(nn.Module):
    """Runs out of memory above a number of pixels, in the words of one device or another."""

    def __init__(self, limit: int, error: type[Exception] = torch.OutOfMemoryError, words: str = "") -> None:
        super().__init__()
        self.limit, self.error, self.words = limit, error, words
        self.inner = Convs((3, 3, 5))
        self.batches: list[tuple[int, int]] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if lr.shape[0] * lr.shape[2] * lr.shape[3] > self.limit:
            raise self.error(self.words)
        self.batches.append((lr.shape[0], max(lr.shape[2:])))
        return self.inner(lr)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, ""),
        (MemoryError, ""),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        (RuntimeError, "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        (RuntimeError, "MPS backend out of memory"),
    ],
)
def test_memory_that_runs_out_halves_the_batch_and_then_the_tile(error: type[Exception], words: str) -> None:
    image = picture(150, 170)
    whole = upscale(image, model_of(Convs((3, 3, 5)), 2), tile=0)
    model = model_of(Limited(40 * 40, error, words), 2, radius=4)
    with pytest.warns(UpscaleWarning) as caught:
        tiled = upscale(image, model, tile=64, tile_batch=4)
    said = [str(w.message) for w in caught]
    assert len(said) == 3
    assert said[:2] == ["memory ran out; going on with 2 tiles at once.", "memory ran out; going on with 1 at once."]
    assert said[2].startswith("memory ran out; going on with tiles of 3")
    assert said[2].endswith(" pixels that overlap by 5.")
    assert np.abs(tiled.astype(int) - whole).max() <= 1  # ties
    assert (tiled != whole).mean() < 1e-3


@pytest.mark.parametrize("fails_at", [0, 1, 3, 7, 12])
def test_memory_that_runs_out_later_is_gone_on_from_there(fails_at: int) -> None:
    image = torch.rand(1, 3, 110, 120, generator=torch.Generator().manual_seed(0))
    generator = Limited(10**9)
    calls = 0

    def shrink(*_: Any) -> None:
        nonlocal calls
        if calls == fails_at:
            generator.limit = 33 * 33
        calls += 1

    generator.register_forward_pre_hook(shrink)
    with pytest.warns(UpscaleWarning, match="memory ran out"):
        tiled = upscale(image, model_of(generator, 2, radius=4), tile=40)
    torch.testing.assert_close(tiled, upscale(image, model_of(Convs(), 2), tile=0), atol=1e-5, rtol=0)
    large = [side for _, side in generator.batches if side > 33]
    assert len(large) == fails_at, "what was done before is kept"


def test_a_whole_image_for_which_memory_does_not_suffice_is_tiled() -> None:
    image = picture(100, 90)
    with pytest.warns(UpscaleWarning, match="memory ran out; going on with tiles of 50 pixels"):
        tiled = upscale(image, model_of(Limited(60 * 60), 2))
    assert np.abs(tiled.astype(int) - upscale(image, model_of(Convs(), 2))).max() <= 1


def test_overlap_gives_way_before_the_work_does() -> None:
    image = picture(100, 100)
    with pytest.warns(UpscaleWarning) as caught:
        tiled = upscale(image, model_of(Limited(20 * 20), 2, radius=4), tile=64, overlap=12)
    assert str(caught[-1].message).endswith("tiles of 16 pixels that overlap by 5.")
    assert np.abs(tiled.astype(int) - upscale(image, model_of(Convs(), 2))).max() <= 1
    with pytest.warns(UpscaleWarning) as caught:
        upscale(image, model_of(Limited(20 * 20), 2, radius=7), tile=64, overlap=12)
    said = str(caught[-1].message)
    assert "16 pixels overlap by 2, and how far the generator sees is 7; where tiles meet, they differ by up" in said


@pytest.mark.parametrize("multiple", [1, 2, 4, 6, 8, 16])
def test_tiles_keep_something_whatever_overlap_and_multiple(multiple: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlap that is rounded up to a multiple may fill half a tile; cutting an image by that would never end."""
    monkeypatch.setattr("srzoo.tiling.gc.collect", lambda: 0)
    tile = max(16, 4 * multiple)
    for sees in range(tile // 2 + 2):
        for layout in (choose_layout(Field(sees), tile, None, multiple), Layout(4 * tile, tile, sees)):
            work = _Work(6 * tile, 6 * tile, layout, multiple, batch=1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UpscaleWarning)
                while max(work.rows, work.columns) > tile:
                    work.shrink()
            assert work.layout.tile > 2 * work.layout.overlap > 0
            assert work.layout.overlap % multiple == 0


def test_no_memory_at_all_is_one_clear_error() -> None:
    with pytest.raises(MemoryShortageError, match=r"even for a tile of \d+x\d+ pixels"), pytest.warns(UpscaleWarning):
        upscale(picture(100, 100), model_of(Limited(10), 2, radius=4))
    with pytest.raises(MemoryShortageError, match="100x90 pixels at once; give a tile size, such as 256"):
        upscale(picture(90, 100), model_of(Limited(10), 2), tile=0)


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shape mismatch")

    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(None)
    with pytest.raises(PluginError, match="shape mismatch"):
        upscale(picture(50, 50), model_of(Broken()), tile=32)


def test_wrong_sizes_and_values_that_are_not_finite_are_the_generators_fault() -> None:
    class Wrong(nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return self.function(lr)

    for tile in (0, 32):
        with pytest.raises(PluginError, match=r"it must make \(1, 3, "):
            upscale(picture(50, 50), model_of(Wrong(lambda x: x)), tile=tile)
        with pytest.raises(PluginError, match="not finite"):
            upscale(picture(50, 50), model_of(Wrong(lambda x: x / 0), scale=1), tile=tile)


PEAK = r"""
import json, re, sys
from pathlib import Path
import torch
import srzoo
from srzoo.pretrained import Model
from srzoo.entry import ComponentRef, Entry
from srzoo.images import read_picture, write_picture
from srzoo.upscaling import Settings, upscale_picture

torch.set_num_threads(1)
source, target, tile = sys.argv[1], sys.argv[2], None if sys.argv[3] == "None" else int(sys.argv[3])
torch.manual_seed(0)
generator = srzoo.create(
    "generator", "trunk", scale=4, block="residual", num_features=8, num_blocks=1, upsampler="pixelshuffle_direct",
    image_skip="nearest",
).eval()
entry = Entry(name="mine", summary="mine", scale=4, generator=ComponentRef(name="nearest"))

def peak():  # ru_maxrss would begin with what the process had that started this one
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) // 1024

before = peak()
picture = read_picture(source, keep_depth=True)
large = upscale_picture(Model("mine", entry, generator), picture, Settings(tile=tile))
computed = peak()
if target:
    write_picture(large, target)
print(json.dumps({"before": before, "computed": computed, "written": peak(), "shape": large.rgb.shape}))
"""


def peaks(source: Path, target: Path | str, tile: int | None, timeout: int) -> dict[str, Any]:
    """MiB that a process of its own held at most: before anything, after computing, after writing."""
    command = [sys.executable, "-c", PEAK, str(source), str(target), str(tile)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def photograph(path: Path, height: int, width: int) -> Path:
    """Smooth shapes with some grain, as large as asked for."""
    from PIL import Image

    coarse = Image.fromarray(picture(height // 50, width // 50)).resize((width, height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(1).integers(-6, 7, (height, width, 1))
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path, compress_level=1)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure peak memory")
def test_memory_is_bounded_by_the_tile(tmp_path: Path) -> None:
    source = photograph(tmp_path / "x.png", 1500, 2000)  # 3 megapixels; the result has 137 MiB
    tiled = peaks(source, "", None, 120)
    whole = peaks(source, "", 0, 120)
    assert tiled["shape"] == [6000, 8000, 3]
    assert tiled["computed"] - tiled["before"] < 137 + 200
    assert whole["computed"] - whole["before"] > 137 + 3 * 200


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure peak memory")
def test_twelve_megapixels_within_four_gigabytes(tmp_path: Path) -> None:
    source = photograph(tmp_path / "x.png", 3000, 4000)
    found = peaks(source, tmp_path / "large.png", None, 600)
    assert found["shape"] == [12000, 16000, 3]
    assert found["written"] < 4000
    assert (tmp_path / "large.png").stat().st_size > 10**7


# --- self-ensemble --------------------------------------------------------------------------------------------


def test_self_ensemble_is_the_mean_over_flips_and_turns() -> None:
    generator = trunk("residual")
    image = torch.rand(1, 3, 12, 17)
    with torch.inference_mode():
        total = torch.zeros(1, 3, 48, 68)
        for turns in range(4):
            for mirrored in (False, True):
                view = torch.rot90(image, turns, (2, 3))
                view = view.flip(3) if mirrored else view
                sr = generator(view)
                sr = sr.flip(3) if mirrored else sr
                total += torch.rot90(sr, -turns, (2, 3))
    found = upscale(image, model_of(generator), self_ensemble=True)
    torch.testing.assert_close(found, (total / 8).clamp(0, 1), atol=1e-6, rtol=0)
    assert (found - upscale(image, model_of(generator))).abs().max() > 1e-4


def test_self_ensemble_of_what_is_symmetric_changes_nothing() -> None:
    calls: list[Any] = []
    image = torch.rand(1, 3, 8, 5)
    mean = self_ensemble(lambda x: calls.append(tuple(x.shape[2:])) or x)  # type: ignore[func-returns-value]
    torch.testing.assert_close(mean(image), image)
    assert sorted(calls) == [(5, 8)] * 4 + [(8, 5)] * 4


@pytest.mark.parametrize("name", ["residual", "strided"])
def test_self_ensemble_in_tiles_equals_self_ensemble_of_the_whole(name: str) -> None:
    make, scale, multiple = GENERATORS[name]
    model = model_of(make(), scale, multiple)
    image = torch.rand(1, 3, 61, 90, generator=torch.Generator().manual_seed(1))
    whole = upscale(image, model, tile=0, self_ensemble=True)
    torch.testing.assert_close(upscale(image, model, tile=64, self_ensemble=True), whole, atol=1e-5, rtol=0)


# --- grey, opacity, depth in tiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_transparent_pictures_in_tiles(dtype: Any) -> None:
    from srzoo.images import Picture

    model = model_of(trunk("residual", image_skip="nearest"))
    grey = picture(70, 80, 1, dtype).repeat(3, axis=2)
    given = Picture(grey, True, picture(70, 80, 1, dtype, seed=1)[..., 0])
    whole, tiled = (upscale_picture(model, given, Settings(tile=tile)) for tile in (0, 48))
    for name in ("rgb", "alpha"):
        left, right = getattr(whole, name), getattr(tiled, name)
        assert left.dtype == right.dtype == dtype
        assert np.abs(left.astype(int) - right).max() <= 1
    assert (tiled.rgb == tiled.rgb[..., :1]).all()


def test_large_opacity_is_enlarged_in_tiles_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from srzoo import upscaling

    alpha = picture(700, 530, 1)
    tiled = upscaling._enlarge_opacity(alpha, 2)
    monkeypatch.setattr(upscaling, "WHOLE_PIXELS", 10**9)
    assert np.abs(tiled.astype(int) - upscaling._enlarge_opacity(alpha, 2)).max() <= 1
