"""``srzoo list``, ``show`` and ``plugins``: what a user reads, and the exit codes scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.extras import is_installed
from srzoo.options import signature_of
from srzoo.plugins import PluginRecord
from srzoo.ready import weights_path
from srzoo.registry import get_registry
from srzoo.specs import KINDS, BlockSpec
from srzoo.zoo import get_zoo

COMPONENTS = [(kind, component.name) for kind in KINDS for component in get_registry().find(kind)]


@pytest.fixture(autouse=True)
def _own_zoo_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRZOO_ZOO", "")  # so that what --zoo sets is undone


def run(*arguments: str) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(arguments))


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "srzoo", *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def ok_json(*arguments: str) -> Any:
    return json.loads(ok(*arguments, "--json"))


def refused(*arguments: str, code: int = 2) -> str:
    """Return what the command line writes to standard error when it refuses, in one line."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.count("error:") == 1
    assert result.stdout == ""
    return " ".join(result.stderr.split())


# --- list ---------------------------------------------------------------------------------------------------


def test_list_shows_every_entry_in_the_order_of_the_zoo() -> None:
    assert [entry["name"] for entry in ok_json("list")] == get_zoo().names()
    text = ok("list")
    assert all(f" {name} " in text for name in get_zoo().names())


def test_list_tells_scale_stages_and_whether_there_are_weights() -> None:
    entries = {entry["name"]: entry for entry in ok_json("list")}
    esrgan = entries["esrgan-x4"]
    assert (esrgan["scale"], esrgan["stages"]) == (4, ["psnr", "gan"])
    assert esrgan["summary"] == get_zoo().entry("esrgan-x4").summary
    assert entries["bicubic"]["weights"] is None, "bicubic needs none"
    assert {type(e["weights"]) for e in entries.values() if e["stages"]} == {bool}


@pytest.mark.parametrize("arguments", [("*ablation*",), ("entry", "*ablation*"), ("entries", "*ablation*")])
def test_list_takes_a_pattern(arguments: tuple[str, ...]) -> None:
    assert [entry["name"] for entry in ok_json("list", *arguments)] == get_zoo().names("*ablation*")


@pytest.mark.parametrize("kind", KINDS)
def test_list_shows_the_components_of_a_kind(kind: str) -> None:
    found = ok_json("list", kind)
    assert [(c["kind"], c["name"]) for c in found] == [(k, name) for k, name in COMPONENTS if k == kind]
    assert all(c["summary"] and c["owner"] and c["distribution"] for c in found)
    text = ok("list", kind)
    assert all(f" {component['name']} " in text for component in found)


@pytest.mark.parametrize(("plural", "kind"), [("blocks", "block"), ("losses", "loss"), ("metrics", "metric")])
def test_list_understands_plurals(plural: str, kind: str) -> None:
    assert ok_json("list", plural) == ok_json("list", kind)


def test_list_takes_a_pattern_of_components() -> None:
    assert [c["name"] for c in ok_json("list", "upsampler", "*conv*")] == ["nearest_conv", "transposed_conv"]


def test_list_of_an_unknown_entry_gives_the_near_miss() -> None:
    assert "No entry matches 'esrgn-x4'. Did you mean 'esrgan-x4'" in refused("list", "esrgn-x4")


def test_list_of_a_part_of_names_gives_the_pattern() -> None:
    found = get_zoo().names("*gan*")
    assert f"No entry matches 'gan'. It is part of {len(found)} names: srzoo list '*gan*'." in refused("list", "gan")


@pytest.mark.parametrize("word", ["blokc", "generatr", "dataset_"])
def test_list_of_a_misspelt_kind_gives_the_near_miss(word: str) -> None:
    near = {"blokc": "block", "generatr": "generator", "dataset_": "dataset"}[word]
    assert f"'{near}'" in refused("list", word)


def test_list_of_a_misspelt_kind_with_a_pattern_names_all_kinds() -> None:
    message = refused("list", "blokc", "r*")
    assert "There is no kind 'blokc'. Did you mean 'block'?" in message
    assert all(kind in message for kind in KINDS)


# --- show ---------------------------------------------------------------------------------------------------


