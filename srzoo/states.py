"""The states in a run's folder: which is the newest, and what it holds as weights while the run is not finished."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from .composition import full_composition
from .entry import Entry
from .errors import InputError, RecipeWarning, WeightsError
from .pickles import load_pickle
from .recipe import Training
from .weights import METADATA_KEY


def saved_states(folder: Path, stages: Iterable[str]) -> list[Path]:
    """Return the states of a run to resume from, newest first.

    Args:
        stages: the names of its stages, in their order.
    """
    order = {name: number for number, name in enumerate(stages)}
    found = []
    for path in (folder / "states").glob("*-*.pt"):
        stage, _, step = path.stem.rpartition("-")
        if stage in order and re.fullmatch("[0-9]+", step):  # others are copies that somebody made
            found.append((order[stage], int(step), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_weights(folder: Path) -> tuple[Path, bytes] | None:
    """Return the newest readable state of a run, and its generator as the content of a safetensors file.

    That is the averaged generator where the stage keeps an average. It says of itself what the weights at the end
    would, and under ``state`` the stage and step.

    Returns:
        None where the folder holds no state of a run.

    Raises:
        WeightsError: the run's settings or all of its states are damaged.
        InputError: the run is composed of parts that are not here.

    Warns:
        RecipeWarning: always, of the step that it is of.
    """
    try:
        text = (folder / "entry.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(f"Cannot read {folder / 'entry.json'}: {error}.") from None
    try:
        entry = Entry.model_validate(json.loads(text))
        composition = full_composition(entry)
    except InputError as error:
        raise type(error)(f"{folder / 'entry.json'}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{folder / 'entry.json'} does not say what the run is of: {error}.") from None
    recipe = entry.training
    states = saved_states(folder, recipe.stages) if recipe is not None else []
    if recipe is None or not states:
        return None
    reasons = []
    for path in states:
        try:
            state = load_pickle(path)
            tensors = _generator_of(state, path)
        except WeightsError as error:
            reasons.append(str(error))
            continue
        stage, step = path.stem.rpartition("-")[::2]
        description = {
            "entry": entry.name,
            "composition": composition,
            "training": recipe.model_dump(mode="json"),
            "training_digest": recipe.digest(),
            "state": [stage, int(step)],
            **{key: state[key] for key in ("sources", "started_from") if state.get(key)},
        }
        _tell(folder, path, recipe, averaged="ema" in state, damaged=reasons)
        return path, safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(description, sort_keys=True)})
    raise WeightsError(f"{folder} holds no state that can be read: {' '.join(reasons)}")


def _generator_of(state: Any, path: Path) -> dict[str, torch.Tensor]:
    found = state.get("ema", state.get("generator")) if isinstance(state, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise WeightsError(f"{path} holds no weights of a generator.")
    prefix = "module." if "ema" in state else ""
    return {str(name).removeprefix(prefix): tensor.contiguous().clone() for name, tensor in found.items()}


def _tell(folder: Path, path: Path, recipe: Training, averaged: bool, damaged: Sequence[str]) -> None:
    stage, step = path.stem.rpartition("-")[::2]
    skipped = f" Newer ones cannot be read: {' '.join(damaged)}" if damaged else ""
    warnings.warn(
        f"{folder} holds a run that is not finished. Its {'averaged ' * averaged}weights of step {int(step)} of "
        f"{recipe.stages[stage].steps} of stage {stage!r} are used.{skipped}",
        RecipeWarning,
        stacklevel=5,
    )
