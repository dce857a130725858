"""Checkpoints of other programs: found in the file, recognised by their names, asked about, converted, and saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .compose import build_generator, create
from .composition import full_composition, source_record
from .confinement import check_paths
from .entry import ComponentRef, Entry
from .errors import CompositionError, InputError, SrzooError, UnknownNameError, WeightsError, did_you_mean
from .layouts import Ask, Layout, answered, asks_in, renamed
from .options import check_options
from .pickles import load_pickle, refuse_opaque
from .registry import get_registry
from .specs import LayoutSpec
from .unpickling import Opaque
from .weights import (
    ABSENT,
    check_finite,
    check_fit,
    differences,
    file_sha256,
    load_into,
    read_checkpoint,
    save_checkpoint,
    shown,
    some_of,
)
from .yamlio import locate
from .zoo import get_zoo

Tensors = dict[str, torch.Tensor]

PARTS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net", "generator")
"""Keys that programs keep a state dict under, best first: the moving average is what is published."""
PREFIXES = ("module.", "_orig_mod.", "net_g.", "netG.", "model.", "backbone.")
"""What programs put before the name of every tensor."""
NETWORKS = ("generator_ema.", "generator.")
"""Prefixes of the generator in a checkpoint of a whole GAN, the rest of which is left out."""
COUNTERS = ("n_averaged",)
"""What wrappers such as torch's AveragedModel keep beside the names that they put a prefix before."""


