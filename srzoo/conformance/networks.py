"""Checks of what every network promises: shape, finite values, gradients, determinism, storage, precision, tracing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import SrzooError
from ..inference import run_generator
from ..plugins import FAULTS, describe_exception
from ..specs import GeneratorSpec
from ..weights import load_into, read_checkpoint, save_checkpoint
from .outcome import FINITE, NETWORKS, Failed, NotApplicable, listed, promise, require
from .settings import begin, kept
from .subject import TOLERANCE, Case, Subject, images, refusal, relative_difference

BF16_TOLERANCE = 0.1
"""Relative error of the whole output in the 2-norm; bf16 holds 8 bits, and a deep network adds a few per cent."""
STEPS = 3
"""How often a network is used in training mode before its state is written."""


@promise("output-shape", *NETWORKS)
def keeps_shape(subject: Subject) -> str:
    """Output shape and type at odd sizes, batches of 1 and 4, every declared scale, few channels and more."""
    require(not subject.unusable, subject.unusable)
    for case in subject.cases:
        network = subject.network(case)
        _right_shape(subject, network, case)
        if isinstance(subject.spec, GeneratorSpec):
            _odd_size(network, case.supplied["scale"], subject.spec.size_multiple)
    for case in subject.larger:
        try:
            _right_shape(subject, subject.network(case), case)
        except Failed:
            raise
        except FAULTS as error:
            if not refusal(error):  # which channels there are is its own affair
                channels = case.supplied["channels"]
                raise Failed(f"{channels} channels of {case} break it: {describe_exception(error)}.") from error
    return "; ".join(str(case) for case in (*subject.cases, *subject.larger))


def _right_shape(subject: Subject, network: nn.Module, case: Case) -> None:
    for batch in (1, 4):
        with torch.no_grad():
            outputs = subject.run(network, subject.values((batch, *case.shape)))
        subject.check_shape(network, case, outputs, batch)


def _odd_size(network: nn.Module, scale: int, multiple: int) -> None:
    """A size that is no multiple of anything, as inference pads it and cuts the result."""
    with torch.no_grad():
        run_generator(network, images((1, 3, 13, 11)), scale, multiple)


@promise(FINITE, *NETWORKS)
def finite_output(subject: Subject) -> None:
    """Finite output for random, black and white input, training and evaluation."""
    case = subject.cases[0]
    for mode in (False, True):
        network = subject.network(case).train(mode)
        for name, value in (("random", None), ("black", 0.0), ("white", 1.0)):
            inputs = subject.values((2, *case.shape))
            inputs = inputs if value is None else torch.full_like(inputs, value)
            with torch.no_grad():
                outputs = subject.run(network, inputs)
            where = f"{name} input in {'training' if mode else 'evaluation'} mode"
            require(all(torch.isfinite(output).all() for output in outputs), f"the output is not finite for {where}.")
        if mode:
            seen, usual = (listed(str(tuple(o.shape)) for o in each) for each in (outputs, subject.baseline()))
            require(seen == usual, f"the output is {seen} in training mode, and {usual} in evaluation.")


@promise("gradient", *NETWORKS)
def gradient(subject: Subject) -> str:
    """A gradient reaches the input and every trainable parameter.

    Four batches, since a ReLU may be closed on one; before the last, weights that begin as zeros are moved.
    """
    case = subject.cases[0]
    network = subject.network(case).train()
    if subject.kind == "extractor":  # the losses freeze it, and need its gradient on the image
        network.requires_grad_(False)
    wanted = {name: p for name, p in network.named_parameters() if p.requires_grad}
    promised = isinstance(subject.spec, GeneratorSpec) and subject.spec.trainable
    require(wanted or not promised, "it has no trainable parameters, but its spec says nothing of trainable=False.")
    if not wanted and subject.kind != "extractor":
        raise NotApplicable("it has no trainable parameters.")
    reached: set[str] = set()
    felt = False
    for seed in range(4):
        if seed == 3:
            _leave_zero(network)
        inputs = subject.values((4, *case.shape), seed).requires_grad_(True)
        network.zero_grad()
        with torch.enable_grad():  # whatever mode the caller is in
            weighted = [(out * torch.randn_like(out)).sum() for out in subject.run(network, inputs)]
            total = torch.stack(weighted).sum()
        require(total.requires_grad, "the output has no gradient at all; is it detached, or computed under no_grad?")
        total.backward()  # type: ignore[no-untyped-call]
        felt = felt or (inputs.grad is not None and bool(inputs.grad.abs().sum() > 0))
        for name, parameter in wanted.items():
            if parameter.grad is None:
                continue
            require(torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite.")
            if parameter.grad.abs().sum() > 0:
                reached.add(name)
        if felt and len(reached) == len(wanted):
            break
    require(felt, "no gradient reaches the input.")
    missed = [name for name in wanted if name not in reached]
    require(not missed, f"no gradient reaches {listed(missed)}; use them in forward() or drop them.")
    return f"{len(reached)} tensors"


def _leave_zero(network: nn.Module) -> None:
    """A branch whose last weight begins as zero, as is common, gives the weights before it no gradient yet."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))


