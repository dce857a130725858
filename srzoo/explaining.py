"""What is wrong with settings that were read from a file, in one sentence with file, line and key."""

from __future__ import annotations

import pydantic

from .errors import did_you_mean
from .yamlio import KeyPath, Node


def explain(what: str, error: pydantic.ValidationError, tree: Node) -> str:
    """Turn pydantic's first error about ``what`` is written in a tree into one sentence with file, line and key."""
    first = error.errors()[0]
    path: KeyPath = tuple(part for part in first["loc"])
    context = first.get("ctx") or {}
    if first["type"] == "unknown_key":
        path = (*path, context["key"])
    if first["type"] == "misfit":
        path = tuple(context["path"].split("."))
    dotted = ".".join(map(str, path))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "is required"
    elif first["type"] not in ("unknown_key", "misfit", "value_error"):
        shown = repr(first["input"])
        message = f"{message[0].lower()}{message[1:]}, not {shown if len(shown) <= 200 else shown[:197] + '...'}"
    separator = ": " if dotted else ""
    return f"{tree.place(path)}: {what}: {dotted}{separator}{message}.{_other_stage(path, first['type'], tree)}"


def _other_stage(path: KeyPath, fault: str, tree: Node) -> str:
    """Return a hint where what is missing of a stage may be that of another, whose name was meant."""
    if fault != "missing" or len(path) != 4 or path[:2] != ("training", "stages"):
        return ""
    others = [str(name) for name in tree.at(path[:2]).content if name != path[2]]
    known = f" The recipe's other stages: {', '.join(others)}." if others else ""
    return did_you_mean(str(path[2]), others) or known