@dataclass(frozen=True)
class Found:
    """A state dict within a file.

    Attributes:
        part: where it stood: the key in the file, and what was taken off the names.
        key: the key alone.
        beside: what else than tensors stands among them.
    """

    part: str
    tensors: Tensors
    key: str = ""
    beside: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What became of a file.

    Attributes:
        path: the safetensors file that was written.
        layout: the layout that was recognised, or ``srzoo`` for our own names.
        others: other parts of the file that could have been taken.
        left_out: paths of all tensors of the file that were not taken, by what stood beside the weights.
        not_read: path to class of the objects in the file, which are not read and may hold tensors as well.
    """

    path: Path
    entry: Entry
    layout: str
    part: str
    tensors: int
    parameters: int
    others: tuple[str, ...] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    not_read: Mapping[str, str] = field(default_factory=dict)


def import_checkpoint(
    path: str | Path,
    out: str | Path | None = None,
    *,
    entry: str | None = None,
    layout: str | None = None,
    part: str | None = None,
    options: Mapping[str, Any] | None = None,
    published: bool = False,
) -> Imported:
    """Convert a checkpoint of another program to a safetensors file that every command takes.

    Nothing in the file is executed. Features, blocks, growth and scale are read from the tensors; what tensors cannot
    tell is asked for, not guessed.

    Args:
        path: a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file.
        out: the file to write; the same name with ``.safetensors`` beside it by default.
        entry: a zoo entry whose composition the weights have; then nothing about it is asked.
        layout: the layout, where several would do.
        part: the part of the file, such as ``params``, where it holds several.
        options: answers to what tensors cannot tell.
        published: take the published values for what is not answered.

    Raises:
        MissingWeightsError, WeightsError: the file is missing, damaged, of no known layout, or does not fit.
        InputError: something is not answered, or an argument means nothing here.
    """
    path = Path(path)
    target = Path(out) if out is not None else path.with_suffix(".safetensors")
    if target.suffix != ".safetensors":
        raise InputError(f"What is written is a safetensors file; give it that ending, not {target}.")
    if target.exists() and (out is None or target.resolve() == path.resolve()):
        raise InputError(f"{target} is there already; say with --out where to write.")
    exported = _exported(path)
    loaded = _loaded(path)
    candidates = list(_states(loaded, path))
    if part is not None:
        candidates = _only(part, candidates, path)
    found, spec = _recognised(candidates, layout, path)
    if entry is not None and spec is None:
        found, resolved, own = _under_own_names(candidates, entry, options or {}, path)
    elif entry is not None and spec is not None:
        resolved, own = _as_entry(found, spec, _composed(entry), options or {}, published, path)
    elif exported is not None and spec is not None:
        told = _entry(target.stem, exported, path)
        resolved, own = _as_entry(found, spec, told, options or {}, published, path)
    else:
        resolved, own = _as_told(found, spec, options or {}, published, target, path)
    generator = build_generator(resolved)
    load_into(generator, own, str(path))
    others = tuple(c.part for c in candidates if c.part != found.part and spec is not None and _matches(spec, c))
    taken = {id(tensor) for tensor in found.tensors.values()}
    beside = [(where, value) for where, value in _every_tensor(loaded) if id(value) not in taken]
    left_out = _groups((where for where, value in beside if isinstance(value, torch.Tensor)), found.key)
    not_read = {"/".join(where): value.text.replace(" ", ".") for where, value in beside if isinstance(value, Opaque)}
    imported = Imported(
        target,
        resolved,
        spec.name if spec is not None else "srzoo",
        found.part,
        len(own),
        sum(parameter.numel() for parameter in generator.parameters()),
        others,
        left_out,
        not_read,
    )
    origin = {"file": path.name, "sha256": file_sha256(path), "layout": imported.layout, "part": found.part}
    description = {"entry": entry or target.stem, "composition": full_composition(resolved), "imported": origin}
    save_checkpoint(target, own, {**description, **source_record(resolved)})
    return imported


def _exported(path: Path) -> Mapping[str, Any] | None:
    """Return the composition that ``srzoo export`` wrote beside tensors under another program's names.

    Raises:
        InputError: the file is one of srzoo's own, which every command takes as it is.
    """
    if path.suffix != ".safetensors":
        return None
    _, description = read_checkpoint(path)
    if "composition" in description:
        raise InputError(f"{path} is a file of srzoo's own already; every command takes it as it is.")
    exported = description.get("exported")
    composition = exported.get("composition") if isinstance(exported, Mapping) else None
    if isinstance(composition, Mapping) and {"scale", "generator"} <= composition.keys():
        return composition
    return None


# --- what a file holds ----------------------------------------------------------------------------------------


def states_in(path: Path) -> Iterator[Found]:
    """Yield every state dict in a file, best first, with and without the prefixes that programs add.

    Raises:
        MissingWeightsError, WeightsError: the file is missing or damaged, or holds no named tensors.
    """
    return _states(_loaded(path), path)


def _loaded(path: Path) -> dict[Any, Any]:
    loaded: Any = read_checkpoint(path)[0] if path.suffix == ".safetensors" else load_pickle(path)
    refuse_opaque(path, [loaded])
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not named tensors.")
    return loaded


def _states(loaded: dict[Any, Any], path: Path) -> Iterator[Found]:
    nested = dict(_dicts(loaded, "", set()))
    order = [key for name in PARTS for key in nested if key.rpartition("/")[2] == name]
    order += [key for key in nested if key not in order]
    found = False
    for key in order:
        found = True
        tensors = {n: value for n, value in nested[key].items() if isinstance(value, torch.Tensor)}
        beside = tuple(value for value in nested[key].values() if not isinstance(value, torch.Tensor))
        yield from _without_prefixes(Found(key, tensors, key, beside))
    if not found:
        parts = [loaded, *(part for part in loaded.values() if isinstance(part, dict))]
        refuse_opaque(path, [value for part in parts for value in part.values()])
        raise WeightsError(f"{path} holds no named tensors, but {some_of([str(key) for key in loaded]) or 'nothing'}.")


def _dicts(value: Mapping[Any, Any], key: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dictionary with tensors in a nested one, up to three levels down, under the first of its paths."""
    seen.add(id(value))
    names = [name for name, item in value.items() if isinstance(item, torch.Tensor)]
    if names and all(isinstance(name, str) for name in names):
        yield key, cast(dict[str, Any], value)
    if key.count("/") < 2:
        for name, item in value.items():
            if isinstance(item, Mapping) and isinstance(name, str) and id(item) not in seen:
                yield from _dicts(item, f"{key}/{name}" if key else name, seen)


def _without_prefixes(found: Found, depth: int = 0) -> Iterator[Found]:
    yield found
    if depth == 3:
        return
    for prefix in (*NETWORKS, *PREFIXES):
        inside = {name[len(prefix) :]: tensor for name, tensor in found.tensors.items() if name.startswith(prefix)}
        outside = [name for name in found.tensors if not name.startswith(prefix) and name not in COUNTERS]
        if inside and (not outside or prefix in NETWORKS):
            part = f"{found.part}/{prefix[:-1]}" if found.part else prefix[:-1]
            yield from _without_prefixes(Found(part, inside, found.key, found.beside), depth + 1)


