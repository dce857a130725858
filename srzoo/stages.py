"""What one stage trains and trains with: networks, optimizers, schedules and average, placed for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn

from .compose import Term, build_discriminator, build_generator
from .composition import has_adversarial_term
from .distribution import equal_in_all_
from .entry import Entry
from .inference import to_channels_last
from .optim import make_optimizer, make_schedule
from .process import random_state, restore_random_state, same_random_state
from .recipe import Stage, Training
from .sharding import ShardedAverage, WholeNetwork, WholeOptimizer, filled, shard_
from .tasks import Engine, GanTask, PixelTask, generate


@dataclass
class Parts:
    """What one stage trains and trains with. ``generator`` is the bare module, the task has it as prepared."""

    task: PixelTask
    generator: nn.Module
    generator_optimizer: Any
    schedules: list[Scheduler]
    ema: ModelEmaV3 | ShardedAverage | None
    discriminator: nn.Module | None = None
    discriminator_optimizer: Any = None
    sharded: bool = False
    exchanging: list[nn.Module] = field(default_factory=list)
    """The bare networks whose gradients a step has to exchange between processes, since DDP does not."""
    plain: Callable[[nn.Module], nn.Module] = field(default=lambda generator: generator)
    """Makes the bare generator out of one whose parameters are shared out."""

    def averaged(self) -> nn.Module:
        """Return the generator that is validated, saved and handed to the next stage."""
        if self.ema is not None:
            return self.ema.module  # type: ignore[no-any-return]
        return self.plain(self.generator)

    def stateful(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds the state of, by name."""
        names = ("generator", "generator_optimizer", "ema", "discriminator", "discriminator_optimizer")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.sharded:
            found["generator"] = WholeNetwork(self.generator)
        # By the names of parameters, so that a run may go on with another number of processes.
        found["generator_optimizer"] = WholeOptimizer(self.generator, self.generator_optimizer)
        return found

    def optimizers(self, with_generator: bool) -> list[tuple[str, Any, nn.Module]]:
        """Return the optimizers that step now, each with its network and that one's name."""
        found = [("generator", self.generator_optimizer, self.generator)] if with_generator else []
        if self.discriminator is not None:
            found.append(("discriminator", self.discriminator_optimizer, self.discriminator))
        return found

    def rates(self) -> dict[str, float]:
        """Return the learning rates that the next step is taken with, by their names in the log."""
        found = {"lr": self.generator_optimizer.param_groups[0]["lr"]}
        if self.discriminator_optimizer is not None:
            found["lr_discriminator"] = self.discriminator_optimizer.param_groups[0]["lr"]
        return found


def seed_stage(recipe: Training, name: str, *, device_specific: bool = False) -> None:
    """Set every random generator to where a stage begins, so that it does not depend on what came before it.

    Args:
        device_specific: give each process numbers of its own.
    """
    set_seed(recipe.seed + list(recipe.stages).index(name), device_specific=device_specific)


def build_parts(
    entry: Entry, stage: Stage, generator: nn.Module, terms: Sequence[Term], accelerator: Accelerator, engine: Engine
) -> Parts:
    """Build what a stage trains and trains with, around the generator it starts from."""
    recipe = entry.training
    assert recipe is not None

    def made(network: nn.Module, lr: torch.Tensor) -> Sequence[torch.Tensor]:
        return generate(network, lr, terms).tensors()

    def bare_generator() -> nn.Module:
        with torch.random.fork_rng():  # initialising it must not draw from the run's own numbers
            return build_generator(entry)

    sharded = recipe.fsdp and accelerator.num_processes > 1
    generator = generator.train() if sharded else _placed(generator, accelerator)
    for term in terms:
        if isinstance(term.loss, nn.Module):
            to_channels_last(term.loss, accelerator.device)
    ema: ModelEmaV3 | ShardedAverage | None = None
    if sharded:
        shard_(generator, accelerator.device, accelerator.num_processes)
        if stage.ema:
            ema = ShardedAverage(generator, stage.ema, bare_generator)
    elif stage.ema:
        ema = ModelEmaV3(generator, decay=stage.ema, use_warmup=True)
    optimizer = make_optimizer(generator, stage.optimizer, fused=not sharded)
    schedules = [make_schedule(optimizer, stage.schedule, stage.steps)]
    lr_side = recipe.patch_size // entry.scale
    prepared: Any = generator if sharded else _distributed(generator, accelerator, lr_side, made)
    exchanging = [generator] if prepared is generator and accelerator.num_processes > 1 and not sharded else []
    if recipe.compile:
        prepared = torch.compile(prepared)
    parts = Parts(PixelTask(prepared, terms, engine), generator, optimizer, schedules, ema, sharded=sharded)
    parts.exchanging = exchanging
    if sharded:
        parts.plain = lambda network: filled(bare_generator(), network.state_dict())
    if not has_adversarial_term(stage):
        return parts
    # Synchronised batch normalisation cannot be differentiated twice, as penalties on gradients are.
    penalised = any(term.role == "regulariser" for term in terms)
    discriminator = _placed(build_discriminator(entry, stage), accelerator, synchronise=not penalised)
    discriminator_optimizer = make_optimizer(discriminator, stage.optimizer_of_discriminator())
    schedules.append(make_schedule(discriminator_optimizer, stage.schedule, stage.steps))
    judge = _distributed(discriminator, accelerator, recipe.patch_size, lambda network, images: [network(images)])
    if judge is discriminator and accelerator.num_processes > 1:
        exchanging.append(discriminator)
    parts.task = GanTask(prepared, judge, terms, engine)
    parts.discriminator, parts.discriminator_optimizer = discriminator, discriminator_optimizer
    return parts


def _distributed(
    network: nn.Module,
    accelerator: Accelerator,
    side: int,
    outputs: Callable[[nn.Module, torch.Tensor], Sequence[torch.Tensor]],
) -> nn.Module:
    """Return a network that exchanges its gradients with the other processes' while they are computed, or itself.

    DDP waits for the gradient of every parameter, in every process and step. So a network with parameters that no
    gradient reaches, or that a penalty reaches now and then, stays as it is, and so does one that draws random
    numbers, since it may skip parts of itself by them: their gradients are exchanged when all are there, see
    :func:`srzoo.distribution.exchange_gradients_`. In one process there is nothing to exchange.

    Args:
        side: of the images that it takes, in pixels.
        outputs: what losses are computed from, given the network and images.
    """
    if accelerator.num_processes == 1:
        return accelerator.prepare(network)  # type: ignore[no-any-return]
    before, buffers = random_state(), [(buffer, buffer.clone()) for buffer in network.buffers()]
    images = torch.rand(2, 3, side, side, device=accelerator.device)
    unmoved = random_state()
    made = outputs(network, images)
    draws = not same_random_state(unmoved, random_state())
    ends = [output.sum() for output in made if output.requires_grad]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(ends, trained, allow_unused=True) if ends and trained else [None] * len(trained)
    for buffer, value in buffers:
        buffer.copy_(value)
    restore_random_state(before)
    if any(gather_object([draws or any(gradient is None for gradient in found)])):  # all have to do the same
        equal_in_all_(network)
        return network
    return accelerator.prepare(network)  # type: ignore[no-any-return]


def _placed(network: nn.Module, accelerator: Accelerator, synchronise: bool = True) -> nn.Module:
    network = network.train()  # a part that a plugin froze stays so
    several_gpus = accelerator.num_processes > 1 and accelerator.device.type == "cuda"
    if synchronise and several_gpus:  # there is none for CPUs
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return to_channels_last(network, accelerator.device)
