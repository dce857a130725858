"""Changes that make a recipe one of seconds, for tests that train."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "generator.num_features": 8,
    "generator.num_blocks": 1,
    "training.patch_size": 32,
    "training.batch_size": 2,
    "training.precision": "fp32",
    "training.multiscale": [1.0],
    "training.validation": None,
}
"""Of any entry with a trunk."""

TINY_GAN: dict[str, Any] = {
    **TINY,
    "discriminator": {"name": "srgan", "num_features": 4, "dense_features": 8},
    "training.start_from": None,
    "training.stages.gan.losses.perceptual": None,
}
"""Of an entry with a stage ``gan``: no weights to start from and no backbone are needed."""
