"""One training step: the gradients of a batch, and the updates that they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from .distribution import exchange_gradients_
from .errors import TrainingError
from .recipe import Training
from .sharding import whole
from .stages import Parts
from .tasks import Outcome, joined


class Gradients(NamedTuple):
    """What computing a batch's gradients tells; they themselves are in the networks.

    Attributes:
        outcome: terms, and the norms of their gradients where measured.
        norms: of each network's gradient, before clipping, by what a message calls it; on the device.
    """

    outcome: Outcome
    norms: dict[str, torch.Tensor]


class Step:
    """A step whose work is launched operation by operation.

    Args:
        parts: what is trained.
        recipe: for the parts that a batch is computed in.
        clip: the largest norm of a network's gradient.
        scaler: of losses, for fp16; disabled otherwise.
    """

    def __init__(
        self,
        parts: Parts,
        recipe: Training,
        clip: float | None,
        accelerator: Accelerator,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.parts, self.pieces, self.clip = parts, recipe.accumulate, clip
        self.accelerator, self.scaler = accelerator, scaler

    def gradients(
        self, batch: Mapping[str, torch.Tensor], step: int, *, train_generator: bool, measure: bool
    ) -> Gradients:
        """Leave the gradients of a batch, computed in parts, unscaled and clipped, in the networks.

        Args:
            step: its number, from 0.
            train_generator: whether the generator gets a gradient.
            measure: whether to take each term's gradient norm as well.
        """
        for _, optimizer, _ in self.parts.optimizers(with_generator=True):
            optimizer.zero_grad(set_to_none=True)
        parted = {key: images.chunk(self.pieces) for key, images in batch.items()}
        chunks = [{key: images[number] for key, images in parted.items()} for number in range(self.pieces)]
        outcomes = []
        for number, chunk in enumerate(chunks, 1):
            with ExitStack() as stack:
                if number < self.pieces:  # processes exchange gradients once a step
                    for network in self.parts.task.networks():
                        stack.enter_context(self.accelerator.no_sync(network))
                outcomes.append(
                    self.parts.task.run(
                        chunk, step, share=1 / self.pieces, train_generator=train_generator, measure=measure
                    )
                )
        self._exchange(train_generator)
        return Gradients(joined(outcomes), self._finish(train_generator))

    def update(self, train_generator: bool) -> None:
        """Take the optimizers' steps."""
        for _, optimizer, _ in self.parts.optimizers(train_generator):
            self.scaler.step(optimizer)
        self.scaler.update()

    def _exchange(self, train_generator: bool) -> None:
        """Have the gradients of every process in every process, where DDP has not seen to it.

        Raises:
            TrainingError: it could not, since a gradient that it waited for did not come.
        """
        if self.accelerator.num_processes == 1:
            return
        prepared = dict(zip(("generator", "discriminator"), self.parts.task.networks(), strict=False))
        for label, _, network in self.parts.optimizers(train_generator):
            if network in self.parts.exchanging:
                exchange_gradients_(network)
                continue
            try:
                getattr(prepared[label], "_check_reducer_finalized", lambda: None)()
            except RuntimeError as error:
                raise TrainingError(
                    f"the {label} has parameters that a gradient reaches in some steps only, by a rule of its own such "
                    "as a count of its calls, so several processes would wait for each other for ever. A part that "
                    "skips some of its layers has to decide by random numbers (torch.rand), which is noticed before "
                    "the first step."
                ) from error

    def _finish(self, train_generator: bool) -> dict[str, torch.Tensor]:
        """Unscale and clip the gradients; returns the norm of each network's before that, on the device."""
        norms = {}
        for label, optimizer, network in self.parts.optimizers(train_generator):
            self.scaler.unscale_(optimizer)
            norms[f"gradient of the {label}"] = whole(_norm(network, self.clip))
        return norms


def _norm(network: nn.Module, clip: float | None) -> Any:
    if clip is not None:
        return nn.utils.clip_grad_norm_(network.parameters(), clip)
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
