"""A check that a component works on another device than the one it was built on.

The other device is torch's ``meta``, which computes shapes without values and is everywhere. What a GPU would refuse,
a tensor of the CPU beside one of its own, is seen there as each operator is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..plugins import FAULTS, describe_exception
from ..specs import MetricSpec
from .losses import LOGITS, role_of
from .losses import SIZE as PAIR
from .metrics import references
from .outcome import NETWORKS, Failed, NotApplicable, promise
from .parts import PlainDiscriminator
from .subject import Subject

ELSEWHERE = torch.device("meta")
ALLOWED = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put", "aten::index_put_")
"""Operators that a GPU takes although one of their tensors lies on the CPU."""


class _LeftBehind(Exception):  # noqa: N818 (found while a component is called, and turned into a failure)
    def __init__(self, tensor: torch.Tensor, operator: str) -> None:
        self.tensor, self.operator = tensor, operator


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stops at an operator that is given tensors of two devices; single numbers may lie anywhere."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        stayed = [tensor for tensor in tensors if tensor.device != ELSEWHERE]
        if name not in ALLOWED and stayed and len(stayed) < len(tensors):
            raise _LeftBehind(stayed[0], name.partition("::")[2])
        return func(*args, **(kwargs or {}))


@promise("other-device", *NETWORKS, "loss", "metric")
def other_device(subject: Subject) -> str:
    """It works on another device once it was moved there, without a tensor left behind."""
    built = subject.build()
    if isinstance(built, nn.Module):
        built = built.eval().to(ELSEWHERE)
    try:
        with torch.set_grad_enabled(subject.kind == "loss"), _Watch():  # type: ignore[no-untyped-call]
            for call in _calls(subject, built):
                call()
    except _LeftBehind as found:
        own = next((name for name, tensor in _attributes(built) if tensor is found.tensor), None)
        advice = (
            f"its attribute {own} stays on the CPU; register it with register_buffer({own.rpartition('.')[2]!r}, ...)"
            if own
            else "one is made on the CPU when it is called; give it device= of the input, or register it as a buffer"
        )
        raise Failed(f"moved to another device, {found.operator} meets a tensor of the CPU: {advice}.") from None
    except FAULTS as error:  # whatever needs values, or has no kernel for meta tensors
        raise NotApplicable(
            f"how far it would come cannot be told without another device: {describe_exception(error)}."
        ) from error
    return "as far as shapes tell"


def _calls(subject: Subject, built: Any) -> Iterator[Callable[[], Any]]:
    """Yield the ways in which it is called, with tensors that are elsewhere."""

    def values(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape, device=ELSEWHERE)

    if subject.kind in NETWORKS:
        yield lambda: subject.run(built, values((2, *subject.cases[0].shape)))
    elif isinstance(subject.spec, MetricSpec):
        images = references(subject).to(ELSEWHERE)
        yield lambda: built(images, images)
    elif role_of(subject) == "adversarial":
        for shape in LOGITS:
            yield lambda shape=shape: built.generator_loss(values(shape), values(shape))  # type: ignore[misc]
            yield lambda shape=shape: built.discriminator_loss(values(shape), values(shape))  # type: ignore[misc]
    elif role_of(subject) == "regulariser":
        yield lambda: built(PlainDiscriminator().to(ELSEWHERE), values(PAIR), values(PAIR))
    else:
        yield lambda: built(values(PAIR), values(PAIR))


def _attributes(built: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor that a module, its parts or an object keep in a plain attribute, with its dotted name."""
    owners = built.named_modules() if isinstance(built, nn.Module) else [("", built)]
    for prefix, owner in owners:
        for name, value in getattr(owner, "__dict__", {}).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            held = (
                value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
            )
            for tensor in held:
                if isinstance(tensor, torch.Tensor):
                    yield f"{prefix}.{name}" if prefix else name, tensor


CHECKS = (other_device,)
