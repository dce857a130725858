"""Checks of what is left of one call when the next one comes: its input as it was, and nothing else.

A component is used as a run does: asked for several sizes in turn, under ``inference_mode`` as validation does, then
trained for some steps. All that is looked for in one such history, and each check tells of one kind of trace.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..inference import to_channels_last
from ..plugins import FAULTS, describe_exception
from ..specs import DiscriminatorSpec, GeneratorSpec, LossSpec, MetricSpec
from . import losses, metrics
from .outcome import NETWORKS, NotApplicable, listed, promise, require
from .parts import PlainDiscriminator
from .settings import begin, kept
from .subject import TOLERANCE, Subject, images, patch_sizes, refusal, relative_difference

WATCHED = (*NETWORKS, "loss", "metric")
STEPS = 3
"""What a call leaves until the next one but one is not kept: only what every one of these leaves adds up."""
SAME = 1e-6
"""Relative; the same operators on the same values, which may lie elsewhere in memory."""

LEAST = 8
"""No side is shorter: a part may well need some pixels."""

SEED = 1
"""That of a network's baseline."""

Inputs = tuple[torch.Tensor, ...]


class History:
    """What was seen while a component was used again and again; each sentence is empty where there was nothing.

    Attributes:
        touched: of what it is given and wrote into.
        changed: of what computed something else because of what came before.
        held: of what every call left in memory.
    """

    def __init__(self) -> None:
        self.touched = self.changed = self.held = ""


def history_of(subject: Subject) -> History:
    """Use a component of the first example again and again, once for all checks, and return what was seen."""
    if "history" not in subject.memo:
        subject.memo["history"] = history = History()
        with kept():
            _use(subject, history)
    found: History = subject.memo["history"]
    return found


def _use(subject: Subject, history: History) -> None:
    first, second = _two_sizes(subject)
    if alone := _alone(subject, second, history):
        if not refusal(alone):
            history.changed = f"it fails on {_sizes(second)}, though a new one is asked: {describe_exception(alone)}."
            return
        second = tuple(0.5 * tensor for tensor in first)  # it takes no other size, and says so
    expected = subject.baseline() if subject.kind in NETWORKS else _call(subject, _new(subject), first, history)
    built = _new(subject)
    state = _state(built)
    try:
        with torch.inference_mode(subject.kind in NETWORKS):
            _call(subject, built, second, history)
        found = _call(subject, built, first, history)
        before = [output.detach().clone() for output in found]
        _call(subject, built, tuple(tensor.flip(0) for tensor in first), history)
    except FAULTS as error:
        history.changed = (
            f"after {_sizes(second)} it fails on {_sizes(first)}: {describe_exception(error)}; {_advice(subject)}."
        )
        return
    worst = _worst(expected, before)
    overwritten = [not torch.equal(one, other) for one, other in zip(before, found, strict=True)]
    moved = [name for name, tensor in _state(built).items() if not torch.equal(state[name], tensor)]
    if worst > SAME:
        history.changed = (
            f"after {_sizes(second)} the same {_sizes(first)} gives something else ({worst:.1e}); {_advice(subject)}."
        )
    elif any(overwritten):
        history.changed = "what one call returned is overwritten by the next; return a new tensor."
    elif moved and subject.kind in NETWORKS:
        history.changed = f"evaluating changes its {listed(moved)}; change that in training mode only."
    del found, before
    _train(subject, built, first, history)


def _alone(subject: Subject, inputs: Inputs, history: History) -> BaseException | None:
    """Return what a new one raises for inputs, so that no history is blamed for it."""
    try:
        _call(subject, _new(subject), inputs, history)
    except FAULTS as error:
        return error
    return None


def _new(subject: Subject) -> Any:
    built = subject.network() if subject.kind in NETWORKS else subject.build()
    if subject.kind == "metric" and isinstance(built, nn.Module):
        built = built.eval().requires_grad_(False)
    return built


def _advice(subject: Subject) -> str:
    if subject.kind == "loss":
        return "no checkpoint keeps what a loss remembers, so a run that is resumed would go on with another"
    return "keep nothing of a call, or make it anew where the size is another"


def _state(built: Any) -> dict[str, torch.Tensor]:
    found = built.state_dict() if isinstance(built, nn.Module) else {}
    return {name: tensor.clone() for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}


def _sizes(inputs: Inputs) -> str:
    return "x".join(str(side) for side in inputs[0].shape)


