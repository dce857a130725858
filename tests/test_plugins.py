"""Discovery: real distributions (a dist-info folder each) on sys.path, working and broken in every way."""

from __future__ import annotations

import csv
import importlib
import json
import multiprocessing.connection
import os
import signal
import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from pictures import photographs
from plugin_site import FACTORY, Site, block_plugin, plugin
from tiny import TINY_GAN

import srzoo
from srzoo import hookspecs
from srzoo.ablation.plan import make_plan
from srzoo.ablation.recipe import read_recipe
from srzoo.benchmark import ready_entries
from srzoo.compose import _Guarded
from srzoo.errors import CompositionError, InputError, labelled
from srzoo.exporting import export
from srzoo.offline import offline_if_asked
from srzoo.options import signature_of
from srzoo.plugins import PluginRecord, describe_exception, discover
from srzoo.pretrained import load_model
from srzoo.registry import Component, Registry
from srzoo.specs import KINDS, hook_name
from srzoo.verification import verify
from srzoo.zoo import get_zoo

HOOKS = [name for name in vars(hookspecs) if name.startswith("srzoo_")]
SPEC_OF_HOOK = {hook_name(kind): spec_class.__name__ for kind, spec_class in KINDS.items()}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


# --- what works ---------------------------------------------------------------------------------------------


def test_a_working_plugin_is_loaded_with_its_distribution_and_what_it_provides(site: Site) -> None:
    module = site.install("good", block_plugin(), distribution="My-Package", version="2.3")
    record = site.discover()["good"]
    assert record.status == "ok"
    assert record.error == ""
    assert (record.distribution, record.version, record.module) == ("my-package", "2.3", module)
    assert [(spec.kind, spec.name) for spec in record.specs] == [("block", "mine")]
    assert record.folder == site.folder
    assert not record.first_party


