"""Weight files: whole, of the right model, found where they should be, and never executed."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

import srzoo
from srzoo import pretrained
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.entry import Entry
from srzoo.errors import InputError, MissingWeightsError, TrainingError, UnknownNameError, WeightsError
from srzoo.places import weights_folders
from srzoo.pretrained import load_model, load_start
from srzoo.ready import is_ready
from srzoo.specs import WeightFile
from srzoo.weights import (
    METADATA_KEY,
    check_hash,
    find_backbone,
    load_into,
    load_tensors,
    read_checkpoint,
    save_checkpoint,
)
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

URL = "https://example.org/tiny.safetensors"
TINY = {
    "summary": "the smallest trunk there is",
    "generator": {
        "name": "trunk",
        "num_features": 4,
        "num_blocks": 1,
        "block": {"name": "residual", "norm": "none", "activation": "relu"},
        "upsampler": {"name": "pixelshuffle"},
    },
}
LR = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@dataclass
class TinyZoo:
    """A zoo file of our own with the entry ``tiny`` and its checkpoint, as a plugin would ship them."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "weights" / "tiny.safetensors"

    def write_zoo(self, digest: str | None, **others: dict[str, Any]) -> None:
        entry = dict(TINY)
        if digest is not None:
            entry["weights"] = {"file": "weights/tiny.safetensors", "sha256": digest, "url": URL}
        (self.folder / "zoo.yaml").write_text(yaml.safe_dump({"tiny": entry, **others}))
        get_zoo.cache_clear()

    def entry(self, **overrides: Any) -> Entry:
        return get_zoo().entry("tiny", {key.replace("__", "."): value for key, value in overrides.items()})

    def write(
        self,
        tensors: dict[str, torch.Tensor] | None = None,
        composition: dict[str, Any] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Write a checkpoint and a zoo file that has its true hash."""
        tensors = tensors or fresh_tensors(self.entry())
        description = {"entry": "tiny", "composition": composition or full_composition(self.entry())}
        save_checkpoint(self.checkpoint, tensors, description)
        self.write_zoo(sha256(self.checkpoint.read_bytes()).hexdigest())
        return tensors


def fresh_tensors(entry: Entry) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return dict(build_generator(entry).state_dict())


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Iterator[TinyZoo]:
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.chdir(tmp_path)
    zoo = TinyZoo(tmp_path)
    zoo.write_zoo(None)
    yield zoo
    monkeypatch.undo()


def replace_bytes(path: Path, content: bytes) -> None:
    """Overwrite a file; its time of change moves on, as it does outside a test that takes a millisecond."""
    later = path.stat().st_mtime_ns + 1_000_000_000
    path.write_bytes(content)
    os.utime(path, ns=(later, later))


# --- files ----------------------------------------------------------------------------------------------------


def test_checkpoint_comes_back_with_its_description(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(3, 4),
        "b": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "turned": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    tensors["shared"] = tensors["a.weight"]
    description = {"entry": "x", "composition": {"scale": 4, "generator": {"name": "é", "options": [1, None, 0.1]}}}
    save_checkpoint(tmp_path / "new" / "x.safetensors", tensors, description)
    found, told = read_checkpoint(tmp_path / "new" / "x.safetensors")
    assert told == description
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert os.listdir(tmp_path / "new") == ["x.safetensors"]


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2)}
    for name, described in (("one", {"x": 1, "y": 2}), ("two", {"y": 2, "x": 1})):
        save_checkpoint(tmp_path / name, tensors, described)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_safetensors_of_another_program_has_no_description(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_checkpoint(tmp_path / "x.safetensors")[1] == {}
    save_file({"a": torch.ones(2)}, tmp_path / "y.safetensors", {METADATA_KEY: "[1, 2]"})
    assert read_checkpoint(tmp_path / "y.safetensors")[1] == {}


def test_every_cut_and_every_damaged_header_is_a_weights_error_or_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.randn(3, 4), "b": torch.tensor(3)}, {"entry": "x"})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"x\.safetensors is (not a whole|empty)"):
            read_checkpoint(path)
    for position in range(len(whole)):
        for flip in (0x01, 0x20, 0xFF):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
            with contextlib.suppress(WeightsError):  # nothing else may be raised
                read_checkpoint(path)


def test_what_is_no_weight_file_is_a_weights_error(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("folder.safetensors", "text.safetensors", "text.pth", "missing.pth"):
        with pytest.raises(WeightsError, match=name):
            load_tensors(tmp_path / name)
    with pytest.raises(MissingWeightsError, match=r"no weight file .*missing\.safetensors"):
        load_tensors(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("failing", ["writing", "renaming"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(3)}, {"entry": "old"})
    before = path.read_bytes()

    def full_disk(*arguments: Any, **options: Any) -> None:
        if failing == "writing":
            Path(arguments[1]).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srzoo.weights.save_file" if failing == "writing" else "os.replace", full_disk)
    with pytest.raises(TrainingError, match=r"Cannot write .*x\.safetensors.*No space left.*untouched"):
        save_checkpoint(path, {"a": torch.ones(3)}, {"entry": "new"})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


class Payload:
    """What a malicious pickle looks like."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_a_payload_is_refused_and_not_executed(tmp_path: Path, suffix: str, writer: str) -> None:
    path, marker = tmp_path / f"evil{suffix}", tmp_path / "executed"
    content = {"a": torch.ones(2), "b": Payload(marker)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match=rf"evil{suffix}"):
        load_tensors(path)
    assert not marker.exists()
    if suffix == ".pth" and writer == "pickle":  # the payload works where it is let
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_a_plain_state_dict_is_read_and_anything_else_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    assert torch.equal(load_tensors(tmp_path / "good.pth")["a"], torch.ones(2))
    for content in ({"state_dict": {"a": torch.ones(2)}}, [torch.ones(2)], {"a": torch.ones(2), "epoch": 3}):
        torch.save(content, tmp_path / "bad.pth")
        with pytest.raises(WeightsError, match=r"bad\.pth is not a state dict of tensors"):
            load_tensors(tmp_path / "bad.pth")


# --- loading into a module ------------------------------------------------------------------------------------


def test_tensors_of_another_model_are_listed_with_what_is_wrong() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {"0.weight": torch.ones(3, 5), "1.weight": torch.ones(2, 3), "1.bias": torch.ones(2), "2.bias": LR}
    with pytest.raises(WeightsError) as caught:
        load_into(module, tensors, "file x")
    message = str(caught.value)
    assert "file x belongs to another model" in message
    assert "1 of 4 tensors are missing (0.bias)" in message
    assert "1 are not known here (2.bias)" in message
    assert "0.weight is (3, 5) there and (3, 2) here" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    module = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.ones(3, 2), "bias": torch.tensor([0, value, 0])}
    with pytest.raises(WeightsError, match="not finite in bias"):
        load_into(module, tensors, "file x")
    assert torch.isfinite(module.bias).all()


