"""Checks of what building and using a component leaves behind in the process: nothing; and of what a seed settles."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .options import COMPONENTS, exercise
from .outcome import NETWORKS, listed, promise, require
from .settings import GENERATORS, begin, kept
from .subject import Subject
from .watch import changes, contents

TRAINED = tuple(kind for kind in NETWORKS if kind != "extractor")


@dataclass
class Build:
    """One building and using, from a seed.

    Attributes:
        state: the sum of the bits of each tensor of its state, by name.
        addresses: where the parameters of a network that is trained lie, by name; frozen ones may be shared.
        outputs: what it computed.
        ends: how each random generator stood afterwards.
    """

    state: dict[str, torch.Tensor] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    outputs: list[torch.Tensor] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)


def _builds(subject: Subject) -> tuple[list[Build], list[str], str]:
    """Build and use it from two seeds, the first twice; also return the settings that changed and what was printed."""
    if "builds" not in subject.memo:
        make, made, builds = subject.bound(), [], []
        printed = io.StringIO()
        with _patched(subject) as patched, kept() as changed, redirect_stdout(printed):
            for seed in (0, 1):
                begin(seed)
                made.append(make())
                builds.append(_seen(subject, made[-1]))
        changed += patched
        subject.memo["builds"] = builds, changed, " ".join(printed.getvalue().split())
    found: tuple[list[Build], list[str], str] = subject.memo["builds"]
    return found


@contextmanager
def _patched(subject: Subject) -> Iterator[list[str]]:
    """Yield a list that ends up with the functions of others that are replaced meanwhile, and put them back.

    What its first building and use replaced is put back before, so that it can be seen to do so again: what a library
    replaced that they imported is not.
    """
    before = subject.memo.pop("contents", None) or contents()
    names = [subject.component.owner.module.partition(":")[0].partition(".")[0]]
    first = changes(before, names)
    found: list[str] = []
    for patch in first.values():
        patch.undo()
    try:
        yield found
    finally:
        again = changes(before, names)
        for patch in again.values():
            patch.undo()
        for place, patch in first.items():
            if place not in again and not patch.is_of(names):
                patch.redo()
        found += [*again, *(place for place, patch in first.items() if place not in again and patch.is_of(names))]


def _seen(subject: Subject, built: Any) -> Build:
    seen = Build()
    if isinstance(built, nn.Module):
        trained = [(name, p) for name, p in built.named_parameters() if p.numel() and p.requires_grad]
        seen.addresses = {name: p.data_ptr() for name, p in trained} if subject.kind in TRAINED else {}
        seen.state = state_sums(built)
        built = built.eval()
    seen.outputs = [output.clone() for output in exercise(subject, built)]
    seen.ends = {name: str(read()) for name, (_, read, _) in GENERATORS.items()}
    return seen


def state_sums(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what tells states apart, without keeping them: a sum of the bits of every tensor."""
    state = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    return {name: _bits(tensor.detach().contiguous()).sum(dtype=torch.int64) for name, tensor in state.items()}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    words = {8: torch.int64, 4: torch.int32, 2: torch.int16}.get(tensor.element_size(), torch.uint8)
    return tensor.flatten().view(words)


@promise("pure-build", *COMPONENTS)
def pure_build(subject: Subject) -> None:
    """Building and using it seeds no random generator, changes no setting or module of others, and prints nothing.

    Drawing random numbers is fine. One that seeds ends in the same state wherever it began, and so gives every network
    that is built after it, and every run of another seed, the same numbers.
    """
    builds, changed, printed = _builds(subject)
    wrong = []
    if seeded := [name for name in GENERATORS if builds[0].ends[name] == builds[1].ends[name]]:
        wrong.append(
            f"building or using it seeds the random generator of {listed(seeded)}, and with it whatever the process "
            "draws next; for the same values every time, draw from torch.Generator().manual_seed(0)."
        )
    if changed:
        wrong.append(f"building or using it changes {listed(changed)}, which is not its own.")
    if printed:
        wrong.append(f"building or using it prints {printed[:60]!r}, which gets into --json output; use logging.")
    require(not wrong, " And ".join(wrong))


@promise("same-seed", *NETWORKS, "loss", "metric")
def same_seed(subject: Subject) -> str:
    """Built again from the same seed it is the same, and two of it share no parameter."""
    (one, other), _, _ = _builds(subject)
    shared = [name for name, address in one.addresses.items() if address in other.addresses.values()]
    require(
        not shared,
        f"two that are built one after the other share {listed(shared)}; make parameters in __init__, not in the "
        "module, the class or a default value.",
    )
    if subject.kind == "metric":  # no run seeds what a score depends on
        require(_equal(one.outputs, other.outputs), "built again it scores the same images differently; is it random?")
        return "the same scores whatever the seed"
    with kept():
        begin(0)
        again = _seen(subject, subject.bound()()) if subject.kind == "loss" else None
    state = again.state if again is not None else state_sums(subject.network())
    outputs = again.outputs if again is not None else subject.baseline()
    other_names = [name for name in one.state if name not in state or not torch.equal(one.state[name], state[name])]
    require(
        not other_names and len(one.state) == len(state),
        f"built twice from one seed {listed(other_names) or 'its state'} differs, so a run cannot be repeated; draw "
        "from torch's random generator, and keep no default value that is written into.",
    )
    if subject.kind not in NETWORKS:
        require(_equal(one.outputs, outputs), "built twice from one seed it computes something else.")
    return f"{len(state)} tensors"


def _equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=1e-5, atol=1e-7) for one, other in zip(ones, others, strict=True))


CHECKS = (pure_build, same_seed)