def test_show_tells_composition_recipe_and_cost_of_an_entry() -> None:
    data = ok_json("show", "srresnet-lite-x4")
    entry = get_zoo().entry("srresnet-lite-x4")
    assert entry.training is not None
    assert data["generator"] == entry.generator.flat()
    assert data["training"]["stages"]["psnr"]["steps"] == entry.training.stages["psnr"].steps
    assert data["parameters"] > 100_000
    assert data["multiply_adds"] > 1e9
    text = " ".join(ok("show", "srresnet-lite-x4").split())
    assert entry.summary in text
    assert f"{data['parameters']:,} parameters" in text
    assert f"num_blocks: {entry.generator.options['num_blocks']}" in text


def test_show_writes_inherited_values_out() -> None:
    assert ok_json("show", "esrgan-ablation-7-x4")["discriminator"] == {"name": "vgg128"}


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_show_tells_every_option_of_a_component(kind: str, name: str) -> None:
    component = get_registry().get(kind, name)
    signature = signature_of(component)
    data = ok_json("show", f"{kind}/{name}")
    assert [option["name"] for option in data["options"]] == [option.name for option in signature.options]
    assert [slot["name"] for slot in data["slots"]] == [slot.name for slot in signature.slots]
    assert (data["kind"], data["name"], data["owner"]) == (kind, name, component.owner.name)
    text = ok("show", f"{kind}/{name}")
    assert component.full_name in text
    assert all(option in text for option in signature.names())


def test_show_tells_types_defaults_and_help() -> None:
    (option,) = [o for o in ok_json("show", "block/rrdb")["options"] if o["name"] == "growth"]
    assert (option["type"], option["default"]) == ("int", "32")
    assert option["help"]


def test_show_tells_the_facts_of_a_spec() -> None:
    assert ok_json("show", "discriminator/vgg128")["facts"]["input_size"] == 128
    assert "input_size: 128" in ok("show", "discriminator/vgg128")


def test_show_takes_owner_and_name() -> None:
    assert ok_json("show", "block/esrgan/rrdb") == ok_json("show", "block/rrdb")


def test_diff_shows_only_what_sets_two_entries_apart() -> None:
    found = ok_json("show", "esrgan-ablation-2-x4", "--diff", "esrgan-ablation-3-x4")
    assert found == [{"key": "generator.block.norm", "esrgan-ablation-2-x4": "batch", "esrgan-ablation-3-x4": "none"}]
    text = ok("show", "esrgan-ablation-2-x4", "--diff", "esrgan-ablation-3-x4")
    assert "generator.block.norm" in text
    assert "num_blocks" not in text


