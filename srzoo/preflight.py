"""Trying an entry out before any data is read: shapes are pushed through the networks, without memory or arithmetic."""

from __future__ import annotations

import torch
from torch import nn

from .compose import build_discriminator, build_generator, watched
from .composition import has_adversarial_term
from .entry import Entry
from .errors import CompositionError, did_you_mean
from .named import refuse_files_of_generator
from .recipe import Optimizer, lies_in
from .registry import get_registry
from .specs import GeneratorSpec


def preflight(entry: Entry) -> None:
    """Compose the whole entry and push shapes through it, without memory or arithmetic, before any data is read.

    Raises:
        CompositionError: some part does not fit; says which and what its rule is.
        InputError: the generator reads a file.
    """
    if entry.training is not None:
        refuse_files_of_generator(entry, f"entry {entry.name!r}")
    with torch.device("meta"):
        generator = build_generator(entry)
        _try_generator(generator, entry)
        if entry.training is None:
            return
        for name, stage in entry.training.stages.items():
            where = f"entry {entry.name!r}: training.stages.{name}."
            _try_rates(generator, stage.optimizer, where)
            if has_adversarial_term(stage):
                discriminator = build_discriminator(entry, stage)
                _try_discriminator(discriminator, entry)
                _try_rates(discriminator, stage.optimizer_of_discriminator(), where + "discriminator_")


def _try_rates(network: nn.Module, config: Optimizer, where: str) -> None:
    """Refuse rates of parts that a network does not have."""
    names = [name for name, _ in network.named_parameters()]
    for layer in config.rates:
        if not any(lies_in(name, layer) for name in names):
            parts = sorted({name.partition(".")[0] for name in names})
            raise CompositionError(
                f"{where}optimizer.rates: the network has no part {layer!r}.{did_you_mean(layer, parts)} "
                f"Its parts: {', '.join(parts)}."
            )


def _try_generator(generator: nn.Module, entry: Entry) -> None:
    spec = get_registry().get("generator", entry.generator.name).spec
    assert isinstance(spec, GeneratorSpec)
    side = max(16, spec.size_multiple)
    if entry.training is not None:
        side = entry.training.patch_size // entry.scale
    expected = (2, 3, side * entry.scale, side * entry.scale)
    shape = _shape_through(generator, torch.empty(2, 3, side, side), f"entry {entry.name!r}: generator")
    if shape != expected:
        raise CompositionError(
            f"entry {entry.name!r}: the generator maps (2, 3, {side}, {side}) to {shape}, not {expected}; "
            "check that its block keeps the shape and its upsampler follows the scale."
        )
    if spec.intermediate:
        _try_intermediate(generator, torch.empty(2, 3, side, side), expected, f"entry {entry.name!r}: generator")


def _try_intermediate(generator: nn.Module, lr: torch.Tensor, expected: tuple[int, ...], where: str) -> None:
    with watched(generator, where, "with intermediate=True"), torch.no_grad():
        sr, intermediate = generator.train()(lr, intermediate=True)
        shapes = tuple(sr.shape), tuple(intermediate.shape)
    if shapes[0] != expected or shapes[1][1:] != expected or not shapes[1][0]:
        raise CompositionError(
            f"{where} returns {shapes[0]} and {shapes[1]} with intermediate=True; the first must be {expected}, "
            "and the second one or more of these in a row."
        )


def _try_discriminator(discriminator: nn.Module, entry: Entry) -> None:
    assert entry.training is not None
    size = entry.training.patch_size
    where = f"entry {entry.name!r}: discriminator"
    shape = _shape_through(discriminator, torch.empty(2, 3, size, size), where)
    if len(shape) not in (2, 4) or shape[:2] != (2, 1):
        raise CompositionError(f"{where} gives logits of shape {shape}; it must be (N, 1) or (N, 1, h, w).")


def _shape_through(module: nn.Module, images: torch.Tensor, where: str) -> tuple[int, ...]:
    with watched(module, where, f"on {tuple(images.shape)}"), torch.no_grad():
        output = module.train()(images)
    if not isinstance(output, torch.Tensor):
        raise CompositionError(f"{where} returns {type(output).__name__}, not a tensor.")
    return tuple(output.shape)
