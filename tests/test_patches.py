"""The random crops of training, and the cache they are cut out of."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pictures import coordinate_set, coordinates, noise, pixels, same, save
from PIL import Image
from torch.utils.data import DataLoader

from srzoo.data import ImageItem, ImageSet, load_image_set
from srzoo.decoded import MappedStore, MemoryStore
from srzoo.errors import DataError
from srzoo.images import downscale_bicubic, shrink_bicubic
from srzoo.patches import PatchDataset, Reported, StepSampler, whole_batch

torch.set_num_threads(1)


# --- crops ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_low_resolution_crop_is_exactly_the_region_of_the_high_resolution_crop(tmp_path: Path, scale: int) -> None:
    image_set = coordinate_set(tmp_path, scale, [(12, 15), (9, 20), (30, 10)])
    dataset = PatchDataset([image_set], scale, patch_size=6 * scale)
    for sample in range(60):
        pair = dataset[sample]
        assert pair["lr"].shape == (3, 6, 6)
        assert pair["hr"].shape == (3, 6 * scale, 6 * scale)
        lr, hr = pixels(pair["lr"]), pixels(pair["hr"])
        enlarged = lr.repeat(scale, axis=0).repeat(scale, axis=1)
        np.testing.assert_array_equal(hr[..., :2] // scale, enlarged[..., :2])  # row and column, however turned
        assert (hr[..., 2] == lr[0, 0, 2]).all()  # of the same image
        for axis in (0, 1):  # every row and column of the region once, none twice
            assert len(np.unique(hr[..., axis])) == 6 * scale


def orientation(image: np.ndarray) -> tuple[int, ...]:
    """How rows and columns run in a crop: one of the eight symmetries of the square."""
    down, right = image[1, 0] - image[0, 0], image[0, 1] - image[0, 0]
    return (*np.sign(down[:2]).tolist(), *np.sign(right[:2]).tolist())


def test_all_eight_orientations_occur_equally_often_and_none_without_augmentation(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(16, 16)])
    dataset = PatchDataset([image_set], 2, patch_size=8)
    counts: dict[tuple[int, ...], int] = {}
    for sample in range(400):
        pair = dataset[sample]
        turn = orientation(pixels(pair["hr"]))
        assert turn == orientation(pixels(pair["lr"]))
        counts[turn] = counts.get(turn, 0) + 1
    assert len(counts) == 8
    assert min(counts.values()) > 25  # 50 expected
    plain = PatchDataset([image_set], 2, patch_size=8, augment=False)
    assert {orientation(pixels(plain[sample]["hr"])) for sample in range(50)} == {(1, 0, 0, 1)}


def test_crops_reach_every_position(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 4, [(6, 5)])
    dataset = PatchDataset([image_set], 4, patch_size=16, augment=False)
    corners = {tuple(pixels(dataset[sample]["lr"])[0, 0, :2]) for sample in range(200)}
    assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_patch_as_large_as_the_image_is_the_image(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 4, [(4, 4)])
    dataset = PatchDataset([image_set], 4, patch_size=16, augment=False)
    np.testing.assert_array_equal(pixels(dataset[5]["hr"]), coordinates(16, 16, 0))


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(tmp_path: Path) -> None:
    first = coordinate_set(tmp_path / "one", 2, [(8, 8)] * 7)
    second = ImageSet("more", tuple(ImageItem(f"m{item.name}", item.hr) for item in first))  # sets are joined
    dataset = PatchDataset([first, second], 2, patch_size=8, augment=False)
    assert len(dataset) == 14
    epochs = [[int(pixels(dataset[14 * epoch + k]["hr"])[0, 0, 2]) for k in range(14)] for epoch in range(6)]
    assert all(sorted(epoch) == sorted([*range(7)] * 2) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_sample_is_a_pure_function_of_seed_and_number(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 3)
    dataset = PatchDataset([image_set], 2, patch_size=8, seed=5)
    forwards = [dataset[k] for k in range(12)]
    np.random.seed(1)
    torch.manual_seed(1)
    again = PatchDataset([image_set], 2, patch_size=8, seed=5)
    backwards = [again[k] for k in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert same(dataset[10**9], again[10**9])
    assert len({pair["hr"].numpy().tobytes() for pair in forwards}) == 12


def test_worker_processes_draw_the_same_samples(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 3)
    dataset = PatchDataset([image_set], 2, patch_size=8, seed=5)
    loader = DataLoader(dataset, batch_sampler=StepSampler(3, 7, 4), num_workers=2, collate_fn=whole_batch)
    for step, batch in enumerate(loader, start=3):
        for position in range(4):
            assert same({key: value[position] for key, value in batch.items()}, dataset[step * 4 + position])


def test_another_seed_draws_other_crops(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 3)
    left, right = (PatchDataset([image_set], 2, patch_size=8, seed=seed) for seed in (0, 1))
    assert not any(same(left[k], right[k]) for k in range(12))


def test_colours_change_places_alike_in_both_images(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 3)
    plain = PatchDataset([image_set], 2, patch_size=8)
    permuted = PatchDataset([image_set], 2, patch_size=8, permute_colours=1.0)
    orders = set()
    for sample in range(60):
        before, after = plain[sample], permuted[sample]
        order = next(o for o in itertools.permutations(range(3)) if torch.equal(before["hr"][list(o)], after["hr"]))
        assert torch.equal(before["lr"][list(order)], after["lr"])
        orders.add(order)
    assert len(orders) == 6


def test_crops_are_blended_alike_in_both_images(tmp_path: Path) -> None:
    colours = ((0, 40, 80), (200, 120, 250))
    items = []
    for number, colour in enumerate(colours):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{number}.png")
        items.append(ImageItem(str(number), tmp_path / f"{number}.png"))
    image_set = ImageSet("flat", tuple(items))
    plain = PatchDataset([image_set], 2, patch_size=8)
    rare = PatchDataset([image_set], 2, patch_size=8, mixup=1e-9)
    assert all(same(plain[sample], rare[sample]) for sample in range(20)), "what is not blended is what it was"
    blended = PatchDataset([image_set], 2, patch_size=8, mixup=1.0)
    first, second = (np.array(colour, dtype=float) for colour in colours)
    shares = []
    for sample in range(200):
        pair = blended[sample]
        colour = pixels(pair["hr"])[0, 0].astype(float)
        assert (pixels(pair["hr"]) == colour).all() and (pixels(pair["lr"]) == colour).all()
        share = (colour - first) / (second - first)
        assert np.ptp(share) < 0.02, "all channels are blended by one weight"
        shares.append(share.mean())
    mixed = [share for share in shares if 0.01 < share < 0.99]
    assert 60 < len(mixed) < 140, "the other image is drawn out of both, so it is the same one half of the time"
    assert 0.4 < np.mean(mixed) < 0.6 and min(mixed) < 0.2 and max(mixed) > 0.8


def in_memory(image_set: ImageSet) -> ImageSet:
    """The same images as functions, which cannot be cached on disk."""
    return ImageSet(image_set.name, tuple(ImageItem(item.name, item.read_hr) for item in image_set))


def test_small_cache_gives_the_same_crops_as_a_large_one(tmp_path: Path) -> None:
    image_set = in_memory(coordinate_set(tmp_path, 2, [(30, 30)] * 4))
    bytes_of_one = 60 * 60 * 3 + 30 * 30 * 3
    large, small, none = (
        PatchDataset([image_set], 2, patch_size=8, cache_bytes=size) for size in (1 << 30, 2 * bytes_of_one, 1)
    )
    for sample in range(30):
        assert same(large[sample], small[sample])
        assert same(large[sample], none[sample])


def test_cached_images_are_read_once_and_evicted_ones_again() -> None:
    reads: list[int] = []

    def reader(number: int) -> ImageItem:
        def read() -> tuple[np.ndarray, bool]:
            reads.append(number)
            return noise(16, 16, seed=number), False

        return ImageItem(str(number), read)

    items = ImageSet("counted", tuple(reader(number) for number in range(4)))
    dataset = PatchDataset([items], 2, patch_size=8)
    for sample in range(20):
        dataset[sample]
    assert sorted(reads) == [0, 1, 2, 3]
    reads.clear()
    dataset = PatchDataset([items], 2, patch_size=8, cache_bytes=1)
    for sample in range(20):
        dataset[sample]
    assert len(reads) > 12


def test_memory_for_images_is_that_of_all_sets_and_workers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def limits(workers: int) -> list[int]:
        items = tuple(ImageItem(str(n), lambda n=n: (noise(16, 16, seed=n), False)) for n in range(4))
        dataset = PatchDataset([ImageSet(name, items) for name in "ab"], 2, patch_size=8, cache_bytes=8 * 960)
        monkeypatch.setattr("srzoo.decoded.get_worker_info", lambda: SimpleNamespace(num_workers=workers))
        for sample in range(40):
            dataset[sample]
        return [len(store._pairs) for store in dataset._stores]  # type: ignore[union-attr]

    assert limits(1) == [4, 4]  # of 16x16 and 8x8 pixels, 960 bytes a pair
    assert limits(2) == [2, 2]


def test_patch_larger_than_an_image_says_what_to_set(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(30, 90))
    with pytest.raises(DataError, match=r"a.png' of 90x30 is smaller than the patch of 32; set training.patch_size=28"):
        PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=32)


def test_shrunk_crops_are_regions_of_the_shrunk_image_and_every_factor_occurs(tmp_path: Path) -> None:
    image = noise(64, 80)
    save(tmp_path / "a.png", image)
    dataset = PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=32, augment=False, multiscale=(1.0, 0.7, 0.5))
    wholes = [image, shrink_bicubic(image, 0.7)[:44], shrink_bicubic(image, 0.5)]
    assert [whole.shape for whole in wholes] == [(64, 80, 3), (44, 56, 3), (32, 40, 3)]
    regions = [
        {
            (window.tobytes(), low[top : top + 8, left : left + 8].tobytes())
            for low in [downscale_bicubic(whole, 4)]
            for top in range(whole.shape[0] // 4 - 7)
            for left in range(whole.shape[1] // 4 - 7)
            for window in [whole[4 * top : 4 * top + 32, 4 * left : 4 * left + 32]]
        }
        for whole in wholes
    ]
    drawn = [dataset[sample] for sample in range(90)]
    keys = [tuple(pixels(pair[key]).astype(np.uint8).tobytes() for key in ("hr", "lr")) for pair in drawn]
    counts = [sum(key in region for key in keys) for region in regions]
    assert sum(counts) == 90
    assert min(counts) > 15


def test_shrinking_by_an_integer_agrees_with_the_one_that_low_resolution_images_are_made_by() -> None:
    image = np.asarray(Image.fromarray(noise(9, 9)).resize((64, 64), Image.Resampling.BICUBIC))
    inner = (slice(4, -4), slice(4, -4))
    difference = shrink_bicubic(image, 0.5).astype(int) - downscale_bicubic(image, 2)
    assert np.abs(difference[inner]).max() <= 1
    assert shrink_bicubic(image, 1.0) is image


def test_patch_larger_than_a_shrunk_image_says_what_to_set(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(60, 90))
    image_set = load_image_set(str(tmp_path))
    with pytest.raises(
        DataError, match=r"a.png' of 90x60 shrunk by 0.4 is smaller than the patch of 32; .*scale=.1.0. or .*size=24 or"
    ):
        PatchDataset([image_set], 4, patch_size=32, multiscale=(0.5, 0.4))
    dataset = PatchDataset([in_memory(image_set)], 4, patch_size=32, multiscale=(0.5, 0.4))
    with pytest.raises(DataError, match=r"shrunk by 0.4 is smaller than the patch of 32"):
        [dataset[sample] for sample in range(9)]


def test_paired_images_cannot_be_shrunk(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.png", noise(64, 64))
    save(tmp_path / "LR_x4" / "a.png", noise(16, 16))
    image_set = load_image_set(str(tmp_path))
    with pytest.raises(DataError, match=r"'a' comes with a low-resolution file.*training.multiscale=\[1.0\]"):
        PatchDataset([image_set], 4, patch_size=32, multiscale=(1.0, 0.5))
    PatchDataset([image_set], 4, patch_size=32)
    PatchDataset([image_set], 2, patch_size=32, multiscale=(1.0, 0.5))


def test_no_training_images_is_an_error() -> None:
    with pytest.raises(DataError, match="no training images"):
        PatchDataset([ImageSet("empty", ())], 4, patch_size=32)


def test_grey_training_images_have_three_equal_channels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(32, 32)[..., 0])
    pair = PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=16)[0]
    for image in pair.values():
        assert image.shape[0] == 3
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])
        assert len(image.unique()) > 10


def test_batches_are_uint8_in_the_memory_format_that_convolutions_want(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(64, 64))
    batch = PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=32).__getitems__([0, 1, 2])
    assert batch["lr"].shape == (3, 3, 8, 8)
    assert batch["hr"].shape == (3, 3, 32, 32)
    for images in batch.values():
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.float().is_contiguous(memory_format=torch.channels_last)


# --- the cache on disk ----------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def folder_set(tmp_path: Path, count: int = 5) -> ImageSet:
    for number in range(count):
        save(tmp_path / "set" / f"{number}.png", noise(40 + 4 * number, 60, seed=number))
    return load_image_set(str(tmp_path / "set"))


def test_crops_from_disk_are_those_from_memory(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path)
    mapped = PatchDataset([image_set], 4, patch_size=16, multiscale=(1.0, 0.5), seed=3)
    assert len(list(cache.glob("*.rgb"))) == 2, "one file a factor"
    plain = PatchDataset([in_memory(image_set)], 4, patch_size=16, multiscale=(1.0, 0.5), seed=3)
    assert all(same(mapped[k], plain[k]) for k in range(40))


def test_files_are_decoded_once_for_all_runs(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_set = folder_set(tmp_path)
    seen: list[tuple[int, int]] = []
    first = PatchDataset([image_set], 4, patch_size=16, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 5) for k in range(1, 6)]
    monkeypatch.setattr("srzoo.decoded.decode_pair", lambda *_: pytest.fail("decoded again"))
    again = PatchDataset([load_image_set(str(tmp_path / "set"))], 4, patch_size=16)
    assert all(same(first[k], again[k]) for k in range(10))


def test_a_changed_file_is_decoded_anew(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path, count=1)
    before = PatchDataset([image_set], 4, patch_size=40, augment=False)[0]
    save(tmp_path / "set" / "0.png", 255 - noise(40, 60, seed=0))
    os.utime(tmp_path / "set" / "0.png", (1, 1))
    after = PatchDataset([image_set], 4, patch_size=40, augment=False)[0]
    np.testing.assert_array_equal(pixels(after["hr"]), 255 - pixels(before["hr"]))


def test_a_damaged_cache_is_built_anew(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path)
    wanted = PatchDataset([image_set], 4, patch_size=16)[7]
    for damage in ("cut", "gone", "index", "no index", "fewer images", "other places"):
        (file,) = cache.glob("*.rgb")
        index = json.loads(file.with_suffix(".json").read_text())
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-1])
        elif damage == "gone":
            file.unlink()
        elif damage == "index":
            file.with_suffix(".json").write_text("{")
        else:
            index["places"] = index["places"][: -1 if damage == "fewer images" else None]
            index["places"][0][0] += damage == "other places"
            file.with_suffix(".json").write_text(json.dumps([] if damage == "no index" else index))
        assert same(PatchDataset([image_set], 4, patch_size=16)[7], wanted), damage


def test_a_cache_that_changes_under_a_run_is_said_to(tmp_path: Path, cache: Path) -> None:
    dataset = PatchDataset([folder_set(tmp_path)], 4, patch_size=16)
    for file in cache.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="changed; start again"):
        dataset[0]


def test_a_killed_build_leaves_nothing_that_counts(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PatchDataset([image_set], 4, patch_size=16, progress=stop)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("limit", ["0", "0.00001"])
def test_what_does_not_fit_is_kept_in_memory(
    limit: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_set = folder_set(tmp_path)
    wanted = PatchDataset([image_set], 4, patch_size=16)[3]
    shutil.rmtree(cache)
    monkeypatch.setenv("SRZOO_CACHE_GIB", limit)
    assert same(PatchDataset([image_set], 4, patch_size=16)[3], wanted)
    assert not cache.exists()


def test_a_limit_that_is_no_number_is_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRZOO_CACHE_GIB", "lots")
    with pytest.raises(DataError, match="SRZOO_CACHE_GIB is 'lots'"):
        PatchDataset([folder_set(tmp_path)], 4, patch_size=16)


def test_a_full_disk_is_no_obstacle(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    image_set = folder_set(tmp_path)
    wanted = PatchDataset([image_set], 4, patch_size=16)[3]
    monkeypatch.setattr(MappedStore, "build", full)
    dataset = PatchDataset([image_set], 4, patch_size=16)
    assert isinstance(dataset._stores[0], MemoryStore)
    assert same(dataset[3], wanted)


def test_a_damaged_image_is_named_before_training(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path)
    path = tmp_path / "set" / "3.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"3\.png is damaged or cut short"):
        PatchDataset([image_set], 4, patch_size=16)
    assert not list(cache.glob("*.json"))


def test_a_worker_maps_the_cache_instead_of_copying_it(tmp_path: Path, cache: Path) -> None:
    dataset = PatchDataset([folder_set(tmp_path)], 4, patch_size=16)
    wanted = dataset[3]
    copied = pickle.dumps(dataset)
    assert len(copied) < 5000
    assert same(pickle.loads(copied)[3], wanted)


BUILD = """
import os, sys
os.getpid = lambda: 7  # as in two containers
import srzoo.decoded as decoded
from srzoo.data import load_image_set
from srzoo.patches import PatchDataset
decode = decoded.decode_pair
def wait_for_the_other(*arguments):
    open(sys.argv[2], "w").close()
    while not os.path.exists(sys.argv[3]):
        pass
    return decode(*arguments)
