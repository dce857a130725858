"""YAML that remembers where each value came from, so that an error can name file and line.

PyYAML's safe loader, with the traps of YAML 1.1 closed: ``1e-4`` is a number; ``on``, ``no`` and dates are text, not
booleans and date objects; and a key written twice in one mapping is an error instead of a silent overwrite.
"""

from __future__ import annotations

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


@dataclass
class Document:
    """Plain values and, for every path of keys below them, the place it was written at."""

    value: Any
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Return ``file:line`` of a path, or of the nearest one above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")


def read_yaml(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        DataError: the file cannot be read.
        EntryError: it is not valid YAML, repeats a key, or uses tags that would run code.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML text; ``name`` stands for the file in messages. See :func:`read_yaml`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document(None)
        if node is not None:
            document.value = _construct(loader, node, (), name, document.places, [0])
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise EntryError(f"{name}{line}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise EntryError(f"{name}: not valid YAML: {error}.") from None
    except RecursionError:
        raise EntryError(f"{name}: nested too deeply, or an anchor contains itself.") from None
    finally:
        loader.dispose()


def parse_value(text: str) -> Any:
    """Parse the right-hand side of a command-line ``key=value``; what is not valid YAML is a string."""
    try:
        return parse_yaml(text, "").value
    except EntryError:
        return text


def _construct(loader: Any, node: Any, path: KeyPath, name: str, places: dict[KeyPath, str], count: list[int]) -> Any:
    count[0] += 1
    if count[0] > MAX_NODES:
        raise EntryError(f"{name}: expands to more than {MAX_NODES} values; write it without so many anchors.")
    places[path] = f"{name}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)):
                raise EntryError(f"{name}, line {key_node.start_mark.line + 1}: the key {key!r} is not a name.")
            if key in result:
                raise EntryError(f"{name}, line {key_node.start_mark.line + 1}: the key {key!r} stands here twice.")
            below = (*path, key)
            result[key] = _construct(loader, value_node, below, name, places, count)
            places[below] = f"{name}, line {key_node.start_mark.line + 1}"
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, i), name, places, count) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)
