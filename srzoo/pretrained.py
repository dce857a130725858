"""Generators with their weights: of a zoo entry, of a checkpoint file, or of a training run's folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .compose import build_generator, component_factory, output_network
from .composition import changed_sources, full_composition
from .confinement import ENSEMBLE, Name, check_paths
from .entry import PACKAGE, ComponentRef, Entry
from .errors import (
    CompositionError,
    InputError,
    MissingWeightsError,
    PluginError,
    RecipeWarning,
    SrzooError,
    UnknownNameError,
    WeightsError,
)
from .named import refuse_files_of_generator
from .pickles import load_pickle
from .ready import generator_spec, weights_path
from .registry import get_registry
from .specs import GeneratorSpec
from .states import newest_weights
from .weights import (
    check_composition,
    check_fit,
    checked_bytes,
    file_sha256,
    load_into,
    read_checkpoint,
)
from .yamlio import locate
from .zoo import get_zoo, shared_entry

FOREIGN = (".pth", ".pt", ".ckpt", ".safetensors")
"""Endings of checkpoint files."""


@dataclass(frozen=True)
class Model:
    """A generator ready to upscale.

    Attributes:
        name: what it is called in results: the entry, the file's stem or the run's folder.
        size_multiple: what its input's sides must be multiples of.
        digest: SHA-256 of the weight file; empty where there are no weights.
        seed: that it was trained with, where that is known.
        recipe: digest of what it was trained by, but for the seed; empty where that is not known.
        receptive_radius: how far the generator sees, in low-resolution pixels, if its plugin says so.
        description: what the weight file says about itself.
        path: of the weight file.
    """

    name: str
    entry: Entry
    generator: nn.Module
    size_multiple: int = 1
    digest: str = ""
    seed: int | None = None
    recipe: str = ""
    receptive_radius: int | None = None
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    path: Path | None = None


def load_model(reference: str | Path) -> Model:
    """Return the model a name or a path stands for; with a ``+`` after it, its self-ensemble.

    So are they called in the field's tables (EDSR+, RCAN+).

    Args:
        reference: a zoo entry, a ``.safetensors`` file that ``srzoo train`` wrote, the folder of its run, finished or
            not, a folder that ``srzoo pull`` made, or a checkpoint of another program that a generator reads.

    Raises:
        UnknownNameError: there is no such entry or file.
        InputError: a ``+`` after what is a self-ensemble already.
        MissingWeightsError, WeightsError: the weights are missing, damaged, or of another model.

    Warns:
        RecipeWarning: a run is not finished; says of which step the weights are.
    """
    path = Path(reference)
    plain = str(path).removesuffix(ENSEMBLE)
    if plain not in ("", str(path)) and str(path) not in get_zoo() and (plain in get_zoo() or not path.exists()):
        model = load_model(plain)
        if model.entry.self_ensemble:
            raise InputError(f"{model.name} is a self-ensemble already; leave out the {ENSEMBLE!r}.")
        entry = model.entry.model_copy(update={"name": model.name + ENSEMBLE, "self_ensemble": True, "recorded": None})
        return _computing(replace(model, name=entry.name, entry=entry))
    if str(reference) not in get_zoo():  # an entry's name wins over a folder that happens to be called so
        if (path / "zoo.yaml").is_file():
            return _load_shared(path)
        if path.is_dir():
            return _load_file(*_weight_file(path), path.resolve().name)
        if path.suffix == ".safetensors":
            return _load_file(path, None, path.stem)
        if path.is_file() and path.suffix in FOREIGN:
            return _load_foreign(path)
        is_path = path.suffix in FOREIGN or len(path.parts) > 1  # 'owner/entry' has two parts as well
        if is_path and path.name not in get_zoo():
            found = f"has none of the endings {', '.join(FOREIGN)}" if path.exists() else "does not exist"
            raise UnknownNameError(
                f"{reference} {found}; write a zoo entry, a checkpoint file, or the folder of a run."
            )
    try:
        entry = get_zoo().entry(str(reference))
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} A checkpoint file or the folder of a run may stand there too.") from None
    if not generator_spec(entry).trainable:
        return _model(entry.name, entry, build_generator(entry), None, {})
    return _load_entry(entry, weights_path(entry))


def _computing(model: Model) -> Model:
    """Return a model whose network computes what its entry says."""
    recipe = model.recipe + ENSEMBLE if model.recipe and model.entry.self_ensemble else model.recipe
    return replace(model, generator=output_network(model.entry, model.generator), recipe=recipe)


def _weight_file(path: Path) -> tuple[Path, bytes | None]:
    """Return the weight file in a run's folder, or its newest state and the weights in it; any other path as it is."""
    if not path.is_dir():
        return path, None
    files = sorted(path.glob("*.safetensors"))
    if not files and (unfinished := newest_weights(path)) is not None:
        return unfinished
    if len(files) != 1:
        best = path / "checkpoints" / "best.safetensors"
        hint = " Write the folder of another run, or a checkpoint file."
        if not files and best.is_file():
            hint = f" The run is not finished; its best weights so far are {best}."
        elif files:
            hint = f" Write the one that is meant, e.g. {files[0]}."
        raise MissingWeightsError(f"{path} holds {len(files)} .safetensors files; a finished run holds one.{hint}")
    return files[0], None


