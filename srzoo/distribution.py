"""What several processes that train together have to agree on, beyond gradients."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from torch import nn

from .errors import InputError
from .recipe import Training

DISTRIBUTION = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
"""Ways of being launched that the loop knows how to share a batch in."""
PATIENCE = timedelta(hours=6)
"""How long processes wait for one that does something alone; torch gives up after 10 minutes on GPUs."""


def launched(on_cpu: bool, recipe: Training) -> Accelerator:
    """Join the processes that a launcher started; without one, this process is alone.

    Raises:
        InputError: launched in a way that a batch cannot be shared in, or by more processes than it has crops for.
    """
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    # Mixed precision is the loop's own: a penalty has to leave it, and two optimizers share one gradient scaler. So is
    # compiling. Both are refused here, since a launcher or a user's file of Accelerate could ask for them.
    # Broadcasting buffers would change a discriminator's between its two passes of one step, under DDP.
    accelerator = Accelerator(
        cpu=on_cpu,  # else it would not join several processes on a CPU
        mixed_precision="no",
        dynamo_backend="no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=PATIENCE),  # one decodes all images while the others wait
        ],
    )
    if accelerator.distributed_type not in DISTRIBUTION:
        raise InputError(
            f"launched as {accelerator.distributed_type.value}; srzoo shards by training.fsdp=true. Launch with "
            "torchrun, or accelerate launch --multi_gpu."
        )
    if recipe.batch_size % (accelerator.num_processes * recipe.accumulate):
        raise InputError(
            f"training.batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes "
            f"in {recipe.accumulate} parts each."
        )
    return accelerator


def joined() -> PartialState | None:
    """Join the processes that a launcher started, for work that needs no gradients; None if this process is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)  # one takes times while the others wait


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within this context, torch refuses algorithms that are not reproducible, or does not; then as it was before."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


class _Gather(torch.autograd.Function):
    """The concatenation of every process' tensor, in the order of ranks.

    Every process computes the same loss of the whole, and gradients are averaged over processes afterwards. So the
    gradient of a process' own part is taken as many times as there are processes.
    """

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        ctx.length = len(own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        own = gradients[0].narrow(0, dist.get_rank() * ctx.length, ctx.length)
        return own * dist.get_world_size()


def gathered(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits of all processes, (world*N, ...), differentiable with respect to the process' own."""
    joined: torch.Tensor = _Gather.apply(logits)  # type: ignore[no-untyped-call]
    return joined


def exchange_gradients_(network: nn.Module) -> None:
    """Replace gradients by their mean over processes; one that a process does not have counts as zero there.

    A parameter that has none in any process keeps none. Every process asks for the others', so it waits for the device.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        return
    reached = torch.tensor([p.grad is not None for p in trained], dtype=torch.uint8, device=trained[0].device)
    dist.all_reduce(reached, dist.ReduceOp.MAX)
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter, anywhere in zip(trained, reached.tolist(), strict=True):
        if anywhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_type.values():  # as one message
        whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(whole)
        whole /= dist.get_world_size()
        for gradient, mean in zip(gradients, torch.split(whole, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


def equal_in_all_(network: nn.Module) -> None:
    """Give every process the first one's weights and buffers, as DDP does with a network that it is given."""
    for tensor in network.state_dict().values():
        dist.broadcast(tensor, 0)


def average_buffers_(module: nn.Module, accelerator: Accelerator) -> None:
    """Replace floating-point buffers (batch norm's statistics) by their mean over processes."""
    average_tensors_(module.buffers(), accelerator)


def average_tensors_(tensors: Iterable[torch.Tensor], accelerator: Accelerator) -> None:
    """Replace floating-point tensors, of which every process has its own, by their mean."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.copy_(accelerator.reduce(tensor, "mean"))


def leave_distribution(exit_code: int) -> None:
    """Leave the group of processes and end this one; return if there is no group.

    The interpreter's own end is skipped. Gloo's threads live as long as something holds the group, which torch's
    caches do where parameters are sharded; a thread that still lets go of a tensor while the interpreter shuts down
    aborts the process, now and then.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
