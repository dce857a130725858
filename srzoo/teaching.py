"""Teachers: frozen models whose outputs a generator is trained towards (knowledge distillation)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from .composition import full_composition
from .confinement import ENSEMBLE, Name
from .entry import Entry
from .errors import InputError, SrzooError, UnknownNameError
from .inference import VIEWS, SelfEnsemble, in_view, to_channels_last
from .plugins import FAULTS, describe_exception
from .pretrained import Model, load_model
from .tasks import Batch
from .zoo import get_zoo


class Teacher:
    """A frozen model that makes references of inputs.

    Of a self-ensemble, one view is computed a step, all eight in turn. A network that is pulled towards one view after
    the other is pulled towards their mean by squared errors, and towards their median by absolute ones.

    Attributes:
        views: that take turns; 1 for a model that is no self-ensemble.
        identity: what decides its output: the hash of its weight file, and its composition.

    Args:
        model: as loaded.
        autocast: context of its passes.
        pieces: parts that a batch is computed in, to save memory.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        pieces: int = 1,
    ) -> None:
        network = model.generator
        self.views = VIEWS if isinstance(network, SelfEnsemble) else 1
        self._network = network.generator if isinstance(network, SelfEnsemble) else network
        to_channels_last(self._network.eval().requires_grad_(False), device)
        self.identity = {"weights": model.digest, "composition": full_composition(model.entry), "views": self.views}
        self._autocast, self._pieces, self._model = autocast, pieces, model

    def added_to(self, batch: Batch, number: int) -> Batch:
        """Return a batch with ``teacher``, what this makes of ``lr``: (N, 3, scale*H, scale*W) float32 in [0, 1].

        Args:
            number: of the generator's update that the batch is for, from 0; the view goes by it.

        Raises:
            InputError: the model fails, or makes images of another shape.
        """
        lr, name, scale = batch["lr"], self._model.name, self._model.entry.scale
        try:
            with torch.no_grad(), self._autocast():
                parts = [in_view(self._network, part, number % self.views) for part in lr.chunk(self._pieces)]
                sr = torch.cat(parts).float().clamp(0, 1).contiguous()
        except FAULTS as error:
            raise InputError(f"training.teacher: {name} failed: {describe_exception(error)}.") from error
        wanted = (*lr.shape[:2], scale * lr.shape[2], scale * lr.shape[3])
        if sr.shape != wanted:
            raise InputError(f"training.teacher: {name} maps {tuple(lr.shape)} to {tuple(sr.shape)}, not {wanted}.")
        return {**batch, "teacher": sr}


def teacher_of(
    entry: Entry, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]
) -> Teacher | None:
    """Return the teacher that a recipe names, if it names one.

    Where a zoo file names it, it is an entry.

    Raises:
        InputError, WeightsError: there is no such model, its weights are missing or damaged, it has another scale, does
            not take the patches, or no term asks for it.
    """
    assert entry.training is not None
    reference = entry.training.teacher
    if reference is None:
        return None
    where = f"entry {entry.name!r}: training.teacher"
    stages = entry.training.stages
    if not any(stage.imitates() for stage in stages.values()):
        raise InputError(
            f"{where}: no term compares with what {reference} makes. Give one 'reference: teacher', such as "
            f"training.stages.{next(iter(stages))}.losses.l1.reference=teacher, or write training.teacher=null."
        )
    if isinstance(reference, Name) and reference.removesuffix(ENSEMBLE) not in get_zoo():
        raise UnknownNameError(
            f"{where}: no entry is called {reference!r}. A run folder or a .safetensors file may stand there too, "
            "given on the command line, training.teacher=PATH."
        )
    try:
        model = load_model(reference)
    except SrzooError as error:
        raise type(error)(f"{where}: {error}") from None
    if model.entry.scale != entry.scale:
        raise InputError(f"{where}: {reference} enlarges by {model.entry.scale}, and the entry by {entry.scale}.")
    if entry.training.patch_size // entry.scale % model.size_multiple:
        raise InputError(
            f"{where}: {reference} takes inputs whose sides are multiples of {model.size_multiple}; make "
            f"training.patch_size, now {entry.training.patch_size}, a multiple of {model.size_multiple * entry.scale}."
        )
    return Teacher(model, device, autocast, entry.training.accumulate)