def test_diff_takes_a_path(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(weights_path(get_zoo().entry("srresnet-lite-x4")).read_bytes())
    assert not [row for row in ok_json("show", str(mine), "--diff", "srresnet-lite-x4") if "generator" in row["key"]]
    keys = [row["key"] for row in ok_json("show", "srresnet-direct-x4", "--diff", str(mine))]
    assert "generator.num_blocks" in keys and "generator.upsampler.name" in keys
    (tmp_path / "other.pth").write_bytes(b"")
    refused = CliRunner().invoke(app, ["show", "srresnet-lite-x4", "--diff", str(tmp_path / "other.pth")])
    assert refused.exit_code == 2 and "is no entry of the zoo." in " ".join(refused.output.split())


def test_diff_of_an_entry_with_itself_says_that_there_is_none() -> None:
    assert "composed and trained alike" in ok("show", "bicubic", "--diff", "bicubic")
    assert ok_json("show", "bicubic", "--diff", "bicubic") == []


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("show", "esrgan-x5"), "No entry is called 'esrgan-x5'. Did you mean 'esrgan-x4'"),
        (("show", "block/rrbd"), "No block is called 'rrbd'. Did you mean 'rrdb'"),
        (("show", "blocks/rrbd"), "No block is called 'rrbd'. Did you mean 'rrdb'"),
        (("show", "blok/rrdb"), "'block"),
        (("show", "esrgan-x4", "--diff", "esrgan-x5"), "No entry is called 'esrgan-x5'. Did you mean 'esrgan-x4'"),
        (("show", "block/rrdb", "--diff", "block/dense"), "--diff compares entries"),
        (("show", "bicubic", "--diff", "block/dense"), "block/dense"),
        (("show", ""), "No entry is called ''"),
        (("show", "block/"), "is called 'block/'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_unknown_name_exits_with_2_and_the_near_miss(arguments: tuple[str, ...], about: str) -> None:
    assert about in refused(*arguments)


def test_a_missing_name_or_unknown_command_exits_with_2() -> None:
    assert run("show").exit_code == 2
    assert run("shw", "bicubic").exit_code == 2
    assert run("list", "--jsn").exit_code == 2


# --- plugins ------------------------------------------------------------------------------------------------


def test_plugins_shows_every_plugin_and_what_it_provides() -> None:
    data = ok_json("plugins")
    assert data["problems"] == []
    provided = {name for plugin in data["plugins"] for name in plugin["provides"]}
    assert provided >= {f"{kind}/{name}" for kind, name in COMPONENTS}
    assert {plugin["status"] for plugin in data["plugins"]} <= {"ok", "disabled"}
    text = ok("plugins")
    assert all(f" {plugin['name']} " in text for plugin in data["plugins"])


def records(*broken: str, clash: bool = False) -> list[PluginRecord]:
    found = list(get_registry().records)
    found += [PluginRecord(name, f"dist-{name}", "1.0", name, status="broken", error="OSError: no") for name in broken]
    if clash:
        spec = BlockSpec("rrdb", "a:b", summary="Another")
        found.append(PluginRecord("other", "dist-other", "1.0", "other", specs=(spec,)))
    return found


@pytest.mark.parametrize(
    ("broken", "clash", "code", "about"),
    [
        ((), False, 0, ()),
        (("bad",), False, 1, ("plugin 'bad' (dist-bad 1.0) is broken: OSError: no",)),
        (("bad", "worse"), False, 1, ("plugin 'bad'", "plugin 'worse'")),
        ((), True, 1, ("block 'rrdb' is registered by", "plugin 'other' (dist-other 1.0)")),
    ],
    ids=["fine", "one broken", "two broken", "name clash"],
)
def test_strict_exits_with_1_for_what_is_broken_or_clashes_and_plain_with_0(
    monkeypatch: pytest.MonkeyPatch,
    fresh_registry: None,
    broken: tuple[str, ...],
    clash: bool,
    code: int,
    about: tuple[str, ...],
) -> None:
    found = records(*broken, clash=clash)
    get_registry.cache_clear()
    monkeypatch.setattr("srzoo.registry.discover", lambda: found)
    plain, strict = run("plugins"), run("plugins", "--strict")
    assert (plain.exit_code, strict.exit_code) == (0, code)
    message = " ".join(strict.stderr.split())
    assert all(message.count(sentence) == 1 for sentence in about), message
    assert strict.stderr.count("error:") == len(broken) + clash
    as_json = run("plugins", "--strict", "--json")
    assert as_json.exit_code == code
    assert len(json.loads(as_json.stdout)["problems"]) == len(broken) + clash


def test_strict_notices_a_zoo_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "gone.yaml"))
    result = run("plugins", "--strict")
    assert result.exit_code == 1
    assert result.stderr.count("gone.yaml") >= 1


# --- a zoo file of one's own --------------------------------------------------------------------------------


@pytest.fixture
def own_zoo(tmp_path: Path, fresh_registry: None) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("mine:\n  extends: bicubic\n  summary: My own\nbad:\n  generator: bicubic\n  sclae: 4\n")
    return path


def test_a_zoo_file_of_ones_own_joins_the_zoo(own_zoo: Path) -> None:
    data = json.loads(run("--zoo", str(own_zoo), "show", "mine", "--json").stdout)
    assert (data["name"], data["summary"]) == ("mine", "My own")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_typo_in_it_is_told_once_with_exit_code_2_and_the_rest_is_listed(own_zoo: Path, how: str) -> None:
    if how == "option":
        result = run_process("--zoo", str(own_zoo), "list")
    else:
        result = run_process("list", SRZOO_ZOO=str(own_zoo))
    assert result.returncode == 2
    assert " mine " in result.stdout
    assert " bicubic " in result.stdout
    assert " bad " not in result.stdout
    assert result.stderr.count("error:") == 1
    assert result.stderr.count("sclae") == 2, "the key, and the sentence about it"
    assert f"{own_zoo}, line 6: entry 'bad': sclae: unknown key 'sclae'. Did you mean 'scale'?" in result.stderr
    assert "Traceback" not in result.stderr


def test_json_stays_json_beside_a_broken_entry(own_zoo: Path) -> None:
    result = run("--zoo", str(own_zoo), "list", "--json")
    assert result.exit_code == 2
    assert "mine" in {entry["name"] for entry in json.loads(result.stdout)}
    assert "sclae" in result.stderr


