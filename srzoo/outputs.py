"""Outputs that a benchmark keeps to be looked at: some images of every dataset, one PNG for each model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from .data import ImageSet
from .errors import DataError
from .images import Picture, UInt8Array, write_picture
from .picture_paths import REFERENCE, Pictures, output_path
from .store import Question, Subject


class Outputs:
    """The folder ``pictures`` of a run.

    A file's name carries a digest of the model and the image, so that one of older weights is not taken for it.

    Args:
        folder: of the run.
        image_sets: what is benchmarked.
        wanted: number of images over all sets, taken at even distances; or ``(dataset, image)`` of each.
        anew: whether what an earlier run left is written again.
    """

    def __init__(
        self,
        folder: Path,
        image_sets: Sequence[ImageSet],
        wanted: int | Collection[tuple[str, str]],
        anew: bool = False,
    ) -> None:
        self._folder = folder
        self._done: set[Path] | None = set() if anew else None
        self._chosen = set(choose(image_sets, wanted) if isinstance(wanted, int) else wanted)

    def path(self, subject: Subject | None, question: Question) -> Path | None:
        """Return where a model's output of an image is kept, or with no model the reference; None if it is not."""
        if (question.dataset, question.image) not in self._chosen:
            return None
        if subject is None:
            return output_path(self._folder, question.dataset, question.image, question.image_digest)
        decisive = (subject.configuration, subject.weights, subject.precision)
        return output_path(
            self._folder, question.dataset, question.image, question.image_digest, subject.label, decisive
        )

    def there(self, subjects: Sequence[Subject], questions: Sequence[Question]) -> Pictures:
        """Return the files that are there: dataset to image to label or ``REFERENCE``."""
        found: Pictures = {}
        for question in questions:
            for subject in (None, *subjects):
                path = self.path(subject, question)
                if path is not None and path.is_file():
                    label = subject.label if subject is not None else REFERENCE
                    found.setdefault(question.dataset, {}).setdefault(question.image, {})[label] = path
        return found

    def is_missing(self, subject: Subject | None, question: Question) -> bool:
        """Whether an output is to be kept and is not there yet."""
        path = self.path(subject, question)
        return path is not None and not self._is_done(path)

    def _is_done(self, path: Path) -> bool:
        return path.is_file() and (self._done is None or path in self._done)

    def keep(
        self, subject: Subject | None, question: Question, pixels: torch.Tensor | UInt8Array, anew: bool = False
    ) -> None:
        """Write an output, (1, 3, H, W) or (H, W, 3) uint8, if it is one of those that are kept.

        Args:
            anew: in place of one that is there.

        Raises:
            DataError: it cannot be written.
        """
        path = self.path(subject, question)
        if path is None or (self._is_done(path) and not anew):
            return
        rgb = pixels[0].permute(1, 2, 0).cpu().numpy() if isinstance(pixels, torch.Tensor) else pixels
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error}.") from error
        write_picture(Picture(rgb), path)
        if self._done is not None:
            self._done.add(path)


def choose(image_sets: Sequence[ImageSet], count: int) -> list[tuple[str, str]]:
    """Return ``(dataset, image)`` of at most ``count`` images: as many of each set, at even distances."""
    found = []
    remaining = count
    for number, image_set in enumerate(image_sets):
        share = min(len(image_set), -(-remaining // (len(image_sets) - number)))
        remaining -= share
        found += [(image_set.name, image_set.items[index * len(image_set) // share].name) for index in range(share)]
    return found
