"""The folder of a training run, and validation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import load_image_set
from .errors import InputError, TrainingError
from .inference import prepare
from .recipe import Entry, Validation
from .registry import get_registry
from .scoring import available_metrics, mean_scores, score_set
from .specs import GeneratorSpec
from .weights import differences, save_checkpoint, shown


class RunFolder:
    """``entry.json``, ``log.jsonl``, ``state.pt`` to resume from, and the weights.

    Args:
        writes: whether this process writes; of several, one does.

    Raises:
        InputError: the folder holds a run of other settings.
        TrainingError: it cannot be written.
    """

    def __init__(self, path: Path, entry: Entry, writes: bool = True) -> None:
        self.path = path
        self._entry = entry
        self._writes = writes
        description = path / "entry.json"
        wanted = entry.model_dump(mode="json", exclude={"weights", "recorded"})
        try:
            if description.is_file() and (path / "state.pt").is_file():
                self._check_same(json.loads(description.read_text()), wanted)
                return
            if not writes:
                return
            path.mkdir(parents=True, exist_ok=True)
            description.write_text(json.dumps(wanted, indent=2) + "\n")
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise TrainingError(f"Cannot use the run folder {path}: {error}.") from error

    def _check_same(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        if found == wanted:
            return
        changed = ", ".join(
            f"{key} (there {shown(left)}, now {shown(right)})" for key, left, right in differences(found, wanted)[:4]
        )
        raise InputError(
            f"{self.path} holds a run with other settings: {changed}. "
            "Give another --out, or repeat the settings to go on with that run."
        )

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON line to the log."""
        if not self._writes:
            return
        with open(self.path / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from, whole or not at all.

        Raises:
            TrainingError: it cannot be written; the last state is still there.
        """
        temporary = self.path / ".state.pt.writing"
        try:
            torch.save(dict(state), temporary)
            os.replace(temporary, self.path / "state.pt")
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"Cannot write a checkpoint to {self.path}: {error}. The checkpoint before it is untouched; "
                "free some space and run the same command again."
            ) from error

    def read_state(self) -> dict[str, Any] | None:
        """Return the state to resume from, or None at the start of a run.

        Raises:
            TrainingError: the file is damaged.
        """
        path = self.path / "state.pt"
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except Exception as error:
            raise TrainingError(f"{path} is damaged: {error}. Delete it to start this run anew.") from error

    def save_weights(self, generator: nn.Module, description: Mapping[str, Any]) -> Path:
        """Write the generator as ``ENTRY.safetensors`` and return its path."""
        path = self.path / f"{self._entry.name}.safetensors"
        if self._writes:
            save_checkpoint(path, generator.state_dict(), description)
        return path


class Validator:
    """Mean scores of a generator on the validation sets, by the benchmark's own code.

    A metric whose backbone is missing is left out and named in ``unavailable``; the training goes on without it.

    Raises:
        UnknownNameError: a validation set does not exist.
        InputError: none of the metrics can be computed here.
    """

    def __init__(self, config: Validation, entry: Entry, device: torch.device) -> None:
        self.every = config.every
        self._config = config
        self._scale = entry.scale
        spec = get_registry().get("generator", entry.generator.name).spec
        assert isinstance(spec, GeneratorSpec)
        self._size_multiple = spec.size_multiple
        self._sets = [load_image_set(name) for name in config.data]
        self._metrics, missing = available_metrics(config.metrics, device)
        self.unavailable = missing
        if not self._metrics:
            raise InputError(f"training.validation.metrics: {' '.join(missing.values())}")

    def __call__(self, generator: nn.Module) -> dict[str, float]:
        """Return ``dataset/metric`` to mean value."""
        training = generator.training
        prepare(generator, next(generator.parameters()).device)
        means: dict[str, float] = {}
        for image_set in self._sets:
            scores = [
                s.values
                for s in score_set(
                    generator, image_set, self._metrics, self._config.protocol, self._scale, self._size_multiple
                )
            ]
            means |= {f"{image_set.name}/{name}": value for name, value in mean_scores(scores).items()}
        generator.train(training)
        return means
