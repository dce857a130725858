"""The registry: names, owners, clashes, and what an error says."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from srzoo.errors import AmbiguousNameError, PluginWarning, SrzooError, UnknownNameError
from srzoo.plugins import PluginRecord
from srzoo.registry import Registry, get_registry, without_own_owner
from srzoo.specs import (
    KINDS,
    BlockSpec,
    ComponentSpec,
    DatasetSpec,
    GeneratorSpec,
    LossSpec,
    MetricSpec,
    WeightFile,
)
from srzoo.yamlio import locate
from srzoo.zoo import Source, Zoo


def factory(channels: int, width: int = 1) -> None: ...


def block(name: str) -> BlockSpec:
    return BlockSpec(name, factory, summary="A block")


def record(name: str, *specs: ComponentSpec, distribution: str = "", error: str = "") -> PluginRecord:
    return PluginRecord(
        name=name,
        distribution=distribution or f"dist-{name}",
        version="1.0",
        module=name,
        status="broken" if error else "ok",
        error=error,
        specs=specs,
    )


TWO = Registry([record("ours", block("swin"), block("plain")), record("theirs", block("swin"))])


def test_a_bare_name_finds_the_only_component_that_has_it() -> None:
    found = TWO.get("block", "plain")
    assert (found.name, found.kind, found.full_name, found.owner.distribution) == (
        "plain",
        "block",
        "ours/plain",
        "dist-ours",
    )


@pytest.mark.parametrize("name", ["theirs/swin", "dist-theirs/swin"])
def test_a_plugin_or_a_distribution_before_the_slash_picks_the_owner(name: str) -> None:
    assert TWO.get("block", name).owner.name == "theirs"


def test_an_ambiguous_name_is_refused_with_both_owners_and_what_to_write() -> None:
    with pytest.raises(AmbiguousNameError) as caught:
        TWO.get("block", "swin")
    message = str(caught.value)
    assert "plugin 'ours' (dist-ours 1.0)" in message
    assert "plugin 'theirs' (dist-theirs 1.0)" in message
    assert "write 'ours/swin' or 'theirs/swin'" in message


def test_the_same_name_in_two_kinds_is_no_clash() -> None:
    registry = Registry([record("a", block("x")), record("b", LossSpec("x", factory, summary="A loss"))])
    assert registry.get("block", "x").owner.name == "a"
    assert registry.get("loss", "x").owner.name == "b"
    assert registry.problems() == []


def test_within_its_scope_a_distribution_means_its_own_component() -> None:
    assert TWO.get("block", "swin", scope="dist-theirs").owner.name == "theirs"
    assert TWO.get("block", "plain", scope="dist-theirs").owner.name == "ours"
    with pytest.raises(AmbiguousNameError):
        TWO.get("block", "swin", scope="somebody-else")


def test_a_scope_does_not_choose_between_two_plugins_of_one_distribution() -> None:
    registry = Registry([record("a", block("x"), distribution="d"), record("b", block("x"), distribution="d")])
    with pytest.raises(AmbiguousNameError, match="'a/x' or 'b/x'"):
        registry.get("block", "x", scope="d")


def test_the_zoo_file_of_a_distribution_means_its_own_parts_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text("mine: {generator: {name: net, block: swin}}\n")

    def net(block: object, scale: int = 4) -> None: ...

    registry = Registry([*TWO.records, record("nets", GeneratorSpec("net", net, summary="x"))])
    for owner in ("ours", "theirs"):
        entry = Zoo([Source(path, f"dist-{owner}", owner)], registry).entry("mine")
        assert entry.generator.options == {"block": {"name": f"{owner}/swin"}}
    with pytest.raises(AmbiguousNameError, match=r"line 1: entry 'mine': generator\.block: .*'ours/swin'"):
        Zoo([Source(path, "local", "local")], registry).entry("mine")


@pytest.mark.parametrize(("wrong", "right"), [("swinn", "'swin'"), ("ours/swim", "'ours/swin'"), ("plane", "'plain'")])
def test_an_unknown_name_gets_the_near_miss_and_where_to_look(wrong: str, right: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        TWO.get("block", wrong)
    message = str(caught.value)
    assert f"No block is called {wrong!r}. Did you mean" in message
    assert right in message
    assert "'srzoo list block'" in message


def test_a_known_name_under_the_wrong_owner_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match=r"No block is called 'theirs/plain'\..*'ours/plain'"):
        TWO.get("block", "theirs/plain")


@pytest.mark.parametrize("name", ["", "/", "/swin", "swin/", "ours//swin", "ours/ours/swin", "SWIN"])
def test_a_malformed_name_is_an_ordinary_error(name: str) -> None:
    with pytest.raises(SrzooError):
        TWO.get("block", name)


def test_an_unknown_kind_gets_the_near_miss_and_all_kinds() -> None:
    with pytest.raises(UnknownNameError) as caught:
        TWO.get("blokc", "swin")
    assert "Did you mean 'block'?" in str(caught.value)
    assert all(kind in str(caught.value) for kind in KINDS)


def test_an_unknown_name_quotes_the_broken_plugin_that_may_own_it() -> None:
    registry = Registry([*TWO.records, record("late", error="ImportError: No module named 'mamba'")])
    with pytest.raises(UnknownNameError, match=r"Plugin 'late' \(dist-late 1.0\).*No module named 'mamba'"):
        registry.get("block", "vmamba")
    with pytest.raises(UnknownNameError, match="No module named 'mamba'"):
        registry.get("block", "late/vmamba")
    with pytest.raises(UnknownNameError) as caught:
        registry.get("block", "ours/vmamba")
    assert "mamba'" not in str(caught.value).replace("vmamba'", ""), "'ours' is not broken"


def test_an_unknown_name_says_which_plugins_are_switched_off() -> None:
    off = PluginRecord("quiet", "dist-quiet", "1.0", "quiet", status="disabled", error="not named in SRZOO_PLUGINS")
    with pytest.raises(UnknownNameError, match="SRZOO_PLUGINS leaves out: quiet"):
        Registry([*TWO.records, off]).get("block", "vmamba")


def test_problems_name_every_broken_plugin_and_every_clash_once() -> None:
    registry = Registry([*TWO.records, record("late", error="ImportError: nothing")])
    broken, clash = registry.problems()
    assert broken == "plugin 'late' (dist-late 1.0) is broken: ImportError: nothing"
    assert clash.startswith("block 'swin' is registered by plugin 'ours' (dist-ours 1.0) and by plugin 'theirs'")


def test_a_registry_without_problems_has_none() -> None:
    assert Registry([record("ours", block("swin"))]).problems() == []


def test_find_matches_bare_and_full_names_in_alphabetical_order() -> None:
    assert [c.full_name for c in TWO.find("block")] == ["ours/plain", "ours/swin", "theirs/swin"]
    assert [c.full_name for c in TWO.find("block", "theirs/*")] == ["theirs/swin"]
    assert [c.full_name for c in TWO.find("block", "pl*")] == ["ours/plain"]
    assert TWO.find("loss") == []
    assert len(TWO.claimants("block", "swin")) == 2
    assert len(TWO.claimants("block", "nothing")) == 0


def test_the_live_registry_has_every_kind_and_no_problem() -> None:
    registry = get_registry()
    assert registry.problems() == []
    assert [kind for kind in KINDS if not registry.find(kind)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_is_found_by_both_of_its_names(kind: str) -> None:
    for component in get_registry().find(kind):
        assert get_registry().get(kind, component.name) is component
        assert get_registry().get(kind, component.full_name) is component


@pytest.mark.usefixtures("fresh_registry")
def test_each_problem_is_warned_of_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [record("late", error="ImportError: nothing"), record("later", error="OSError: nothing")]
    monkeypatch.setattr("srzoo.registry.discover", lambda: broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get_registry()
        get_registry()
    assert [w.category for w in caught] == [PluginWarning, PluginWarning]
    assert "'late'" in str(caught[0].message)
    assert "'later'" in str(caught[1].message)


# --- whose a bare name is -----------------------------------------------------------------------------------------


def metric(name: str, sha256: str = "") -> MetricSpec:
    weights = (WeightFile("net.pth", sha256),) if sha256 else ()
    return MetricSpec(name, factory, summary="A metric", weights=weights)


def loss(name: str) -> LossSpec:
    def build() -> None: ...

    return LossSpec(name, build, summary="A loss")


def network(name: str) -> GeneratorSpec:
    def build(block: object = None, scale: int = 4) -> None: ...

    return GeneratorSpec(name, build, summary="A network")


BASE = """
base:
  generator: {name: net, block: swin}
  training:
    data: [photos]
    patch_size: 32
    batch_size: 2
    stages: {psnr: {steps: 4, losses: {l1: 1.0}, optimizer: {name: adam, lr: 1e-4}}}
    validation: {data: photos, metrics: [psnr]}
  recorded:
    command: x
    seed: 0
    device: x
    date: "2026-01-01"
    steps: 1
    hours: 1.0
    scores: {set5: {psnr: 30.0}}