decoded.decode_pair = wait_for_the_other
dataset = PatchDataset([load_image_set(sys.argv[1])], 4, patch_size=16)
assert isinstance(dataset._stores[0], decoded.MappedStore)
dataset[0]
"""


def test_two_processes_that_build_one_cache_at_once_do_not_disturb_each_other(tmp_path: Path, cache: Path) -> None:
    image_set = folder_set(tmp_path)
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error::srzoo.errors.RecipeWarning", "-c", BUILD, str(tmp_path / "set"), *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        for flags in ((here, there), (there, here))
    ]
    for process in both:
        _, message = process.communicate(timeout=120)
        assert process.returncode == 0, message
    assert MappedStore(image_set.items, 4, cache).is_built(1.0)
    assert len(list(cache.iterdir())) == 2, "nothing is left over"


def test_a_cache_that_another_process_finished_first_is_used(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file that is mapped cannot be replaced, as on Windows."""
    image_set = folder_set(tmp_path)
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        replace(source, target)
        if target.suffix == ".json":
            raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert isinstance(PatchDataset([image_set], 4, patch_size=16)._stores[0], MappedStore)


# --- sharding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 4, 12])
def test_shards_of_all_ranks_are_the_batch_of_one_process_in_order(world: int) -> None:
    alone = list(StepSampler(5, 9, batch_size=12))
    ranks = [list(StepSampler(5, 9, batch_size=12, rank=rank, world=world)) for rank in range(world)]
    joined = [[number for rank in ranks for number in rank[step]] for step in range(4)]
    assert joined == alone
    assert all(len(batch) == 12 // world for rank in ranks for batch in rank)


def test_resumed_sampler_goes_on_where_it_was() -> None:
    whole = list(StepSampler(0, 10, batch_size=4))
    assert list(StepSampler(6, 10, batch_size=4)) == whole[6:]
    assert len(StepSampler(6, 10, batch_size=4)) == 4
    assert [number for batch in whole for number in batch] == list(range(40))


def test_moved_set_gives_the_same_crops(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path / "here", 2, [(20, 20)] * 2)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = load_image_set(str(tmp_path / "there"))
    left, right = (PatchDataset([s], 2, patch_size=8) for s in (image_set, moved))
    assert all(same(left[k], right[k]) for k in range(6))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_cut_is_told_in_a_sentence_by_a_worker_too(workers: int) -> None:
    images = ImageSet("made", (ImageItem("small", lambda: (np.zeros((24, 24, 3), np.uint8), False)),))
    dataset = Reported(PatchDataset([images], 4, 32))
    loader = DataLoader(
        dataset,
        batch_sampler=StepSampler(0, 1, 2),
        num_workers=workers,
        collate_fn=whole_batch,
    )
    (error,) = loader
    assert isinstance(error, DataError)
    assert str(error).startswith("training image 'small' of 24x24 is smaller than the patch of 32; set")
