"""Options: read from the source without importing anything, checked strictly, told in full."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srzoo.errors import OptionError, PluginError
from srzoo.options import POSITIONAL, SLOTS, SUPPLIED, UNKNOWN, check_options, signature_of
from srzoo.plugins import PluginRecord
from srzoo.registry import Component, get_registry
from srzoo.specs import KINDS

OWNER = PluginRecord("mine", "my-package", "1.0", "mine")
EVERY_COMPONENT = [component for kind in KINDS for component in get_registry().find(kind)]

EXAMPLES: dict[str, Any] = {"layers": {"relu1": 1.0}}
"""A value for every option of ours that must be given."""

_unique = itertools.count()
Make = Callable[..., Component]


@pytest.fixture
def from_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes a component out of source that must not be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source: str, name: str = "Part", kind: str = "loss", *, importable: bool = False) -> Component:
        module = f"part_{next(_unique)}"
        trap = "" if importable else "\nraise RuntimeError('imported')\n"
        (tmp_path / f"{module}.py").write_text("from __future__ import annotations\n" + source + trap)
        importlib.invalidate_caches()
        return Component(KINDS[kind]("part", f"{module}:{name}", summary="A part"), OWNER)

    return make


def from_object(factory: Any, kind: str = "loss") -> Component:
    return Component(KINDS[kind]("part", factory, summary="A part"), OWNER)


def names(component: Component) -> list[str]:
    return [option.name for option in signature_of(component).options]


# --- reading signatures -------------------------------------------------------------------------------------


def test_a_class_is_read_with_types_defaults_and_help_and_is_not_imported(from_source: Make) -> None:
    component = from_source(
        '''
class Part(Base):
    """A part.

    Some text with a colon: here.

    Args:
        size: how large it is,
            over two lines.
        mode: the mode.

    Returns:
        nothing: of interest.
    """

    def __init__(self, size: int, ratio: float = 0.5, *, mode: Literal["a", "b"] = "a", extra=None):
        ...
'''
    )
    size, ratio, mode, extra = signature_of(component).options
    assert (size.name, size.type_text, size.default_text, size.required) == ("size", "int", None, True)
    assert size.help == "how large it is, over two lines."
    assert (ratio.annotation, ratio.default_value(), ratio.help) == (float, 0.5, "")
    assert (mode.annotation, mode.default_value(), mode.help) == (typing.Literal["a", "b"], "a", "the mode.")
    assert (extra.type_text, extra.default_text, extra.required) == ("Any", "None", False)
    assert str(ratio) == "ratio: float = 0.5"
    assert str(size) == "size: int"


def test_help_may_stand_in_the_docstring_of_the_constructor(from_source: Make) -> None:
    source = """
class Part:
    def __init__(self, size: int = 1):
        '''Make.

        Args:
            size: of it.
        '''
