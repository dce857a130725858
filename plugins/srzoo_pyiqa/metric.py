"""A metric of pyiqa, which fetches the weights of most of them when they are first built."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from srzoo.errors import MissingWeightsError, UndefinedScoreError
from srzoo.extras import import_extra

_TOO_SMALL = ("size", "small", "padding", "dimension", "window")
"""Words in errors of pyiqa and torch that say so of an image."""


class PyiqaMetric(nn.Module):
    """One metric: RGB (N, 3, H, W) in [0, 1] to (N,). Without a reference, the second image is not looked at.

    Raises:
        MissingLibraryError: pyiqa is not installed.
        MissingWeightsError: its weights are not here and cannot be fetched.
    """

    def __init__(self, name: str, full_reference: bool) -> None:
        super().__init__()
        pyiqa = import_extra("pyiqa", "pyiqa", f"pyiqa/{name} is")
        self.name, self.full_reference = name, full_reference
        try:
            with _quiet():
                self.metric: Any = pyiqa.create_metric(name, device=torch.device("cpu"))
        except Exception as error:  # whatever its many downloaders raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            folder = os.path.join(torch.hub.get_dir(), "pyiqa")
            raise MissingWeightsError(
                f"pyiqa/{name} is not available: its weights are not here, and pyiqa could not fetch them ({reason}). "
                f"Build it once where there is a network, and copy what it keeps under {folder}."
            ) from None

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """Return the score of each image.

        Raises:
            UndefinedScoreError: the images are too small for the metric, or it is not a number for them.
        """
        try:
            with _quiet():
                scores = self.metric(sr, hr) if self.full_reference else self.metric(sr)
        except (AssertionError, RuntimeError, ValueError) as error:
            if not isinstance(error, AssertionError) and not any(word in str(error).lower() for word in _TOO_SMALL):
                raise
            raise UndefinedScoreError(f"pyiqa/{self.name}: {error}") from None
        scores = torch.as_tensor(scores).float().reshape(sr.shape[0])
        if torch.isnan(scores).any():
            raise UndefinedScoreError(f"pyiqa/{self.name} is not a number for this image")
        return scores


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