def test_what_a_plugin_prints_does_not_get_into_standard_output(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("chatty", "print('hello')\n" + block_plugin())
    assert site.discover()["chatty"].status == "ok"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_every_first_party_plugin_is_discovered_and_works() -> None:
    records = [record for record in discover() if record.first_party]
    declared = {point.name for point in metadata.distribution("srzoo").entry_points if point.group == "srzoo"}
    assert {record.name for record in records} == declared
    assert [(record.name, record.error) for record in records if record.status != "ok"] == []


def test_first_party_plugins_come_first_whatever_their_names(site: Site) -> None:
    site.install("aaa", block_plugin(), distribution="aaa")
    own = [point for point in metadata.entry_points(group="srzoo") if point.dist and point.dist.name == "srzoo"]
    records = discover([*site.entry_points(), *own])
    assert [record.name for record in records if not record.first_party] == ["aaa"]
    assert records[-1].name == "aaa"


def test_the_same_installation_found_twice_on_the_path_counts_once(site: Site) -> None:
    site.install("good", block_plugin())
    records = discover([*site.entry_points(), *site.entry_points()])
    assert [(record.name, record.status) for record in records] == [("good", "ok")]


def test_one_plugin_may_implement_several_hooks(site: Site) -> None:
    both = block_plugin() + plugin(f'srzoo.LossSpec("mine", "{FACTORY}", summary="A loss")', "srzoo_losses")
    site.install("both", both)
    assert {(spec.kind, spec.name) for spec in site.discover()["both"].specs} == {("block", "mine"), ("loss", "mine")}


# --- each hook ----------------------------------------------------------------------------------------------


def test_there_is_one_hook_for_every_kind_and_one_for_each_kind_of_file() -> None:
    assert set(HOOKS) == {*SPEC_OF_HOOK, "srzoo_entries", "srzoo_ablations"}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_in_its_docstring_what_it_returns(hook: str) -> None:
    function = getattr(hookspecs, hook)
    assert (function.__doc__ or "").startswith("Return ")
    assert function.__code__.co_argcount == 0
    assert function.__annotations__["return"].startswith("Sequence[")


def returned_by(hook: str) -> str:
    if hook in ("srzoo_entries", "srzoo_ablations"):
        return '"/some/where/zoo.yaml"'
    return f'srzoo.{SPEC_OF_HOOK[hook]}("mine", "{FACTORY}", summary="Mine")'


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_asked(site: Site, hook: str) -> None:
    site.install("good", plugin(returned_by(hook), hook))
    record = site.discover()["good"]
    assert record.status == "ok", record.error
    if hook == "srzoo_entries":
        assert record.zoo_files == (Path("/some/where/zoo.yaml"),)
    elif hook == "srzoo_ablations":
        assert record.ablations == (Path("/some/where/zoo.yaml"),)
    else:
        assert [(hook_name(spec.kind), spec.name) for spec in record.specs] == [(hook, "mine")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_breaks_its_own_plugin_only(site: Site, hook: str) -> None:
    site.install("bad", f"import srzoo\n\n@srzoo.hookimpl\ndef {hook}():\n    raise OSError('disk is full')\n")
    site.install("good", block_plugin())
    records = site.discover()
    assert records["good"].status == "ok"
    assert records["bad"].status == "broken"
    assert "OSError: disk is full" in records["bad"].error
    assert f"{records['bad'].module}.py, line 5" in records["bad"].error


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("value", ["None", "'text'", "{'a': 1}", "iter([])", "3"])
def test_a_hook_that_returns_no_list_is_named(site: Site, hook: str, value: str) -> None:
    site.install("bad", f"import srzoo\n\n@srzoo.hookimpl\ndef {hook}():\n    return {value}\n")
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"{hook}() must return a list, not " in record.error


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_whose_list_holds_something_else_is_named(site: Site, hook: str) -> None:
    site.install("bad", plugin("3.5", hook))
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"{hook}() must return a list of {SPEC_OF_HOOK.get(hook, 'paths')}" in record.error
    assert "3.5" in record.error


@pytest.mark.parametrize("hook", SPEC_OF_HOOK)
def test_a_spec_of_another_kind_is_refused_with_both_kinds_named(site: Site, hook: str) -> None:
    other = "LossSpec" if hook != "srzoo_losses" else "BlockSpec"
    site.install("bad", plugin(f'srzoo.{other}("mine", "{FACTORY}", summary="Mine")', hook))
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"{hook}() must return a list of {SPEC_OF_HOOK[hook]}, not one with {other}" in record.error


@pytest.mark.parametrize("hook", SPEC_OF_HOOK)
def test_the_same_name_twice_in_one_plugin_is_refused(site: Site, hook: str) -> None:
    site.install("bad", plugin(f"{returned_by(hook)}, {returned_by(hook)}", hook))
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"{hook}() returns 'mine' twice" in record.error


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_without_the_marker_is_named(site: Site, hook: str) -> None:
    source = block_plugin() if hook != "srzoo_blocks" else plugin(returned_by("srzoo_losses"), "srzoo_losses")
    site.install("bad", source + f"\ndef {hook}():\n    return []\n")
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"{hook}() is not marked with @srzoo.hookimpl" in record.error


@pytest.mark.parametrize("hook", HOOKS)
def test_a_misspelt_hook_is_refused_with_the_right_spelling(site: Site, hook: str) -> None:
    misspelt = hook[:-3] + hook[-2] + hook[-3] + hook[-1]
    site.install("bad", plugin("", misspelt))
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"srzoo has no hook {misspelt!r}. Did you mean {hook!r}" in record.error


# --- what breaks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_library_anywhere\n", "No module named 'no_such_library_anywhere'"),
        ("raise RuntimeError('first line\\nsecond line')\n", "RuntimeError: first line second line"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("def broken(:\n", "SyntaxError"),
        ("assert False\n", "AssertionError: no message"),
        ("raise BaseException('rude')\n", "BaseException: rude"),
        ("def deeper():\n    deeper()\ndeeper()\n", "RecursionError"),
        ("import srzoo\nsrzoo.NoSuchSpec\n", "module 'srzoo' has no attribute 'NoSuchSpec'"),
        ("", "implements no hook"),
        ("import srzoo\n@srzoo.hookimpl\ndef srzoo_blocks(more):\n    return []\n", "srzoo_blocks"),
        (plugin("srzoo.BlockSpec('Upper Case', 'a:b', summary='x')"), "name 'Upper Case' must be lower-case"),
        (plugin("srzoo.BlockSpec('b', 'a:b')"), "block 'b': give a one-line summary"),
        (plugin("srzoo.BlockSpec('b', 'no colon', summary='x')"), "must be 'package.module:Name' or a callable"),
        (plugin("srzoo.BlockSpec('b', 3, summary='x')"), "factory 3 is not callable"),
        (plugin("srzoo.BlockSpec('b', 'a:b', summary='x', scales=(1,))"), "unexpected keyword argument 'scales'"),
        ("class Silent(Exception):\n    def __str__(self): raise ValueError\nraise Silent\n", "Silent"),
    ],
    ids=[
        "missing library",
        "raises",
        "sys.exit",
        "syntax error",
        "no message",
        "BaseException",
        "recursion",
        "unknown srzoo name",
        "no hook",
        "hook with an argument",
        "bad name",
        "no summary",
        "bad factory text",
        "factory not callable",
        "unknown fact",
        "error that cannot be printed",
    ],
)
def test_a_broken_plugin_is_a_record_with_one_line_and_the_others_work(site: Site, source: str, cause: str) -> None:
    site.install("bad", source)
    site.install("good", block_plugin())
    records = site.discover()
    assert records["good"].status == "ok"
    assert records["bad"].status == "broken"
    assert cause in records["bad"].error
    assert "\n" not in records["bad"].error


def test_the_place_in_the_plugins_own_code_is_named(site: Site) -> None:
    module = site.install("bad", "\n\nimport no_such_library_anywhere\n")
    assert f"({module}.py, line 3)" in site.discover()["bad"].error


def test_the_place_of_a_syntax_error_is_named_once_and_is_the_plugins(site: Site) -> None:
    module = site.install("bad", "import srzoo\n\ndef (\n")
    error = site.discover()["bad"].error
    assert error.startswith("SyntaxError: ")
    assert error.endswith(f" ({module}.py, line 3)")
    assert error.count("line") == 1


def test_the_place_of_an_error_in_torch_is_where_the_plugin_called_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.nn.functional.interpolate(torch.zeros(1, 1, 2, 2, device="meta"), size=(0, 0))
    assert describe_exception(caught.value).endswith(f" ({Path(__file__).name}, line {caught.traceback[0].lineno + 1})")


def test_an_entry_point_to_a_module_that_is_not_there_is_a_record(site: Site) -> None:
    module = site.install("bad", "")
    (site.folder / f"{module}.py").unlink()
    importlib.invalidate_caches()
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert f"No module named {module!r}" in record.error


def test_keyboard_interrupt_is_not_swallowed(site: Site) -> None:
    site.install("bad", "import signal\nsignal.raise_signal(signal.SIGINT)\n")
    handler = signal.default_int_handler  # which a process in the background of a shell script has not
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            site.discover()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_plugin_is_taken_whole_or_not_at_all(site: Site) -> None:
    site.install("bad", block_plugin() + plugin("3", "srzoo_metrics"))
    record = site.discover()["bad"]
    assert record.status == "broken"
    assert record.specs == ()
    assert record.zoo_files == ()
    assert Registry([record]).find("block") == []


def test_a_broken_plugin_leaves_nothing_behind_for_the_next_one(site: Site) -> None:
    """The hooks of a plugin that failed late must not answer in the name of one that loads after it."""
    site.install("a-bad", block_plugin("theirs") + plugin("3", "srzoo_metrics"))
    site.install("b-good", block_plugin("mine"))
    assert [spec.name for spec in site.discover()["b-good"].specs] == ["mine"]


def test_a_plugin_name_taken_twice_is_an_error_naming_the_first_owner(site: Site) -> None:
    site.install("same", block_plugin("one"), distribution="dist-a")
    site.install("same", block_plugin("two"), distribution="dist-b", version="7.0")
    first, second = discover(site.entry_points())
    assert (first.distribution, first.status) == ("dist-a", "ok")
    assert (second.distribution, second.status) == ("dist-b", "broken")
    assert "'same' is already taken by plugin 'same' (dist-a 1.0)" in second.error
    assert second.specs == ()


def test_a_half_removed_distribution_without_metadata_brings_nothing_down(site: Site) -> None:
    """What an interrupted pip leaves: a dist-info folder whose METADATA is gone."""
    site.install("half", block_plugin(), distribution="half")
    (site.folder / "half-1.0.dist-info" / "METADATA").unlink()
    site.install("good", block_plugin())
    assert site.discover()["good"].status == "ok"


def test_a_fact_written_as_a_list_serves_as_a_tuple_or_is_refused_at_once(site: Site) -> None:
    """Not a TypeError about hashing when somebody asks for the component later."""
    spec = f'srzoo.GeneratorSpec("mine", "{FACTORY}", summary="x", scales=[2, 4])'
    site.install("lists", plugin(spec, "srzoo_generators"))
    record = site.discover()["lists"]
    if record.status == "broken":
        assert "scales" in record.error
    else:
        signature_of(Registry([record]).get("generator", "mine"))


# --- SRZOO_PLUGINS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "working"),
    [
        (None, {"a", "b", "c"}),
        ("", set()),
        (" , ", set()),
        ("a", {"a"}),
        (" a , b ", {"a", "b"}),
        ("dist-c", {"c"}),
        ("Dist-C", {"c"}),
        ("nobody", set()),
    ],
)
def test_srzoo_plugins_chooses_among_the_others_and_never_touches_first_party_ones(
    site: Site, monkeypatch: pytest.MonkeyPatch, value: str | None, working: set[str]
) -> None:
    for name in "ab":
        site.install(name, block_plugin())
    site.install("c", block_plugin(), distribution="Dist-C")
    own = [point for point in metadata.entry_points(group="srzoo") if point.dist and point.dist.name == "srzoo"]
    if value is not None:
        monkeypatch.setenv("SRZOO_PLUGINS", value)
    records = discover([*site.entry_points(), *own])
    assert {r.name for r in records if r.status == "ok" and not r.first_party} == working
    assert all(r.status == "ok" for r in records if r.first_party)
    assert {r.name for r in records if r.status == "disabled"} == {"a", "b", "c"} - working


