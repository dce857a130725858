"""Making a study: every version of every image rendered once, by the inference that the benchmark has."""

from __future__ import annotations

import secrets
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image

from .. import __version__
from ..benchmark import listed
from ..compose import build_generator, output_network
from ..composition import composition_digest
from ..data import ImageItem, ImageSet, load_image_set
from ..errors import DataError, InputError
from ..images import UInt8Array, to_tensor
from ..inference import best_device, prepare
from ..picture_paths import REFERENCE
from ..plugins import OWN_DISTRIBUTION
from ..pretrained import Model, load_model
from ..ready import generator_spec
from ..scoring import upscaled
from ..zoo import get_zoo
from .plan import alternatives
from .study import (
    IMAGES,
    OPEN_RATERS,
    STUDY_FILE,
    Example,
    Mode,
    Question,
    Secret,
    Shown,
    Study,
    Version,
    new_token,
    save_study,
)

LOWEST = "nearest"
"""The entry that calibration shows as the lowest grade, as SRGAN's study did."""
DEFAULT_VERSIONS = ("hr", "nearest", "bicubic")
DEFAULT_SIZE = 512
EXAMPLES = 20
"""As many as SRGAN's raters were calibrated on, half of them lowest, half highest."""

Crop = Literal["detail", "centre", "random"]
CROPS: tuple[Crop, ...] = ("detail", "centre", "random")
Progress = Callable[[str, int, int], None]