def test_half_precision_weights_are_converted() -> None:
    module = torch.nn.Linear(2, 3)
    load_into(module, {"weight": torch.ones(3, 2).bfloat16(), "bias": torch.ones(3).half()}, "file x")
    assert module.weight.dtype == torch.float32
    assert (module.bias == 1).all()


# --- of an entry ----------------------------------------------------------------------------------------------


def test_entry_loads_its_weights_ready_to_upscale(tiny: TinyZoo) -> None:
    tensors = tiny.write()
    model = load_model("tiny")
    assert model.name == "tiny"
    assert model.digest == sha256(tiny.checkpoint.read_bytes()).hexdigest()
    assert not model.generator.training
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.generator.state_dict().items())
    generator = srzoo.create_generator("tiny", pretrained=True)
    assert not generator.training
    assert torch.equal(generator(LR), model.generator(LR))


def test_a_flipped_byte_anywhere_is_refused_and_the_repaired_file_loads(tiny: TinyZoo) -> None:
    tiny.write()
    whole = tiny.checkpoint.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    in_description = whole.index(b"activation")
    positions = [0, 3, 8, 9, in_description, header - 1, header, header + 1, (header + len(whole)) // 2, len(whole) - 1]
    assert load_model("tiny")
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 0x04
        replace_bytes(tiny.checkpoint, bytes(damaged))
        for load in (lambda: load_model("tiny"), lambda: srzoo.create_generator("tiny", pretrained=True)):
            with pytest.raises(WeightsError, match=r"tiny\.safetensors is damaged or another file: its SHA-256 begins"):
                load()
    for content in (whole[:-1], whole + b"\0", b""):
        replace_bytes(tiny.checkpoint, content)
        with pytest.raises(WeightsError, match="damaged or another file"):
            load_model("tiny")
    replace_bytes(tiny.checkpoint, whole)
    assert load_model("tiny")


def test_checkpoint_of_another_model_under_the_right_hash_is_refused(tiny: TinyZoo) -> None:
    tensors = fresh_tensors(tiny.entry())
    names = list(tensors)
    tensors["stranger"] = tensors.pop(names[0])
    tensors[names[1]] = torch.zeros(5, 7)
    tiny.write(tensors)
    with pytest.raises(WeightsError) as caught:
        load_model("tiny")
    for part in ("tiny.safetensors", names[0], "stranger", f"{names[1]} is (5, 7) there"):
        assert part in str(caught.value)


def test_checkpoint_with_nan_under_the_right_hash_is_refused(tiny: TinyZoo) -> None:
    tensors = fresh_tensors(tiny.entry())
    name = list(tensors)[-1]
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    tiny.write(tensors)
    with pytest.raises(WeightsError, match=f"not finite in {name}"):
        load_model("tiny")


def test_same_shapes_trained_with_another_activation_are_refused(tiny: TinyZoo) -> None:
    leaky = full_composition(tiny.entry(generator__block__activation="leaky_relu"))
    tensors = tiny.write(composition=leaky)
    with pytest.raises(WeightsError) as caught:
        load_model("tiny")
    assert "generator.block.activation: 'leaky_relu' in the file, 'relu' here" in str(caught.value)
    load_into(build_generator(tiny.entry()), tensors, "shapes alone")  # would not have noticed


def test_option_that_came_after_the_file_was_written_is_taken_as_its_default(tiny: TinyZoo) -> None:
    composition = full_composition(tiny.entry())
    del composition["generator"]["hr_conv"]
    del composition["generator"]["block"]["residual_scale"]
    tiny.write(composition=composition)
    assert load_model("tiny")


def test_option_that_the_file_has_and_this_version_lacks_is_refused(tiny: TinyZoo) -> None:
    composition = full_composition(tiny.entry())
    composition["generator"]["from_the_future"] = True
    tiny.write(composition=composition)
    with pytest.raises(WeightsError, match=r"generator\.from_the_future"):
        load_model("tiny")


def test_missing_file_is_named_with_its_source(tiny: TinyZoo) -> None:
    tiny.write()
    tiny.checkpoint.unlink()
    with pytest.raises(MissingWeightsError) as caught:
        load_model("tiny")
    told = (
        f"entry 'tiny': the weight file {tiny.checkpoint} is not there. 'srzoo weights pull tiny' gets it from {URL}."
    )
    assert told in str(caught.value)


def test_entry_without_weights_says_how_to_make_some(tiny: TinyZoo) -> None:
    with pytest.raises(MissingWeightsError, match=r"entry 'tiny' has no weights in the zoo; 'srzoo train tiny'"):
        load_model("tiny")
    (tiny.folder / "runs" / "tiny").mkdir(parents=True)
    with pytest.raises(MissingWeightsError, match=r"write runs.tiny in place of the name"):
        load_model("tiny")


def test_is_ready_tells_what_can_upscale_at_once(tiny: TinyZoo) -> None:
    assert is_ready(get_zoo().entry("bicubic"))
    assert not is_ready(get_zoo().entry("tiny"))
    tiny.write()
    assert is_ready(get_zoo().entry("tiny"))
    tiny.checkpoint.unlink()
    assert not is_ready(get_zoo().entry("tiny"))


def test_weights_are_not_handed_on_to_an_entry_that_extends(tiny: TinyZoo) -> None:
    tiny.write()
    digest = sha256(tiny.checkpoint.read_bytes()).hexdigest()
    tiny.write_zoo(digest, child={"extends": "tiny", "generator.block.activation": "leaky_relu"})
    assert is_ready(get_zoo().entry("tiny"))
    assert not is_ready(get_zoo().entry("child"))


@pytest.mark.parametrize(
    "overrides", [{"num_features": 8}, {"num_blocks": 2}, {"tail_kernel": 9}, {"image_skip": "bilinear"}, {"scale": 2}]
)
def test_pretrained_with_an_override_that_changes_the_composition_is_refused(
    tiny: TinyZoo, overrides: dict[str, Any]
) -> None:
    tiny.write()
    (key,) = overrides
    with pytest.raises(WeightsError, match=rf"trained as another composition.*{key}: "):
        srzoo.create_generator("tiny", pretrained=True, **overrides)
    srzoo.create_generator("tiny", **overrides)  # without the weights it is welcome


def test_pretrained_with_an_override_that_changes_nothing_loads(tiny: TinyZoo) -> None:
    tiny.write()
    assert srzoo.create_generator("tiny", pretrained=True, num_features=4, image_skip="none")
    assert srzoo.create_generator("tiny", pretrained=True, init="blocks", init_scale=0.5), "what weights begin as"


def test_pretrained_is_never_silently_ignored(tiny: TinyZoo) -> None:
    with pytest.raises(MissingWeightsError, match="'tiny' has no weights"):
        srzoo.create_generator("tiny", pretrained=True)
    assert srzoo.create_generator("bicubic", pretrained=True)  # has none and needs none


# --- of a file or a run ---------------------------------------------------------------------------------------


def test_file_is_built_as_it_says_itself(tiny: TinyZoo) -> None:
    leaky = tiny.entry(generator__block__activation="leaky_relu")
    generator = build_generator(leaky).eval()
    save_checkpoint(tiny.checkpoint, generator.state_dict(), {"composition": full_composition(leaky)})
    model = load_model(tiny.checkpoint)
    assert model.name == "tiny"
    assert model.entry.scale == 4
    assert len(model.digest) == 64
    assert torch.equal(model.generator(LR), generator(LR))
    relu = build_generator(tiny.entry()).eval()
    relu.load_state_dict(generator.state_dict())
    assert not torch.equal(model.generator(LR), relu(LR))


def test_run_folder_stands_for_its_weights(tiny: TinyZoo) -> None:
    tensors = tiny.write()
    run = tiny.folder / "runs" / "mine"
    with pytest.raises(UnknownNameError):
        load_model(run)
    run.mkdir(parents=True)
    with pytest.raises(MissingWeightsError, match=r"mine holds 0 \.safetensors files"):
        load_model(run)
    (run / "tiny.safetensors").write_bytes(tiny.checkpoint.read_bytes())
    for reference in (run, str(run)):
        model = load_model(reference)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.generator.state_dict().items())
    (run / "other.safetensors").write_bytes(tiny.checkpoint.read_bytes())
    with pytest.raises(MissingWeightsError, match=r"mine holds 2 \.safetensors files"):
        load_model(run)