def _load_file(path: Path, content: bytes | None, name: str) -> Model:
    """Load a weight file, whose content may have been read."""
    if content is None:
        content, digest = checked_bytes(path)
    else:
        digest = hashlib.sha256(content).hexdigest()
    tensors, description = read_checkpoint(path, content)
    composition = description.get("composition")
    if not isinstance(composition, dict):
        return _load_foreign(path)
    try:
        entry = Entry(
            name=name,
            summary=f"weights from {path.name}",
            scale=composition["scale"],
            generator=ComponentRef.model_validate(composition["generator"]),
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its description is damaged: {error}.") from None
    check_paths(name, locate({"generator": composition["generator"]}, str(path)), written_in="a weight file")
    refuse_files_of_generator(entry, str(path))
    try:
        generator = _filled(entry, tensors, path)
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error}{get_registry().absent(_packages(description))}") from None
    _warn_of_other_source(description, entry, path)
    return _model(name, entry, generator, path, description, digest)


def _packages(description: Mapping[str, Any]) -> list[str]:
    """Return the packages, ``name version``, that the parts of a checkpoint's composition came from."""
    plugins = description.get("plugins")
    owners = sorted(set(re.findall(r"'([^'/]+)/[^'/]+'", repr(description.get("composition")))))
    named = [str(plugins[owner]) for owner in owners if owner in plugins] if isinstance(plugins, Mapping) else []
    return [package for package in named if re.fullmatch(PACKAGE, package)]


def _warn_of_other_source(description: Mapping[str, Any], entry: Entry, path: Path) -> None:
    """Warn where a stranger's part has other source code than weights were made with; names and shapes cannot tell."""
    composed = entry.model_copy(update={"training": None, "discriminator": None})
    if changed := changed_sources(description.get("sources"), composed):
        warnings.warn(
            f"{path} was made with other source code of {' and '.join(changed)}, so its scores may not hold: compute "
            "some by 'srzoo bench', or install the version that it was made with.",
            RecipeWarning,
            stacklevel=4,
        )


def _load_shared(folder: Path) -> Model:
    """Load the entry of a folder that holds a zoo file and the weights it names, which are checked as a zoo's are."""
    entry, folders = shared_entry(folder)
    return _load_entry(entry, weights_path(entry, folders))


def _load_entry(entry: Entry, path: Path) -> Model:
    assert entry.weights is not None
    content, digest = checked_bytes(path, entry.weights.sha256)
    tensors, description = read_checkpoint(path, content)
    _check_composition(description, entry, path)
    generator = _filled(entry, tensors, path)
    _warn_of_other_source(description, entry, path)
    return _model(entry.name, entry, generator, path, description, digest)


def _check_composition(description: Mapping[str, Any], entry: Entry, path: Path) -> None:
    """Check that a file's weights are of an entry's composition, whatever both began as."""
    initial = generator_spec(entry).initial

    def lasting(composition: Any) -> Any:
        generator = composition.get("generator") if isinstance(composition, Mapping) else None
        if not isinstance(generator, Mapping):
            return composition
        return {**composition, "generator": {k: v for k, v in generator.items() if k not in initial}}

    trained = lasting(description.get("composition"))
    check_composition({**description, "composition": trained}, lasting(full_composition(entry)), str(path))


def _filled(entry: Entry, tensors: Mapping[str, torch.Tensor], path: Path) -> nn.Module:
    """Build a generator with the weights of a file, after trying without memory whether the file fills it.

    A stranger's composition may tell of a billion blocks.

    Raises:
        WeightsError: names, shapes or values are not those of the composition.
    """
    most, parameters = 2 * len(tensors) + 1000, itertools.count(1)

    def registered(_: nn.Module, __: str, ___: nn.Parameter) -> None:
        if next(parameters) > most:
            raise WeightsError(
                f"{path} belongs to another model: it has {len(tensors)} tensors, and the entry far more."
            )

    watching = register_module_parameter_registration_hook(registered)
    try:
        with torch.device("meta"):
            own = build_generator(entry).state_dict()
        check_fit(tensors, own, str(path))
    except CompositionError:  # one that computes with values while it is built; what is wrong beside that is told below
        pass
    finally:
        watching.remove()
    generator = build_generator(entry)
    load_into(generator, tensors, str(path))
    return generator