"""


def zoo_of_two(folder: Path, theirs: str) -> Zoo:
    """A zoo file of each of two distributions that both have every part the first one's file names."""
    (folder / "ours.yaml").write_text(BASE)
    (folder / "theirs.yaml").write_text(theirs)

    def photos() -> None: ...

    both = [block("swin"), loss("l1"), metric("psnr"), DatasetSpec("photos", photos, summary="Images")]
    records = [record("ours", *both), record("theirs", *both), record("nets", network("net"))]
    sources = [Source(folder / f"{owner}.yaml", f"dist-{owner}", owner) for owner in ("ours", "theirs")]
    return Zoo(sources, Registry(records))


def test_a_zoo_file_means_its_own_parts_by_every_name_in_it(tmp_path: Path) -> None:
    entry = zoo_of_two(tmp_path, "{}").entry("base")
    assert entry.generator.options == {"block": {"name": "ours/swin"}}
    assert entry.training is not None and entry.training.validation is not None
    assert entry.training.stages["psnr"].losses["l1"].name == "ours/l1"
    assert entry.training.data == entry.training.validation.data == ("ours/photos",)
    assert entry.training.validation.metrics == ("ours/psnr",)


@pytest.mark.parametrize(
    "change", ["", ", training.stages.psnr.losses.l1: 2.0", ", training.stages.psnr.losses.l1: {weight: 2.0}"]
)
def test_what_is_inherited_means_what_it_meant_where_it_was_written(tmp_path: Path, change: str) -> None:
    entry = zoo_of_two(tmp_path, f"child: {{extends: base{change}}}").entry("child")
    assert entry.generator.options == {"block": {"name": "ours/swin"}}
    assert entry.training is not None
    assert entry.training.stages["psnr"].losses["l1"].name == "ours/l1"