def _every_tensor(loaded: dict[Any, Any]) -> Iterator[tuple[tuple[str, ...], torch.Tensor | Opaque]]:
    """Yield the path and value of all tensors of a file, and of objects that are not read and may hold some.

    However they are nested, each comes under the first of its paths.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), loaded)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or not isinstance(value, (torch.Tensor, Opaque, dict, list, tuple)):
            continue
        seen.add(id(value))
        if isinstance(value, (torch.Tensor, Opaque)):
            yield path, value
        else:
            below = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += reversed([((*path, str(name)), item) for name, item in below])


def _groups(left_out: Iterable[tuple[str, ...]], key: str) -> dict[str, list[str]]:
    """Return paths by what they have in common: another key of the file than the one that was taken from, a container
    beside the weights, or a network among them, whose names begin alike.
    """
    chosen, groups = tuple(key.split("/")) if key else (), dict[str, list[str]]()
    for path in left_out:
        depth = next((i for i, name in enumerate(chosen) if path[i : i + 1] != (name,)), len(chosen))
        beside = path[: depth + 1]
        if beside == path and depth == len(chosen):
            beside = (*path[:-1], path[-1].partition(".")[0])
        groups.setdefault("/".join(beside), []).append("/".join(path))
    return groups


def _only(part: str, candidates: list[Found], path: Path) -> list[Found]:
    chosen = [c for c in candidates if part in (c.part, *c.part.split("/"))]
    if not chosen:
        known = list(dict.fromkeys(word for c in candidates for word in c.part.split("/") if word))
        raise UnknownNameError(
            f"{path} has no part {part!r}.{did_you_mean(part, known)} Its parts: {', '.join(known) or 'only one'}."
        )
    return chosen


# --- recognising a layout -------------------------------------------------------------------------------------


def layouts() -> list[LayoutSpec]:
    """Return the registered layouts."""
    return [cast(LayoutSpec, component.spec) for component in get_registry().find("layout")]


def _matches(spec: LayoutSpec, found: Found) -> bool:
    return all(mark in found.tensors for mark in spec.marks)


def _recognised(candidates: list[Found], layout: str | None, path: Path) -> tuple[Found, LayoutSpec | None]:
    """Return the best part of a file with its layout; None for our own names."""
    asked = cast(LayoutSpec, get_registry().get("layout", layout).spec) if layout not in (None, "srzoo") else None
    for found in candidates:
        if layout == "srzoo":
            return found, None
        known = [asked] if asked is not None else [spec for spec in layouts() if spec.marks]
        fitting = [spec for spec in known if _matches(spec, found)]
        if len(fitting) > 1:  # what has all marks of one and more besides is the other
            most = max(len(spec.marks) for spec in fitting)
            fitting = [spec for spec in fitting if len(spec.marks) == most]
        if len(fitting) > 1:
            names = " or ".join(get_registry().called(spec) for spec in fitting)
            raise InputError(f"{path} could be of several layouts; say with --layout which: {names}.")
        if fitting:
            refuse_opaque(path, found.beside)
            return found, fitting[0]
    if asked is None:
        return candidates[0], None
    lacking = [mark for mark in asked.marks if mark not in candidates[0].tensors]
    raise WeightsError(
        f"{path} is not of layout {asked.name!r}: it has no {some_of(lacking)}, but "
        f"{some_of(list(candidates[0].tensors))}."
    )


def _unrecognised(found: Found, path: Path) -> WeightsError:
    known = ", ".join(get_registry().called(spec) for spec in layouts())
    return WeightsError(
        f"{path}: its {len(found.tensors)} tensors ({some_of(list(found.tensors))}) are of no layout that is known "
        f"here: {known}. 'srzoo show layout/NAME' tells the marks of one. If they are the weights of a zoo entry under "
        "srzoo's own names, say which: --as ENTRY."
    )


# --- composing ------------------------------------------------------------------------------------------------


def _as_told(
    found: Found, spec: LayoutSpec | None, options: Mapping[str, Any], published: bool, target: Path, path: Path
) -> tuple[Entry, Tensors]:
    """Compose what the tensors and the answers tell."""
    if spec is None:
        raise _unrecognised(found, path)
    layout: Layout = create("layout", get_registry().called(spec))
    composition = answered(_inferred(layout, spec, found, path), options, published, str(path))
    values = composition.pop("values", {})
    entry = _entry(target.stem, composition, path)
    return entry, _converted(layout, spec, found, entry, values, path)


def _under_own_names(
    candidates: list[Found], name: str, options: Mapping[str, Any], path: Path
) -> tuple[Found, Entry, Tensors]:
    """Take tensors that have our names already, as the weights of an entry."""
    if options:
        raise InputError(f"{path}: nothing is asked about {', '.join(options)}; the entry {name!r} tells it all.")
    entry = _composed(name)
    own = _on_meta(entry).state_dict()
    whole = [(c, _with_counters(c.tensors, own)) for c in candidates]
    found, tensors = next(((c, t) for c, t in whole if t.keys() == own.keys()), whole[0])
    refuse_opaque(path, found.beside)
    check_fit(tensors, own, str(path))
    return found, entry, tensors


def _as_entry(
    found: Found, spec: LayoutSpec, entry: Entry, options: Mapping[str, Any], published: bool, path: Path
) -> tuple[Entry, Tensors]:
    """Take the composition of an entry, for tensors of another program's layout."""
    name = entry.name
    layout: Layout = create("layout", get_registry().called(spec))
    inferred = _inferred(layout, spec, found, path)
    told = sorted({key.rpartition(".")[2] for key, _ in asks_in({k: v for k, v in inferred.items() if k != "values"})})
    for key in options:
        if key in told:
            raise InputError(f"{path}: the entry {name!r} tells {key}; leave out --option {key}, or --as.")
    found_here = [
        f"{key}: {shown(left)} in the file, {shown(right)} in the entry"
        for key, left, right in differences(inferred, full_composition(entry))
        if left is not ABSENT and not isinstance(left, Ask) and key.partition(".")[0] != "values"
    ]
    if found_here:
        raise WeightsError(f"{path} (layout {spec.name}) is not of entry {name!r}: {'; '.join(found_here)}.")
    values = answered({"values": inferred.get("values", {})}, options, published, str(path))["values"]
    return entry, _converted(layout, spec, found, entry, values, path)