def test_a_name_in_srzoo_plugins_that_is_not_installed_is_warned_of(site: Site) -> None:
    site.install("good", block_plugin("of_mine"), distribution="good-package")
    result = site.run("list", "block", SRZOO_PLUGINS="good_package,god")
    assert "SRZOO_PLUGINS names 'god', but no such plugin is installed. Did you mean 'good'" in result.stderr
    assert "good-package" not in result.stderr
    assert "of_mine" in result.stdout


def test_a_disabled_plugin_is_not_even_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    module = site.install("bad", "raise RuntimeError('imported')\n")
    monkeypatch.setenv("SRZOO_PLUGINS", "")
    record = site.discover()["bad"]
    assert record.status == "disabled"
    assert "SRZOO_PLUGINS" in record.error
    assert module not in sys.modules


# --- the command line over real distributions ---------------------------------------------------------------


def test_strict_exits_with_1_for_a_broken_plugin_and_tells_the_cause(site: Site) -> None:
    site.install("bad", "import no_such_library_anywhere\n", distribution="bad-package", version="0.3")
    strict = site.run("plugins", "--strict")
    assert strict.returncode == 1
    assert "bad-package 0.3" in strict.stdout
    assert strict.stderr.count("No module named 'no_such_library_anywhere'") == 1
    assert "Traceback" not in strict.stderr
    assert site.run("plugins").returncode == 0