def test_a_broken_entry_does_not_disturb_another(own_zoo: Path) -> None:
    result = run("--zoo", str(own_zoo), "show", "mine", "--json")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_showing_a_broken_entry_tells_its_error(own_zoo: Path) -> None:
    message = refused("--zoo", str(own_zoo), "show", "bad")
    assert "line 6: entry 'bad'" in message


@pytest.mark.parametrize(
    ("content", "about"),
    [
        ("a: [open\n", "not valid YAML"),
        ("- a\n", "must be a mapping"),
        ("", "must be a mapping"),
    ],
    ids=["not yaml", "a list", "empty"],
)
def test_a_file_that_cannot_be_used_is_told_once_and_the_zoo_still_works(
    tmp_path: Path, fresh_registry: None, content: str, about: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    result = run("--zoo", str(path), "list", "bicubic", "--json")
    assert result.exit_code == 2
    assert [entry["name"] for entry in json.loads(result.stdout)] == ["bicubic"]
    message = " ".join(result.stderr.split())
    assert message.count("error:") == 1
    assert about in message
    assert "mine.yaml" in message
    assert run("show", "nearest", "--json").exit_code == 0


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path: Path, fresh_registry: None) -> None:
    assert "There is no zoo file" in refused("--zoo", str(tmp_path / "mine.yaml"), "show", "bicubic")


def test_an_error_with_square_brackets_is_printed_as_it_is(tmp_path: Path, fresh_registry: None) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: {generator: '[/bold] [red]'}\n")
    assert "No generator is called '[/bold] [red]'" in refused("--zoo", str(path), "show", "a")


# --- the rest -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "show", "plugins", "train", "bench", "upscale"])
def test_every_command_has_help(command: str) -> None:
    assert command in ok("--help")
    assert "Usage" in ok(command, "--help")
    assert "Usage" in ok(command, "-h")


def test_version_is_printed() -> None:
    from importlib.metadata import version

    assert ok("--version") == f"srzoo {version('srzoo')}\n"


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m srzoo list | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