def _compute(subject: Subject, network: nn.Module, inputs: torch.Tensor, seed: int = 1) -> list[torch.Tensor]:
    """Return what a network computes; from the seed of the baseline, so that only one check tells of a random one."""
    with torch.no_grad(), kept():
        begin(seed)
        return subject.run(network, inputs)


@promise("deterministic", *NETWORKS)
def deterministic(subject: Subject) -> None:
    """Same input, same output in evaluation mode."""
    second = _compute(subject, subject.network(), subject.inputs(), seed=2)
    same = all(torch.equal(one, other) for one, other in zip(subject.baseline(), second, strict=True))
    require(same, "twice the same input gives two outputs in evaluation mode; is there noise or dropout left?")


@promise("batch-independent", *NETWORKS)
def batch_independent(subject: Subject) -> str:
    """An image's output does not depend on its batch in evaluation mode."""
    case = subject.cases[0]
    network, batch = subject.network(case), subject.values((5, *case.shape))
    with torch.no_grad():
        together = [output[::2] for output in subject.run(network, batch)]
        alone = [subject.run(network, image[None]) for image in batch[::2]]
    singles = [torch.cat(layer) for layer in zip(*alone, strict=True)]
    worst = max(relative_difference(one, other) for one, other in zip(together, singles, strict=True))
    require(
        worst <= TOLERANCE, f"an image's output depends on the others of its batch in evaluation mode ({worst:.1e})."
    )
    return f"{worst:.1e}"


@promise("state-dict", *NETWORKS)
def stored(subject: Subject) -> str:
    """The state goes through safetensors and computes the same, also that of a network in training.

    Write the state of one network, after some steps in which an average or a count may move, and read it into another
    that began with other values, and that has computed with them, as one that is validated while it is trained.
    """
    case, inputs = subject.cases[0], subject.inputs()
    one, other = subject.network(case, seed=0), subject.network(case, seed=1)
    _compute(subject, other, inputs)
    for parameter in one.parameters():  # not those a network is born with, which a constant may give both
        parameter.data.mul_(1.1)
    for seed in range(STEPS):
        _compute(subject, one.train(), inputs, seed)
    state = one.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_checkpoint(path, state, {})
        load_into(other, read_checkpoint(path)[0], "the file")
    for mode, where in ((False, ""), (True, " in training mode")):
        pairs = zip(*(_compute(subject, network.train(mode), inputs) for network in (one, other)), strict=True)
        require(
            all(torch.equal(left, right) for left, right in pairs),
            f"read back from safetensors it computes something else{where}; register every tensor it needs, also an "
            "average or a count that moves in training, as a buffer, and keep nothing that was computed from the "
            "parameters.",
        )
    return f"{len(state)} tensors"


@promise("bf16-autocast", *NETWORKS)
def bf16(subject: Subject) -> str:
    """Under bf16 autocast the output is finite and near."""
    network, exact = subject.network(), subject.baseline()
    with torch.autocast("cpu", torch.bfloat16):
        reduced = _compute(subject, network, subject.inputs())
    worst = 0.0
    for one, other in zip(exact, reduced, strict=True):
        require(torch.isfinite(other).all(), "the output is not finite under bf16 autocast.")
        require(
            one.shape == other.shape, f"the output is {tuple(other.shape)} under autocast, {tuple(one.shape)} without."
        )
        worst = max(worst, float((one - other.float()).norm() / one.norm().clamp(min=1e-12)))
    require(worst <= BF16_TOLERANCE, f"under bf16 autocast the output is {worst:.0%} off; sum images in float32.")
    return f"{100 * worst:.2g} % off"