def _two_sizes(subject: Subject) -> tuple[Inputs, Inputs]:
    """Return what it is given first and then: where it may be another size, higher and less wide."""
    spec = subject.spec
    if isinstance(spec, LossSpec):
        shapes = losses.LOGITS if spec.role == "adversarial" else (losses.SIZE, (1, 3, 64, 32))
        first, second = ((images(shape), images(shape, 1)) for shape in shapes)
        return first, second
    if isinstance(spec, MetricSpec):
        side = metrics.side_of(subject)
        hr = metrics.references(subject, 2, side)
        sr = metrics.degraded(subject, hr, metrics.NOISE[1])
        cut = (slice(0, 1), slice(None), slice(None), slice(side // 8 - 1, None))
        return (sr, hr), (1 - sr[cut].contiguous(), 1 - hr[cut].contiguous())
    channels, height, width = subject.cases[0].shape
    more, less = (spec.size_multiple,) * 2 if isinstance(spec, GeneratorSpec) else (8, 8)
    if subject.kind in ("block", "upsampler"):
        more, less = 3, 1
    if isinstance(spec, DiscriminatorSpec):
        sizes = patch_sizes(spec)
        more = less = sizes[1] - sizes[0] if len(sizes) > 1 and "input_size" not in subject.signature.supplied else 0
        less = -less  # a square patch
    shape = (3, channels, height + more, width - less if width - less >= LEAST else width)
    other = subject.values(shape, 5)
    return (subject.inputs(),), (other * other.abs(),)


def _call(subject: Subject, built: Any, inputs: Inputs, history: History, seed: int = SEED) -> list[torch.Tensor]:
    """Call it as a run would, on copies, and note what it does to them."""
    given = tuple(tensor.clone() for tensor in inputs)
    versions = _versions(given)
    begin(seed)  # one that is random, as a loss may be, draws the same every time
    if subject.kind in NETWORKS:
        with torch.no_grad():
            outputs = _run(subject, built, given[0])
    elif isinstance(subject.spec, LossSpec):
        outputs = _loss(subject.spec.role, built, given, history)
    else:
        with torch.inference_mode():
            outputs = [built(*given)]
    _look(subject, given, inputs, versions, history)
    return [output.detach().clone() if subject.kind not in NETWORKS else output for output in outputs]


def _run(subject: Subject, network: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """As ``Subject.run``, but on the very tensor it is given."""
    if subject.kind == "extractor":
        found: Mapping[str, torch.Tensor] = network(inputs, list(network.names))  # type: ignore[arg-type]
        return list(found.values())
    return [network(inputs)]


def _loss(role: str, loss: Any, given: Inputs, history: History) -> list[torch.Tensor]:
    if role == "adversarial":
        real, fake = given
        own = real if getattr(loss, "generator_needs_real", True) else None
        return [loss.generator_loss(own, fake), loss.discriminator_loss(real, fake)]
    if role != "regulariser":
        return [loss(*given)]
    discriminator = PlainDiscriminator()
    value = loss(discriminator, *given)
    parameters = list(discriminator.parameters())
    if any(parameter.grad is not None for parameter in parameters):
        history.touched = "it leaves gradients in the discriminator; use torch.autograd.grad, not backward()."
    elif not (discriminator.training and all(parameter.requires_grad for parameter in parameters)):
        history.touched = "it leaves the discriminator in another mode than it was given in."
    return [value]


def _versions(given: Inputs) -> list[int]:
    """Return how often each was written into, which also tells of a write that changes no value.

    Under inference_mode torch counts nothing.
    """
    return [0 if tensor.is_inference() else tensor._version for tensor in given]


def _written_into(subject: Subject, name: str) -> str:
    usual = ", as nn.ReLU() and F.relu do" if subject.kind in NETWORKS else ""
    return f"it writes into its {name}, which others go on to use; work on a copy, or out of place{usual}."


def _look(subject: Subject, given: Inputs, inputs: Inputs, versions: list[int], history: History) -> None:
    names = {"loss": ("output", "reference"), "metric": ("output", "reference")}.get(subject.kind, ("input",))
    if subject.spec.kind == "loss" and isinstance(subject.spec, LossSpec):
        names = {"adversarial": ("real logits", "fake logits"), "regulariser": ("reference", "output")}.get(
            subject.spec.role, names
        )
    written = [one != other for one, other in zip(_versions(given), versions, strict=True)]
    for name, tensor, before, changed in zip(names, given, inputs, written, strict=True):
        if changed or not torch.equal(tensor, before):
            history.touched = _written_into(subject, name)
        elif tensor.requires_grad and tensor.is_leaf:
            history.touched = f"it leaves requires_grad set on its {name}; call detach() first."


def _worst(ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(relative_difference(one, other) for one, other in zip(ones, others, strict=True))


# --- another layout in memory -------------------------------------------------------------------------------


@promise("channels-last", *NETWORKS, "loss", "metric")
def channels_last(subject: Subject) -> str:
    """The same output in channels_last memory, as images and what networks make of them are."""
    role = subject.spec.role if isinstance(subject.spec, LossSpec) else ""
    if role == "adversarial" or (isinstance(subject.spec, MetricSpec) and subject.spec.domain != "rgb"):
        raise NotApplicable("it is given no colours.")
    inputs, built = _two_sizes(subject)[0], _new(subject)
    if subject.kind in NETWORKS:
        built = to_channels_last(built, "cpu")
    moved = tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs)
    with kept():
        plain = subject.baseline() if subject.kind in NETWORKS else _call(subject, _new(subject), inputs, History())
        last = _call(subject, built, moved, History())
        worst = _worst(plain, last)
        if worst > TOLERANCE:
            first, other = (_call(subject, _new(subject), inputs, History(), seed) for seed in (SEED, SEED + 1))
            if _worst(first, other) > SAME:
                raise NotApplicable("it is random, and may draw its numbers in the order of the memory.")
    require(worst <= TOLERANCE, f"in channels_last memory the output differs by {worst:.1e}; view() where reshape()?")
    return f"{worst:.1e}"


# --- training steps -----------------------------------------------------------------------------------------


class _Births(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps a weak reference to all memory that operators allocate meanwhile."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.born: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {_address(leaf) for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _address(leaf) not in before:
                self.born[_address(leaf)] = StorageWeakRef(leaf.untyped_storage())  # type: ignore[no-untyped-call]
        return result

    def alive(self) -> int:
        """Return how many of them still are."""
        return sum(not reference.expired() for reference in self.born.values())  # type: ignore[no-untyped-call]


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _train(subject: Subject, built: Any, inputs: Inputs, history: History) -> None:
    """Use it some times in a row as training does, and note what stays in memory and which modes it changes."""
    births: list[_Births] = []
    network = built.train() if subject.kind in NETWORKS else None
    modes = _modes(network)  # a frozen part may well stay in evaluation mode
    if subject.kind == "extractor":
        built.requires_grad_(False)
    try:
        for step in range(STEPS):
            births.append(_Births())
            _step(subject, built, inputs, births[-1], history, backward=step < STEPS - 1)
    except FAULTS as error:
        _report_step(subject, inputs, error, len(births), history)
        return
    if _modes(network) != modes:
        history.changed = history.changed or "it leaves training mode by itself; that is the trainer's to set."
    if all(birth.alive() for birth in births):
        gc.collect()  # which frees what only refers to itself
    if all(birth.alive() for birth in births):
        history.held = f"each call leaves {births[1].alive()} tensors in memory"


def _modes(network: nn.Module | None) -> list[bool]:
    return [module.training for module in network.modules()] if network is not None else []


def _step(
    subject: Subject, built: Any, inputs: Inputs, births: _Births, history: History, backward: bool = True
) -> None:
    if subject.kind not in NETWORKS:
        leaves = tuple(tensor.clone().requires_grad_(subject.kind == "loss") for tensor in inputs)
        with births:
            values = _given(subject, built, leaves, history)
        if backward and subject.kind == "loss" and all(value.requires_grad for value in values):
            torch.stack([value.float() for value in values]).sum().backward()  # type: ignore[no-untyped-call]
        return
    (before,) = inputs
    leaf = before.clone().requires_grad_(True)
    with births:
        given = leaf * 1  # no leaf, as the output of a network before it, and born here
        versions = _versions((given,))
        outputs = _run(subject, built, given)
    if _versions((given,)) != versions or not torch.equal(given.detach(), before):
        history.touched = _written_into(subject, "input")
    total = torch.stack([output.float().square().mean() for output in outputs]).sum()
    if backward and total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    built.zero_grad()


def _given(subject: Subject, built: Any, given: Inputs, history: History) -> list[torch.Tensor]:
    begin(SEED)
    if isinstance(subject.spec, LossSpec):
        given = tuple(tensor * 1 for tensor in given) if subject.spec.role != "regulariser" else given
        return _loss(subject.spec.role, built, given, history)
    with torch.inference_mode():
        return [built(*given)]


def _report_step(subject: Subject, inputs: Inputs, error: BaseException, step: int, history: History) -> None:
    """Tell of a training step that fails; but not of one that fails on a new one too, as other checks tell."""
    try:
        fresh = subject.network().train() if subject.kind in NETWORKS else _new(subject)
        _step(subject, fresh, inputs, _Births(), History())
    except FAULTS:
        return
    after = "evaluation" if step == 1 else f"{step - 1} steps"
    history.changed = history.changed or (
        f"after {after} a training step fails: {describe_exception(error)[:200]}; keep no tensor that was computed "
        "from parameters or made under inference_mode."
    )


# --- what is told -------------------------------------------------------------------------------------------


@promise("input-untouched", *WATCHED)
def input_untouched(subject: Subject) -> None:
    """What it is given is as it was afterwards."""
    history = history_of(subject)
    require(not history.touched, history.touched)


@promise("stateless", *WATCHED)
def stateless(subject: Subject) -> None:
    """What it computes does not depend on what it computed before, of other sizes or in validation."""
    history = history_of(subject)
    require(not history.changed, history.changed)


@promise("bounded-memory", *WATCHED)
def bounded_memory(subject: Subject) -> None:
    """No call leaves tensors in memory that the next one adds to."""
    history = history_of(subject)
    require(not history.held, f"{history.held}; keep no list of them, and detach() what is kept.")


CHECKS = (channels_last, input_untouched, stateless, bounded_memory)
