"""Thirty and more bad plugins installed at once: the zoo stays usable, and each is named with its cause."""

from __future__ import annotations

import json

import pytest
from plugin_site import FACTORY, Site, plugin

SPEC = f'srzoo.BlockSpec("of_{{}}", "{FACTORY}", summary="A block")'
HOOK = "import srzoo\n\n@srzoo.hookimpl\ndef {}({}):\n    {}\n"

# name of the plugin: its module, and what is said of it
RAISE_AT_IMPORT = {
    "missing-library": ("import no_such_library\n", "No module named 'no_such_library'"),
    "newer-srzoo": ("from srzoo import VideoSpec\n", "cannot import name 'VideoSpec'"),
    "removed-module": ("from srzoo.archs import Arch\n", "No module named 'srzoo.archs'"),
    "raises": ("raise RuntimeError('no GPU here')\n", "RuntimeError: no GPU here"),
    "exits": ("import sys\nsys.exit('needs a licence')\n", "SystemExit: needs a licence"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "other-python": ("match = 1\ntype X = int ** \n", "SyntaxError"),
    "bytes": ("\x00", "null bytes"),
    "recursion": ("def f():\n    f()\nf()\n", "RecursionError"),
    "memory": ("raise MemoryError('no memory left')\n", "MemoryError: no memory left"),
    "rude": ("raise BaseException('rude')\n", "BaseException: rude"),
    "group": ("raise OSError(28, 'No space left on device')\n", "No space left on device"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt: no message"),
    "closes-streams": (
        "import sys\nsys.stdout.close()\nsys.stderr.close()\nprint('still open')\nraise RuntimeError('closed')\n",
        "RuntimeError: closed",
    ),
    "unprintable": ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n", "E: no message"),
    "markup": (
        "raise ImportError('[bold]cannot[/bold] open [/usr/lib/x.so]')\n",
        "[bold]cannot[/bold] open [/usr/lib/x.so]",
    ),
}
OF_ANOTHER_TIME = {
    "no-hook": ("x = 1\n", "implements no hook"),
    "old-hook": (HOOK.format("srzoo_models", "", "return []"), "srzoo has no hook 'srzoo_models'"),
    "old-argument": (HOOK.format("srzoo_blocks", "registry", "return []"), "registry"),
    "unmarked": ("def srzoo_blocks():\n    return []\n", "not marked with @srzoo.hookimpl"),
    "other-fact": (
        plugin(f'srzoo.BlockSpec("b", "{FACTORY}", summary="x", channels=3)'),
        "unexpected keyword argument 'channels'",
    ),
}
RETURN_RUBBISH = {
    "none": (HOOK.format("srzoo_blocks", "", "return None"), "must return a list, not NoneType"),
    "dict": (HOOK.format("srzoo_blocks", "", "return {'b': 1}"), "must return a list, not dict"),
    "generator": (HOOK.format("srzoo_blocks", "", "yield 1"), "must return a list, not generator"),
    "number": (HOOK.format("srzoo_losses", "", "return [3]"), "list of LossSpec, not one with int 3"),
    "a-class": ("import srzoo\n@srzoo.hookimpl\ndef srzoo_metrics():\n    return [srzoo.MetricSpec]\n", "MetricSpec"),
    "other-kind": (plugin(SPEC.format("loss"), "srzoo_losses"), "list of LossSpec, not one with BlockSpec"),
    "twice": (plugin(f"{SPEC.format('twice')}, {SPEC.format('twice')}"), "returns 'of_twice' twice"),
    "own-class": (
        "import srzoo\nclass Spec(srzoo.BlockSpec):\n    @property\n    def kind(self): raise RuntimeError('kind')\n"
        f"@srzoo.hookimpl\ndef srzoo_blocks():\n    return [Spec('b', '{FACTORY}', summary='x')]\n",
        "list of BlockSpec, not one with Spec",
    ),
    "bad-name": (plugin(f'srzoo.BlockSpec("My Block", "{FACTORY}", summary="x")'), "'My Block' must be lower-case"),
    "bad-factory": (
        plugin('srzoo.BlockSpec("b", "my.module.Block", summary="x")'),
        "'package.module:Name' or a callable",
    ),
    "no-summary": (plugin(f'srzoo.BlockSpec("b", "{FACTORY}")'), "one-line summary"),
    "bad-exemption": (
        plugin(f'srzoo.BlockSpec("b", "{FACTORY}", summary="x", exempt=["gradient"])'),
        "the name of a check to a reason",
    ),
    "bad-example": (
        plugin(f'srzoo.BlockSpec("b", "{FACTORY}", summary="x", examples=["small"])'),
        "examples must be a list",
    ),
    "raises-in-hook": (HOOK.format("srzoo_blocks", "", "raise KeyError('weights')"), "KeyError: 'weights'"),
    "path-of-number": (plugin("7", "srzoo_entries"), "must return a list of paths, not one with 7"),
}
BROKEN = {**RAISE_AT_IMPORT, **OF_ANOTHER_TIME, **RETURN_RUBBISH}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All, two that claim one name, two that claim one component, bad zoo files, a slow one, a good one that prints."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder)
    for name, (source, _) in BROKEN.items():
        site.install(name, source)
    for distribution in ("first-of-two", "second-of-two"):
        site.install("same", plugin(SPEC.format(distribution.replace("-", "_"))), distribution=distribution)
    for name in ("left", "right"):
        site.install(name, plugin(f'srzoo.BlockSpec("contested", "{FACTORY}", summary="A block")'))
    (folder / "bad.yaml").write_text("entry: [1, 2\n")
    (folder / "list.yaml").write_text("- bicubic\n")
    site.install("bad-yaml", plugin('"bad.yaml"', "srzoo_entries"))
    site.install("list-yaml", plugin('"list.yaml"', "srzoo_entries"))
    site.install("no-yaml", plugin('"nowhere.yaml"', "srzoo_entries"))
    slow = plugin(SPEC.format("slow")).replace("    return", "    time.sleep(1)\n    return")
    site.install("slow", "import time\n" + slow)
    site.install("good", plugin(SPEC.format("good")))
    talks = "import atexit, os\nos.write(1, b'loaded')\natexit.register(print, 'ended')\n"
    site.install("talks", talks + plugin(SPEC.format("talks")))
    return site


@pytest.fixture(scope="module")
def told(site: Site) -> dict[str, object]:
    shown = site.run("plugins", "--strict", "--json")
    assert shown.returncode == 1, shown.stderr
    found: dict[str, object] = json.loads(shown.stdout)
    return found


def test_there_are_thirty_of_them() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("name", BROKEN)
def test_each_is_named_with_its_cause(told: dict[str, list[dict[str, str]]], name: str) -> None:
    (record,) = [record for record in told["plugins"] if record["name"] == name]
    assert record["status"] == "broken"
    assert BROKEN[name][1] in record["error"]
    assert "\n" not in record["error"]
    assert any(f"plugin {name!r} (dist-{name} 1.0) is broken: {record['error']}" == one for one in told["problems"])


def test_two_packages_that_claim_a_name_are_both_named(told: dict[str, list[str]]) -> None:
    (plugins,) = [one for one in told["problems"] if "'same'" in one]
    assert "second-of-two 1.0" in plugins and "already taken by plugin 'same' (first-of-two 1.0)" in plugins
    (component,) = [one for one in told["problems"] if "'contested'" in one]
    assert "dist-left 1.0" in component and "dist-right 1.0" in component


@pytest.mark.parametrize(("file", "cause"), [("bad.yaml", "line 2"), ("list.yaml", "mapping"), ("nowhere.yaml", "")])
def test_bad_zoo_files_are_named(told: dict[str, list[str]], file: str, cause: str) -> None:
    assert any(file in one and cause in one for one in told["problems"])


def test_one_that_hangs_in_its_hook_works_and_is_named(told: dict[str, list[str]]) -> None:
    (remark,) = [one for one in told["remarks"] if "'slow'" in one]
    assert "plugin 'slow' (dist-slow 1.0) took 1." in remark


def test_what_a_plugin_prints_is_not_among_the_json(site: Site) -> None:
    shown = site.run("show", "block/of_talks", "--json")
    assert json.loads(shown.stdout)["name"] == "of_talks"
    assert "loaded" in shown.stderr and "ended" in shown.stderr


def test_the_zoo_stays_usable(site: Site) -> None:
    blocks = site.run("list", "block", "--json")
    assert blocks.returncode == 0, blocks.stderr
    names = {block["name"] for block in json.loads(blocks.stdout)}
    assert names >= {"rrdb", "of_good", "of_slow", "of_first_of_two"}
    assert blocks.stderr.count("warning:") == len(BROKEN) + 2, "each is warned of once"
    assert "Traceback" not in blocks.stderr
    shown = site.run("show", "esrgan-x4", "--diff", "srgan-vgg54-x4", "--json")
    assert shown.returncode == 0, shown.stderr
    assert {"key": "discriminator.name", "esrgan-x4": "vgg128", "srgan-vgg54-x4": "srgan"} in json.loads(shown.stdout)


def test_entries_of_a_good_plugin_are_built_beside_them(site: Site) -> None:
    checked = site.run("show", "block/of_good")
    assert checked.returncode == 0, checked.stderr
    contested = site.run("show", "block/contested")
    assert contested.returncode == 2
    assert "'left/contested' or 'right/contested'" in contested.stderr


def test_without_other_peoples_plugins_nothing_is_said(site: Site) -> None:
    listed = site.run("list", "--json", SRZOO_PLUGINS="")
    assert (listed.returncode, listed.stderr) == (0, "")