def test_what_a_child_names_itself_is_its_own(tmp_path: Path) -> None:
    child = "child: {extends: base, generator.block: swin, training.stages.psnr.losses: {l1: null, mine: {name: l1}}}"
    entry = zoo_of_two(tmp_path, child).entry("child")
    assert entry.generator.options == {"block": {"name": "theirs/swin"}}
    assert entry.training is not None
    assert {label: term.name for label, term in entry.training.stages["psnr"].losses.items()} == {"mine": "theirs/l1"}


@pytest.mark.parametrize("change", ["generator.block=swin", "generator.block={name: swin}"])
def test_a_bare_name_of_the_users_own_is_never_guessed(tmp_path: Path, change: str) -> None:
    zoo = zoo_of_two(tmp_path, "{}")
    with pytest.raises(AmbiguousNameError, match="write 'ours/swin' or 'theirs/swin'"):
        zoo.entry("base", [change])
    assert zoo.entry("base", ["generator.block=theirs/swin"]).generator.options == {"block": "theirs/swin"}
    for weight in ("training.stages.psnr.losses.l1=3", "training.stages.psnr.losses.l1.weight=3"):
        weighted = zoo.entry("base", [weight]).training
        assert weighted is not None and weighted.stages["psnr"].losses["l1"].name == "ours/l1"
    with pytest.raises(SrzooError, match="self_ensemble"):
        zoo.entry("base", ["self_ensemble=true", "self_ensemble=7"])
    scaled = zoo.entry("base", ["training.stages.psnr.losses.l1={weight: 2}", "training.stages.psnr.losses.l1=3"])
    assert scaled.training is not None and scaled.training.stages["psnr"].losses["l1"].name == "ours/l1"