def _composed(name: str) -> Entry:
    """Return an entry's composition alone."""
    entry = get_zoo().entry(name)
    return Entry(name=entry.name, summary=entry.summary, scale=entry.scale, generator=entry.generator)


def _inferred(layout: Layout, spec: LayoutSpec, found: Found, path: Path) -> dict[str, Any]:
    try:
        return layout.composition(found.tensors)
    except WeightsError as error:
        raise WeightsError(f"{path} (layout {spec.name}): {str(error).rstrip('.')}.") from None
    except (KeyError, ValueError, IndexError) as error:
        lacking = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path} has the marks of layout {spec.name}, but is not whole: {lacking}.") from None


def _entry(name: str, composition: Mapping[str, Any], path: Path) -> Entry:
    try:
        entry = Entry(
            name=name,
            summary=f"weights imported from {path.name}",
            scale=composition["scale"],
            generator=ComponentRef.model_validate(composition["generator"]),
        )
    except ValueError as error:
        raise WeightsError(f"{path}: {error}.") from None
    check_paths(name, locate({"generator": entry.generator.flat()}, str(path)), written_in="a weight file")
    component = get_registry().get("generator", entry.generator.name)
    check_options(component, entry.generator.options, f"{path}: generator")
    return entry


def _converted(
    layout: Layout, spec: LayoutSpec, found: Found, entry: Entry, values: Mapping[str, Any], path: Path
) -> Tensors:
    """Return the tensors under our names, after comparing with what the composition has under theirs."""
    try:
        generator = _on_meta(entry)
    except CompositionError as error:
        raise WeightsError(f"{path} (layout {spec.name}): {error}") from None
    try:
        names = layout.names(full_composition(entry))
    except ValueError as error:
        if isinstance(error, SrzooError):
            raise
        raise WeightsError(f"{path} is of layout {spec.name}, which cannot be entry {entry.name!r}: {error}.") from None
    wanted = renamed(generator.state_dict(), names)
    theirs = _with_counters(layout.read(found.tensors, values), wanted)
    check_fit(theirs, wanted, f"{path} (layout {spec.name})")
    check_finite(theirs, str(path))
    return renamed(theirs, {there: here for here, there in names.items()})


def _with_counters(tensors: Tensors, wanted: Tensors) -> Tensors:
    """Add the counters of batch normalisation that torch before 0.4.1 did not have: zeros, as torch itself does."""
    layers = [name.removesuffix("num_batches_tracked") for name in wanted if name.endswith("num_batches_tracked")]
    old = [layer for layer in layers if f"{layer}running_mean" in tensors]
    return {**{f"{layer}num_batches_tracked": torch.tensor(0) for layer in old}, **tensors}


def _on_meta(entry: Entry) -> nn.Module:
    with torch.device("meta"):
        return build_generator(entry)
