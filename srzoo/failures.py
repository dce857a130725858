"""What is said of a run that failed: which terms are to blame, and how to go on from what is saved."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import torch

from .process import restore_random_state
from .recipe import Training
from .rehearsal import broken_terms
from .runs import RunFolder
from .stages import Parts
from .tasks import Batch, Engine


def blamed(
    stage: str, parts: Parts, batch: Batch, step: int, engine: Engine, drawn: Mapping[str, Any] | None, pieces: int
) -> list[str]:
    """Return the terms whose gradient is not finite by themselves, as far as the weights still tell.

    Args:
        step: the batch's number, from 0.
        drawn: the state of the random generators before the step, where it is known.
        pieces: parts that the batch is computed in.
    """
    networks = [network for network in (parts.generator, parts.discriminator) if network is not None]
    if not all(torch.isfinite(tensor).all() for network in networks for tensor in network.state_dict().values()):
        return []
    try:
        task = parts.task.on(networks, engine)
        if drawn is not None:
            restore_random_state(drawn)
        return broken_terms(stage, task, batch, step, pieces)
    except Exception:  # it must not hide the failure that it is to explain
        return []


def remedy(recipe: Training, stage: str, folder: RunFolder) -> str:
    """Say, after a failure in a stage, how to train with other settings from what is saved."""
    rate = f"training.stages.{stage}.optimizer.lr={recipe.stages[stage].optimizer.lr / 2:g}"
    saved = folder.what_is_saved()
    if folder.newest_step() is None:
        return f"{saved} Repeat the command with a lower learning rate, {rate}, or a lower weight of a term."
    order = list(recipe.stages)
    earlier, left = order[: order.index(stage)], order[order.index(stage) :]
    done = [f"training.stages.{name}=null" for name in earlier]
    if recipe.of_stages(left).teacher != recipe.teacher:
        done.append("training.teacher=null")
    changes = shlex.join(["--out", f"{folder.path}-2", f"training.start_from={folder.path}", *done, rate])
    return f"{saved} To go on from it, repeat the command with {changes}, or with a lower weight of a term."