def test_an_entry_of_a_taken_name_harms_none_that_extends_or_starts_from_the_other(tmp_path: Path) -> None:
    theirs = "base: {extends: ours/base, generator: net}\nchild: {extends: base, training.start_from: base}\n"
    zoo = zoo_of_two(tmp_path, theirs)
    with pytest.raises(SrzooError, match="write 'ours/base' or 'theirs/base'"):
        zoo.entry("base")
    assert zoo.names() == ["ours/base", "theirs/base", "child"]
    assert zoo.names("ba*") == zoo.names("*/base")
    child = zoo.entry("child")
    assert child.generator.options == {}, "theirs"
    assert child.training is not None and child.training.start_from == "theirs/base"
    assert "child" in zoo and "ours/base" in zoo and "base" in zoo
    assert [str(problem) for problem in zoo.problems()] == []
    (clash,) = zoo.clashes()
    assert clash.startswith("Entry 'base' is written in ") and clash.endswith("only owner/name picks one.")


def test_names_mean_what_their_file_means_all_the_way_up(tmp_path: Path) -> None:
    """Theirs extends what ours is called, which itself extends what theirs is called: no circle."""
    (tmp_path / "ours.yaml").write_text("low: {generator: net}\nbase: {extends: low}\n")
    (tmp_path / "theirs.yaml").write_text("mine: {extends: base}\nlow: {extends: ours/base}\n")
    sources = [Source(tmp_path / f"{owner}.yaml", f"dist-{owner}", owner) for owner in ("ours", "theirs")]
    zoo = Zoo(sources, Registry([record("nets", network("net"))]))
    assert zoo.entry("mine").generator.name == zoo.entry("theirs/low").generator.name == "net"
    (tmp_path / "theirs.yaml").write_text("mine: {extends: low}\nlow: {extends: mine}\n")
    with pytest.raises(SrzooError, match="extends itself: mine -> low -> mine"):
        Zoo(sources, Registry([record("nets", network("net"))])).entry("mine")


def test_changes_are_laid_over_the_entry_that_their_file_means(tmp_path: Path) -> None:
    theirs = "base: {extends: ours/base, generator: net}\nchild: {extends: base}\n"
    zoo = zoo_of_two(tmp_path, theirs)
    change = locate({"base": {"scale": 2}}, "recipe")
    for owner, scales in (("ours", (2, 2)), ("theirs", (4, 2))):
        amended = zoo.amended(change, Source(tmp_path / "x.yaml", f"dist-{owner}", owner))
        found = tuple(amended.entry(f"{name}/base").scale for name in ("ours", "theirs"))
        assert found == scales, "theirs extends ours"
    named = zoo.amended(locate({"ours/base": {"scale": 2}}, "recipe"), Source(tmp_path / "x.yaml", "local", "local"))
    assert named.entry("ours/base").scale == 2
    with pytest.raises(SrzooError, match="write 'ours/base' or 'theirs/base'"):
        zoo.amended(change, Source(tmp_path / "x.yaml", "local", "local"))
    swapped = zoo.entry("base", {"generator.block": "swin"}, "dist-theirs")
    assert swapped.generator.options == {"block": {"name": "theirs/swin"}}


def test_two_files_of_one_name_are_a_problem_unless_one_digest_begins_the_other() -> None:
    def problems(one: str, two: str) -> list[str]:
        return Registry([record("a", metric("x", one)), record("b", metric("y", two))]).problems()

    assert problems("a" * 64, "a" * 8) == []
    (problem,) = problems("a" * 64, "b" * 8)
    assert "metric 'a/x' and metric 'b/y' mean different weight files by net.pth" in problem


def test_a_default_is_srzoos_own_whatever_else_is_installed() -> None:
    registry = Registry([record("metrics", metric("psnr"), distribution="srzoo"), record("mine", metric("psnr"))])
    assert registry.own("metric", "psnr", "srzoo") == "metrics/psnr"
    assert registry.own("metric", "psnr", "somebody-else") == "psnr"
    assert registry.own("metric", "unknown", "srzoo") == "unknown"
    both = [record(name, DatasetSpec("photos", factory, summary="Images")) for name in ("a", "b")]
    assert Registry(both).own("dataset", "photos[:5]", "dist-b") == "b/photos[:5]"


def test_an_owner_of_srzoos_own_makes_no_other_recipe() -> None:
    told = {"name": "losses/l1", "data": ["photos/photos[:5]", "mine/photos", "plain"], "weight": 1.0}
    plain = {"name": "l1", "data": ["photos[:5]", "mine/photos", "plain"], "weight": 1.0}
    assert without_own_owner(told) == without_own_owner(plain) == plain
