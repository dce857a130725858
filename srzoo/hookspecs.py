"""The hooks a plugin implements. This page is the whole contract.

A plugin is a module (or object) behind an entry point of group ``srzoo``. It implements any of these hooks
with ``@srzoo.hookimpl``. A hook takes no arguments, *returns a list*, and is pure and cheap: it imports no
torch and builds nothing. The spec classes are described in :mod:`srzoo.specs`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pluggy

from .specs import (
    BlockSpec,
    DatasetSpec,
    DiscriminatorSpec,
    ExtractorSpec,
    GeneratorSpec,
    LayoutSpec,
    LossSpec,
    MetricSpec,
    UpsamplerSpec,
)

hookspec = pluggy.HookspecMarker("srzoo")
hookimpl = pluggy.HookimplMarker("srzoo")


@hookspec
def srzoo_generators() -> Sequence[GeneratorSpec]:  # type: ignore[empty-body]
    """Return generators: networks that map a low-resolution image to a high-resolution one."""


@hookspec
def srzoo_blocks() -> Sequence[BlockSpec]:  # type: ignore[empty-body]
    """Return trunk blocks: every block works in every generator that has a ``block`` slot."""


@hookspec
def srzoo_upsamplers() -> Sequence[UpsamplerSpec]:  # type: ignore[empty-body]
    """Return upsamplers: the part of a generator that enlarges the feature maps."""


@hookspec
def srzoo_discriminators() -> Sequence[DiscriminatorSpec]:  # type: ignore[empty-body]
    """Return discriminators: networks that score images as real or generated, as logits."""


@hookspec
def srzoo_losses() -> Sequence[LossSpec]:  # type: ignore[empty-body]
    """Return loss terms: pixel, perceptual, adversarial, or regularisers of the discriminator."""


@hookspec
def srzoo_extractors() -> Sequence[ExtractorSpec]:  # type: ignore[empty-body]
    """Return feature extractors: pretrained backbones for perceptual losses."""


@hookspec
def srzoo_metrics() -> Sequence[MetricSpec]:  # type: ignore[empty-body]
    """Return metrics: what the benchmark measures between an output and its reference."""


@hookspec
def srzoo_datasets() -> Sequence[DatasetSpec]:  # type: ignore[empty-body]
    """Return datasets that are known by name wherever a dataset is asked for."""


@hookspec
def srzoo_layouts() -> Sequence[LayoutSpec]:  # type: ignore[empty-body]
    """Return layouts: how other programs name a generator's tensors, so that checkpoints are read and written."""


@hookspec
def srzoo_entries() -> Sequence[str | os.PathLike[str]]:  # type: ignore[empty-body]
    """Return paths of zoo files (YAML), relative to the plugin's own file or absolute; their entries join the zoo."""


@hookspec
def srzoo_ablations() -> Sequence[str | os.PathLike[str]]:  # type: ignore[empty-body]
    """Return paths of ablation recipes (YAML), as of zoo files; ``srzoo ablate`` knows each by its file's stem."""