def test_file_that_does_not_say_what_it_is_is_refused(tiny: TinyZoo) -> None:
    save_file(fresh_tensors(tiny.entry()), tiny.folder / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors does not say what it is the weights of"):
        load_model(tiny.folder / "x.safetensors")
    with pytest.raises(MissingWeightsError, match=r"no weight file .*nowhere\.safetensors"):
        load_model(tiny.folder / "nowhere.safetensors")


@pytest.mark.parametrize(
    "composition", [{}, {"scale": 4}, {"scale": "four", "generator": "trunk"}, {"scale": 4, "generator": 3}]
)
def test_file_whose_description_is_damaged_is_refused(tiny: TinyZoo, composition: dict[str, Any]) -> None:
    metadata = {METADATA_KEY: json.dumps({"composition": composition})}
    save_file(fresh_tensors(tiny.entry()), tiny.folder / "x.safetensors", metadata)
    with pytest.raises(WeightsError, match=r"x\.safetensors: its description is damaged"):
        load_model(tiny.folder / "x.safetensors")


def test_start_from_a_file_is_checked_like_start_from_an_entry(tiny: TinyZoo) -> None:
    leaky = tiny.entry(generator__block__activation="leaky_relu")
    tensors = tiny.write()
    generator = build_generator(tiny.entry())
    for reference in ("tiny", str(tiny.checkpoint)):
        load_start(generator, reference, tiny.entry())
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in generator.state_dict().items())
        with pytest.raises(WeightsError, match=r"generator\.block\.activation: 'relu' in the file, 'leaky_relu' here"):
            load_start(build_generator(leaky), reference, leaky)


