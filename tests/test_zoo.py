"""The zoo: entries, extends, overrides, and an error with file and line for every mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from srzoo.composition import full_composition, written_out
from srzoo.entry import ComponentRef, Entry, diff_entries
from srzoo.errors import CompositionError, EntryError, OptionError, SrzooError, UnknownNameError
from srzoo.registry import get_registry
from srzoo.zoo import NOT_INHERITED, Source, Zoo, get_zoo

LIVE = get_zoo()
(ZOO_FILE,) = {LIVE.source(name).path for name in LIVE.names()}
ZOO_TEXT = ZOO_FILE.read_text(encoding="utf-8")
SHA = "0" * 64

MakeZoo = Callable[..., Zoo]

# Line 1 is the entry's name, so that the tests can count.
BASE = """\
base:
  summary: The base
  paper: arXiv:1
  scale: 4
  generator:
    name: trunk
    num_blocks: 8
    block: {name: residual, norm: batch}
    upsampler: pixelshuffle
    rgb_mean: [0.4, 0.4, 0.4]
  discriminator: {name: vgg128, num_features: 16}
  training:
    data: [div2k]
    patch_size: 128
    validation: {data: set5, every: 100}
    stages:
      psnr:
        steps: 1000
        losses: {l1: 1.0}
        optimizer: {lr: 1e-4}
        schedule: {name: multistep, milestones: [200, 400]}
      gan:
        steps: 500
        losses:
          l1: 1e-2
          perceptual:
            extractor: vgg19
            layers: {conv5_4: 1.0}
          adversarial: {weight: 5e-3, pairing: standard}
        optimizer: {name: adam, lr: 1e-4, betas: [0.9, 0.99]}
  recorded: {steps: 10, scores: {set5: {psnr: 30.0}}}
