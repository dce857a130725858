"""Models between people: through a folder, and through huggingface_hub against a server of this machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_server import COMMIT, Hub, serving
from typer.testing import CliRunner, Result

from srzoo import hub
from srzoo.cli import app
from srzoo.compose import build_generator
from srzoo.composition import full_composition
from srzoo.errors import DataError, EntryError, InputError, MissingWeightsError, TrainingError, WeightsError
from srzoo.hub import pull, push
from srzoo.pretrained import load_model
from srzoo.verification import verify
from srzoo.weights import read_checkpoint, save_checkpoint
from srzoo.zoo import Zoo, get_zoo

torch.set_num_threads(1)

LR = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Path:
    """A zoo file with an entry that has weights, a recipe, and scores."""
    folder = tmp_path / "mine"
    folder.mkdir()
    entry: dict[str, Any] = {
        "extends": "esrgan-lite-x4",
        "summary": "a small one",
        "generator": {"num_features": 4, "num_blocks": 1, "block": {"growth": 2}},
    }
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"small": entry}))
    monkeypatch.setenv("SRZOO_ZOO", str(folder / "zoo.yaml"))
    resolved = get_zoo().entry("small")
    assert resolved.training is not None
    torch.manual_seed(0)
    recipe = resolved.training.model_dump(mode="json")
    recipe["data"] = ["/home/me/private/photos", "div2k"]
    description = {"entry": "small", "composition": full_composition(resolved), "training": recipe}
    path = folder / "small.safetensors"
    save_checkpoint(path, build_generator(resolved).state_dict(), description)
    entry["weights"] = {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest(), "licence": "MIT"}
    entry["recorded"] = {"scores": {"photos": {"psnr": 10.0}}}
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"small": entry}))
    get_zoo.cache_clear()
    monkeypatch.chdir(tmp_path)
    return folder


def shown(folder: str) -> list[str]:
    """Return the names in a folder, but for hidden ones."""
    return sorted(name for name in os.listdir(folder) if name[0] != ".")


def output_of(reference: str | Path) -> torch.Tensor:
    with torch.inference_mode():
        return load_model(reference).generator(LR)


# --- through a folder -------------------------------------------------------------------------------------------


def test_a_model_goes_to_a_folder_and_comes_back_the_same(mine: Path, tmp_path: Path) -> None:
    assert push("small", "./shared") == "shared"
    assert sorted(os.listdir("shared")) == ["README.md", "small.safetensors", "zoo.yaml"]
    found = pull("./shared", "models/small")
    assert not found.was_there
    assert shown("models/small") == ["README.md", "small.safetensors", "zoo.yaml"]
    assert (found.folder / "small.safetensors").read_bytes() == (mine / "small.safetensors").read_bytes()
    entry = get_zoo().entry("small")
    assert found.entry.recorded == entry.recorded
    assert found.entry.discriminator == entry.discriminator
    assert found.entry.weights is not None
    assert found.entry.weights.licence == "MIT"
    assert torch.equal(output_of("models/small"), output_of("small"))
    assert pull("./shared", "models/small").was_there


def test_no_path_of_this_machine_is_sent(mine: Path) -> None:
    push("small", "./shared")
    for name in ("zoo.yaml", "README.md"):
        assert "/home/me" not in Path("shared", name).read_text()
    assert pull("./shared").entry.training is not None
    assert "photos" in pull("./shared").entry.training.data  # type: ignore[union-attr]


@pytest.mark.parametrize("start", ["mine.safetensors", "/home/me/mine.pt", "runs/mine", "./mine", "srresnet-lite-x4"])
def test_what_a_sent_model_started_from_is_a_name_that_can_be_pulled(mine: Path, start: str) -> None:
    tensors, description = read_checkpoint(mine / "small.safetensors")
    recipe = {**description["training"], "start_from": start, "data": ["./photos", ".", "C:\\pictures"]}
    save_checkpoint(mine / "run.safetensors", tensors, {**description, "training": recipe})
    push(mine / "run.safetensors", "./shared")
    training = pull("./shared").entry.training
    assert training is not None
    assert training.start_from == (start if start.startswith("srresnet") else "mine")
    assert training.data == ("photos", "unnamed", "pictures")


def test_a_file_and_a_run_can_be_sent(mine: Path) -> None:
    push(mine / "small.safetensors", "./shared", licence="MIT")
    assert torch.equal(output_of(pull("./shared").folder), output_of("small"))


def test_what_was_pulled_works_in_every_command(mine: Path, photos: str) -> None:
    push("small", "./shared")
    run = CliRunner().invoke
    pulled = run(app, ["pull", "./shared", "--to", "models/small"])
    assert pulled.exit_code == 0, pulled.output
    assert "srzoo verify models/small" in pulled.stdout
    benched = run(app, ["bench", "models/small", "--data", photos, "--metric", "psnr", "--out", "table"])
    assert benched.exit_code == 0, benched.output
    listed = run(app, ["--zoo", "models/small/zoo.yaml", "list", "small"])
    assert "a small one" in listed.stdout
    verified = run(app, ["verify", "models/small"])
    assert verified.exit_code == 1, "it does not have 10 dB"
    assert "does not hold" in verified.stdout
    assert verify("models/small").digest


def test_weights_are_verified_on_every_load(mine: Path) -> None:
    push("small", "./shared")
    folder = pull("./shared").folder
    content = (folder / "small.safetensors").read_bytes()
    (folder / "small.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]) + b"")
    with pytest.raises(WeightsError, match="damaged or another file"):
        load_model(folder)
    assert not pull("./shared").was_there, "pulling repairs it"
    assert load_model(folder)


def test_weights_that_are_not_what_they_should_be_never_get_their_name(mine: Path) -> None:
    push("small", "./shared")
    path = Path("shared/small.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"^\./shared: its weights small.safetensors are damaged or another file"):
        pull("./shared")
    assert not Path("models/shared").exists()


def test_another_model_in_the_folder_is_not_overwritten(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push("small", "./shared")
    pull("./shared", "models/x")
    before = Path("models/x/zoo.yaml").read_text()
    push("rrdb-lite-x4", "./other")
    with pytest.raises(InputError, match=r"models/x holds another model, or another version; give another folder"):
        pull("./other", "models/x")
    monkeypatch.setattr(hub, "_from_hub", lambda *_: hub._from_folder(Path("other")))
    with pytest.raises(InputError, match=r"give another folder with --to, such as --to models/you/x\.$"):
        pull("you/x")
    assert Path("models/x/zoo.yaml").read_text() == before
    assert shown("models/x") == ["README.md", "small.safetensors", "zoo.yaml"]


def test_two_versions_that_are_pulled_into_a_folder_at_once_do_not_mix(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push("small", "./shared")
    shutil.copytree("shared", "other")
    tensors, description = read_checkpoint(Path("shared/small.safetensors"))
    save_checkpoint(Path("other/small.safetensors"), {n: 2 * t for n, t in tensors.items()}, description)
    old, new = (sha256(Path(place, "small.safetensors").read_bytes()).hexdigest() for place in ("shared", "other"))
    Path("other/zoo.yaml").write_text(Path("shared/zoo.yaml").read_text().replace(old, new))
    replace, refused = os.replace, []

    def pull_other() -> None:
        try:
            pull("./other", "models/x")
        except InputError as error:
            refused.append(str(error))

    thread = threading.Thread(target=pull_other)

    def slow(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == "small.safetensors" and not thread.ident:
            thread.start()
            thread.join(0.5)  # as long as it may take if nothing holds it up

    monkeypatch.setattr(hub.os, "replace", slow)
    pull("./shared", "models/x")
    thread.join()
    assert "models/x holds another model, or another version" in refused[0]
    assert torch.equal(output_of("models/x"), output_of("shared"))


GOOD = "e:\n  summary: s\n  generator: {name: trunk, block: residual, upsampler: pixelshuffle}\n"


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "must be a mapping"),
        (GOOD, "holds 0 entries with weights"),
        (GOOD + f"  weights: {{file: ../x, sha256: {'0' * 64}}}\n", "must be a path below"),
        (GOOD + f"  weights: {{file: a/x, sha256: {'0' * 64}}}\n", "must lie beside its zoo file"),
        (GOOD + f"  weights: {{file: .bashrc, sha256: {'0' * 64}}}\n", "must lie beside its zoo file"),
        (GOOD + f"  weights: {{file: x.safetensors, sha256: {'0' * 64}}}\n", "holds no x"),
        (GOOD.replace("trunk", "stranger"), "No generator is called 'stranger'"),
        ("e: !!python/object/apply:os.system ['x']", "is not allowed"),
        ("x" * (2 << 20), "bytes; more than"),
    ],
)
def test_a_folder_of_a_stranger_is_looked_at_before_anything_is_taken(mine: Path, text: str, about: str) -> None:
    Path("stranger").mkdir()
    Path("stranger/zoo.yaml").write_text(text)
    Path("stranger/run_me.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match=about):
        pull("./stranger")
    assert not Path("models/stranger").exists()


def test_mistakes_are_told(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="There is no folder nowhere; a model on the Hub is written OWNER/NAME"):
        pull("./nowhere")
    Path("empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no zoo\.yaml"):
        pull("./empty")
    with pytest.raises(InputError, match="'bicubic' has no weights"):
        push("bicubic", "./shared")
    Path("file").write_text("")
    push("small", "./shared")
    with pytest.raises(TrainingError, match="Cannot write to file"):
        pull("./shared", "file/x")
    monkeypatch.setenv("SRZOO_OFFLINE", "1")
    with pytest.raises(InputError, match=r"SRZOO_OFFLINE is set.*\./me/mine"):
        pull("me/mine")
    with pytest.raises(InputError, match="SRZOO_OFFLINE is set"):
        push("small", "me/mine")


@pytest.mark.parametrize("name", ["README.md", "zoo.yaml", "weights"])
def test_weights_under_the_name_of_another_file_are_refused(mine: Path, name: str) -> None:
    push("small", "./shared")
    Path("shared", "small.safetensors").rename(Path("shared", name if name == "weights" else "x"))
    text = Path("shared/zoo.yaml").read_text()
    Path("shared/zoo.yaml").write_text(text.replace("small.safetensors", name))
    with pytest.raises(InputError, match="must be a safetensors file, by its ending"):
        pull("./shared")


def test_folders_and_links_in_the_place_of_what_is_pulled(mine: Path, tmp_path: Path) -> None:
    push("small", "./shared")
    folder = Path("models/x")
    weights = folder / "small.safetensors"
    weights.mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder, where the weights belong"):
        pull("./shared", folder)
    assert sorted(os.listdir(folder)) == ["small.safetensors"]
    weights.rmdir()
    (folder / "zoo.yaml").write_bytes(Path("shared/zoo.yaml").read_bytes())
    weights.symlink_to(mine / "small.safetensors")
    assert not pull("./shared", folder).was_there, "a link out of the folder is not what was pulled"
    assert not weights.is_symlink()
    assert (mine / "small.safetensors").is_file()


def test_a_full_disk_leaves_nothing_behind(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push("small", "./shared")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub.shutil, "copyfile", full)
    with pytest.raises(TrainingError, match=r"Cannot write to .*No space left"):
        pull("./shared", "models/x")
    assert not Path("models/x").exists()


def test_a_folder_that_holds_two_models_is_refused(mine: Path) -> None:
    push("small", "./shared")
    text = Path("shared/zoo.yaml").read_text()
    second = text.partition("\n")[2].replace("small:", "second:", 1)
    Path("shared/zoo.yaml").write_text(text + second)
    with pytest.raises(EntryError, match="holds 2 entries with weights"):
        load_model("shared")


# --- several processes ------------------------------------------------------------------------------------------


def _pull(arguments: tuple[str, str]) -> bool:
    source, to = arguments
    for _ in range(20):
        pull(source, to)
        load_model(to)  # whole at every moment after
    return True


@pytest.mark.slow  # processes that import torch
def test_processes_that_pull_at_once_do_no_harm(mine: Path, tmp_path: Path) -> None:
    push("small", "./shared")
    work = [(str(tmp_path / "shared"), str(tmp_path / "models" / "x"))] * 2
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert all(pool.map(_pull, work, chunksize=1))
    assert shown("models/x") == ["README.md", "small.safetensors", "zoo.yaml"]


BACKBONE = """
import sys
from pathlib import Path
from srzoo.backbones import Backbone, pull
from srzoo.specs import WeightFile
file = WeightFile("net.pth", sys.argv[2], url=Path(sys.argv[1]).as_uri())
print(pull(Backbone(file, (), (), None), show_progress=False))
"""


# --- an address in a zoo file -----------------------------------------------------------------------------------


@pytest.fixture
def published(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The entry's weights lie on a server that its zoo file names, and not beside it."""
    content = (mine / "small.safetensors").read_bytes()
    (mine / "small.safetensors").unlink()
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("SRZOO_OFFLINE", raising=False)
    with serving() as hub:
        hub.files["them/models"] = {"small.safetensors": content}
        document = yaml.safe_load((mine / "zoo.yaml").read_text())
        document["small"]["weights"]["url"] = f"{hub.address}/them/models/resolve/main/small.safetensors"
        (mine / "zoo.yaml").write_text(yaml.safe_dump(document))
        get_zoo.cache_clear()
        yield hub


