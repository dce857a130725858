"""Random crops for training, cut out of decoded images."""

from __future__ import annotations

import functools
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from .data import ImageItem, ImageSet
from .decoded import MappedStore, MemoryStore, Pair, cache_folder, cache_limit
from .errors import DataError, RecipeWarning, SrzooError
from .images import UInt8Array

if TYPE_CHECKING:
    from .recipe import Training

_BLEND = (1.2, 1.2)  # of Yoo et al. (arXiv:2004.00448, table 1): mostly even mixtures


class PatchDataset(Dataset[dict[str, torch.Tensor]]):
    """Random crops, flips and 90-degree rotations, each a pure function of seed and sample number.

    Sample ``k`` never depends on which worker, process or run draws it, so a resumed or distributed run sees
    the same crops as an uninterrupted single one. Every image comes once an epoch, in an order of its own.

    Files are decoded into a cache on disk (see :func:`cache_folder`); what does not fit into it, and images that
    are no files, into memory.

    Args:
        patch_size: side of the high-resolution crop in pixels, a multiple of the scale.
        multiscale: factors of at most 1; one, drawn for each sample, shrinks the whole image before the crop.
        permute_colours: probability that a crop's colour channels change places.
        mixup: probability that a crop is blended with one of an image drawn at random, by weights of Beta(1.2, 1.2).
        cache_bytes: memory for decoded images that are not cached on disk, of all sets and workers together.
        progress: called as ``progress(done, images)`` while files are decoded.

    Raises:
        DataError: no images; images that, shrunk by the smallest factor, are smaller than the patch; images that
            have low-resolution files of their own, which no factor but 1 fits; a damaged file.
    """

    def __init__(
        self,
        sets: Sequence[ImageSet],
        scale: int,
        patch_size: int,
        *,
        augment: bool = True,
        multiscale: Sequence[float] = (1.0,),
        permute_colours: float = 0.0,
        mixup: float = 0.0,
        seed: int = 0,
        cache_bytes: int = 4 << 30,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        assert patch_size % scale == 0
        self.scale, self.patch_size, self.augment, self.seed = scale, patch_size, augment, seed
        self.multiscale = tuple(multiscale)
        self.permute_colours, self.mixup = permute_colours, mixup
        self._refuse_misfits([item for image_set in sets for item in image_set])
        self._places: list[tuple[int, int]] = []  # of each image: its store, and its number there
        mapped: list[MappedStore | None] = [self._mapped(image_set) for image_set in sets]
        total = len(self.multiscale) * sum(len(s) for s, store in zip(sets, mapped, strict=True) if store is not None)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        for number, (image_set, found) in enumerate(zip(sets, mapped, strict=True)):
            if found is not None:
                try:
                    for factor in self.multiscale:
                        found.build(factor, advance)
                except OSError as error:  # no space, or no right to write there
                    self._warn(image_set, str(error))
                    mapped[number] = None
            self._places += [(number, place) for place in range(len(image_set))]
        in_memory = sum(len(own) for own, store in zip(sets, mapped, strict=True) if store is None)
        self._stores = [
            store or MemoryStore(own.items, scale, cache_bytes * len(own) // in_memory)
            for own, store in zip(sets, mapped, strict=True)
        ]

    def _refuse_misfits(self, items: Sequence[ImageItem]) -> None:
        if not items:
            raise DataError("there are no training images.")
        paired = next((item for item in items if self.scale in item.lr), None)
        if paired is not None and self.multiscale != (1.0,):
            raise DataError(
                f"training image {paired.name!r} comes with a low-resolution file, which fits the whole image only; "
                "set training.multiscale=[1.0], or train on a folder without LR_x folders."
            )

    def _mapped(self, image_set: ImageSet) -> MappedStore | None:
        """Check the sizes of a set's files, and return a store on disk if one can and may hold them."""
        needed = 0
        for item in image_set:
            if not isinstance(item.hr, Path):
                return None
            try:
                with Image.open(item.hr) as image:  # reads the header only
                    width, height = image.size
            except Exception:  # of a damaged file, which is named when it is decoded
                continue
            self._check_size(str(item.hr), width, height)
            needed += int(sum(3 * width * height * factor**2 for factor in self.multiscale) * (1 + 1 / self.scale**2))
        folder = cache_folder()
        store = MappedStore(image_set.items, self.scale, folder)
        limit = cache_limit()
        if limit > 0 and all(store.is_built(factor) for factor in self.multiscale):
            return store
        existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
        free = shutil.disk_usage(existing).free
        if limit > 0 and (needed > limit or needed > 0.9 * free):
            self._warn(image_set, f"would take {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free")
        return store if needed <= min(limit, 0.9 * free) else None

    def _warn(self, image_set: ImageSet, reason: str) -> None:
        warnings.warn(
            f"the decoded images of {image_set.name!r} are not kept in {cache_folder()}: {reason}. They are decoded "
            "anew as memory runs out, which is slow. SRZOO_CACHE names another folder, SRZOO_CACHE_GIB the limit.",
            RecipeWarning,
            stacklevel=4,
        )

    def _check_size(self, name: str, width: int, height: int) -> None:
        smallest = min(self.multiscale)
        side = round(min(width, height) * smallest) // self.scale * self.scale
        if side < self.patch_size:
            shrunk = f" shrunk by {smallest}" if smallest < 1 else ""
            enough = "training.multiscale=[1.0] or " if min(width, height) >= self.patch_size else ""
            raise DataError(
                f"training image {name!r} of {width}x{height}{shrunk} is smaller than the patch of "
                f"{self.patch_size}; set {enough}training.patch_size={side} or less, or take the image out."
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, sample: int) -> dict[str, torch.Tensor]:
        """Return ``{"lr": (3, p/scale, p/scale), "hr": (3, p, p)}``, uint8 RGB, for any sample number."""
        return {name: images[0] for name, images in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return a batch, (N, 3, p/scale, p/scale) and (N, 3, p, p) uint8 in channels-last memory.

        A ``DataLoader`` calls this once a batch; give it ``collate_fn=whole_batch``.
        """
        size = self.patch_size // self.scale
        lr = np.empty((len(samples), size, size, 3), np.uint8)
        hr = np.empty((len(samples), self.patch_size, self.patch_size, 3), np.uint8)
        for position, sample in enumerate(samples):
            lr[position], hr[position] = self._crop(sample)
        return {"lr": torch.from_numpy(lr).permute(0, 3, 1, 2), "hr": torch.from_numpy(hr).permute(0, 3, 1, 2)}

    def _crop(self, sample: int) -> Pair:
        epoch, position = divmod(sample, len(self._places))
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, sample], dtype=np.uint64)))
        lr, hr = self._draw(int(_permutation(len(self._places), self.seed, epoch)[position]), random)
        if self.mixup > 0 and random.random() < self.mixup:
            other = self._draw(int(random.integers(len(self._places))), random)
            share = random.beta(*_BLEND)
            lr, hr = _blend(lr, other[0], share), _blend(hr, other[1], share)
        return lr, hr

    def _draw(self, place: int, random: np.random.Generator) -> Pair:
        """Return a crop of one image, turned and flipped."""
        store, number = self._places[place]
        factor = self.multiscale[int(random.integers(len(self.multiscale)))]
        lr, hr = self._stores[store].get(number, factor)
        size = self.patch_size // self.scale
        if min(lr.shape[:2]) < size:  # not a file, so not checked before
            self._check_size(self._stores[store].name(number), round(hr.shape[1] / factor), round(hr.shape[0] / factor))
        top = int(random.integers(lr.shape[0] - size + 1))
        left = int(random.integers(lr.shape[1] - size + 1))
        lr = lr[top : top + size, left : left + size]
        top, left = top * self.scale, left * self.scale
        hr = hr[top : top + self.patch_size, left : left + self.patch_size]
        if self.augment:
            flip, turns = int(random.integers(2)), int(random.integers(4))
            lr, hr = _turn(lr, flip, turns), _turn(hr, flip, turns)
        if self.permute_colours > 0 and random.random() < self.permute_colours:
            order = random.permutation(3)
            lr, hr = lr[..., order], hr[..., order]
        return lr, hr


def patches_for(
    recipe: Training, sets: Sequence[ImageSet], scale: int, progress: Callable[[int, int], None] | None = None
) -> PatchDataset:
    """Return the crops that a recipe trains on; see :class:`PatchDataset`."""
    return PatchDataset(
        sets,
        scale,
        recipe.patch_size,
        augment=recipe.augment,
        multiscale=recipe.multiscale,
        permute_colours=recipe.permute_colours,
        mixup=recipe.mixup,
        seed=recipe.seed,
        progress=progress,
    )


class Reported(Dataset[Any]):
    """The batches of a dataset; where one cannot be read, the error instead.

    A worker process that raises one sends it as the text of a traceback.
    """

    def __init__(self, dataset: PatchDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, samples: Sequence[int]) -> dict[str, torch.Tensor] | SrzooError:
        try:
            return self._dataset.__getitems__(samples)
        except SrzooError as error:
            return error


Made = TypeVar("Made")


def whole_batch(batch: Made) -> Made:
    """Return a batch that :meth:`PatchDataset.__getitems__` made as it is."""
    return batch


def as_batch(crops: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return uint8 crops as networks want them: float32 in [0, 1]."""
    return {key: images.float().div_(255.0) for key, images in crops.items()}


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=np.array([seed, 2**63 + epoch], dtype=np.uint64))).permutation(
        count
    )


def _blend(image: UInt8Array, other: UInt8Array, share: float) -> UInt8Array:
    return np.rint(share * image + (1 - share) * other).astype(np.uint8)


def _turn(image: UInt8Array, flip: int, turns: int) -> UInt8Array:
    return np.rot90(image[:, ::-1] if flip else image, turns)


class StepSampler(Sampler[list[int]]):
    """Sample numbers of this process' share of each step's batch, from a given step on."""

    def __init__(self, start: int, stop: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        assert batch_size % world == 0
        self.start, self.stop, self.batch_size, self.rank, self.world = start, stop, batch_size, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world
        for step in range(self.start, self.stop):
            first = step * self.batch_size + self.rank * share
            yield list(range(first, first + share))
