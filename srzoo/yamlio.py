"""YAML that remembers where each value came from, so that an error can name file and line.

PyYAML's safe loader, with the traps of YAML 1.1 closed: ``1e-4`` is a number; ``on``, ``no`` and dates are text, not
booleans and date objects; and a key written twice in one mapping is an error instead of a silent overwrite.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import DataError, EntryError

Key = str | int
KeyPath = tuple[Key, ...]

MAX_NODES = 200_000
"""A zoo file with more nodes than this, after expanding anchors, is refused."""
MAX_DEPTH = 64
"""So is one that is nested more deeply; the parser would overflow the stack on thousands of levels."""
MAX_TEXT = 10_000
"""And one with a longer text, which no message could show."""
MAX_NUMBER = 2**63

_Base: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0].rpartition(":")[2] in ("null", "merge")]
        for first, pairs in _Base.yaml_implicit_resolvers.items()  # type: ignore[attr-defined]
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that could drive a terminal, or show a line in another order than it is written in."""
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq")}


@dataclass(frozen=True)
class Node:
    """A value and the place it was written at.

    Attributes:
        content: a scalar, a list of nodes, or a mapping of keys to nodes.
        where: file and line, or the command-line override it came from.
        confined: whether a zoo file says it, which may name no path.
        scope: distribution of the file that says it, whose own parts and entries a bare name means first; empty for
            what the user says.
    """

    content: Any
    where: str = ""
    confined: bool = field(default=False, compare=False)
    scope: str = field(default="", compare=False)

    @property
    def value(self) -> Any:
        """The plain value, made anew each time."""
        if isinstance(self.content, dict):
            return {key: node.value for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.value for node in self.content]
        return self.content

    def place(self, path: KeyPath) -> str:
        """Return where the value at a path was written, or the nearest one above it that exists."""
        return self.at(path).where

    def at(self, path: KeyPath) -> Node:
        """Return the node at a path, or the nearest one above it that exists."""
        node = self
        for key in path:
            below = node.content
            if isinstance(below, list):
                below = dict(enumerate(below))
            if not isinstance(below, dict) or key not in below:
                break
            node = below[key]
        return node


def locate(value: Any, where: str) -> Node:
    """Return plain values as nodes that all were written at one place."""
    if isinstance(value, dict):
        return Node({key: locate(item, where) for key, item in value.items()}, where)
    if isinstance(value, (list, tuple)):
        return Node([locate(item, where) for item in value], where)
    return Node(value, where)


def read_yaml(path: Path) -> Node:
    """Read one YAML file.

    Raises:
        DataError: the file cannot be read.
        EntryError: it is not valid YAML, repeats a key, is nested or expanded absurdly, or has tags for objects.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Node:
    """Parse YAML text; ``name`` stands for the file in messages. See :func:`read_yaml`."""
    try:
        _check_depth(text, name)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return Node(None, f"{name}, line 1") if node is None else _construct(loader, node, name, [0], ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise EntryError(f"{name}{line}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.reader.ReaderError as error:
        line = f", line {text[: error.position].count(chr(10)) + 1}" if isinstance(error.position, int) else ""
        raise EntryError(f"{name}{line}: not valid YAML: it holds the character {chr(error.character)!a}.") from None
    except yaml.YAMLError as error:
        raise EntryError(f"{name}: not valid YAML: {' '.join(str(error).split())}.") from None


def parse_value(text: str) -> Any:
    """Parse the right-hand side of a command-line ``key=value``; what is not valid YAML is a string."""
    try:
        return parse_yaml(text, "").value
    except EntryError:
        return text


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = f", line {event.start_mark.line + 1}" if event.start_mark is not None else ""
            raise EntryError(f"{name}{line}: nested too deeply, more than {MAX_DEPTH} levels.")


def _construct(loader: Any, node: Any, name: str, count: list[int], above: tuple[Any, ...]) -> Node:
    where = f"{name}, line {node.start_mark.line + 1}"
    count[0] += 1
    if count[0] > MAX_NODES:
        raise EntryError(f"{where}: expands to more than {MAX_NODES} values; write it without so many anchors.")
    if node.tag not in _PLAIN_TAGS:
        merged = node.tag.endswith(":merge")
        hint = "'<<' merges nothing here; 'extends: ENTRY' does, or repeat the keys" if merged else "write plain values"
        raise EntryError(f"{where}: the tag {_shown(node.tag)} is not allowed; {hint}.")
    if isinstance(node, yaml.ScalarNode):
        return Node(_scalar(loader, node, where), where)
    if any(node is other for other in above):
        raise EntryError(f"{where}: an anchor contains itself.")
    if len(above) >= MAX_DEPTH:  # anchors that end in anchors are flat as they are written
        raise EntryError(f"{where}: nested too deeply through its anchors, more than {MAX_DEPTH} levels.")
    inside = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        return Node([_construct(loader, item, name, count, inside) for item in node.value], where)
    content: dict[Key, Node] = {}
    spelt: set[str] = set()
    for key_node, value_node in node.value:
        line = f"{name}, line {key_node.start_mark.line + 1}"
        key = _construct(loader, key_node, name, count, inside).value
        if isinstance(key, bool):
            key = str(key_node.value)  # 'true:' is a name like any other
        if not isinstance(key, (str, int)):
            raise EntryError(f"{line}: the key {_shown(key)} is not a name.")
        if str(key) in spelt:
            raise EntryError(f"{line}: the key {_shown(key)} stands here twice.")
        spelt.add(str(key))
        content[key] = Node(_construct(loader, value_node, name, count, inside).content, line)
    return Node(content, where)


def _scalar(loader: Any, node: Any, where: str) -> Any:
    text, kind = node.value, node.tag.rpartition(":")[2]
    if len(text) > MAX_TEXT:
        raise EntryError(f"{where}: a text of {len(text):,} characters; more than {MAX_TEXT:,} are not read.")
    if _UNSHOWABLE.search(text):
        raise EntryError(f"{where}: {text[:80]!a} holds control characters, which could drive a terminal.")
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise EntryError(f"{where}: {_shown(text)} cannot be read as {kind}.") from None
    if isinstance(value, float) and math.isnan(value):
        raise EntryError(f"{where}: {text} is not a number.")
    if isinstance(value, int) and abs(value) >= MAX_NUMBER:
        raise EntryError(f"{where}: {_shown(text)} is too large a number.")
    return value


def _shown(value: Any) -> str:
    """Return a stranger's value for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