def weights_command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments])


def test_weights_are_fetched_from_an_entrys_address_when_that_is_asked_for(published: Hub, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"'srzoo weights pull small' gets it from http://127"):
        load_model("small")
    assert published.requests == [], "nothing is fetched unasked"
    fetched = weights_command("pull", "small")
    assert fetched.exit_code == 0, fetched.output
    assert output_of("small").shape == (1, 3, 36, 48)
    asked = len(published.requests)
    assert "was there" in weights_command("pull", "small").output
    assert len(published.requests) == asked == 1
    (file,) = (tmp_path / "weights" / "entries").iterdir()
    file.write_bytes(file.read_bytes()[:-4] + b"evil")
    with pytest.raises(WeightsError, match="is damaged or another file"):
        load_model("small")


def test_what_an_address_gives_is_kept_only_if_its_hash_is_right(published: Hub, tmp_path: Path) -> None:
    published.files["them/models"]["small.safetensors"] += b"more"
    told = weights_command("pull", "small")
    assert told.exit_code != 0
    assert "invalid hash" in told.output
    assert list((tmp_path / "weights" / "entries").iterdir()) == []
    published.files["them/models"].clear()
    assert "404" in weights_command("pull", "small").output


def test_an_address_is_not_asked_offline_and_must_be_of_the_web(
    published: Hub, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_OFFLINE", "1")
    assert "SRZOO_OFFLINE is set" in " ".join(weights_command("pull", "small").output.split())
    monkeypatch.delenv("SRZOO_OFFLINE")
    document = yaml.safe_load((mine / "zoo.yaml").read_text())
    for address, said in (("file:///etc/passwd", "none of the web"), ("", "no address")):
        document["small"]["weights"]["url"] = address
        (mine / "zoo.yaml").write_text(yaml.safe_dump(document))
        get_zoo.cache_clear()
        assert said in " ".join(weights_command("pull", "small").output.split())
    assert published.requests == []


@pytest.mark.slow  # processes that import torch
def test_processes_that_fetch_one_backbone_at_once_do_no_harm(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "source.pth").write_bytes(content)
    arguments = [sys.executable, "-c", BACKBONE, str(tmp_path / "source.pth"), sha256(content).hexdigest()]
    environment = {**os.environ, "SRZOO_WEIGHTS": str(tmp_path / "weights")}
    running = [subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert os.listdir(tmp_path / "weights") == ["net.pth"]
    assert (tmp_path / "weights" / "net.pth").read_bytes() == content


# --- through the Hub --------------------------------------------------------------------------------------------

TALK = """
import json, sys
from srzoo.errors import SrzooError
from srzoo.hub import pull, push
for verb, *arguments in json.loads(sys.argv[1]):
    try:
        print({"push": push, "pull": lambda *a: pull(*a).folder}[verb](*arguments))
    except SrzooError as error:
        print(type(error).__name__, error)
"""


def talk(address: str, home: Path, *calls: list[str]) -> list[str]:
    """Push and pull in a process of its own, since huggingface_hub reads its settings once; returns a line for each."""
    import json

    settings = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home / "hf"),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", TALK, json.dumps(calls)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout
    return done.stdout.splitlines()


def test_a_model_goes_to_the_hub_and_comes_back_the_same(mine: Path, tmp_path: Path) -> None:
    with serving() as hub:
        told = talk(hub.address, tmp_path, ["push", "small", "me/my-small"], ["pull", "me/my-small"])
        assert told == [f"{hub.address}/me/my-small/commit/{COMMIT}", "models/my-small"]
        assert sorted(n for n in hub.files["me/my-small"] if n[0] != ".") == [
            "README.md",
            "small.safetensors",
            "zoo.yaml",
        ]
        fetched = [r for r in hub.requests if r.startswith("GET") and "/resolve/" in r]
    assert {r.rpartition("/")[2] for r in fetched} == {"README.md", "small.safetensors", "zoo.yaml"}
    folder = Path("models/my-small")
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert torch.equal(output_of(folder), output_of("small"))


def test_what_the_hub_lacks_or_garbles_is_told_in_a_sentence(mine: Path, tmp_path: Path) -> None:
    push("small", "./shared")
    files = {name: Path("shared", name).read_bytes() for name in os.listdir("shared")}
    with serving() as hub:
        hub.files["me/bare"] = {"README.md": b"hello", "pytorch_model.bin": b"x"}
        hub.files["me/garbled"] = {**files, "small.safetensors": b"garbled"}
        told = talk(hub.address, tmp_path, *(["pull", f"me/{name}"] for name in ("absent", "bare", "garbled")))
    for line, about in zip(told, ("me/absent", "zoo.yaml cannot be fetched", "damaged or another"), strict=True):
        assert line.startswith("WeightsError ")
        assert about in line
    for name in ("absent", "bare", "garbled"):
        assert not Path("models", name).exists()


@pytest.mark.slow  # huggingface_hub tries five times
def test_a_hub_that_does_not_answer_is_told_in_a_sentence(mine: Path, tmp_path: Path) -> None:
    with serving() as hub:
        address = hub.address
    (line,) = talk(address, tmp_path, ["pull", "me/x"])
    assert line.startswith("WeightsError me/x: zoo.yaml cannot be fetched from the Hub: ")


def test_the_zoo_is_not_changed_by_what_was_pulled(mine: Path) -> None:
    push("small", "./shared")
    before = get_zoo().names()
    pull("./shared")
    get_zoo.cache_clear()
    zoo = get_zoo()
    assert isinstance(zoo, Zoo)
    assert zoo.names() == before


def test_files_that_a_recipe_reads_are_not_sent(mine: Path, tmp_path: Path) -> None:
    """Nobody else has them, and a zoo file may name none; what is sent can be fetched."""
    path = mine / "small.safetensors"
    tensors, description = read_checkpoint(path)
    losses = description["training"]["stages"]["gan"]["losses"]
    losses["perceptual"]["extractor"] = {"name": "timm", "backbone": "resnet10t", "weights": "my/resnet.pth"}
    losses["perceptual"]["layers"] = {"layer1": 1.0}
    run = tmp_path / "run"
    run.mkdir()
    save_checkpoint(run / "small.safetensors", tensors, description)
    push(run, "./shared-run")
    (entry,) = yaml.safe_load(Path("shared-run/zoo.yaml").read_text()).values()
    told = entry["training"]["stages"]["gan"]["losses"]["perceptual"]
    assert told["extractor"] == {"name": "timm", "backbone": "resnet10t"}
    assert pull("./shared-run", "there").entry.training is not None
    assert load_model("there").digest == load_model(run).digest


def test_a_lock_that_cannot_be_had_is_named(mine: Path) -> None:
    push("small", "./shared")
    Path("there/.lock").mkdir(parents=True)
    with pytest.raises(InputError, match=r"there/\.lock cannot be locked: .*; remove it"):
        pull("./shared", "there")
