"""YAML: the traps of YAML 1.1 are closed, every value knows its line, and no file can bring the program down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from srzoo.errors import DataError, EntryError, InputError, SrzooError
from srzoo.yamlio import parse_value, parse_yaml, read_yaml


def value_of(text: str) -> Any:
    return parse_yaml(f"key: {text}\n", "file.yaml").value["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("1_000_000", 1_000_000),
        ("1e-4", 1e-4),
        ("5E4", 5e4),
        ("1.5e3", 1500.0),
        ("-2e+2", -200.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_null_are_read_as_people_write_them(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["on", "off", "yes", "No", "y", "n", "2020-01-01", "1:30", "0x1f", "0o17", "007", "1e", "e4", "=", "1.2.3", "x2"],
)
def test_what_looks_like_yaml_1_1_magic_is_text(text: str) -> None:
    assert value_of(text) == text


def test_quoted_values_are_text() -> None:
    assert value_of('"16"') == "16"
    assert value_of("'true'") == "true"


@pytest.mark.parametrize("text", [".inf", "-.inf"])
def test_infinities_are_numbers(text: str) -> None:
    assert abs(value_of(text)) == float("inf")


def test_every_value_knows_its_file_and_line() -> None:
    document = parse_yaml("one:\n  two: 1\n  three:\n    - a\n    - {four: b}\nfive: 6\n", "zoo.yaml")
    assert document.place(("one",)) == "zoo.yaml, line 1"
    assert document.place(("one", "two")) == "zoo.yaml, line 2"
    assert document.place(("one", "three")) == "zoo.yaml, line 3"
    assert document.place(("one", "three", 0)) == "zoo.yaml, line 4"
    assert document.place(("one", "three", 1, "four")) == "zoo.yaml, line 5"
    assert document.place(("five",)) == "zoo.yaml, line 6"


def test_the_place_of_what_is_not_written_is_the_nearest_one_above() -> None:
    document = parse_yaml("one:\n  two:\n    three: 1\n", "zoo.yaml")
    assert document.place(("one", "two", "missing", "deeper")) == "zoo.yaml, line 2"


def test_the_place_of_an_aliased_value_is_where_its_key_stands() -> None:
    document = parse_yaml("one: &x {a: 1}\ntwo: *x\n", "zoo.yaml")
    assert document.value["two"] == {"a": 1}
    assert document.place(("two",)) == "zoo.yaml, line 2"


@pytest.mark.parametrize(
    ("text", "line", "about"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands here twice"),
        ("a:\n  b: 1\n  b: 1\n", 3, "'b' stands here twice"),
        ("a: 1\n'a': 2\n", 2, "'a' stands here twice"),
        ("a: 1\nb:\n\tc: 2\n", 3, "not valid YAML"),
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a: 'open\n", 2, "not valid YAML"),
        ("a: {b: 1\nc: 2}\nd: }\n", 2, "not valid YAML"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "['x', 'y'] is not a name"),
        ("a: 1\nnull: 2\n", 2, "None is not a name"),
        ("a: 1\n1.5: 2\n", 2, "1.5 is not a name"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(text: str, line: int, about: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse_yaml(text, "zoo.yaml")
    assert str(caught.value).startswith(f"zoo.yaml, line {line}: ")
    assert about in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/name:os.system",
        "!!python/object/apply:os.system [echo broken in]",
        "!!python/object/new:os.system [echo broken in]",
        "!!python/object:os.stat_result {a: 1}",
        "!!python/tuple [1, 2]",
        "!mine {a: 1}",
        "!mine text",
    ],
)
def test_tags_that_ask_for_objects_are_refused(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EntryError, match=r"zoo\.yaml, line 2: .*tag"):
        parse_yaml(f"a: 1\nb: {text}\n", "zoo.yaml")
    assert "broken in" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["!!int abc", "!!float abc", "!!bool abc", "!!timestamp abc", "!!binary x", "1" * 5000],
    ids=lambda text: text[:16],
)
def test_a_value_that_cannot_be_read_as_what_it_claims_is_an_error_at_its_line(text: str) -> None:
    with pytest.raises(EntryError, match=r"^zoo\.yaml, line 2: "):
        parse_yaml(f"a: 1\nb: {text}\n", "zoo.yaml")


def test_anchors_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(EntryError, match=r"zoo\.yaml, line 1: expands to more than 200000 values"):
        parse_yaml("\n".join(lines), "zoo.yaml")


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}", "&x {a: *x}", "a: &x [{b: [*x, *x]}]"])
def test_an_anchor_that_contains_itself_is_refused(text: str) -> None:
    with pytest.raises(EntryError, match="an anchor contains itself"):
        parse_yaml(text, "zoo.yaml")


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_absurd_nesting_is_an_error_and_not_a_crash(tmp_path: Path, depth: int, brackets: str) -> None:
    """In a process of its own, since libyaml's composer recurses in C and takes the interpreter with it.

    Since PyYAML 6.0.4 libyaml has a bound of its own, which brackets meet before srzoo's does.
    """
    opening, closing = ("[", "]") if brackets == "[]" else ("{a: ", "}")
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + opening * depth + "1" + closing * depth)
    code = (
        "import sys, pathlib\nfrom srzoo.yamlio import read_yaml\nfrom srzoo.errors import EntryError\n"
        "try:\n    read_yaml(pathlib.Path(sys.argv[1]))\nexcept EntryError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-300:]}"
    assert "nested too deeply" in done.stdout or "maximum nesting depth" in done.stdout


def test_nesting_as_deep_as_anybody_writes_is_read() -> None:
    document = parse_yaml("a: " + "{a: " * 50 + "1" + "}" * 50, "zoo.yaml")
    assert isinstance(document.value, dict)


def test_an_empty_file_has_no_value(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing but a comment\n")
    assert read_yaml(path).value is None


def test_a_byte_order_mark_and_windows_line_ends_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfone: 1\r\ntwo: 2\r\n")
    document = read_yaml(path)
    assert document.value == {"one": 1, "two": 2}
    assert document.place(("two",)).endswith("line 2")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe\x00", b"a: \x00\x01", b"a: \xc3\x28"])
def test_a_file_that_is_not_text_is_told_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.yaml"
    path.write_bytes(content)
    with pytest.raises(SrzooError, match=r"picture\.yaml"):
        read_yaml(path)


def test_a_file_that_is_not_there_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*nothing\.yaml"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(DataError, match="Cannot read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("1e-4", 1e-4),
        ("rrdb", "rrdb"),
        ("null", None),
        ("", None),
        ("[a, b]", ["a", "b"]),
        ("{name: rrdb, growth: 16}", {"name": "rrdb", "growth": 16}),
        ("a: b: c", "a: b: c"),
        ("[open", "[open"),
        ("100%", "100%"),
        ("*", "*"),
        ("@home", "@home"),
        ("C:\\data", "C:\\data"),
    ],
)
def test_the_right_side_of_an_override_is_yaml_or_else_text(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: 1\nb: \xe9t\xe9\n", "line 2: not UTF-8"),
        ("a: 1\n".encode("utf-16"), "line 1: not UTF-8"),
        (b"a: 1\nb: 2\nc: \0\n", r"line 3: .*'\\x00'"),
        (b"a: 1\nb: \xc2\x9b2J\n", r"line 2: .*'\\x9b'"),
    ],
)
def test_bytes_that_are_no_text_are_told_with_their_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"zoo\.yaml, {told}"):
        read_yaml(tmp_path / "zoo.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_bytes("a: 1\n".encode("utf-8-sig"))
    assert read_yaml(tmp_path / "zoo.yaml").value == {"a": 1}