def test_completion_offers_names_and_stays_silent_beside_a_broken_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: [open\n")
    monkeypatch.setenv("SRZOO_ZOO", str(path))
    from srzoo.cli.completion import complete_entry, complete_entry_or_component, complete_kind

    assert complete_entry("esrgan-ab") == get_zoo().names("esrgan-ab*")
    assert "block/rrdb" in complete_entry_or_component("block/r")
    assert complete_kind("b") == ["block"]


def test_show_takes_a_run_a_pulled_folder_and_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = get_zoo().entry("bicubic")
    written = {"summary": "Mine", "generator": {"name": "bicubic"}, "weights": {"file": "x", "sha256": "0" * 64}}
    for folder, file, content in (
        ("run", "entry.json", entry.model_dump()),
        ("pulled", "zoo.yaml", {"mine": written}),
        ("broken", "entry.json", {"name": "x"}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(json.dumps(content))
    description = json.dumps({"composition": entry.composition()})
    header = json.dumps({"__metadata__": {"srzoo": description}}).encode()
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    for path in ("run", "pulled", "net.safetensors"):
        found = CliRunner().invoke(app, ["show", path, "--json"])
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["generator"] == {"name": "bicubic"}
    assert "does not say what it is of" in refused("show", "broken")
    for path, about in (
        ("net.pth", "'srzoo weights import net.pth' makes one"),
        ("half.safetensors", "is not a whole safetensors file; get it again"),
        ("notes.md", "none that weights are kept in: these end in .safetensors"),
    ):
        (tmp_path / path).write_bytes(b"")
        assert about in refused("show", path)
    (tmp_path / "folder").mkdir()
    assert refused("show", "folder").endswith("It is a folder that holds neither a run nor a pulled model.")
    (tmp_path / "folder" / "a.safetensors").touch()
    assert "write a checkpoint, e.g. folder/a.safetensors" in refused("show", "folder")


def test_an_entry_with_an_error_is_told_of_at_the_foot_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    (tmp_path / "zoo.yaml").write_text("mine: {extends: rrdb-lite-x4, generator.block.grwth: 8}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    found = run("list", "*")
    assert "One is left out for an error, told below." in " ".join(found.stdout.split())
    assert "Did you mean 'growth'" in found.stderr


def test_entries_that_are_ready_come_first_and_can_be_asked_for_alone() -> None:
    facts = {
        entry["name"]: entry["weights"] for entry in json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    }
    lines = CliRunner().invoke(app, ["list"], env={"COLUMNS": "160"}).stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.split() and line.split()[0] in facts]
    usable = [name for name, weights in facts.items() if weights is not False]
    assert listed == [*usable, *(name for name in facts if name not in usable)]
    assert [entry["name"] for entry in ok_json("list", "--ready")] == usable
    assert any(line.startswith(f"All are x4. {len(usable)} are ready to use.") for line in lines)
    result = CliRunner().invoke(app, ["list", "block", "--ready"])
    assert result.exit_code == 2 and "--ready is for entries" in result.stderr


def test_what_needs_a_library_that_is_not_installed_comes_last_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from srzoo.cli import catalog

    monkeypatch.setattr(catalog, "is_installed", lambda name: False)
    components = get_registry().find("metric")
    names = {c.name: c.spec.library == "pyiqa" for c in components}
    lines = CliRunner().invoke(app, ["list", "metric"]).stdout.splitlines()
    absent = [names[line.split()[0]] for line in lines if line.strip() and line.split()[0] in names]
    assert len(absent) == len(components) and absent == sorted(absent) and len(set(absent)) == 2
    assert any(f"{sum(absent)} of them, the last, need pyiqa, which is not" in line for line in lines)
    monkeypatch.setattr(catalog, "is_installed", lambda name: True)
    assert "not installed" not in CliRunner().invoke(app, ["list", "metric"]).stdout


def test_strict_notices_an_unknown_name_in_the_list_of_plugins_and_a_name_that_two_zoo_files_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    (tmp_path / "zoo.yaml").write_text("bicubic: {generator: nearest}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.setenv("SRZOO_PLUGINS", "my-blok")
    strict = run("plugins", "--strict")
    told = " ".join(strict.stderr.split())
    assert strict.exit_code == 1
    assert "SRZOO_PLUGINS names 'my-blok', but no such plugin is installed" in told
    assert "Entry 'bicubic' is written in" in told
    listed = run("list", "*bicubic")
    assert listed.exit_code == 0
    assert "zoo/bicubic" in listed.stdout and "local/bicubic" in listed.stdout


def test_one_factory_that_cannot_be_loaded_leaves_the_other_components_listed(
    monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    found = [*get_registry().records]
    spec = BlockSpec("typo", "no_such_module:Block", summary="Another")
    found.append(PluginRecord("other", "dist-other", "1.0", "other", specs=(spec,)))
    get_registry.cache_clear()
    monkeypatch.setattr("srzoo.registry.discover", lambda: found)
    listed = run("list", "block", "--json")
    assert listed.exit_code == 2 and "no_such_module" in listed.stderr
    names = {row["name"] for row in json.loads(listed.stdout)}
    assert "rrdb" in names and "typo" not in names


def test_a_library_within_a_package_that_is_not_installed_is_absent() -> None:
    assert is_installed("json.decoder") and is_installed("torch")
    assert not is_installed("no_such_package.ops") and not is_installed("json.decoder.no")


def test_ready_are_entries_whose_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    composed = "generator: {name: espcn}"
    weights = f"weights: {{file: w.safetensors, sha256: {'0' * 64}, url: 'https://example.org/w', licence: MIT}}"
    (tmp_path / "zoo.yaml").write_text(f"fetched: {{{composed}, {weights}}}\nbare: {{{composed}}}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    ready = {row["name"] for row in json.loads(run("list", "--ready", "--json").stdout)}
    assert {"bicubic", "srresnet-lite-x4"} <= ready and not ready & {"fetched", "bare"}
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert (rows["fetched"]["weights"], rows["fetched"]["ready"]) == (True, False)
    assert (rows["bare"]["weights"], rows["bare"]["ready"]) == (False, False)
    assert "not here" in run("list", "fetched").stdout


def test_a_folder_called_like_a_kind_is_a_path_unless_a_component_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_path(get_zoo().entry("srresnet-lite-x4")).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in ("data/4x.safetensors", "metrics/4x.safetensors", "block/rrdb"):
        Path(name).parent.mkdir()
        Path(name).write_bytes(weights)
    for name in ("data/4x.safetensors", "metrics/4x.safetensors"):
        shown = run("show", name)
        assert shown.exit_code == 0 and "501,459 parameters" in shown.stdout, shown.output
    assert "owner esrgan/rrdb" in run("show", "block/rrdb").stdout
