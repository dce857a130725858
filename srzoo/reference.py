"""The hook reference: a page made from hookspecs.py and specs.py, so that it cannot say anything else."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields
from typing import Any

from . import hookspecs
from .options import help_lines
from .specs import KINDS, ComponentSpec, WeightFile, hook_name

_HEAD = """\
# Hooks

A plugin is a module behind an entry point of group `srzoo`. It implements any of these hooks with `@srzoo.hookimpl`. A
hook takes no arguments, returns a list, and is pure and cheap: every `srzoo` command asks it. This page is what
`srzoo plugin hooks` prints; it is made from [`srzoo/hookspecs.py`](../srzoo/hookspecs.py) and
[`srzoo/specs.py`](../srzoo/specs.py).

"""


def hook_reference() -> str:
    """Return the page, as Markdown."""
    spec_of = {hook_name(kind): spec for kind, spec in KINDS.items()}
    hooks = [name for name in vars(hookspecs) if name.startswith("srzoo_")]
    lines = ["| hook | returns |", "|---|---|"]
    for hook in hooks:
        returned = f"[`{spec_of[hook].__name__}`](#{spec_of[hook].__name__.lower()})" if hook in spec_of else "paths"
        lines.append(f"| `{hook}()` | a list of {returned} |")
    parts = [_HEAD + "\n".join(lines) + "\n"]
    for hook in hooks:
        text = f"\n## `{hook}()`\n\n{_markup(inspect.getdoc(getattr(hookspecs, hook)) or '')}\n"
        parts.append(text + (_spec_section(spec_of[hook]) if hook in spec_of else ""))
    shared = _own_fields(ComponentSpec)
    parts.append(f"\n## What all specs take\n\n{_table(ComponentSpec, shared)}")
    parts.append(f"\n## `WeightFile`\n\n{_markup(_lead(WeightFile))}\n\n{_table(WeightFile, list(fields(WeightFile)))}")
    return "".join(parts)


def _spec_section(spec: type[ComponentSpec]) -> str:
    own = _own_fields(spec)
    takes = f"\n\n{_table(spec, own)}" if own else "\n"
    return f"\n### `{spec.__name__}`\n\n{_markup(_lead(spec))}{takes}"


def _own_fields(spec: type[ComponentSpec]) -> list[Field[Any]]:
    inherited = {f.name for f in fields(ComponentSpec)} if spec is not ComponentSpec else set()
    return [f for f in fields(spec) if f.name not in inherited]


def _table(owner: type[Any], shown: list[Field[Any]]) -> str:
    helps = help_lines(owner.__doc__ or "")
    lines = ["| argument | type | default | |", "|---|---|---|---|"]
    for f in shown:
        default = "required"
        if f.default is not MISSING:
            default = f"`{f.default!r}`"
        elif f.default_factory is not MISSING:
            default = f"`{f.default_factory()!r}`"
        kind = str(f.type).replace("|", "\\|")
        lines.append(f"| `{f.name}` | `{kind}` | {default} | {_markup(helps.get(f.name, ''))} |")
    return "\n".join(lines) + "\n"


def _lead(owner: type[Any]) -> str:
    """Return a docstring up to its first section."""
    return re.split(r"\n\n(?:Args|Raises|Attributes):\n", inspect.cleandoc(owner.__doc__ or ""))[0]


def _markup(text: str) -> str:
    """Return the docstrings' reStructuredText as Markdown: literals, roles and simple tables."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"(?ms)^=+ +=+\n(.*?)^=+ +=+\n(.*?)^=+ +=+$", _simple_table, text)


def _simple_table(found: re.Match[str]) -> str:
    rows: list[list[str]] = []
    for line in [*found[1].splitlines(), *found[2].splitlines()]:
        if line.startswith(" ") and rows:
            rows[-1][1] += " " + line.strip()
        else:
            left, _, right = re.sub(r" {2,}", "\t", line.strip(), count=1).partition("\t")
            rows.append([left, right.strip()])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|", *lines[1:]])