def _load_foreign(path: Path) -> Model:
    """Let generators that read checkpoints of other programs try, in the order of their names."""
    advice = f"If it is of ESRGAN, BasicSR, mmagic, KAIR, EDSR or SRGAN: srzoo weights import {path}"
    readers = [c for c in get_registry().find("generator") if path.suffix in cast(GeneratorSpec, c.spec).reads]
    reasons: list[SrzooError] = []
    for component in readers:
        ref = ComponentRef(name=component.full_name)
        try:
            generator = component_factory("generator", ref, {"checkpoint": path}, where=str(path))()
        except SrzooError as error:
            reasons.append(error)
            continue
        summary = f"{getattr(generator, 'architecture', component.name)}, weights from {path.name}"
        try:
            entry = Entry(name=path.stem, summary=summary, scale=generator.scale, generator=ref)
        except (AttributeError, ValueError) as error:
            raise PluginError(f"generator {component.full_name!r} says no scale of {path}: {error}.") from None
        return _model(path.stem, entry, generator, path, {})
    if path.suffix != ".safetensors":
        load_pickle(path)  # of a file that is damaged, this is all there is to say
    silent = f"{path} does not say what it is the weights of, as srzoo's own files do. "
    told = silent if path.suffix == ".safetensors" else ""
    told += " ".join(map(str, reasons)) or f"No plugin reads {path}."
    raise (type(reasons[0]) if len(reasons) == 1 else WeightsError)(f"{told} {advice}")


def _model(
    name: str,
    entry: Entry,
    generator: nn.Module,
    path: Path | None,
    description: Mapping[str, Any],
    digest: str | None = None,
) -> Model:
    training = description.get("training")
    seed, recipe = None, ""
    if isinstance(training, dict):
        seed = training.get("seed")
        rest = {key: value for key, value in training.items() if key not in ("seed", "validation")}
        # Weights on the way to a run's end, its best ones or a state's, are no seed of a whole one.
        state = [description[key] for key in ("state", "stage") if key in description]
        text = json.dumps([description.get("composition"), rest, *state], sort_keys=True)
        recipe = hashlib.sha256(text.encode()).hexdigest()[:16]
    if digest is None:
        digest = file_sha256(path) if path is not None else ""
    spec = generator_spec(entry)
    generator = generator.eval()
    radius, multiple = spec.receptive_radius, int(getattr(generator, "size_multiple", spec.size_multiple))
    return _computing(Model(name, entry, generator, multiple, digest, seed, recipe, radius, description, path))


def load_pretrained(generator: nn.Module, source: Entry, target: Entry | None = None) -> dict[str, Any]:
    """Load an entry's weights into a generator, checking hash, composition, names, shapes and values.

    Returns:
        what the weight file says about itself.

    Args:
        source: the entry whose weights are loaded.
        target: the entry the generator was built from, if another.

    Raises:
        MissingWeightsError, WeightsError: see :mod:`srzoo.weights`.
    """
    return load_checked(generator, source, weights_path(source), target)


def load_checked(generator: nn.Module, source: Entry, path: Path, target: Entry | None = None) -> dict[str, Any]:
    """Load an entry's weights from a file, as :func:`load_pretrained` does."""
    assert source.weights is not None
    content, _ = checked_bytes(path, source.weights.sha256)
    tensors, description = read_checkpoint(path, content)
    _check_composition(description, target or source, path)
    load_into(generator, tensors, str(path))
    _warn_of_other_source(description, target or source, path)
    return description


def load_start(generator: nn.Module, reference: str, target: Entry) -> str:
    """Load what a recipe's ``start_from`` names, an entry or a path, into the generator of another entry.

    Where a zoo file gives it, it is an entry.

    Returns:
        SHA-256 of the weight file.

    Raises:
        UnknownNameError, WeightsError: there is no such thing, or it does not fit.
    """
    try:
        is_path = Path(reference).suffix == ".safetensors" or Path(reference).is_dir()
        # As everywhere, an entry's name wins over a folder that happens to be called so.
        if is_path and reference not in get_zoo() and not isinstance(reference, Name):
            path, content = _weight_file(Path(reference))
            tensors, description = read_checkpoint(path, content)
            _check_composition(description, target, path)
            load_into(generator, tensors, str(path))
            _warn_of_other_source(description, target, path)
            return file_sha256(path)
        if _looks_like_path(reference) and reference not in get_zoo():
            raise UnknownNameError(f"there is no run folder, .safetensors file or entry {reference}.")
        source = get_zoo().entry(reference)
        load_pretrained(generator, source, target)
        assert source.weights is not None
        return source.weights.sha256
    except (UnknownNameError, WeightsError) as error:
        hint = ""
        if isinstance(error, UnknownNameError):
            hint = " A run folder or a .safetensors file may stand there too"
            hint += ", given on the command line, training.start_from=PATH." if isinstance(reference, Name) else "."
        raise type(error)(
            f"entry {target.name!r}: training.start_from: {error}{hint} "
            "With training.start_from=null the training starts from fresh weights."
        ) from None


def _looks_like_path(reference: str) -> bool:
    return not isinstance(reference, Name) and reference != Path(reference).name