Result = TypeVar("Result")


def _attempt(what: str, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except FAULTS as error:  # torch's tracers raise many kinds, with pages of text
        raise Failed(f"{what}: {describe_exception(error)[:300]}") from error


@promise("torch-export", *NETWORKS, thorough=True)
def exported(subject: Subject) -> str:
    """torch.export takes it and computes the same."""
    network, inputs = subject.network(), subject.inputs()
    arguments: tuple[Any, ...] = (inputs,)
    if subject.kind == "extractor":
        arguments = (inputs, list(getattr(network, "names", ())))
    with torch.no_grad():
        program = _attempt("torch.export refuses it", lambda: torch.export.export(network, arguments))
        found = program.module()(*arguments)
    outputs = list(found.values()) if isinstance(found, dict) else [found]
    worst = max(relative_difference(one, other) for one, other in zip(subject.baseline(), outputs, strict=True))
    require(worst <= TOLERANCE, f"the exported program's output differs by {worst:.1e}.")
    return f"{worst:.1e}"


@promise("torch-compile", *NETWORKS, thorough=True)
def compiled(subject: Subject) -> str:
    """torch.compile takes forward and backward as one graph.

    Trace forward and backward; aot_eager goes all the way but for generating code, so no C compiler is needed.
    """
    import torch._dynamo

    network, inputs = subject.network(), subject.inputs()
    torch._dynamo.reset()
    traced = torch.compile(network, backend="aot_eager", fullgraph=True)

    def forward_and_backward() -> list[torch.Tensor]:
        layers = [list(getattr(network, "names", ()))] if subject.kind == "extractor" else []
        found = traced(inputs.clone().requires_grad_(True), *layers)
        outputs = list(found.values()) if isinstance(found, dict) else [found]
        torch.stack([output.float().sum() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
        return [output.detach() for output in outputs]

    outputs = _attempt("torch.compile cannot take it as one graph", forward_and_backward)
    torch._dynamo.reset()
    worst = max(relative_difference(one, other) for one, other in zip(subject.baseline(), outputs, strict=True))
    require(worst <= TOLERANCE, f"the compiled network's output differs by {worst:.1e}.")
    return f"{worst:.1e}"


@promise("unknown-layer", "extractor")
def unknown_layer(subject: Subject) -> None:
    """A layer that does not exist is refused by name."""
    network = subject.network()
    try:
        with torch.no_grad():
            check = getattr(network, "check_layers", None)
            (check if check is not None else lambda names: network(images((1, 3, 64, 64)), names))(["no_such_layer"])
    except (SrzooError, ValueError) as error:
        require("no_such_layer" in str(error), f"the refusal of an unknown layer does not name it: {error}")
        return
    raise Failed("it takes a layer that does not exist; raise a ValueError that names the layers there are.")


@promise("layers-alone", "extractor")
def layers_alone(subject: Subject) -> str:
    """A layer's features are the same whichever others are asked for."""
    network, inputs = subject.network(), subject.inputs()
    layers = list(network.names)  # type: ignore[arg-type]
    whole = dict(zip(layers, subject.baseline(), strict=True))
    some = list(dict.fromkeys([layers[0], layers[len(layers) // 2], layers[-1]]))
    for asked in ([some[0]], some[1:]):
        with torch.no_grad():
            found = network(inputs.clone(), asked)
        require(list(found) == asked, f"asked for {asked}, it returns {list(found)}.")
        for layer in asked:
            require(
                relative_difference(whole[layer], found[layer]) <= TOLERANCE,
                f"the features of {layer} are others when {listed(asked)} are asked for than when all are; does an "
                "operation in place, such as ReLU(inplace=True), write into them?",
            )
    return listed(some)


CHECKS = (
    keeps_shape,
    finite_output,
    gradient,
    deterministic,
    batch_independent,
    stored,
    bf16,
    unknown_layer,
    layers_alone,
    exported,
    compiled,
)
