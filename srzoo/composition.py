"""An entry's composition written out in full: what a checkpoint carries and a cached cost is looked up by."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from .options import SLOTS, check_options, signature_of
from .recipe import ComponentRef, Entry
from .registry import get_registry


def full_composition(entry: Entry) -> dict[str, Any]:
    """Return everything that decides the generator's function: owners and defaults written out.

    This is what a checkpoint carries, so that a changed default or another plugin's block of the same name is
    noticed when it is loaded.
    """
    where = f"entry {entry.name!r}: generator"
    return {"scale": entry.scale, "generator": _written_out("generator", entry.generator, where)}


def _written_out(kind: str, ref: ComponentRef, where: str) -> dict[str, Any]:
    component = get_registry().get(kind, ref.name)
    signature = signature_of(component)
    given = check_options(component, ref.options, where)
    result: dict[str, Any] = {"name": component.full_name}
    for option in signature.options:
        result[option.name] = given[option.name] if option.name in given else option.default_value()
    for slot in signature.slots:
        if slot.name in given:
            part = ComponentRef.model_validate(given[slot.name])
            result[slot.name] = _written_out(SLOTS[slot.name], part, f"{where}.{slot.name}")
    return cast(dict[str, Any], json.loads(json.dumps(result, default=str)))


def composition_digest(entry: Entry) -> str:
    """Return the SHA-256 of the full composition and of the versions of the plugins in it."""
    text = json.dumps([full_composition(entry), plugin_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plugin_versions() -> dict[str, str]:
    """Return every working plugin with the distribution and version it came from."""
    working = [record for record in get_registry().records if record.status == "ok"]
    return {record.name: f"{record.distribution} {record.version}" for record in working}
