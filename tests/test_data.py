"""Sets of images by name or folder."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import noise, save

from srzoo.data import ImageSet, digest_of, load_image_set, shared_images
from srzoo.errors import DataError, UnknownNameError
from srzoo.images import downscale_bicubic

torch.set_num_threads(1)


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


def test_a_name_that_begins_with_a_dot_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "data" / "mine" / "theirs.png", noise(8, 8))
    save(tmp_path / "here" / "mine" / "ours.png", noise(8, 8))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    assert [item.name for item in load_image_set("mine")] == ["theirs"]
    assert [item.name for item in load_image_set("./mine")] == ["ours"]


def test_shared_images_are_found_by_file_and_by_name_within_a_set(tmp_path: Path) -> None:
    for side, name in enumerate("abc", start=8):
        save(tmp_path / f"{name}.png", noise(8, side))
    whole = load_image_set(str(tmp_path))
    part = ImageSet("part", whole.items[1:])
    assert shared_images([whole], [part]) == [f"{whole.name}/b", f"{whole.name}/c"]
    photos = load_image_set("photos")
    assert len(shared_images([photos, whole], [load_image_set("photos")])) == 9
    assert shared_images([photos], [whole]) == []


def test_a_copy_of_a_file_is_the_same_image_whatever_it_is_called(tmp_path: Path) -> None:
    for side, place in enumerate(("one/a", "one/b", "two/c"), start=8):
        save(tmp_path / f"{place}.png", noise(8, side))
    (tmp_path / "two" / "copy.png").write_bytes((tmp_path / "one" / "b.png").read_bytes())
    one, two = (load_image_set(str(tmp_path / folder)) for folder in ("one", "two"))
    assert shared_images([two], [one]) == ["two/copy"]
    (tmp_path / "two" / "copy.png").unlink()  # where a file is gone, reading it tells
    assert shared_images([two], [one]) == []


@pytest.mark.parametrize("name", ["photos[3", "photos[-3:]", "photos[1:2:3]"])
def test_a_part_that_is_none_is_told_how_one_is_written(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"NAME\[:3\] or NAME\[3:\] is a part of a set"):
        load_image_set(name)