"""
BASE += f"  weights: {{file: weights/base.safetensors, sha256: '{SHA}'}}\n"


@pytest.fixture
def make_zoo(tmp_path: Path) -> MakeZoo:
    def make(*texts: str) -> Zoo:
        sources = []
        for index, text in enumerate(texts):
            path = tmp_path / f"file{index}.yaml"
            path.write_text(text, encoding="utf-8")
            sources.append(Source(path, "local", path.stem, (tmp_path,)))
        return Zoo(sources, get_registry())

    return make


def error_of(zoo: Zoo, name: str = "base", overrides: Any = ()) -> str:
    with pytest.raises(SrzooError) as caught:
        zoo.entry(name, overrides)
    return str(caught.value)


# --- the zoo that is shipped --------------------------------------------------------------------------------


def test_the_shipped_zoo_has_no_problem() -> None:
    assert [str(problem) for problem in LIVE.problems()] == []


@pytest.mark.parametrize("name", LIVE.names())
def test_every_entry_resolves_and_says_what_it_is(name: str) -> None:
    entry = LIVE.entry(name)
    assert entry.name == name
    assert entry.summary.strip()
    assert entry.paper or name == "nearest"
    get_registry().get("generator", entry.generator.name)
    assert full_composition(entry)["scale"] == entry.scale


@pytest.mark.parametrize("name", LIVE.names())
def test_every_entry_survives_being_written_out_and_read_again(name: str, make_zoo: MakeZoo) -> None:
    entry = LIVE.entry(name)
    flat = entry.model_dump(mode="json", exclude_none=True, exclude={"name"})
    again = make_zoo(yaml.safe_dump({name: flat}, sort_keys=False)).entry(name)
    assert again == entry
    assert again.digest() == entry.digest()


def test_a_loss_term_is_written_out_with_its_settings_and_every_option(make_zoo: MakeZoo) -> None:
    change = "training.stages.gan.losses.adversarial: {weight: 0.1, weight_end: 0.2, every: 2}"
    mine = make_zoo(f"{ZOO_TEXT}\nmine: {{extends: srgan-lite-x4, {change}}}\n").entry("mine")
    term = written_out(mine)["training"]["stages"]["gan"]["losses"]["adversarial"]
    assert (term["weight"], term["weight_end"], term["every"]) == (0.1, 0.2, 2)
    assert {"name", "pairing", "label_smoothing"} <= set(term)


def test_names_keep_the_order_of_the_file_and_take_patterns() -> None:
    written = re.findall(r"^([a-z0-9][\w.-]*):", ZOO_TEXT, re.MULTILINE)
    assert LIVE.names() == written
    assert LIVE.names("*ablation*") == [f"esrgan-ablation-{column}-x4" for column in range(2, 8)]
    assert LIVE.names("nothing*") == []


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        (3, {"generator.block.norm"}),
        (
            4,
            {
                "training.stages.gan.losses.perceptual.layers.relu5_4",
                "training.stages.gan.losses.perceptual.layers.conv5_4",
            },
        ),
        (5, {"training.stages.gan.losses.adversarial.pairing"}),
        (6, {"generator.num_blocks", "generator.block.name", "generator.block.norm", "generator.block.activation"}),
        (7, {"training.data"}),
    ],
)
def test_each_ablation_column_is_one_change_to_the_column_before(column: int, keys: set[str]) -> None:
    before, after = (LIVE.entry(f"esrgan-ablation-{c}-x4") for c in (column - 1, column))
    changed = {key for key, _, _ in diff_entries(before, after)} - {"name", "summary"}
    assert changed == keys


def test_the_last_ablation_column_is_esrgan_itself() -> None:
    last, esrgan = LIVE.entry("esrgan-ablation-7-x4"), LIVE.entry("esrgan-x4")
    assert full_composition(last) == full_composition(esrgan)
    assert last.discriminator == esrgan.discriminator
    assert last.training == esrgan.training


def test_an_entry_without_a_summary_is_described_by_its_difference() -> None:
    assert LIVE.entry("esrgan-ablation-3-x4").summary == "esrgan-ablation-2-x4 with generator.block.norm=none"


# --- frozen -------------------------------------------------------------------------------------------------


def test_an_entry_cannot_be_changed() -> None:
    entry = LIVE.entry("esrgan-lite-x4")
    assert entry.training is not None
    for model, field in ((entry, "scale"), (entry.training, "seed"), (entry.training.stages["gan"], "steps")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(model, field, 3)


def test_what_is_done_to_one_entrys_options_does_not_reach_the_zoo(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base}")
    before = zoo.entry("child").digest()
    for name in ("base", "child"):
        options = zoo.entry(name).generator.options
        options["num_blocks"] = 99
        options["block"]["norm"] = "none"
        options["rgb_mean"].append(0.4)
    assert zoo.entry("child").digest() == before


# --- shorthands ---------------------------------------------------------------------------------------------


def test_a_name_stands_for_a_component_without_options(make_zoo: MakeZoo) -> None:
    short = make_zoo("a: {generator: bicubic}").entry("a")
    long = make_zoo("a: {generator: {name: bicubic}}").entry("a")
    assert short == long
    assert short.generator == ComponentRef(name="bicubic")


def test_a_number_stands_for_the_weight_of_a_loss_and_its_label_for_its_name(make_zoo: MakeZoo) -> None:
    training = make_zoo(BASE).entry("base").training
    assert training is not None
    term = training.stages["gan"].losses["l1"]
    assert (term.name, term.weight, term.every, term.options) == ("l1", 0.01, 1, {})


def test_a_loss_may_appear_twice_under_labels_of_its_own(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base, training.stages.psnr.losses.second: {name: mse, weight: 2}}")
    training = zoo.entry("child").training
    assert training is not None
    losses = training.stages["psnr"].losses
    assert {label: (term.name, term.weight) for label, term in losses.items()} == {
        "l1": ("l1", 1.0),
        "second": ("mse", 2.0),
    }


def test_one_dataset_may_be_written_without_a_list(make_zoo: MakeZoo) -> None:
    training = make_zoo(BASE).entry("base", ["training.data=flickr2k"]).training
    assert training is not None
    assert training.data == ("flickr2k",)
    assert training.validation is not None
    assert training.validation.data == ("set5",)


# --- extends ------------------------------------------------------------------------------------------------


def child_of_base(make_zoo: MakeZoo, text: str) -> Entry:
    return make_zoo(BASE, f"child:\n  extends: base\n{text}").entry("child")


def test_a_chain_of_extends_gathers_every_difference(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(
        BASE,
        "one: {extends: base, generator.num_blocks: 3}\n"
        "two: {extends: one, generator.num_features: 32}\n"
        "three: {extends: two, generator.num_blocks: 5}\n",
    )
    options = zoo.entry("three").generator.options
    assert (options["num_blocks"], options["num_features"]) == (5, 32)
    assert zoo.entry("two").generator.options["num_blocks"] == 3
    assert zoo.entry("base").generator.options["num_blocks"] == 8


def test_an_entry_may_extend_one_that_is_written_later_or_in_another_file(make_zoo: MakeZoo) -> None:
    zoo = make_zoo("child: {extends: base}\n", BASE)
    assert zoo.entry("child").generator == zoo.entry("base").generator


def test_dotted_keys_and_nested_mappings_mean_the_same(make_zoo: MakeZoo) -> None:
    nested = "  training: {stages: {gan: {losses: {adversarial: {weight: 1e-3}}}}}\n"
    dotted = "  training.stages.gan.losses.adversarial.weight: 1e-3\n"
    mixed = "  training.stages: {gan.losses: {adversarial.weight: 1e-3}}\n"
    found = [child_of_base(make_zoo, text) for text in (nested, dotted, mixed)]
    for entry in found:
        assert entry.training is not None
        term = entry.training.stages["gan"].losses["adversarial"]
        assert (term.weight, term.options) == (1e-3, {"pairing": "standard"})


def test_dotted_keys_may_be_used_in_an_entry_of_its_own(make_zoo: MakeZoo) -> None:
    entry = make_zoo("a: {generator.name: trunk, generator.block: rrdb, generator: {upsampler: pixelshuffle}}").entry(
        "a"
    )
    assert entry.generator == ComponentRef.of("trunk", {"block": "rrdb", "upsampler": "pixelshuffle"})


def test_null_resets_a_key_to_its_default(make_zoo: MakeZoo) -> None:
    entry = child_of_base(
        make_zoo,
        "  discriminator: null\n  generator: {num_blocks: null}\n  training.stages.gan: null\n"
        "  training.validation: null\n",
    )
    assert entry.discriminator is None
    assert "num_blocks" not in entry.generator.options
    assert entry.training is not None
    assert list(entry.training.stages) == ["psnr"]
    assert entry.training.validation is None


def test_null_for_a_key_that_is_not_there_does_nothing(make_zoo: MakeZoo) -> None:
    entry = child_of_base(make_zoo, "  training.stages.gan.losses: {mse: null}\n")
    assert entry.training == child_of_base(make_zoo, "").training


def test_resetting_a_required_key_is_an_error(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base, generator: null}")
    assert "generator: is required" in error_of(zoo, "child")


@pytest.mark.parametrize("text", ["generator.block: rrdb", "generator: {block: rrdb}", "generator.block.name: rrdb"])
def test_naming_another_component_drops_the_options_of_the_old_one(make_zoo: MakeZoo, text: str) -> None:
    block = child_of_base(make_zoo, f"  {text}\n").generator.options["block"]
    assert ComponentRef.model_validate(block) == ComponentRef(name="rrdb")


def test_naming_another_component_with_options_takes_these_alone(make_zoo: MakeZoo) -> None:
    entry = child_of_base(make_zoo, "  generator.block: {name: rrdb, growth: 16}\n")
    assert entry.generator.options["block"] == {"name": "rrdb", "growth": 16}


@pytest.mark.parametrize("text", ["{norm: none}", "{name: residual, norm: none}"])
def test_naming_the_same_component_keeps_the_options_beside_the_change(make_zoo: MakeZoo, text: str) -> None:
    entry = child_of_base(make_zoo, f"  generator: {{block: {text}}}\n")
    assert entry.generator.options["block"] == {"name": "residual", "norm": "none"}
    assert entry.generator.options["num_blocks"] == 8


def test_options_may_be_added_to_a_component_that_was_a_bare_name(make_zoo: MakeZoo) -> None:
    entry = child_of_base(make_zoo, "  generator: {upsampler: {activation: relu}}\n")
    assert entry.generator.options["upsampler"] == {"name": "pixelshuffle", "activation": "relu"}


def test_options_may_be_added_to_a_loss_that_was_a_bare_number(make_zoo: MakeZoo) -> None:
    entry = child_of_base(make_zoo, "  training.stages.gan.losses.l1: {every: 2}\n")
    assert entry.training is not None
    term = entry.training.stages["gan"].losses["l1"]
    assert (term.weight, term.every) == (0.01, 2)


def test_lists_are_replaced_and_not_joined(make_zoo: MakeZoo) -> None:
    entry = child_of_base(make_zoo, "  training.data: [flickr2k]\n")
    assert entry.training is not None
    assert entry.training.data == ("flickr2k",)


def test_weights_scores_and_summary_describe_one_entry_alone(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base}")
    base, child = zoo.entry("base"), zoo.entry("child")
    assert base.weights is not None
    assert base.recorded is not None
    assert (child.weights, child.recorded) == (None, None)
    assert child.summary != base.summary
    assert child.paper == base.paper
    assert {key for key, _, _ in diff_entries(base, child)} >= {"name", "summary"}
    assert set(NOT_INHERITED) == {"weights", "recorded", "summary"}


def test_an_unknown_parent_is_told_with_line_and_near_miss(make_zoo: MakeZoo) -> None:
    message = error_of(make_zoo(BASE, "child:\n  summary: x\n  extends: bas\n"), "child")
    assert "file1.yaml, line 3: entry 'child': No entry is called 'bas'. Did you mean 'base'?" in message


@pytest.mark.parametrize(
    "text",
    ["a: {extends: a}", "a: {extends: b}\nb: {extends: c}\nc: {extends: a}", "a: {extends: b}\nb: {extends: local/a}"],
)
def test_entries_that_extend_each_other_are_told_with_the_circle(make_zoo: MakeZoo, text: str) -> None:
    message = error_of(make_zoo(text), "a")
    assert "extends itself: a -> " in message
    assert "file0.yaml, line" in message


@pytest.mark.parametrize("value", ["[base]", "3", "{name: base}", "true"])
def test_extends_takes_one_name(make_zoo: MakeZoo, value: str) -> None:
    message = error_of(make_zoo(BASE, f"child:\n  extends: {value}\n"), "child")
    assert "file1.yaml, line 2: entry 'child': extends must be one name" in message


# --- names and files ----------------------------------------------------------------------------------------


def test_an_unknown_entry_gets_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match=r"No entry is called 'esrgan-x5'\. Did you mean 'esrgan-x4'"):
        LIVE.entry("esrgan-x5")


@pytest.mark.parametrize("name", ["zoo/bicubic", "srzoo/bicubic"])
def test_an_entry_may_be_asked_for_by_its_owner(name: str) -> None:
    assert LIVE.entry(name).generator.name == "bicubic"


def test_an_entry_written_twice_is_ambiguous_and_either_can_be_picked(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("same: {generator: bicubic}\n")
    two.write_text("same: {generator: nearest}\nother: {generator: nearest}\n")
    zoo = Zoo([Source(one, "local", "one"), Source(two, "package", "two")], get_registry())
    message = error_of(zoo, "same")
    assert str(one) in message and str(two) in message
    assert "'one/same' or 'two/same'" in message
    assert zoo.entry("other").generator.name == "nearest"
    assert zoo.entry("one/same").generator.name == "bicubic"
    assert zoo.entry("package/same").generator.name == "nearest"


def test_what_the_message_offers_for_an_ambiguous_entry_picks_one_even_if_the_file_is_called_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    """A file zoo.yaml of one's own, beside the plugin 'zoo' of srzoo."""
    path = tmp_path / "zoo.yaml"
    path.write_text("bicubic: {generator: nearest}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(path))
    offered = re.findall(r"'(\w+/bicubic)'", error_of(get_zoo(), "bicubic"))
    assert len(set(offered)) == 2
    assert {get_zoo().entry(name).generator.name for name in offered} == {"bicubic", "nearest"}


@pytest.mark.parametrize("name", ["Upper", "a b", "a/b", "5", "true", "-x", "ünder"])
def test_an_entry_name_that_cannot_be_used_is_told_with_its_line_and_harms_no_other(
    make_zoo: MakeZoo, name: str
) -> None:
    zoo = make_zoo(f"good: {{generator: bicubic}}\n{name}: {{generator: bicubic}}\n")
    assert zoo.entry("good").generator.name == "bicubic"
    problems = [str(problem) for problem in zoo.problems()]
    if name in ("5", "true"):  # unusual, but names all the same
        assert problems == []
        assert zoo.entry(name).name == name
    else:
        (problem,) = problems
        assert "file0.yaml, line 2" in problem


def test_a_broken_entry_takes_no_other_with_it(make_zoo: MakeZoo) -> None:
    zoo = make_zoo("bad: {generatr: bicubic}\nworse: [1]\ngood: {generator: bicubic}\nchild: {extends: bad}\n")
    assert zoo.entry("good").generator.name == "bicubic"
    bad, worse, child = (str(problem) for problem in zoo.problems())
    assert "file0.yaml, line 1: entry 'bad'" in bad
    assert "file0.yaml, line 2: entry 'worse' must be a mapping" in worse
    assert "file0.yaml, line 1: entry 'child'" in child


@pytest.mark.parametrize(
    ("content", "about"),
    [
        ("a: [open\n", "not valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("just text\n", "must be a mapping"),
        ("a: {x: 1}\na: {x: 1}\n", "stands here twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
    ],
)
def test_a_broken_file_takes_no_other_with_it(make_zoo: MakeZoo, content: str, about: str) -> None:
    zoo = make_zoo(content, "good: {generator: bicubic}")
    assert zoo.entry("good").generator.name == "bicubic"
    (problem,) = zoo.problems()
    assert "file0.yaml" in str(problem)
    assert about in str(problem)


def test_a_missing_file_takes_no_other_with_it_and_is_mentioned_when_a_name_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "gone.yaml"
    sources = [Source(path, "local", "gone"), Source(ZOO_FILE, "srzoo", "zoo")]
    zoo = Zoo(sources, get_registry())
    assert zoo.names() == LIVE.names()
    assert str(path) in error_of(zoo, "mine")


@pytest.mark.usefixtures("fresh_registry")
def test_srzoo_zoo_adds_files(make_zoo: MakeZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_zoo("mine: {extends: esrgan-x4, generator.num_blocks: 2}", "yours: {generator: nearest}")
    monkeypatch.setenv("SRZOO_ZOO", f"{tmp_path / 'file0.yaml'}:{tmp_path / 'file1.yaml'}")
    assert get_zoo().names() == [*LIVE.names(), "mine", "yours"]
    assert get_zoo().entry("mine").generator.options["num_blocks"] == 2
    assert get_zoo().source("mine").folders == (tmp_path,)


# --- errors at their line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "about"),
    [
        ("summary: The", "sumary: The", 2, "unknown key 'sumary'. Did you mean 'summary'?"),
        ("scale: 4", "scale: '4'", 4, "scale: input should be a valid integer, not '4'"),
        ("scale: 4", "scale: 0", 4, "scale: input should be greater than 0"),
        ("scale: 4", "scale: true", 4, "scale: input should be a valid integer, not True"),
        ("name: trunk", "name: trunc", 6, "No generator is called 'trunc'. Did you mean 'trunk'"),
        ("num_blocks", "num_block", 7, "has no option 'num_block'. Did you mean 'num_blocks'"),
        ("num_blocks: 8", "num_blocks: '8'", 7, "'num_blocks: int = 16' cannot be '8'"),
        ("num_blocks: 8", "num_blocks: yes", 7, "'num_blocks: int = 16' cannot be 'yes'"),
        ("name: residual", "name: residul", 8, "No block is called 'residul'. Did you mean 'residual'"),
        ("norm: batch", "nrom: batch", 8, "block 'residual' has no option 'nrom'. Did you mean 'norm'"),
        ("norm: batch", "norm: bach", 8, "'none' or 'batch'"),
        ("upsampler: pixel", "upsampler: pixie", 9, "No upsampler is called 'pixieshuffle'"),
        ("[0.4, 0.4, 0.4]", "[0.4, 0.4]", 10, "rgb_mean"),
        ("vgg128", "vgg182", 11, "No discriminator is called 'vgg182'. Did you mean 'vgg128'"),
        ("patch_size: 128", "patchsize: 128", 14, "unknown key 'patchsize'. Did you mean 'patch_size'"),
        ("every: 100", "evry: 100", 15, "unknown key 'evry'. Did you mean 'every'?"),
        ("every: 100", "every: 0", 15, "training.validation.every: input should be greater than 0"),
        ("steps: 1000", "step: 1000", 18, "unknown key 'step'. Did you mean 'steps'?"),
        ("steps: 1000", "steps: many", 18, "training.stages.psnr.steps: input should be a valid integer, not 'many'"),
        ("losses: {l1: 1.0}", "losses: {l1: -1}", 19, "losses.l1.weight"),
        ("losses: {l1: 1.0}", "losses: {l1: text}", 19, "losses.l1"),
        ("losses: {l1: 1.0}", "losses: {l11: 1.0}", 19, "No loss is called 'l11'. Did you mean 'l1'"),
        ("losses: {l1: 1.0}", "losses: [l1]", 19, "losses: input should be a valid dictionary"),
        ("{lr: 1e-4}", "{lrr: 1e-4}", 20, "unknown key 'lrr'. Did you mean 'lr'?"),
        ("{lr: 1e-4}", "{lr: .inf}", 20, "optimizer.lr: input should be a finite number"),
        ("{lr: 1e-4}", "{lr: fast}", 20, "optimizer.lr: input should be a valid number, not 'fast'"),
        ("[200, 400]", "[400, 200]", 21, "milestones must increase"),
        ("name: multistep", "name: multi", 21, "'cosine', 'poly' or 'tanh'"),
        ("extractor: vgg19", "extractor: vgg91", 27, "No extractor is called 'vgg91'. Did you mean 'vgg19'"),
        ("extractor: vgg19", "extractor: {nam: vgg19}", 27, "extractor"),
        ("extractor: vgg19", "extractr: vgg19", 27, "has no option 'extractr'. Did you mean 'extractor'?"),
        ("layers: {conv5_4: 1.0}", "layers: {conv5_4: high}", 28, "layers"),
        ("pairing: standard", "paring: standard", 29, "has no option 'paring'. Did you mean 'pairing'?"),
        ("pairing: standard", "pairing: normal", 29, "'standard'"),
        ("betas: [0.9, 0.99]", "betas: [0.9, 1.5]", 30, "betas.1: input should be less than 1"),
        ("betas: [0.9, 0.99]", "betas: 0.9", 30, "betas"),
        ("scores: {set5", "score: {set5", 31, "unknown key 'score'. Did you mean 'scores'?"),
        ("psnr: 30.0", "psnr: good", 31, "recorded.scores.set5.psnr"),
        ("base.safetensors", "../../../base", 32, "must be a path below the zoo file's folder"),
        ("file: weights/", "file: /weights/", 32, "must be a path below the zoo file's folder"),
        ("file: weights/", "file: C:/weights/", 32, "must be a path below the zoo file's folder"),
        (SHA, SHA[1:], 32, "weights.sha256"),
        (SHA, SHA[:-1] + "G", 32, "weights.sha256"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_a_mistake_at_any_depth_is_told_with_file_line_and_what_to_write(
    make_zoo: MakeZoo, old: str, new: str, line: int, about: str
) -> None:
    assert old in BASE
    message = error_of(make_zoo(BASE.replace(old, new, 1)))
    assert re.search(rf"file0\.yaml, line {line}: .*entry 'base'", message), message
    assert about in message


@pytest.mark.parametrize(
    ("text", "line", "missing"),
    [
        ("a:\n  summary: x\n", 1, "generator: is required"),
        ("a:\n  generator:\n    num_blocks: 3\n", 2, "generator.name: is required"),
        ("a:\n  generator:\n    name: trunk\n    upsampler: pixelshuffle\n", 2, "needs 'block'"),
        ("a:\n  generator: bicubic\n  training:\n    data: x\n", 3, "training.patch_size: is required"),
        (
            "a:\n  generator: bicubic\n  training:\n    data: x\n    patch_size: 4\n    stages:\n"
            "      one:\n        steps: 3\n        losses: {l1: 1}\n",
            7,
            "training.stages.one.optimizer: is required",
        ),
        (
            "a:\n  generator: bicubic\n  training:\n    data: x\n    patch_size: 4\n    stages: {}\n",
            6,
            "give at least one stage",
        ),
        ("a:\n  generator: bicubic\n  weights:\n    file: x\n", 3, "weights.sha256: is required"),
    ],
)
def test_a_missing_key_is_told_with_the_line_of_the_mapping_it_belongs_to(
    make_zoo: MakeZoo, text: str, line: int, missing: str
) -> None:
    message = error_of(make_zoo(text), "a")
    assert missing in message
    assert re.search(rf"file0\.yaml, line ({line}|{line + 1}): ", message), message


def test_a_patch_size_that_is_no_multiple_of_the_scale_is_told_with_both(make_zoo: MakeZoo) -> None:
    message = error_of(make_zoo(BASE.replace("patch_size: 128", "patch_size: 130")))
    assert re.search(r"training\.patch_size:? 130 is not a multiple of the scale 4", message)
    assert re.search(r"file0\.yaml, line (1|14): entry 'base'", message), message


def test_a_mistake_in_what_is_inherited_is_told_where_it_is_written(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE.replace("num_blocks: 8", "num_blocks: '8'"), "child:\n  extends: base\n")
    assert "file0.yaml, line 7: entry 'child'" in error_of(zoo, "child")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  summary: x\n  generator.num_block: 3\n", 4),
        ("  summary: x\n  generator:\n    num_block: 3\n", 5),
        ("  generator.block:\n    norm: none\n    nrom: none\n", 5),
        ("  generator.block: {norm: 3}\n", 3),
        ("  training.stages.gan:\n    steps: 3\n    losses.adversarial:\n      paring: standard\n", 6),
        ("  training:\n    stages.gan.losses:\n      adversarial.paring: standard\n", 5),
        ("  training:\n    stages:\n      gan.step: 3\n", 5),
        ("  training.stages.gan.losses.perceptual:\n    extractor: vgg19\n    layrs: {conv5_4: 1.0}\n", 5),
        ("  training.stagse.gan:\n    steps: 3\n", 3),
        ("  training.data.more:\n    steps: 3\n", 3),
        ("  training:\n    data.more: 3\n", 4),
    ],
)
def test_a_mistake_in_a_difference_is_told_at_its_own_line_and_not_at_the_parents(
    make_zoo: MakeZoo, text: str, line: int
) -> None:
    message = error_of(make_zoo(BASE, f"child:\n  extends: base\n{text}"), "child")
    assert re.search(rf"file1\.yaml, line {line}: ", message), message


# --- overrides ----------------------------------------------------------------------------------------------


def test_overrides_are_dotted_and_typed(make_zoo: MakeZoo) -> None:
    entry = make_zoo(BASE).entry(
        "base",
        [
            "training.batch_size=8",
            "training.stages.gan.optimizer.lr=2e-4",
            "generator.block={name: rrdb, growth: 16}",
            "generator.rgb_mean=[0.1, 0.2, 0.3]",
            "training.augment=false",
            "summary=a = b",
            " training.seed = 3",
        ],
    )
    assert entry.training is not None
    assert entry.training.batch_size == 8
    assert entry.training.stages["gan"].optimizer.lr == 2e-4
    assert entry.generator.options["block"] == {"name": "rrdb", "growth": 16}
    assert entry.generator.options["rgb_mean"] == [0.1, 0.2, 0.3]
    assert entry.training.augment is False
    assert entry.training.seed == 3
    assert entry.summary == "a = b"


def test_overrides_may_be_a_mapping(make_zoo: MakeZoo) -> None:
    entry = make_zoo(BASE).entry("base", {"training": None, "generator.num_blocks": 3})
    assert entry.training is None
    assert entry.generator.options["num_blocks"] == 3


def test_overrides_follow_each_other_and_leave_the_zoo_alone(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE)
    entry = zoo.entry("base", ["generator.block=rrdb", "generator.block.growth=16", "generator.block.growth=8"])
    assert entry.generator.options["block"] == {"name": "rrdb", "growth": 8}
    assert zoo.entry("base").generator.options["block"] == {"name": "residual", "norm": "batch"}


@pytest.mark.parametrize(
    ("override", "about"),
    [
        ("training.batch_size=abc", "training.batch_size: input should be a valid integer, not 'abc'"),
        ("training.batch_size='8'", "training.batch_size: input should be a valid integer, not '8'"),
        ("training.batchsize=8", "unknown key 'batchsize'. Did you mean 'batch_size'"),
        ("scal=2", "unknown key 'scal'. Did you mean 'scale'?"),
        ("generator.num_block=3", "has no option 'num_block'. Did you mean 'num_blocks'"),
        ("generator.num_blocks=few", "cannot be 'few'"),
        ("generator.block=rrbd", "No block is called 'rrbd'. Did you mean 'rrdb'"),
        ("generator.block.nrom=none", "has no option 'nrom'. Did you mean 'norm'"),
        ("generator.block={norm: 3}", "cannot be 3"),
        ("generator.block={name: rrdb, growht: 3}", "has no option 'growht'. Did you mean 'growth'"),
        ("generator={block: {norm: 3}}", "cannot be 3"),
        ("training.stages.gan.losses.adversarial.paring=standard", "has no option 'paring'"),
        ("training.stages.gna.steps=3", "training.stages.gna.losses: is required. Did you mean 'gan'?"),
        ("training.data.x=3", "training.data is not a mapping"),
        ("training.data={x.y: 1}", "training.data"),
        ("training.patch_size=130", "130 is not a multiple of the scale 4"),
        ("weights.file=../x", "must be a path below"),
        ("name=other", "name"),
        ("..=3", "unknown key ''"),
        ("training.=3", "unknown key ''"),
    ],
)
def test_a_wrong_override_is_quoted_with_what_is_wrong_and_not_blamed_on_a_file(
    make_zoo: MakeZoo, override: str, about: str
) -> None:
    message = error_of(make_zoo(BASE), "base", [override])
    assert about in message
    assert message.startswith(f"override {override.partition('=')[0]}="), message


@pytest.mark.parametrize("override", ["training.batch_size", "=8", "", " = "])
def test_an_override_without_key_or_value_is_told_the_form(make_zoo: MakeZoo, override: str) -> None:
    with pytest.raises(EntryError, match=r"is not of the form dotted\.key=value"):
        make_zoo(BASE).entry("base", [override])


def test_extends_cannot_be_overridden_in_silence(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "other: {generator: bicubic}")
    assert "extends" in error_of(zoo, "base", ["extends=other"])


# --- differences --------------------------------------------------------------------------------------------


def test_a_difference_is_dotted_keys_with_both_values(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base, generator.block.norm: none, training.stages.gan: null}")
    found = {key: (a, b) for key, a, b in diff_entries(zoo.entry("base"), zoo.entry("child"))}
    assert found["generator.block.norm"] == ("batch", "none")
    assert found["training.stages.gan.steps"] == (500, None)
    assert "generator.num_blocks" not in found


def test_shorthand_and_full_writing_do_not_differ(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(BASE, "child: {extends: base, generator.upsampler: {name: pixelshuffle}}")
    keys = {key.split(".")[0] for key, _, _ in diff_entries(zoo.entry("base"), zoo.entry("child"))}
    assert "generator" not in keys


@pytest.mark.parametrize("name", LIVE.names())
def test_an_entry_does_not_differ_from_itself(name: str) -> None:
    assert diff_entries(LIVE.entry(name), LIVE.entry(name)) == []


# --- a typo anywhere ----------------------------------------------------------------------------------------


class Written:
    """One key or value as it stands in zoo.yaml."""

    def __init__(self, path: tuple[str, ...], node: Any, parent_line: int) -> None:
        self.path = path
        self.node = node
        self.entry = path[0]
        self.line = node.start_mark.line + 1
        self.parent_line = parent_line
        self.id = f"{'.'.join(path)} (line {self.line})"

    def replaced(self, text: str) -> str:
        return ZOO_TEXT[: self.node.start_mark.index] + text + ZOO_TEXT[self.node.end_mark.index :]


def walk(node: Any, path: tuple[str, ...] = (), line: int = 1) -> Iterator[tuple[str, Written]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, *key.value.split("."))
            yield "key", Written(below, key, line)
            yield from walk(value, below, key.start_mark.line + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from walk(item, (*path, str(index)), line)
    else:
        yield "value", Written(path, node, line)


ALIKE = ("weights", "recorded")
"""What is written in the same form for every trained entry; the first one's stands for all."""


def is_of_a_form_seen(written: Written) -> bool:
    return len(written.path) > 1 and written.path[1] in ALIKE and written.entry != "srresnet-lite-x4"


WALKED = [pair for pair in walk(yaml.compose(ZOO_TEXT, Loader=yaml.SafeLoader)) if not is_of_a_form_seen(pair[1])]
KEYS = [
    (written, part) for what, written in WALKED if what == "key" for part in range(written.node.value.count(".") + 1)
]
VALUES = [written for what, written in WALKED if what == "value"]
FREE = ("stages", "losses", "layers", "scores", "rates")  # rates name parts of a network, which is not built here
"""What stands below these is named by whoever writes the entry."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all of the following, since making and removing hundreds takes longer than the tests."""
    return tmp_path_factory.mktemp("scratch")


def load(folder: Path, text: str, only: str = "") -> Zoo:
    """Load a zoo file, or of it ``only`` one entry and what it extends, every line where it was."""
    if only:
        keep = {name for name in LIVE.names() if name == only or name in ANCESTORS[only]}
        lines = text.splitlines()
        text = "\n".join(line if OWNER[index] in keep else "" for index, line in enumerate(lines))
    path = folder / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    return Zoo([Source(path, "srzoo", "zoo", (folder,))], get_registry())


def owners_of_lines() -> list[str]:
    owner, owners = "", []
    for line in ZOO_TEXT.splitlines():
        match = re.match(r"([a-z0-9][\w.-]*):", line)
        owner = match[1] if match else owner
        owners.append(owner)
    return owners


def ancestors_of(name: str) -> set[str]:
    parent = PLAIN[name].get("extends")
    return {parent, *ancestors_of(parent)} if parent else set()


PLAIN = yaml.safe_load(ZOO_TEXT)
OWNER = owners_of_lines()
ANCESTORS = {name: ancestors_of(name) for name in LIVE.names()}


@pytest.mark.parametrize(("written", "part"), KEYS, ids=[f"{w.id}-{part}" for w, part in KEYS])
def test_a_letter_too_many_in_any_key_of_the_zoo_is_one_clear_error(scratch: Path, written: Written, part: int) -> None:
    words = written.node.value.split(".")
    original = words[part]
    middle = len(original) // 2
    words[part] = original[:middle] + original[middle] + original[middle:]
    text = written.replaced(".".join(words))
    above = written.path[: len(written.path) - len(words) + part]

    if not above:  # the name of an entry: this one is as good, but those that extend it cannot find it
        zoo = load(scratch, text)
        assert zoo.entry(words[part]).name == words[part]
        assert all(f"Did you mean {words[part]!r}" in str(problem) for problem in zoo.problems())
        return
    zoo = load(scratch, text, only=written.entry)
    assert zoo.file_problems == []
    try:
        zoo.entry(written.entry)
    except SrzooError as error:
        message = str(error)
    else:
        assert above[-1] in FREE, "the typo went unnoticed"
        return
    assert message.count("zoo.yaml, line") == 1
    assert f"entry {written.entry!r}" in message
    (line,) = re.findall(r"zoo\.yaml, line (\d+)", message)
    if original == "name" or above[-1] in FREE:  # told as what is missing from the mapping around it, or within it
        assert int(line) in (written.line, written.parent_line, written.line + 1), message
    else:
        assert int(line) == written.line, message
        assert repr(words[part]) in message
        assert re.search(rf"Did you mean .*{original!r}.*\?", message), message


@pytest.mark.parametrize(
    "value", ["null", *(pytest.param(value, marks=pytest.mark.slow) for value in ("[[]]", "{zz: {}}", "'5'"))]
)
def test_a_wrong_value_anywhere_in_the_zoo_is_an_error_of_ours_or_none(scratch: Path, value: str) -> None:
    """Every value in turn; what resolves is a value that may stand there."""
    noticed = 0
    for written in VALUES:
        for problem in load(scratch, written.replaced(f" {value}"), only=written.entry).problems():
            noticed += 1
            assert re.match(r".*zoo\.yaml, line \d+: [^\n]*$", str(problem)), problem
    assert noticed > (0 if value == "null" else len(VALUES) // 4)


def test_the_walk_found_the_whole_zoo() -> None:
    assert {written.entry for written, _ in KEYS} == set(LIVE.names())
    assert len(KEYS) > 500
    assert len(VALUES) > 400


def test_an_unknown_option_error_is_an_option_error() -> None:
    with pytest.raises(OptionError):
        LIVE.entry("esrgan-x4", ["generator.nothing_like_it=1"])


@pytest.mark.parametrize("key", ["training.init", "generator.num_blok", "training.stages.gan.losses.perceptal", "scal"])
def test_resetting_a_key_that_does_not_exist_is_noticed(key: str) -> None:
    with pytest.raises(SrzooError, match="override " + key.replace(".", r"\.")):
        LIVE.entry("srgan-lite-x4", [f"{key}=null"])


@pytest.mark.parametrize(
    "key", ["training.start_from", "generator.rgb_mean", "discriminator", "training.stages.gan.ema"]
)
def test_resetting_a_key_that_is_or_is_not_set_works(key: str) -> None:
    assert LIVE.entry("srresnet-lite-x4" if key == "discriminator" else "srgan-lite-x4", [f"{key}=null"])


def test_a_scale_that_the_generator_does_not_have_is_told_before_what_follows_from_it(make_zoo: MakeZoo) -> None:
    with pytest.raises(CompositionError, match=r"override scale=5: .*'trunk' has scales 1, 2, 3, 4, 8, not 5"):
        get_zoo().entry("rrdb-lite-x4", ["scale=5"])
    zoo = make_zoo(
        "mine:\n  summary: s\n  scale: 5\n  generator: {name: trunk, block: rrdb, upsampler: pixelshuffle}\n"
    )
    with pytest.raises(CompositionError, match=r"line 3: entry 'mine': generator 'trunk' has scales"):
        zoo.entry("mine")