def new_study(
    folder: str | Path,
    entries: str | Sequence[str],
    data: str | Sequence[str],
    *,
    versions: str | Sequence[str] = DEFAULT_VERSIONS,
    mode: Mode = "rating",
    question: Question = "nicer",
    size: int = DEFAULT_SIZE,
    crop: Crop = "detail",
    seed: int = 0,
    calibration: str = "photos",
    examples: int = EXAMPLES,
    repeats: int | None = None,
    trials: int | None = None,
    title: str = "",
    introduction: str = "",
    open_raters: int = OPEN_RATERS,
    database: str = "",
    progress: Progress | None = None,
) -> Study:
    """Make a study in a new folder.

    Args:
        entries: zoo entries, checkpoint files or run folders.
        data: datasets or folders.
        versions: further versions beside the entries; ``hr`` is the high-resolution image.
        size: the largest side shown, in pixels; larger images are cut, and no image is ever scaled.
        crop: which part of a larger image: where the high-resolution image has most detail, its centre, or a random
            one.
        calibration: dataset that the examples are of; it shares no image with ``data``.
        examples: how many, half of them lowest and half highest; 0 for none.
        repeats: how many trials are shown twice; a tenth of them by default.
        trials: how many each rater is asked at most; all by default.
        open_raters: how many raters there may be before nobody else may join through the open link.
        database: URL of a PostgreSQL database for raters and ratings; SQLite in the folder by default.
        progress: called as ``progress(what, done, all)``.

    Raises:
        InputError: the folder holds a study already; an entry, dataset or option is wrong.
        DataError: the database cannot be opened, or the folder not be written.
    """
    target = Path(folder)
    if (target / STUDY_FILE).exists():
        raise InputError(f"{target} holds a study already, whose ratings it would mix up; give another folder.")
    _check(mode, question, crop, size, examples, repeats, trials)
    image_sets = [load_image_set(name) for name in listed(data)]
    if not image_sets:
        raise InputError("Give at least one dataset.")
    models, labels = _models([*listed(entries), *listed(versions)])
    scale = next(iter(models.values())).entry.scale if models else 4
    if len(labels) < 2:
        raise InputError(f"A study compares at least two versions; there is only {labels[0] if labels else 'none'}.")
    if mode == "pair" and question == "closer" and REFERENCE not in labels:
        raise InputError("'closer' compares with the high-resolution image; add hr to the versions.")
    if database:
        from .database import check_database

        check_database(database)  # before minutes of rendering
    draw = Random(f"{seed} crops")
    with _folder_in_the_making(target) as made:
        renderer = _Renderer(made / IMAGES, models, scale, size, crop, draw)
        total = sum(map(len, image_sets)) + (examples + 1) // 2
        tick = _counter(progress, total)
        shown_examples = renderer.examples(load_image_set(calibration), image_sets, examples, tick) if examples else ()
        images = [shown for image_set in image_sets for shown in renderer.shown(image_set, labels, tick)]
        study = Study(
            id=secrets.token_hex(8),
            title=title.strip() or "Image quality study",
            mode=mode,
            question=question,
            seed=seed,
            scale=scale,
            versions=tuple(_version(label, models) for label in labels),
            images=tuple(images),
            calibration=tuple(shown_examples),
            examples=examples,
            repeats=0,
            trials=trials,
            introduction=introduction.strip(),
            open_raters=open_raters,
            srzoo=__version__,
        )
        asked = len(images) * len(alternatives(study))
        if not asked:
            raise InputError(
                "Nothing is left to ask: pairs need two versions beside the original they are compared to."
            )
        asked = min(asked, trials or asked)
        study = study.model_copy(update={"repeats": asked // 10 if repeats is None else min(repeats, asked)})
        save_study(made, study, Secret.draw(database))
    return study


def _check(
    mode: str, question: str, crop: str, size: int, examples: int, repeats: int | None, trials: int | None
) -> None:
    for what, value, known in (
        ("mode", mode, ("rating", "pair")),
        ("question", question, ("nicer", "closer")),
        ("crop", crop, CROPS),
    ):
        if value not in known:
            raise InputError(f"There is no {what} {value!r}; use {' or '.join(known)}.")
    if size < 32:
        raise InputError(f"Nobody can judge {size} pixels; give a size of at least 32.")
    if min(examples, repeats or 0) < 0 or (trials is not None and trials < 1):
        raise InputError("Examples and repeats must not be negative, and a rater is asked one trial at least.")


def _counter(progress: Progress | None, total: int) -> Callable[[str], None]:
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(what, min(done, total), total)

    return tick


def _models(names: Sequence[str]) -> tuple[dict[str, Model], list[str]]:
    """Return the models by label, all for one scale, and the labels of all versions in order.

    Interpolation has no weights, so it takes the scale of the others.
    """
    references = list(dict.fromkeys(REFERENCE if name.lower() == "hr" else name for name in names))
    models = {name: load_model(name) for name in references if name != REFERENCE}
    trained = {m.entry.scale: m.name for m in models.values() if generator_spec(m.entry).trainable}
    if len(trained) > 1:
        named = " and ".join(f"x{scale} ({name})" for scale, name in sorted(trained.items()))
        raise InputError(f"Images of different scales cannot be compared: {named}; make a study for each.")
    for name, model in models.items():
        if trained and model.entry.scale not in trained:
            models[name] = _at_scale(model, next(iter(trained)))
    labelled: dict[str, Model] = {}
    for model in models.values():
        if model.name in (*labelled, REFERENCE):
            raise InputError(f"Two versions are called {model.name!r}; rename one, since reports go by the name.")
        labelled[model.name] = replace(model, generator=prepare(model.generator, best_device()))
    return labelled, [REFERENCE if name == REFERENCE else models[name].name for name in references]


def _at_scale(model: Model, scale: int) -> Model:
    entry = model.entry.model_copy(update={"scale": scale})
    return replace(model, entry=entry, generator=output_network(entry, build_generator(entry).eval()))


def _version(label: str, models: Mapping[str, Model]) -> Version:
    if label == REFERENCE:
        return Version(label=label)
    model = models[label]
    digest = composition_digest(model.entry)
    return Version(label=label, configuration=digest, weights=model.digest, recipe=model.recipe, seed=model.seed)


class _Renderer:
    """Renders versions of images into PNG files of random names."""

    def __init__(
        self, folder: Path, models: Mapping[str, Model], scale: int, size: int, crop: Crop, draw: Random
    ) -> None:
        folder.mkdir()
        self._folder, self._models, self._scale = folder, models, scale
        self._size, self._crop, self._draw = size, crop, draw
        self._device = best_device()

    def shown(self, image_set: ImageSet, labels: Sequence[str], tick: Callable[[str], None]) -> Iterator[Shown]:
        """Yield every image of a set with all its versions on disk."""
        digests = {item.name: item.digest(self._scale) for item in image_set}
        whole = set_digest(digests)
        for item in image_set:
            lr, hr, _ = item.read_pair(self._scale)
            left, top, width, height = self._box(hr)
            cut = {
                label: self._version(label, lr, hr, item.name)[top : top + height, left : left + width]
                for label in labels
            }
            yield Shown(
                dataset=image_set.name,
                dataset_digest=whole,
                image=item.name,
                image_digest=digests[item.name],
                left=left,
                top=top,
                width=width,
                height=height,
                whole=(height, width) == hr.shape[:2],
                files=self._write(cut),
            )
            tick(f"{image_set.name} {item.name}")

    def examples(
        self, image_set: ImageSet, asked: Sequence[ImageSet], count: int, tick: Callable[[str], None]
    ) -> Iterator[Example]:
        """Return calibration images, none of which is asked about; where there are few, several parts of each.

        They are made as they are asked for; that there are some is checked at once.
        """
        known = {(s.name, item.name) for s in asked for item in s}
        known_files = {item.hr.resolve() for s in asked for item in s if isinstance(item.hr, Path)}
        items = [
            item
            for item in image_set
            if (image_set.name, item.name) not in known
            and not (isinstance(item.hr, Path) and item.hr.resolve() in known_files)
        ]
        if not items:
            raise InputError(
                f"All images of {image_set.name} are asked about; give other ones with --calibration, or --examples 0."
            )
        return self._examples(items, count, tick)

    def _examples(self, items: Sequence[ImageItem], count: int, tick: Callable[[str], None]) -> Iterator[Example]:
        lowest = self._models.get(LOWEST) or _prepared(load_model(get_zoo().own(LOWEST, OWN_DISTRIBUTION)), self._scale)
        for index in range((count + 1) // 2):
            yield self._example(items[index % len(items)], lowest, again=index >= len(items))
            tick("calibration")

    def _example(self, item: ImageItem, lowest: Model, again: bool) -> Example:
        lr, hr, _ = item.read_pair(self._scale)
        left, top, width, height = self._box(hr, "random" if again else self._crop)
        low = self._upscale(lowest, lr, item.name)
        cut = {name: pixels[top : top + height, left : left + width] for name, pixels in (("low", low), ("hr", hr))}
        files = self._write(cut)
        return Example(lowest=files["low"], highest=files["hr"])

    def _version(self, label: str, lr: UInt8Array, hr: UInt8Array, name: str) -> UInt8Array:
        return hr if label == REFERENCE else self._upscale(self._models[label], lr, name)

    def _upscale(self, model: Model, lr: UInt8Array, name: str) -> UInt8Array:
        sr = upscaled(model.generator, to_tensor(lr).to(self._device), self._scale, model.size_multiple, name)
        return sr[0].permute(1, 2, 0).cpu().numpy()

    def _box(self, hr: UInt8Array, crop: Crop | None = None) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the part that is shown; it is chosen by the original alone."""
        height, width = min(self._size, hr.shape[0]), min(self._size, hr.shape[1])
        free = hr.shape[1] - width, hr.shape[0] - height
        how = crop or self._crop
        if how == "random":
            return self._draw.randint(0, free[0]), self._draw.randint(0, free[1]), width, height
        if how == "centre" or not any(free):
            return free[0] // 2, free[1] // 2, width, height
        left, top = most_detailed(hr, width, height)
        return left, top, width, height

    def _write(self, pictures: Mapping[str, UInt8Array]) -> dict[str, str]:
        """Write versions of one image under random names, all of one size in bytes."""
        encoded = {}
        for label, pixels in pictures.items():
            buffer = BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
            encoded[label] = buffer.getvalue()
        bytes_each = max(map(len, encoded.values())) + PADDING_OVERHEAD
        files = {}
        for label, png in encoded.items():
            files[label] = f"{new_token()}.png"
            try:
                (self._folder / files[label]).write_bytes(padded_png(png, bytes_each))
            except OSError as error:
                raise DataError(f"Cannot write {self._folder}: {error}.") from error
        return files


def _prepared(model: Model, scale: int) -> Model:
    at_scale = model if model.entry.scale == scale else _at_scale(model, scale)
    return replace(at_scale, generator=prepare(at_scale.generator, best_device()))


def set_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a set by those of its images."""
    import hashlib

    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests.items()).encode()).hexdigest()


def most_detailed(rgb: UInt8Array, width: int, height: int) -> tuple[int, int]:
    """Return left and top of the window with the largest mean gradient of the luma.

    Args:
        rgb: (H, W, 3), at least of the window's size.
    """
    from scipy.ndimage import uniform_filter

    grey = rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    vertical, horizontal = np.gradient(grey)
    means = uniform_filter(np.hypot(vertical, horizontal), (height, width), mode="nearest")
    rows, columns = grey.shape[0] - height + 1, grey.shape[1] - width + 1
    inside = means[height // 2 : height // 2 + rows, width // 2 : width // 2 + columns]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return int(left), int(top)


PADDING_OVERHEAD = 12
"""Bytes of an empty PNG chunk: length, type and checksum."""


def padded_png(png: bytes, size: int) -> bytes:
    """Return a PNG of exactly ``size`` bytes: a private chunk of random bytes before its end makes up the rest.

    A file's size would betray its version: what nearest-neighbour interpolation gives compresses far better.

    Args:
        size: at least ``PADDING_OVERHEAD`` more than the PNG has.
    """
    data = secrets.token_bytes(size - len(png) - PADDING_OVERHEAD)
    kind = b"paDd"  # ancillary, private, safe to copy (PNG specification, 5.4)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


@contextmanager
def _folder_in_the_making(target: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the target's place when all went well, and vanishes otherwise."""
    made = target.with_name(f".{target.name}.making")
    try:
        if target.exists() and any(target.iterdir()):
            raise InputError(f"{target} is not empty; give a new folder for the study.")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        try:
            yield made
            if target.exists():
                target.rmdir()
            made.rename(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(f"Cannot make the study in {target}: {error}.") from error
