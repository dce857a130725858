"""Scalars and images to TensorBoard or another of Accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, filter_trackers

from .data import ImageItem
from .errors import InputError, did_you_mean
from .images import to_tensor, to_uint8, upscale_bicubic

_CROP = 192
"""Side of the logged comparison, in high-resolution pixels."""


class Tracking:
    """The trackers of a run, a context that finishes what they have buffered; without any, every call does nothing.

    Args:
        start: steps that a resumed run has behind it.

    Raises:
        InputError: there is no such tracker, or its package is not installed.
    """

    def __init__(self, accelerator: Accelerator, names: Sequence[str], folder: Path, start: int = 0) -> None:
        known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
        for name in names:
            if name not in known:
                raise InputError(f"There is no tracker {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
            if not filter_trackers([name], str(folder)):
                raise InputError(f"The tracker {name!r} needs its package: pip install {name.replace('_', '-')}.")
        self._accelerator = accelerator
        self._trackers: list[GeneralTracker] = []
        if names and accelerator.is_main_process:
            for name in names:
                made: Any = LOGGER_TYPE_TO_CLASS[name]
                arguments = (folder.name, folder) if made.requires_logging_directory else (folder.name,)
                # What TensorBoard has of later steps is about to be done again.
                options = {"purge_step": start + 1} if name == "tensorboard" else {}
                tracker = made(*arguments, **options)
                if hasattr(tracker, "start"):
                    tracker.start()
                self._trackers.append(tracker)

    def losses(
        self, step: int, values: Mapping[str, float], shares: Mapping[str, float], rates: Mapping[str, float]
    ) -> None:
        """Log a step's terms, their gradient shares and the learning rates."""
        scalars = {f"losses/{label}": value for label, value in values.items()}
        scalars |= {f"gradient shares/{label}": value for label, value in shares.items()}
        scalars |= {f"learning rates/{label}": value for label, value in rates.items()}
        for tracker in self._trackers:
            tracker.log(scalars, step=step)

    def scores(
        self,
        step: int,
        scores: Mapping[str, float],
        shown: Mapping[str, tuple[ImageItem, torch.Tensor]],
        scale: int,
    ) -> None:
        """Log validation scores and, of each set, its first image: bicubic, output and reference side by side."""
        for tracker in self._trackers:
            tracker.log({f"validation/{name}": value for name, value in scores.items()}, step=step)
            if hasattr(tracker, "log_images"):
                pictures = {
                    f"{name}/{item.name}: bicubic, output, reference": side_by_side(item, sr, scale)[None]
                    for name, (item, sr) in shown.items()
                }
                # TensorBoard has to be told the order of axes that the others expect.
                order = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images(pictures, step=step, **order)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *error: object) -> None:
        for tracker in self._trackers:
            tracker.finish()


def side_by_side(item: ImageItem, sr: torch.Tensor, scale: int, side: int = _CROP) -> np.ndarray[Any, Any]:
    """Return the middle of bicubic interpolation, output and reference beside each other, (H, 3*W, 3) uint8.

    Args:
        sr: the output, (1, 3, H, W) uint8.
    """
    lr, hr, _ = item.read_pair(scale)
    bicubic = to_uint8(upscale_bicubic(to_tensor(lr), scale))
    output = sr[0].permute(1, 2, 0).cpu().numpy()
    height, width = hr.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    region = np.s_[top : top + side, left : left + side]
    return np.concatenate([image[region] for image in (bicubic, output, hr)], axis=1)
