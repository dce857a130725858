"""The functions that ``import srzoo`` offers. Nothing here imports torch before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .zoo import get_zoo

if TYPE_CHECKING:
    from torch import nn

    from .ablation.work import AblationResult
    from .benchmark import BenchResult
    from .entry import Entry
    from .training import TrainResult


def list_entries(pattern: str = "*") -> list[str]:
    """Return the names of the zoo's entries that match a shell-style pattern, e.g. ``"*gan*"``."""
    return get_zoo().names(pattern)


def create_generator(entry: str | Path, pretrained: bool = False, **overrides: Any) -> nn.Module:
    """Build the generator of a zoo entry, or of a checkpoint.

    It maps RGB (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W), in evaluation mode if pretrained.

    Args:
        entry: a zoo entry; or the path of a checkpoint, of a run's folder or of one that ``srzoo pull`` made. With a
            ``+`` after it, and pretrained, its self-ensemble.
        pretrained: load the weights, an entry's checked by hash. With False a path stands for what was trained,
            beginning from fresh weights.
        overrides: ``scale``, or options of the generator, e.g. ``num_blocks=8``; not for a path.

    Raises:
        UnknownNameError, OptionError, CompositionError: the entry or an override is not valid.
        InputError: overrides are given for a path.
        MissingWeightsError, WeightsError: the weights are missing, damaged, or not for this composition.
    """
    from .compose import build_generator, output_network
    from .confinement import ENSEMBLE
    from .pretrained import load_model, load_pretrained
    from .ready import generator_spec

    if str(entry) not in get_zoo() and (Path(entry).exists() or str(entry).endswith(ENSEMBLE)):
        if overrides:
            raise InputError(f"{entry} is composed already; {', '.join(overrides)} can be given for an entry.")
        model = load_model(entry)
        is_file = bool(generator_spec(model.entry).reads)  # which is built by its file alone
        return model.generator if pretrained or is_file else build_generator(model.entry)
    entry = str(entry)
    changes = {key if key == "scale" else f"generator.{key}": value for key, value in overrides.items()}
    resolved = get_zoo().entry(entry, {**changes, "training": None})  # the recipe's patch size is no concern here
    generator = build_generator(resolved)
    if pretrained and generator_spec(resolved).trainable:
        load_pretrained(generator, get_zoo().entry(entry), resolved)
        generator.eval()
    return output_network(resolved, generator) if pretrained else generator


def create(kind: str, name: str, **options: Any) -> Any:
    """Build one registered component, e.g. ``create("loss", "charbonnier", eps=1e-4)``.

    See :func:`srzoo.compose.create`.
    """
    from .compose import create as build

    return build(kind, name, **options)


def upscale(
    image: Any,
    entry: str | Path,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    tile_batch: int = 1,
) -> Any:
    """Upscale a picture with a zoo entry, in tiles where it is large. See :func:`srzoo.upscaling.upscale`."""
    from .upscaling import upscale as run

    return run(image, entry, tile=tile, overlap=overlap, self_ensemble=self_ensemble, tile_batch=tile_batch)


def train(
    entry: str | Entry,
    out: str | Path | None = None,
    *,
    data: str | Sequence[str] | None = None,
    steps: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    log_every: int = 50,
    checkpoint_every: int = 500,
    keep: int = 2,
    track: str | Sequence[str] = (),
    progress: Callable[[str, int, int, Mapping[str, float]], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a zoo entry; run it again to go on with an interrupted run. See :func:`srzoo.training.train`."""
    from .training import train as run

    return run(
        entry,
        out,
        data=data,
        steps=steps,
        overrides=overrides,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        keep=keep,
        track=track,
        progress=progress,
        announce=announce,
    )


def bench(
    entries: str | Sequence[str] | None = None,
    data: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    **options: Any,
) -> BenchResult:
    """Benchmark zoo entries against each other. See :func:`srzoo.benchmark.bench`."""
    from .benchmark import bench as run

    return run(entries, data or None, metrics or None, **options)


def ablate(recipe: str | Path, budget: str, out: str | Path | None = None, **options: Any) -> AblationResult:
    """Make the table of an ablation; run it again to go on where it was. See :func:`srzoo.ablation.work.ablate`."""
    from .ablation.work import ablate as run

    return run(recipe, budget, out, **options)
