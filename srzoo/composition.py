"""An entry's composition written out in full: what a checkpoint carries and a cached cost is looked up by."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from .entry import ComponentRef, Entry
from .options import SLOTS, check_options, signature_of, source_file
from .recipe import Stage
from .registry import Component, get_registry
from .specs import LossSpec


def has_adversarial_term(stage: Stage) -> bool:
    """Whether a stage trains a discriminator."""
    registry = get_registry()
    specs = [registry.get("loss", t.name).spec for t in stage.losses.values() if t.weight > 0]
    return any(isinstance(spec, LossSpec) and spec.role == "adversarial" for spec in specs)


def full_composition(entry: Entry) -> dict[str, Any]:
    """Return everything that decides the generator's function: owners and defaults written out.

    This is what a checkpoint carries, so that a changed default or another plugin's block of the same name is
    noticed when it is loaded.
    """
    where = f"entry {entry.name!r}: generator"
    return {"scale": entry.scale, "generator": _written_out("generator", entry.generator, where)}


def written_out(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain values, with every option of its parts and loss terms, given or default."""
    found: dict[str, Any] = entry.model_dump(mode="json")
    found["generator"] = _written_out("generator", entry.generator, f"entry {entry.name!r}: generator")
    if entry.discriminator is not None:
        where = f"entry {entry.name!r}: discriminator"
        found["discriminator"] = _written_out("discriminator", entry.discriminator, where)
    for name, stage in entry.training.stages.items() if entry.training is not None else ():
        for label, term in stage.losses.items():
            where = f"entry {entry.name!r}: training.stages.{name}.losses.{label}"
            options = _written_out("loss", ComponentRef.of(term.name, term.options), where)
            found["training"]["stages"][name]["losses"][label] = {**term.model_dump(mode="json"), **options}
    return found


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
    """Return the SHA-256 of what decides an entry's output beside weights.

    That is its full composition, the source files its parts are defined in, and whether it is a self-ensemble.
    """
    digest = hashlib.sha256(json.dumps(full_composition(entry), sort_keys=True).encode())
    if entry.self_ensemble:
        digest.update(b"self-ensemble")
    for component in _parts("generator", entry.generator):
        path = source_file(component)
        digest.update(path.read_bytes() if path is not None else component.owner.version.encode())
    return digest.hexdigest()


def _parts(kind: str, ref: ComponentRef) -> Iterator[Component]:
    yield get_registry().get(kind, ref.name)
    for slot, part_kind in SLOTS.items():
        if slot in ref.options:
            yield from _parts(part_kind, ComponentRef.model_validate(ref.options[slot]))


def third_party_parts(entry: Entry) -> dict[str, Component]:
    """Return what an entry is composed and trained of that was not shipped with srzoo, by kind and full name."""
    found = list(_parts("generator", entry.generator))
    if entry.discriminator is not None:
        found += _parts("discriminator", entry.discriminator)
    for stage in entry.training.stages.values() if entry.training is not None else ():
        for term in stage.losses.values():
            found += _parts("loss", ComponentRef.of(term.name, term.options))
    return {f"{part.kind} {part.full_name}": part for part in found if not part.owner.first_party}


def source_record(entry: Entry) -> dict[str, dict[str, str]]:
    """Return ``{"sources": {part: digest}}`` of the third-party parts' source files, for a weight file or a state.

    Empty where there are none, so that what srzoo's own parts are written into stays as it was.
    """
    parts = third_party_parts(entry)
    found = {label: _source_digest(part) for label, part in parts.items()}
    return {"sources": found} if found else {}


def changed_sources(recorded: Any, entry: Entry) -> list[str]:
    """Return the third-party parts of an entry whose source is not what it was, each in words with its package.

    Args:
        recorded: of :func:`source_record`, what stood under ``sources``; anything else is taken for nothing known.
    """
    if not isinstance(recorded, Mapping):
        return []
    return [
        f"{part.kind} {part.full_name!r} ({part.owner.distribution} {part.owner.version})"
        for label, part in third_party_parts(entry).items()
        if label in recorded and recorded[label] != _source_digest(part)
    ]


def _source_digest(component: Component) -> str:
    """Return the beginning of the SHA-256 of the file that defines a component; its version where there is none."""
    path = _defined_in(component.spec.load()) or source_file(component)  # a spec may name a module that only imports it
    text = _text(path) or component.owner.version.encode()
    return hashlib.sha256(text).hexdigest()[:16]


def built_digest(component: Component, built: object) -> str:
    """Return the beginning of the SHA-256 of the files that define a component and what it built, bases included."""
    makers = [built] if inspect.isroutine(built) else type(built).__mro__
    files = dict.fromkeys(filter(None, map(_defined_in, makers)))
    digest = hashlib.sha256(_source_digest(component).encode())
    for path in files:
        digest.update(_text(path))
    return digest.hexdigest()[:16]


def _defined_in(factory: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(factory))
    except TypeError:  # of an object that is called, or of Python's own
        return None
    return Path(file) if file else None


def _text(path: Path | None) -> bytes:
    """Return a source file's content, whatever ends its lines; nothing where it cannot be read."""
    try:
        return path.read_bytes().replace(b"\r\n", b"\n") if path is not None else b""
    except OSError:
        return b""


def plugin_versions() -> dict[str, str]:
    """Return every working plugin with the distribution and version it came from."""
    working = [record for record in get_registry().records if record.status == "ok"]
    return {record.name: f"{record.distribution} {record.version}" for record in working}