def test_an_entry_to_start_from_wins_over_a_folder_that_is_called_so(tiny: TinyZoo) -> None:
    tensors = tiny.write()
    other = tiny.folder / "tiny"
    save_checkpoint(other / "x.safetensors", {n: 2 * t for n, t in tensors.items()}, {})
    generator = build_generator(tiny.entry())
    load_start(generator, "tiny", tiny.entry())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in generator.state_dict().items())


def test_what_is_loaded_is_what_the_hash_is_of(tiny: TinyZoo, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tiny.write()

    def swapped(path: Path, *content: bytes) -> Any:
        save_checkpoint(path, {n: 2 * t for n, t in tensors.items()}, {})
        return read_checkpoint(path, *content)

    monkeypatch.setattr(pretrained, "read_checkpoint", swapped)
    for reference in ("tiny", tiny.checkpoint):
        tiny.write(tensors)
        digest = sha256(tiny.checkpoint.read_bytes()).hexdigest()
        model = load_model(reference)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.generator.state_dict().items())
        assert model.digest == digest


def test_a_swapped_file_of_the_same_size_and_time_is_noticed(tiny: TinyZoo) -> None:
    tiny.write()
    load_model("tiny")
    before, content = tiny.checkpoint.stat(), tiny.checkpoint.read_bytes()
    tiny.checkpoint.write_bytes(content[:-4] + bytes(4))
    os.utime(tiny.checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(WeightsError, match="is damaged or another file"):
        load_model("tiny")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("num_blocks", 10**9, "it has 14 tensors, and the entry far more"),
        ("num_features", 10**6, "have another shape"),
        ("block", {"name": "residual", "folder": "/etc"}, "a weight file may name no path outside its folder"),
    ],
)
def test_a_file_that_describes_an_absurd_generator_is_refused(
    tiny: TinyZoo, option: str, value: Any, told: str
) -> None:
    composition = full_composition(tiny.entry())
    composition = {**composition, "generator": {**composition["generator"], option: value}}
    tiny.write(composition=composition)
    with pytest.raises(InputError, match=told):
        load_model(tiny.checkpoint)


