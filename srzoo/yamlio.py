"""YAML that remembers where each value came from, so that an error can name file and line.

PyYAML's safe loader, with the traps of YAML 1.1 closed: ``1e-4`` is a number; ``on``, ``no`` and dates are text, not
booleans and date objects; and a key written twice in one mapping is an error instead of a silent overwrite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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


_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq")}


@dataclass(frozen=True)
class Node:
    """A value and the place it was written at.

    Attributes:
        content: a scalar, a list of nodes, or a mapping of keys to nodes.
        where: file and line, or the command-line override it came from.
    """

    content: Any
    where: str = ""

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
        node = self
        for key in path:
            below = node.content
            if isinstance(below, list):
                below = dict(enumerate(below))
            if not isinstance(below, dict) or key not in below:
                break
            node = below[key]
        return node.where


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Node:
    """Parse YAML text; ``name`` stands for the file in messages. See :func:`read_yaml`."""
    try:
        _check_depth(text, name)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return Node(None, f"{name}, line 1") if node is None else _construct(loader, node, name, [0])
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise EntryError(f"{name}{line}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise EntryError(f"{name}: not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise EntryError(f"{name}: an anchor contains itself.") from None


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
            raise EntryError(f"{name}: nested too deeply, more than {MAX_DEPTH} levels.")


def _construct(loader: Any, node: Any, name: str, count: list[int]) -> Node:
    count[0] += 1
    if count[0] > MAX_NODES:
        raise EntryError(f"{name}: expands to more than {MAX_NODES} values; write it without so many anchors.")
    where = f"{name}, line {node.start_mark.line + 1}"
    if node.tag not in _PLAIN_TAGS:
        raise EntryError(f"{where}: the tag {node.tag!r} is not allowed; write plain values.")
    if isinstance(node, yaml.MappingNode):
        content: dict[Key, Node] = {}
        for key_node, value_node in node.value:
            line = f"{name}, line {key_node.start_mark.line + 1}"
            key = _construct(loader, key_node, name, count).value
            if isinstance(key, bool):
                key = str(key_node.value)  # 'true:' is a name like any other
            if not isinstance(key, (str, int)):
                raise EntryError(f"{line}: the key {key!r} is not a name.")
            if key in content:
                raise EntryError(f"{line}: the key {key!r} stands here twice.")
            content[key] = Node(_construct(loader, value_node, name, count).content, line)
        return Node(content, where)
    if isinstance(node, yaml.SequenceNode):
        return Node([_construct(loader, item, name, count) for item in node.value], where)
    if any(ord(character) < 32 and character not in "\t\n\r" for character in node.value):
        raise EntryError(f"{where}: {node.value[:80]!r} holds control characters, which could drive a terminal.")
    try:
        return Node(loader.construct_object(node, deep=True), where)
    except (ValueError, LookupError, TypeError, AttributeError):
        kind = node.tag.rpartition(":")[2]
        raise EntryError(f"{where}: {node.value!r} cannot be read as {kind}.") from None
