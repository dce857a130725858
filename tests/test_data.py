"""Sets of images by name or folder, and the random crops of training."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from srzoo.data import ImageItem, ImageSet, PatchDataset, StepSampler, digest_of, load_image_set
from srzoo.errors import DataError, UnknownNameError
from srzoo.images import downscale_bicubic

torch.set_num_threads(1)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def coordinates(height: int, width: int, blue: int) -> np.ndarray:
    """Red is the row, green the column, blue the number of the image."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([y, x, np.full_like(y, blue)]).astype(np.uint8)


def coordinate_set(folder: Path, scale: int, low_sizes: Sequence[tuple[int, int]]) -> ImageSet:
    """Pairs whose pixels say where they are: LR pixel (y, x) belongs to HR pixels (scale*y.., scale*x..)."""
    items = []
    for number, (height, width) in enumerate(low_sizes):
        hr = save(folder / "HR" / f"{number}.png", coordinates(height * scale, width * scale, number))
        lr = save(folder / f"LR_x{scale}" / f"{number}.png", coordinates(height, width, number))
        items.append(ImageItem(str(number), hr, {scale: lr}))
    return ImageSet("coordinates", tuple(items))


def pixels(tensor: torch.Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) levels."""
    return (tensor * 255).round().permute(1, 2, 0).numpy().astype(int)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return torch.equal(left["lr"], right["lr"]) and torch.equal(left["hr"], right["hr"])


# --- sets by name and folder ----------------------------------------------------------------------------------


def test_folder_of_images_is_a_set_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.bmp", "c.PNG"):
        save(tmp_path / name, noise(16, 24, seed=ord(name[0])))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    image_set = load_image_set(str(tmp_path))
    assert image_set.name == tmp_path.name
    assert [item.name for item in image_set] == ["a", "b", "c"]
    lr, hr, grey = image_set.items[0].read_pair(4)
    np.testing.assert_array_equal(hr, noise(16, 24, seed=ord("a")))
    np.testing.assert_array_equal(lr, downscale_bicubic(hr, 4))
    assert not grey


def test_low_resolution_files_are_used_for_their_scale_only(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.png", noise(16, 24))
    save(tmp_path / "LR_x4" / "a.png", np.full((4, 6, 3), 7, np.uint8))
    (item,) = load_image_set(str(tmp_path))
    assert (item.read_pair(4)[0] == 7).all()
    np.testing.assert_array_equal(item.read_pair(2)[0], downscale_bicubic(noise(16, 24), 2))


def test_low_resolution_files_of_several_scales_are_all_used(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.png", noise(16, 24))
    for scale in (2, 4):
        save(tmp_path / f"LR_x{scale}" / "a.png", np.full((16 // scale, 24 // scale, 3), scale, np.uint8))
    (item,) = load_image_set(str(tmp_path))
    assert (item.read_pair(4)[0] == 4).all()
    assert (item.read_pair(2)[0] == 2).all()


def test_names_resolve_under_srzoo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "mine" / "HR" / "a.png", noise(8, 8))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path))
    image_set = load_image_set("mine")
    assert image_set.name == "mine"
    assert len(image_set) == 1


def test_the_shipped_sets_are_whole(data_root: Path) -> None:
    for name, count in (("set5", 5), ("set14", 14)):
        image_set = load_image_set(name)
        assert len(image_set) == count
        assert all(list(item.lr) == [4] for item in image_set)
    grey = [item.name for item in load_image_set("set14") if item.read_hr()[1]]
    assert grey == ["003"]


def test_photos_are_nine_real_images_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", no_network)
    image_set = load_image_set("photos")
    assert image_set.name == "photos"
    assert len({item.name for item in image_set}) == 9
    greys = set()
    for item in image_set:
        hr, grey = item.read_hr()
        assert 256 <= min(hr.shape[:2]) <= max(hr.shape[:2]) <= 512
        assert len(np.unique(hr)) > 100, f"{item.name} is no photograph"
        if grey:
            greys.add(item.name)
    assert greys == {"brick", "camera", "grass"}
    from skimage import data

    astronaut = next(item for item in image_set if item.name == "astronaut")
    np.testing.assert_array_equal(astronaut.read_hr()[0], data.astronaut())
    assert astronaut.read_pair(4)[0].shape == (128, 128, 3)


def test_unknown_name_suggests_the_nearest_and_lists_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "faces" / "HR" / "a.png", noise(8, 8))
    save(tmp_path / "landscapes" / "a.png", noise(8, 8))
    (tmp_path / "no_images").mkdir()
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path))
    with pytest.raises(UnknownNameError) as caught:
        load_image_set("face")
    message = str(caught.value)
    assert "Did you mean 'faces'?" in message
    assert "Known: photos, faces, landscapes." in message
    assert str(tmp_path) in message


def test_unknown_name_without_srzoo_data_says_that_it_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SRZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"'set5' \(SRZOO_DATA is not set\)"):
        load_image_set("set5")


def test_unknown_name_with_srzoo_data_that_is_no_folder_is_still_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UnknownNameError, match="nowhere"):
        load_image_set("set5")


@pytest.mark.parametrize("inside", [".", "HR"])
def test_folder_without_images_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=rf"{tmp_path.name}.*holds no images \(\.png"):
        load_image_set(str(tmp_path))


def test_reference_without_its_low_resolution_file_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "HR" / f"{name}.png", noise(16, 16))
    save(tmp_path / "LR_x4" / "a.png", noise(4, 4))
    with pytest.raises(DataError, match=r"LR_x4 has no image for b\."):
        load_image_set(str(tmp_path))


@pytest.mark.parametrize("size", [(4, 7), (5, 6), (16, 24)])
def test_low_resolution_file_of_the_wrong_size_is_refused_with_both_sizes(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    save(tmp_path / "HR" / "a.png", noise(16, 24))
    save(tmp_path / "LR_x4" / "a.png", noise(*size))
    (item,) = load_image_set(str(tmp_path))
    with pytest.raises(DataError, match=rf"LR_x4.a\.png is {size[1]}x{size[0]}, .* reference of 24x16"):
        item.read_pair(4)


@pytest.mark.parametrize("folder", ["HR", "LR_x4"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, folder: str) -> None:
    save(tmp_path / "HR" / "a.png", noise(16, 16))
    save(tmp_path / "LR_x4" / "a.png", noise(4, 4))
    save(tmp_path / folder / "a.bmp", noise(16, 16))
    with pytest.raises(DataError, match=r"a\.bmp and .*a\.png share a name"):
        load_image_set(str(tmp_path))


def test_reference_is_cut_to_a_multiple_of_the_scale(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(18, 23))
    (item,) = load_image_set(str(tmp_path))
    lr, hr, _ = item.read_pair(4)
    np.testing.assert_array_equal(hr, noise(18, 23)[:16, :20])
    assert lr.shape == (4, 5, 3)


def test_image_smaller_than_the_scale_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "tiny.png", noise(3, 40))
    (item,) = load_image_set(str(tmp_path))
    with pytest.raises(DataError, match=r"'tiny' is smaller than the scale 4"):
        item.read_pair(4)


def test_damaged_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(16, 16))
    path.write_bytes(path.read_bytes()[:200])
    (item,) = load_image_set(str(tmp_path))
    with pytest.raises(DataError, match=r"a\.png is damaged"):
        item.read_pair(4)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_pairs_of_every_scale_fit_together(tmp_path: Path, scale: int) -> None:
    save(tmp_path / "a.png", noise(50, 35))
    (item,) = load_image_set(str(tmp_path))
    lr, hr, _ = item.read_pair(scale)
    assert hr.shape == (50 // scale * scale, 35 // scale * scale, 3)
    assert (lr.shape[0] * scale, lr.shape[1] * scale) == hr.shape[:2]


def test_digest_names_pixels_not_files(tmp_path: Path) -> None:
    save(tmp_path / "one" / "a.png", noise(16, 16))
    save(tmp_path / "two" / "a.bmp", noise(16, 16))
    changed = noise(16, 16)
    changed[3, 3, 1] ^= 1
    save(tmp_path / "three" / "a.png", changed)
    one, two, three = (load_image_set(str(tmp_path / name)) for name in ("one", "two", "three"))
    assert digest_of(one, 4) == digest_of(two, 4)
    assert digest_of(one, 4) != digest_of(three, 4)
    assert digest_of(one, 4) != digest_of(one, 2)


def test_digest_tells_a_wide_image_from_a_tall_one(tmp_path: Path) -> None:
    save(tmp_path / "wide" / "a.png", np.full((8, 16, 3), 9, np.uint8))
    save(tmp_path / "tall" / "a.png", np.full((16, 8, 3), 9, np.uint8))
    wide, tall = load_image_set(str(tmp_path / "wide")), load_image_set(str(tmp_path / "tall"))
    assert digest_of(wide, 4) != digest_of(tall, 4)


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
    loader = DataLoader(dataset, batch_sampler=StepSampler(3, 7, 4), num_workers=2)
    for step, batch in enumerate(loader, start=3):
        for position in range(4):
            assert same({key: value[position] for key, value in batch.items()}, dataset[step * 4 + position])


def test_another_seed_draws_other_crops(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 3)
    left, right = (PatchDataset([image_set], 2, patch_size=8, seed=seed) for seed in (0, 1))
    assert not any(same(left[k], right[k]) for k in range(12))


def test_small_cache_gives_the_same_crops_as_a_large_one(tmp_path: Path) -> None:
    image_set = coordinate_set(tmp_path, 2, [(30, 30)] * 4)
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


def test_patch_larger_than_an_image_says_what_to_set(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(30, 90))
    dataset = PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=32)
    with pytest.raises(DataError, match=r"'a' is 88x28, smaller than the patch of 32; set training.patch_size=28 or"):
        dataset[0]


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
        assert image.std() > 0.01


def test_patches_are_float32_in_unit_range(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(64, 64))
    pair = PatchDataset([load_image_set(str(tmp_path))], 4, patch_size=32)[0]
    assert pair["hr"].dtype == pair["lr"].dtype == torch.float32
    assert 0 <= pair["hr"].min() < 0.1
    assert 0.9 < pair["hr"].max() <= 1


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
