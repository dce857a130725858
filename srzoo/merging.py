"""Laying changes over what is written: ``extends``, overrides and budgets all merge trees by these rules.

Dotted keys are paths, ``null`` resets a key to its default, and a mapping that names another component replaces the
old one whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .errors import EntryError
from .yamlio import Key, KeyPath, Node, locate, parse_value

SETTINGS = ("optimizer", "discriminator_optimizer", "schedule")
"""Mappings with a ``name`` whose other keys mean the same whatever the name, so that they stay when it changes."""


def parse_overrides(overrides: Mapping[str, Any] | Sequence[str]) -> list[Node]:
    """Return each override as a mapping of one dotted key."""
    pairs: list[tuple[str, Any, str]] = []
    if isinstance(overrides, Mapping):
        pairs = [(key, value, f"override {key}={short(value)}") for key, value in overrides.items()]
    else:
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise EntryError(f"Override {text!r} is not of the form dotted.key=value, e.g. training.batch_size=8.")
            if not value.strip():
                raise EntryError(f"Override {text!r} has no value; {key.strip()}=null resets it.")
            pairs.append((key.strip(), parse_value(value), f"override {text}"))
    for key, _, where in pairs:
        if key.partition(".")[0] in ("extends", "name"):
            raise EntryError(f"{where}: {key.partition('.')[0]} cannot be overridden; name another entry instead.")
    return [Node({key: locate(value, where)}, where) for key, value, where in pairs]


def nulls(node: Node, above: str = "") -> Iterator[tuple[str, Node]]:
    """Yield the dotted key of every null in a tree."""
    if isinstance(node.content, dict):
        for key, value in node.content.items():
            yield from nulls(value, f"{above}{key}.")
    elif node.content is None and above:
        yield above[:-1], node


def merge(base: Node, new: Node) -> Node:
    """Return the base with a mapping laid over it; dotted keys are paths, and neither argument is changed.

    A mapping that names another component (``name``) replaces the old one whole, since the old options mean
    nothing to it; any other mapping is merged key by key. ``null`` resets a key to its default.
    """
    for key, value in new.content.items():
        path: KeyPath = tuple(key.split(".")) if isinstance(key, str) else (key,)
        if "" in path:
            raise EntryError(f"{value.where}: unknown key '' in {key!r}.")
        base = put(base, path, value)
    return base


def put(base: Node, path: KeyPath, new: Node, done: KeyPath = (), *, renaming: bool = False) -> Node:
    """Return the base with one value put at a path.

    Args:
        done: the keys above, for messages.
        renaming: the new mapping gives the component that is there its full name, so its options stay.
    """
    key, rest = path[0], path[1:]
    content: dict[Key, Node] = dict(base.content)
    old = content.get(key)
    fresh = Node({}, new.where, scope=new.scope)
    if rest:
        below = _written_out(old) if old is not None and old.content is not None else fresh
        if not isinstance(below.content, dict):
            raise EntryError(f"{new.where}: {'.'.join(map(str, (*done, key)))} is not a mapping.")
        if rest == ("name",) and key not in SETTINGS and not _names_the_same(below, Node({"name": new})):
            below = fresh
        content[key] = put(below, rest, new, (*done, key), renaming=renaming)
    elif new.content is None:
        content.pop(key, None)
    elif isinstance(new.content, dict):
        below = _written_out(old) if old is not None else fresh
        keeps = isinstance(below.content, dict) and (renaming or key in SETTINGS or _names_the_same(below, new))
        merged = merge(below if keeps else fresh, new)
        content[key] = Node(merged.content, new.where, scope=merged.scope)
    elif old is not None and _is_number(new.content) and not _names_a_component(old):
        content[key] = replace(new, scope=old.scope)  # the label of a term stays whose it was when its weight changes
    else:
        content[key] = new
    return Node(content, base.where, scope=base.scope)


def _names_the_same(old: Node, new: Node) -> bool:
    named = new.content.get("name")
    return named is None or ("name" in old.content and old.content["name"].value == named.value)


def _written_out(node: Node) -> Node:
    """Return the mapping that a shorthand stands for: ``residual`` for {name: residual}, 0.01 for {weight: 0.01}."""
    if isinstance(node.content, str):
        return Node({"name": node}, node.where, scope=node.scope)
    if _is_number(node.content):
        return Node({"weight": node}, node.where, scope=node.scope)
    return node


def _names_a_component(node: Node) -> bool:
    content = _written_out(node).content
    return isinstance(content, dict) and "name" in content


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def short(value: Any) -> str:
    """Return a value as one short piece of text."""
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:37] + "..."
