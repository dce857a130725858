"""What several processes that train together have to agree on, beyond gradients."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn


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


def average_buffers_(module: nn.Module, accelerator: Accelerator) -> None:
    """Replace floating-point buffers (batch norm's statistics) by their mean over processes."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(accelerator.reduce(buffer, "mean"))


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
