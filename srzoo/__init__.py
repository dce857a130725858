"""srzoo: a model zoo for super-resolution GANs whose every part is a plugin.

Importing this package imports no torch; the functions below do when they are called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import ablate, bench, create, create_generator, list_entries, train, upscale
    from .errors import SrzooError
    from .hookspecs import hookimpl
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
        WeightFile,
    )

    __version__: str

_HOME = {
    "hookimpl": "hookspecs",
    "SrzooError": "errors",
    **dict.fromkeys(("list_entries", "create_generator", "create", "upscale", "train", "bench", "ablate"), "api"),
    **dict.fromkeys(
        (
            "BlockSpec",
            "DatasetSpec",
            "DiscriminatorSpec",
            "ExtractorSpec",
            "GeneratorSpec",
            "LayoutSpec",
            "LossSpec",
            "MetricSpec",
            "UpsamplerSpec",
            "WeightFile",
        ),
        "specs",
    ),
}

__all__ = [
    "BlockSpec",
    "DatasetSpec",
    "DiscriminatorSpec",
    "ExtractorSpec",
    "GeneratorSpec",
    "LayoutSpec",
    "LossSpec",
    "MetricSpec",
    "SrzooError",
    "UpsamplerSpec",
    "WeightFile",
    "__version__",
    "ablate",
    "bench",
    "create",
    "create_generator",
    "hookimpl",
    "list_entries",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("srzoo")
    if name not in _HOME:
        raise AttributeError(f"module 'srzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
