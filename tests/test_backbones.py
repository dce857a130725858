"""Backbones: listed, added, fetched and verified by hash; never unasked."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from srzoo import backbones
from srzoo.backbones import Backbone, choose, pull
from srzoo.cli import app
from srzoo.errors import InputError, UnknownNameError, WeightsError
from srzoo.plugins import PluginRecord
from srzoo.registry import Component, get_registry
from srzoo.specs import MetricSpec, WeightFile

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments])


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder of its own with nothing in it."""
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "nothing" / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SRZOO_OFFLINE", raising=False)
    return tmp_path / "weights"


@pytest.fixture
def declared(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if a metric named a file that lies on this machine, by a file: address."""
    source = empty.parent / "server" / "net.pth"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    file = WeightFile("net.pth", DIGEST[:8], source.as_uri())
    spec = MetricSpec("mine", lambda: None, summary="A metric", weights=(file,))
    component = Component(spec, PluginRecord("mine", "dist-mine", "1.0", "mine", specs=(spec,)))
    monkeypatch.setattr(backbones, "_declared", lambda: iter([(component, (file,))]))
    return source


def test_every_backbone_of_the_first_party_plugins_is_listed(empty: Path) -> None:
    found = {b["file"]: b for b in json.loads(cli("list", "--json").output)}
    assert "metric/lpips_alex" in found["alexnet-owt-7be5be79.pth"]["needed_by"]
    assert "extractor/vgg19" in found["vgg19-dcbb9e9d.pth"]["needed_by"]
    assert found["squeezenet1_1-b8a52dc0.pth"]["alternatives"] == ["squeezenet1_1_features.safetensors"]
    assert all(b["path"] is None for b in found.values())
    assert "alexnet-owt-7be5be79.pth" in cli("list").output


def test_a_component_stands_for_its_file(empty: Path) -> None:
    for name in ("lpips_alex", "metric/lpips_alex", "alexnet-owt-7be5be79.pth"):
        assert [b.file.filename for b in choose(name)] == ["alexnet-owt-7be5be79.pth"]
    with pytest.raises(UnknownNameError, match="Did you mean 'lpips_alex'"):
        choose("lpips_alx")


def test_pull_fetches_once_and_keeps_only_what_is_right(declared: Path, empty: Path) -> None:
    result = cli("pull", "mine")
    assert result.exit_code == 0, result.output
    assert (empty / "net.pth").read_bytes() == CONTENT
    declared.unlink()
    assert "was there" in cli("pull", "mine").output, "it is not fetched twice"
    (empty / "net.pth").unlink()
    declared.write_bytes(CONTENT + b"x")
    with pytest.raises(WeightsError, match="invalid hash"):
        pull(*choose("mine"), show_progress=False)
    assert list(empty.iterdir()) == [], "neither the wrong file nor a part of it"


def test_nothing_is_fetched_offline_or_without_an_address(
    declared: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRZOO_OFFLINE", "1")
    result = cli("pull", "mine")
    assert result.exit_code == 2
    assert "SRZOO_OFFLINE is set" in result.stderr
    assert "srzoo weights add net.pth" in " ".join(result.stderr.split())
    assert not empty.exists()
    with pytest.raises(InputError, match="has no address"):
        pull(Backbone(WeightFile("x.pth", DIGEST), (), (), None))


def test_a_file_is_added_by_its_hash_whatever_its_name(declared: Path, empty: Path) -> None:
    download = empty.parent / "net (1).pth"
    download.write_bytes(CONTENT)
    assert cli("add", str(download)).exit_code == 0
    assert (empty / "net.pth").read_bytes() == CONTENT
    other = empty.parent / "net.pth"
    other.write_bytes(b"cut short")
    result = cli("add", str(other))
    assert result.exit_code == 2
    assert "net.pth has" in result.stderr
    assert "so it is damaged" in " ".join(result.stderr.split())
    assert cli("add", str(empty / "missing.pth")).exit_code == 2


def test_verify_names_what_is_damaged(declared: Path, empty: Path) -> None:
    cli("pull", "mine")
    fine = cli("verify")
    assert fine.exit_code == 0, fine.output
    (empty / "net.pth").write_bytes(CONTENT[:-1] + b"X")
    result = cli("verify")
    assert result.exit_code == 1
    assert "damaged or another file" in " ".join(result.stderr.split())
    assert "1 are not" in result.output


class Response(io.BytesIO):
    """What a server gives: a length that it tells, and content."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(length)}


def test_what_a_server_breaks_off_stalls_or_never_ends_is_told_and_not_kept(
    declared: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (backbone,) = choose("mine")
    asked: list[Any] = []
    answers = {
        "the connection broke off after 5 of 7,000 bytes": lambda: Response(CONTENT[:5], 7000),
        "more than 6,999 bytes": lambda: Response(CONTENT, 7000),
        "timed out": lambda: (_ for _ in ()).throw(TimeoutError("timed out")),
        "BadStatusLine|garbled": lambda: (_ for _ in ()).throw(http.client.BadStatusLine("garbled")),
        "No space left": lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    }
    monkeypatch.setattr(backbones, "MAX_BYTES", 6_999)
    for told, answer in answers.items():
        monkeypatch.setattr(
            backbones.urllib.request, "urlopen", lambda _, timeout, answer=answer: (asked.append(timeout), answer())[1]
        )
        with pytest.raises(WeightsError, match=told):
            pull(backbone, show_progress=False)
        assert list(empty.iterdir()) == []
    assert set(asked) == {backbones.TIMEOUT}


def test_a_folder_in_the_place_of_a_backbone_is_told_and_a_link_is_replaced(declared: Path, empty: Path) -> None:
    (empty / "net.pth").mkdir(parents=True)
    with pytest.raises(WeightsError, match="is a folder; remove it"):
        pull(*choose("mine"), show_progress=False)
    assert list((empty / "net.pth").iterdir()) == []
    (empty / "net.pth").rmdir()
    (empty / "net.pth").symlink_to(empty.parent / "elsewhere.pth")
    pull(*choose("mine"), show_progress=False)
    assert not (empty / "net.pth").is_symlink()
    assert not (empty.parent / "elsewhere.pth").exists()


def test_a_backbone_without_a_hash_is_never_right(declared: Path, empty: Path) -> None:
    file = WeightFile("net.pth", "", declared.as_uri())
    with pytest.raises(WeightsError, match="invalid hash"):
        pull(Backbone(file, (), (), None), show_progress=False)


@pytest.mark.parametrize("name", ["other/lpips_alex", "metric/other/lpips_alex"])
def test_of_two_components_of_one_name_each_is_pulled_by_its_owner(
    name: str, empty: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    spec = MetricSpec("lpips_alex", lambda: None, summary="A metric", weights=(WeightFile("another.pth", "0" * 64),))
    found = [*get_registry().records, PluginRecord("other", "dist-other", "1.0", "other", specs=(spec,))]
    get_registry.cache_clear()
    monkeypatch.setattr("srzoo.registry.discover", lambda: found)
    with pytest.raises(InputError, match="write 'metric/metrics/lpips_alex' or 'metric/other/lpips_alex'"):
        choose("lpips_alex")
    (backbone,) = choose(name)
    assert backbone.file.filename == "another.pth" and backbone.needed_by == ("metric/other/lpips_alex",)