def test_strict_exits_with_0_when_everything_works(site: Site) -> None:
    site.install("good", block_plugin("of_mine"))
    strict = site.run("plugins", "--strict", "--json")
    assert strict.returncode == 0, strict.stderr
    found = json.loads(strict.stdout)
    assert found["problems"] == []
    assert [p["provides"] for p in found["plugins"] if p["name"] == "good"] == [["block/of_mine"]]


def test_listing_works_beside_a_broken_plugin_and_warns_once(site: Site) -> None:
    site.install("bad", "import no_such_library_anywhere\n", distribution="bad-package")
    listed = site.run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "bicubic" in {entry["name"] for entry in json.loads(listed.stdout)}
    assert listed.stderr.count("warning:") == 1
    assert listed.stderr.count("No module named 'no_such_library_anywhere'") == 1
    assert "plugin 'bad' (bad-package 1.0)" in listed.stderr


def test_square_brackets_in_a_plugins_error_are_text_and_not_markup(site: Site) -> None:
    site.install("bad", "raise ImportError('cannot open [/usr/lib/x.so] of [bold]')\n")
    listed = site.run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "cannot open [/usr/lib/x.so] of [bold]" in listed.stderr


def test_a_plugin_that_exits_at_import_does_not_end_the_program(site: Site) -> None:
    site.install("bad", "import sys\nsys.exit(0)\n")
    listed = site.run("list", "block", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "rrdb" in {block["name"] for block in json.loads(listed.stdout)}
    assert "SystemExit" in listed.stderr


def test_asking_for_what_a_broken_plugin_may_own_quotes_its_error(site: Site) -> None:
    site.install("bad", "import no_such_library_anywhere\n")
    shown = site.run("show", "block/swin")
    assert shown.returncode == 2
    assert "No block is called 'swin'" in shown.stderr
    assert "No module named 'no_such_library_anywhere'" in shown.stderr.partition("error:")[2]


def test_a_clash_with_a_first_party_name_leaves_the_zoo_as_it_was(site: Site) -> None:
    """Installing a package never changes what an entry of the zoo means; only the user's bare name is ambiguous."""
    site.install("other", block_plugin("rrdb"), distribution="other-package")
    listed = site.run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "esrgan-x4" in {entry["name"] for entry in json.loads(listed.stdout)}
    strict = site.run("plugins", "--strict")
    assert strict.returncode == 1
    assert "plugin 'esrgan' (srzoo" in strict.stderr
    assert "plugin 'other' (other-package 1.0)" in strict.stderr
    shown = site.run("show", "block/rrdb")
    assert shown.returncode == 2
    assert "'esrgan/rrdb'" in shown.stderr and "'other/rrdb'" in shown.stderr


TAKEN = """
import srzoo
import torch


class Mine:
    def __call__(self, sr, hr):
        return torch.full((len(sr),), 7.0)


@srzoo.hookimpl
def srzoo_metrics():
    return [srzoo.MetricSpec("psnr", Mine, summary="Mine"), srzoo.MetricSpec("ssim", Mine, summary="Mine")]


@srzoo.hookimpl
def srzoo_datasets():
    return [srzoo.DatasetSpec("photos", "srzoo_photos.photos:photos", summary="The same under another owner")]


@srzoo.hookimpl
def srzoo_losses():
    return [srzoo.LossSpec("l1", "torch.nn:L1Loss", summary="Mine")]
"""


@pytest.mark.slow
def test_names_that_another_package_takes_too_work_by_default_and_with_their_owner(site: Site, tmp_path: Path) -> None:
    site.install("other", TAKEN)
    listed = site.run("list", "--ready", "--json")
    assert listed.returncode == 0 and "srresnet-lite-x4" in listed.stdout, listed.stderr

    def scores(*arguments: str) -> dict[str, set[str]]:
        out = tmp_path / "out"
        done = site.run("bench", "nearest", "--pictures", "0", "--out", str(out), "--no-resume", *arguments)
        assert done.returncode == 0, done.stderr
        with open(out / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return {metric: {row["value"] for row in rows if row["metric"] == metric} for metric in ("psnr", "ssim")}

    by_default = scores()
    assert len(by_default["psnr"]) == len(by_default["ssim"]) > 5
    mine = scores("--data", "other/photos", "--metric", "other/psnr,metrics/ssim")
    assert {float(value) for value in mine["psnr"]} == {7.0} and mine["ssim"] == by_default["ssim"]
    bare = site.run("bench", "nearest", "--metric", "psnr")
    assert bare.returncode == 2 and "write 'metrics/psnr' or 'other/psnr'" in bare.stderr
    trained = site.run(
        *("train", "srresnet-lite-x4", "--data", "photos/photos", "--steps", "1", "--out", str(tmp_path / "run")),
        *("generator.num_features=8", "generator.num_blocks=1", "training.batch_size=1", "training.patch_size=32"),
        "training.validation.data=photos/photos",
    )
    assert trained.returncode == 0, trained.stderr


@pytest.mark.slow
def test_a_zoo_file_with_a_taken_name_leaves_what_builds_on_the_other_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    """As of a model that was pushed, pulled, and named by --zoo: it has the name of the entry that it was."""
    (tmp_path / "zoo.yaml").write_text("srresnet-lite-x4: {generator: nearest}\nbicubic: {generator: nearest}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    folder = str(photographs(tmp_path / "photographs", {"a": (64, 48)}))
    wanted = "write 'zoo/srresnet-lite-x4' or 'local/srresnet-lite-x4'"
    with pytest.raises(InputError, match=wanted):
        srzoo.bench("srresnet-lite-x4", folder, "psnr")
    result = srzoo.bench("srgan-lite-x4,zoo/srresnet-lite-x4", folder, "psnr")
    assert {standing.entry for standing in result.standings} == {"srgan-lite-x4", "srresnet-lite-x4"}
    assert {"bicubic", "srgan-lite-x4"} < {name.rpartition("/")[2] for name in ready_entries()}
    assert "local/bicubic" not in ready_entries()
    assert verify("srgan-lite-x4", ["photos"], ["psnr"]).holds
    recipe = get_zoo().entry("srgan-lite-x4").training
    assert recipe is not None and recipe.start_from == "zoo/srresnet-lite-x4"

    shared = export("srgan-lite-x4", tmp_path / "shared", "safetensors").card.parent
    assert load_model(shared).digest == load_model("srgan-lite-x4").digest
    changes = {**TINY_GAN, "training.start_from": "zoo/srresnet-lite-x4", "generator.num_features": 48}
    changes["generator.num_blocks"] = 8
    srzoo.train("srgan-lite-x4", tmp_path / "run", data=folder, steps=1, overrides=changes, log_every=1)
    assert load_model(export(str(tmp_path / "run"), tmp_path / "again", "safetensors").card.parent)

    with (tmp_path / "zoo.yaml").open("a") as file:
        file.write("esrgan-ablation-2-x4: {generator: nearest}\n")
    get_zoo.cache_clear()
    plan = make_plan(read_recipe("esrgan"), "smoke")
    assert all(planned.entry.generator.name != "nearest" for planned in plan.trained if planned.entry is not None)


def test_nothing_connects_where_a_part_is_built_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetching() -> object:
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except ConnectionRefusedError:
            return "asked"
        return "found"

    spec = srzoo.LossSpec("fetching", fetching, summary="A loss")
    component = Component(spec, PluginRecord("mine", "dist-mine", "1.0", "mine", specs=(spec,)))
    build = _Guarded(component, {}, "here")
    for value in ("", "0"):
        monkeypatch.setenv("SRZOO_OFFLINE", value)
        assert build() == "asked"
    for value in ("1", "true"):
        monkeypatch.setenv("SRZOO_OFFLINE", value)
        with pytest.raises(CompositionError, match="SRZOO_OFFLINE is set"):
            build()


def test_threads_leave_sockets_as_they_were_and_processes_of_one_program_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRZOO_OFFLINE", "1")
    before = socket.socket.connect, socket.getaddrinfo, os.environ.get("HF_HUB_OFFLINE")
    one, two = offline_if_asked(), offline_if_asked()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    with pytest.raises(OSError, match="SRZOO_OFFLINE is set"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    with multiprocessing.connection.Listener(family="AF_UNIX") as listener:
        multiprocessing.connection.Client(listener.address).close()
    two.__exit__(None, None, None)
    assert (socket.socket.connect, socket.getaddrinfo, os.environ.get("HF_HUB_OFFLINE")) == before


def test_a_place_in_a_package_is_told_with_the_package(tmp_path: Path) -> None:
    (tmp_path / "acme" / "parts").mkdir(parents=True)
    for folder in ("acme", "acme/parts"):
        (tmp_path / folder / "__init__.py").touch()
    code = compile("raise ValueError('no')", str(tmp_path / "acme" / "parts" / "block.py"), "exec")
    with pytest.raises(ValueError, match="no") as caught:
        exec(code)
    assert describe_exception(caught.value) == "ValueError: no (acme/parts/block.py, line 1)"


def test_a_reason_is_told_with_its_name_once() -> None:
    assert labelled("lpips_alex", "lpips_alex is not available: x") == "lpips_alex is not available: x"
    assert labelled("lpips", "lpips_alex is not available") == "lpips: lpips_alex is not available"
