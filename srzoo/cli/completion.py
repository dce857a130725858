"""Shell completion of names. Errors are swallowed: a broken zoo must not print into somebody's prompt."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from ..errors import SrzooError
from ..registry import get_registry
from ..specs import KINDS
from ..zoo import get_zoo


def _quietly(names: Callable[[], list[str]], incomplete: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [name for name in names() if name.startswith(incomplete)]
        except SrzooError:
            return []


def complete_entry(incomplete: str) -> list[str]:
    """Complete the name of a zoo entry."""
    return _quietly(lambda: get_zoo().names(), incomplete)


def complete_ablation(incomplete: str) -> list[str]:
    """Complete the name of an ablation."""
    return _quietly(lambda: [path.stem for record in get_registry().records for path in record.ablations], incomplete)


def complete_kind(incomplete: str) -> list[str]:
    """Complete a kind of component."""
    return [kind for kind in ("entry", *KINDS) if kind.startswith(incomplete)]


def complete_entry_or_component(incomplete: str) -> list[str]:
    """Complete an entry, or ``KIND/NAME`` once a kind has been begun."""

    def names() -> list[str]:
        registry = get_registry()
        components = [f"{kind}/{c.name}" for kind in KINDS for c in registry.find(kind)]
        return [*get_zoo().names(), *components]

    return _quietly(names, incomplete)


def complete_metric(incomplete: str) -> list[str]:
    """Complete the last of several metrics separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    found = _quietly(lambda: [c.name for c in get_registry().find("metric")], last)
    return [f"{before}{comma}{name}" for name in found]


def complete_component_or_plugin(incomplete: str) -> list[str]:
    """Complete a plugin, or ``KIND/NAME`` of a component."""

    def names() -> list[str]:
        registry = get_registry()
        components = [f"{kind}/{c.name}" for kind in KINDS for c in registry.find(kind)]
        return [*(record.name for record in registry.records), *components]

    return _quietly(names, incomplete)


def complete_template(incomplete: str) -> list[str]:
    """Complete a kind of which ``srzoo plugin new`` has a template."""
    from ..scaffold import TEMPLATES

    return [kind for kind in TEMPLATES if kind.startswith(incomplete)]
