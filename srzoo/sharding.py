"""Generators that are too large for one device: fully sharded data parallelism (FSDP2, arXiv:2304.11277).

Parameters, gradients, optimizer state and moving average are each shared out over the processes. What is saved is
whole, so a run may go on with another number of processes, or without sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

# What is read is gathered tensor by tensor into the memory of the first process alone; what is loaded, every process
# has read from the file.
_READ = StateDictOptions(full_state_dict=True, cpu_offload=True)
_LOAD = StateDictOptions(full_state_dict=True)
_LOAD_OPTIMIZER = StateDictOptions(full_state_dict=True, strict=False)  # parameters without gradient have no state


def can_shard_on_cpus() -> bool:
    """Whether this torch has what FSDP2 needs on CPUs; torch 2.6 has it for accelerators only."""
    return hasattr(torch.cpu.Stream, "record_event")


def shard_(network: nn.Module, device: torch.device, processes: int) -> nn.Module:
    """Share the parameters of a network out over all processes, in place: block by block, then the rest.

    A block's parameters are gathered before it runs and dropped after it, so that only one block is whole at a time.
    """
    mesh = init_device_mesh(device.type, (processes,))
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # FSDP takes no channels-last
    containers = [m for m in network.modules() if isinstance(m, (nn.Sequential, nn.ModuleList))]
    trunk = max(containers, key=lambda container: len(_with_parameters(container)), default=None)
    for block in _with_parameters(trunk) if trunk is not None else []:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def _with_parameters(container: nn.Module) -> list[nn.Module]:
    return [child for child in container.children() if any(True for _ in child.parameters())]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor gathered from all processes; every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class WholeNetwork:
    """A sharded network's state dict, whole."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def state_dict(self) -> dict[str, Any]:
        """Return it to the first process; a collective call."""
        return get_model_state_dict(self._network, options=_READ)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take each process' part of a whole state dict."""
        set_model_state_dict(self._network, dict(state), options=_LOAD)


class WholeOptimizer:
    """The state dict of a network's optimizer, whole and by the names of parameters, sharded or not.

    One of a sharded network that has no state yet, or never has any, is left alone: torch would have it take a step to
    find out.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._network, self._optimizer = network, optimizer
        self._sharded = any(isinstance(parameter, DTensor) for parameter in network.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Return it to the first process; a collective call."""
        if self._sharded:
            return sharded_state(self._network, self._optimizer)
        state, names = self._optimizer.state_dict(), self._names()
        return {
            "state": {names[key] if isinstance(key, int) else key: value for key, value in state["state"].items()},
            "param_groups": [
                {**group, "params": [names[index] for index in group["params"]]} for group in state["param_groups"]
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take each process' part of a whole state dict; torch may move a sharded network, so load its weights later.

        Raises:
            ValueError: it is of an optimizer with other groups of parameters.
        """
        if self._sharded:
            if state.get("state"):
                set_optimizer_state_dict(self._network, self._optimizer, dict(state), options=_LOAD_OPTIMIZER)
        elif state:
            indices = {name: index for index, name in enumerate(self._names())}
            self._optimizer.load_state_dict(
                {
                    "state": {indices.get(name, name): value for name, value in state["state"].items()},
                    "param_groups": [
                        {**group, "params": [indices[name] for name in group["params"]]}
                        for group in state["param_groups"]
                    ],
                }
            )

    def _names(self) -> list[str]:
        """Return the parameters' names in the order that the optimizer numbers them in."""
        names = {parameter: name for name, parameter in self._network.named_parameters()}
        return [names[parameter] for group in self._optimizer.param_groups for parameter in group["params"]]


def sharded_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the whole state of a sharded network's optimizer by the names of parameters; a collective call.

    Raises:
        ValueError: torch cannot gather what the optimizer keeps.
    """
    inner = getattr(optimizer, "_base_optimizer", optimizer)  # timm's lookahead keeps its state there
    return get_optimizer_state_dict(network, inner, options=_READ) if inner.state else {}


class ShardedAverage:
    """Exponential moving average of a sharded network, sharded alike; timm's decay with warm-up.

    Args:
        build: makes a bare network of the same architecture, for :attr:`module`.
    """

    def __init__(self, network: nn.Module, decay: float, build: Callable[[], nn.Module]) -> None:
        self._build = build
        anything = nn.ParameterList([torch.zeros(1)])  # it is asked for its decay alone
        self._schedule = ModelEmaV3(anything, decay=decay, use_warmup=True)
        self._average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @property
    def module(self) -> nn.Module:
        """A bare network with the average as its weights; a collective call."""
        return filled(self._build(), self._average)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network."""
        decay = self._schedule.get_decay(step)
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def unsharded(self) -> list[torch.Tensor]:
        """Return the parts of the average that every process has whole: those of buffers."""
        return [value for value in self._average.values() if not isinstance(value, DTensor)]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the whole average, as timm's moving average names it; a collective call."""
        return {f"module.{name}": whole(value) for name, value in self._average.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take each process' part of a whole average."""
        for name, value in self._average.items():
            found = state[f"module.{name}"].to(value.device)
            if isinstance(value, DTensor):
                found = distribute_tensor(found, value.device_mesh, value.placements)
            value.copy_(found)


def filled(bare: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a bare network with sharded tensors as its weights, on their device; a collective call."""
    gathered = {name: whole(value) for name, value in tensors.items()}
    device = next(iter(gathered.values())).device
    bare.load_state_dict(gathered)
    return bare.to(device=device)