# --- backbones ------------------------------------------------------------------------------------------------


def backbone(content: bytes, url: str = "") -> WeightFile:
    return WeightFile("backbone.pth", sha256(content).hexdigest()[:8], url)


def place(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backbone.pth").write_bytes(content)
    return folder / "backbone.pth"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder that is searched, in order."""
    first, second, cache = tmp_path / "first", tmp_path / "second", tmp_path / "cache"
    monkeypatch.setenv("SRZOO_WEIGHTS", os.pathsep.join([str(first), str(second)]))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "shared" / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    expected = [first, second, tmp_path / "shared" / "weights", cache / "srzoo" / "weights"]
    assert weights_folders() == expected
    return expected


def test_backbone_is_found_in_srzoo_weights_then_beside_the_data_then_in_the_cache(folders: list[Path]) -> None:
    content = b"features"
    for folder in reversed(folders):
        expected = place(folder, content)
        assert find_backbone([backbone(content)], "lpips is")[0] == expected


def test_any_of_several_files_will_do(folders: list[Path]) -> None:
    other = WeightFile("other.safetensors", "00000000")
    expected = place(folders[-1], b"features")
    assert find_backbone([other, backbone(b"features")], "lpips is")[0] == expected


def test_backbone_with_the_wrong_hash_is_refused_not_skipped(folders: list[Path]) -> None:
    damaged = place(folders[0], b"featurez")
    place(folders[1], b"features")
    with pytest.raises(WeightsError, match=rf"{damaged} is damaged or another file: .*Delete it and get it again"):
        find_backbone([backbone(b"features")], "lpips is")


def test_missing_backbone_says_which_file_to_put_where(folders: list[Path]) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        find_backbone([backbone(b"x", "https://a.org/b"), WeightFile("other.safetensors", "00000000")], "vgg19 is")
    message = str(caught.value)
    assert (
        f"vgg19 is not available: put backbone.pth (https://a.org/b) or other.safetensors into {folders[0]}." in message
    )
    assert all(str(folder) in message for folder in folders)
    assert "'srzoo weights pull backbone.pth' gets it." in message
    with pytest.raises(MissingWeightsError) as caught:
        find_backbone([WeightFile("other.safetensors", "00000000")], "vgg19 is")
    assert "pull" not in str(caught.value), "it has no address"


def test_hash_may_be_given_by_its_first_digits(tmp_path: Path) -> None:
    path = place(tmp_path, b"features")
    digest = sha256(b"features").hexdigest()
    for expected in (digest, digest[:8], digest.upper()):
        check_hash(path, expected)
    with pytest.raises(WeightsError, match=f"its SHA-256 begins {digest[:16]}, expected 00000000"):
        check_hash(path, "00000000")


def test_hash_is_taken_anew_when_the_file_changes(tmp_path: Path) -> None:
    path = place(tmp_path, b"features")
    check_hash(path, sha256(b"features").hexdigest())
    replace_bytes(path, b"featurez")
    check_hash(path, sha256(b"featurez").hexdigest())


def test_the_shipped_squeezenet_has_the_hash_that_the_plugins_expect(squeezenet: Path) -> None:
    from srzoo.registry import get_registry

    spec: Any = get_registry().get("extractor", "squeezenet1_1").spec
    assert find_backbone(spec.weights, "squeezenet1_1 is")[0] == squeezenet
    assert srzoo.create("extractor", "squeezenet1_1")


def test_a_path_stands_for_a_model_in_python_too(
    tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write()
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(tiny.checkpoint.read_bytes())
    tensors = read_checkpoint(mine)[0]
    for path in (mine, str(mine)):
        network = srzoo.create_generator(path, pretrained=True)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())
    fresh = srzoo.create_generator(mine).state_dict()
    assert not all(torch.equal(fresh[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(InputError, match="num_blocks can be given for an entry"):
        srzoo.create_generator(mine, num_blocks=3)
    Path("srresnet-lite-x4").mkdir()
    Path("zoo").mkdir()
    Path("zoo/srresnet-lite-x4").mkdir()
    assert srzoo.create_generator("zoo/srresnet-lite-x4"), "an entry's name wins over a folder, with its owner too"