"""
    (option,) = signature_of(from_source(source)).options
    assert option.help == "of it."


def test_a_class_without_constructor_takes_no_options(from_source: Make) -> None:
    for base in ("", "(object)", "(nn.Module)", "(torch.nn.Module)"):
        assert names(from_source(f"class Part{base}:\n    def forward(self, x): ...\n")) == []


def test_a_constructor_is_inherited_within_the_module(from_source: Make) -> None:
    source = (
        "class Root:\n    def __init__(self, size: int = 1): ...\nclass Middle(Root): ...\nclass Part(Middle): ...\n"
    )
    assert names(from_source(source)) == ["size"]


def test_a_constructor_inherited_from_another_module_is_found_by_importing(from_source: Make) -> None:
    source = "import threading\nclass Part(threading.Semaphore): ...\n"
    assert names(from_source(source, importable=True)) == ["value"]


def test_a_function_is_read(from_source: Make) -> None:
    component = from_source("def part(size: int = 1, *, deep: bool = False) -> object: ...\n", "part")
    assert names(component) == ["size", "deep"]


def test_a_dataclass_has_its_fields_as_options(from_source: Make) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Part:\n    size: int = 1\n    deep: bool = False\n"
    assert names(from_source(source, importable=True)) == ["size", "deep"]


@pytest.mark.parametrize(
    "source",
    [
        "from threading import Semaphore as Part\n",
        "class Outer:\n    class Part:\n        def __init__(self, value: int = 1): ...\nPart = Outer.Part\n",
        "def make():\n    def part(value: int = 1): ...\n    return part\nPart = make()\n",
        "try:\n    class Part:\n        def __init__(self, value: int = 1): ...\nfinally: ...\n",
    ],
    ids=["imported", "assigned", "closure", "conditional"],
)
def test_what_the_source_does_not_define_in_plain_sight_is_found_by_importing(from_source: Make, source: str) -> None:
    assert names(from_source(source, importable=True)) == ["value"]


def test_variable_arguments_are_no_options(from_source: Make) -> None:
    source = "class Part:\n    def __init__(self, size: int = 1, *rest: int, **more: int): ...\n"
    assert names(from_source(source, importable=True)) == ["size"]


@pytest.mark.parametrize(
    ("kind", "leading"), [("block", "channels: int, "), ("upsampler", "channels: int, scale: int, "), ("loss", "")]
)
def test_what_the_trunk_passes_is_no_option(from_source: Make, kind: str, leading: str) -> None:
    source = f"class Part:\n    def __init__(self, {leading}size: int = 1): ...\n"
    assert names(from_source(source, kind=kind)) == ["size"]


def test_slots_and_supplied_arguments_are_kept_apart_from_options(from_source: Make) -> None:
    source = "def part(block, upsampler, extractor=None, scale: int = 4, input_size: int = 3, size: int = 1): ...\n"
    signature = signature_of(from_source(source, "part", "generator"))
    assert [slot.name for slot in signature.slots] == ["block", "upsampler", "extractor"]
    assert [slot.required for slot in signature.slots] == [True, True, False]
    assert signature.supplied == ("scale", "input_size")
    assert [option.name for option in signature.options] == ["size"]
    assert signature.names() == ["size", "block", "upsampler", "extractor"]


def test_a_factory_given_as_an_object_is_inspected() -> None:
    class Part:
        """A part.

        Args:
            size: of it.
        """

        def __init__(self, size: int, mode: str = "a") -> None: ...

    size, mode = signature_of(from_object(Part)).options
    assert (size.annotation, size.required, size.help) == (int, True, "of it.")
    assert (mode.annotation, mode.default_value()) == (str, "a")


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        ("no_such_module_anywhere:Part", "No module named 'no_such_module_anywhere'"),
        ("no_such_package.deeper:Part", "No module named 'no_such_package'"),
        ("collections.abc:NoSuchName", "NoSuchName"),
        ("json.decoder:NoSuchName", "'json.decoder' defines no 'NoSuchName'."),
        ("json.decoder:JSONDecodr", "defines no 'JSONDecodr' (did you mean 'JSONDecoder' or "),
    ],
)
def test_a_factory_that_is_not_there_is_an_error_naming_owner_and_cause(factory: str, cause: str) -> None:
    with pytest.raises(PluginError) as caught:
        signature_of(from_object(factory))
    assert "plugin 'mine' (my-package 1.0)" in str(caught.value)
    assert f"The factory {factory!r} of loss 'mine/part'" in str(caught.value)
    assert cause in str(caught.value)


def test_source_that_does_not_parse_is_an_error_naming_the_owner(from_source: Make) -> None:
    with pytest.raises(PluginError, match=r"'mine/part' .*SyntaxError"):
        signature_of(from_source("class Part(:\n"))


# --- checking -----------------------------------------------------------------------------------------------

TYPED = """
def part(
    number: int = 1,
    real: float = 0.5,
    flag: bool = False,
    text: str = "a",
    pair: tuple[int, int] = (1, 2),
    many: tuple[float, ...] = (),
    mode: Literal["none", "batch"] = "none",
    maybe: int | None = None,
    table: dict[str, float] | None = None,
    names: Sequence[str] = (),
    own: SomethingOfMine = None,
    free=None,
): ...
"""


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("number", 16, 16),
        ("number", 0, 0),
        ("number", -1, -1),
        ("real", 0.25, 0.25),
        ("real", 1, 1.0),
        ("flag", True, True),
        ("text", "16", "16"),
        ("pair", [3, 4], (3, 4)),
        ("many", [1, 2.5], (1.0, 2.5)),
        ("many", [], ()),
        ("mode", "batch", "batch"),
        ("maybe", None, None),
        ("maybe", 3, 3),
        ("table", {"a": 1, "b": 0.5}, {"a": 1.0, "b": 0.5}),
        ("names", ["a"], ["a"]),
        ("own", {"any": "thing"}, {"any": "thing"}),
        ("free", [1, "a"], [1, "a"]),
    ],
)
def test_a_value_of_the_declared_type_is_taken(from_source: Make, name: str, value: Any, result: Any) -> None:
    found = check_options(from_source(TYPED, "part"), {name: value}, "here")[name]
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "16"),
        ("number", True),
        ("number", 1.5),
        ("number", 16.0),
        ("number", None),
        ("number", [1]),
        ("real", "0.5"),
        ("real", True),
        ("flag", 1),
        ("flag", "true"),
        ("flag", None),
        ("text", 16),
        ("text", True),
        ("pair", [1]),
        ("pair", [1, 2, 3]),
        ("pair", ["1", "2"]),
        ("pair", 1),
        ("pair", "12"),
        ("mode", "instance"),
        ("mode", None),
        ("maybe", "none"),
        ("table", {"a": "1"}),
        ("table", [1]),
        ("names", "abc"),
    ],
)
def test_a_value_of_another_type_is_refused_with_option_type_and_value(
    from_source: Make, name: str, value: Any
) -> None:
    with pytest.raises(OptionError) as caught:
        check_options(from_source(TYPED, "part"), {name: value}, "entry 'x': generator")
    message = str(caught.value)
    assert message.startswith("entry 'x': generator: loss 'part': option ")
    assert f"{name}: " in message
    assert f"cannot be {value!r}" in message


def test_literals_are_told_in_full(from_source: Make) -> None:
    with pytest.raises(OptionError, match="'none' or 'batch'"):
        check_options(from_source(TYPED, "part"), {"mode": "instance"}, "here")


def test_types_are_as_strict_for_a_factory_given_as_an_object() -> None:
    def part(size: int = 1, pair: tuple[int, int] = (1, 2)) -> None: ...

    assert check_options(from_object(part), {"size": 2, "pair": [3, 4]}, "here") == {"size": 2, "pair": (3, 4)}
    with pytest.raises(OptionError):
        check_options(from_object(part), {"size": "2"}, "here")


def test_an_unknown_option_gets_the_near_miss_and_everything_accepted(from_source: Make) -> None:
    source = "def part(block, num_blocks: int = 16, num_features: int = 64): ...\n"
    with pytest.raises(OptionError) as caught:
        check_options(from_source(source, "part", "generator"), {"num_block": 3, "block": "x"}, "entry 'x'")
    message = str(caught.value)
    assert "entry 'x': generator 'part' has no option 'num_block'. Did you mean 'num_blocks'" in message
    assert "It accepts: num_blocks: int = 16, num_features: int = 64, block" in message


def test_a_component_without_options_says_that_it_accepts_none(from_source: Make) -> None:
    with pytest.raises(OptionError, match="It accepts: none"):
        check_options(from_source("def part(): ...\n", "part"), {"size": 1}, "here")


def test_missing_options_and_slots_are_all_named(from_source: Make) -> None:
    source = "def part(block, size: int, deep: bool, upsampler=None, width: int = 1): ...\n"
    with pytest.raises(OptionError, match="needs 'size' and 'deep' and 'block'"):
        check_options(from_source(source, "part", "generator"), {}, "here")


@pytest.mark.parametrize(("name", "origin"), [("scale", "the entry's scale"), ("input_size", "training.patch_size")])
def test_a_supplied_argument_cannot_be_set_and_the_error_says_where_it_comes_from(
    from_source: Make, name: str, origin: str
) -> None:
    with pytest.raises(OptionError, match=f"gets '{name}' from {origin}"):
        check_options(from_source("def part(scale: int, input_size: int): ...\n", "part"), {name: 4}, "here")


def test_slots_pass_through_unchanged(from_source: Make) -> None:
    value = {"name": "rrdb", "growth": 16}
    component = from_source("def part(block): ...\n", "part", "generator")
    assert check_options(component, {"block": value}, "here") == {"block": value}


# --- the live registry --------------------------------------------------------------------------------------


def test_the_options_of_every_component_are_read_without_torch() -> None:
    code = (
        "import sys\n"
        "from srzoo.options import signature_of\n"
        "from srzoo.registry import get_registry\n"
        "from srzoo.specs import KINDS\n"
        "for kind in KINDS:\n"
        "    for component in get_registry().find(kind):\n"
        "        signature_of(component)\n"
        "        assert 'torch' not in sys.modules, component.full_name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("component", EVERY_COMPONENT, ids=lambda c: f"{c.kind}/{c.name}")
def test_what_the_source_says_is_what_python_says(component: Component) -> None:
    factory = component.spec.load()
    parameters = [
        parameter
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ][POSITIONAL.get(component.kind, 0) :]
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    signature = signature_of(component)
    read = {option.name: option for option in (*signature.options, *signature.slots)}

    assert sorted([*read, *signature.supplied]) == sorted(p.name for p in parameters)
    assert set(signature.supplied) == {p.name for p in parameters} & set(SUPPLIED)
    assert {slot.name for slot in signature.slots} == {p.name for p in parameters} & set(SLOTS)
    for parameter in parameters:
        option = read.get(parameter.name)
        if option is None:
            continue
        assert option.required == (parameter.default is parameter.empty)
        if not option.required:
            assert option.default_text is not None
            assert ast.literal_eval(option.default_text) == parameter.default
            assert option.default_value() == parameter.default
        if option.annotation is not UNKNOWN:
            assert option.annotation == hints[parameter.name]


@pytest.mark.parametrize("component", EVERY_COMPONENT, ids=lambda c: f"{c.kind}/{c.name}")
def test_every_option_of_ours_is_typed_and_explained(component: Component) -> None:
    if not component.owner.first_party:
        pytest.skip("only srzoo's own components promise this")
    signature = signature_of(component)
    assert [option.name for option in signature.options if option.annotation is UNKNOWN] == []
    assert [option.name for option in (*signature.options, *signature.slots) if not option.help] == []


@pytest.mark.parametrize("component", EVERY_COMPONENT, ids=lambda c: f"{c.kind}/{c.name}")
def test_every_default_obeys_its_own_type(component: Component) -> None:
    signature = signature_of(component)
    given: dict[str, Any] = {slot.name: "anything" for slot in signature.slots}
    given |= {option.name: option.default_value() for option in signature.options if not option.required}
    given |= {option.name: EXAMPLES[option.name] for option in signature.options if option.required}
    assert set(check_options(component, given, "here")) == set(signature.names())


def test_slots_name_kinds() -> None:
    assert set(SLOTS.values()) <= set(KINDS)


def test_of_many_options_a_dozen_are_named_and_the_rest_found() -> None:
    trunk = get_registry().get("generator", "trunk")
    with pytest.raises(OptionError, match="Did you mean 'num_blocks'") as caught:
        check_options(trunk, {"num_blks": 4}, "here")
    message = str(caught.value)
    assert "It accepts: num_features, num_blocks, head_kernel" in message
    assert message.endswith("and 7 more; 'srzoo show generator/trunk' lists them.")
    assert len(message) < 400
