"""What a study is: versions, images and calibration examples, fixed when it is made. Needs no torch.

A study is a folder:

==============  ==========================================================================================
``study.json``  this module's :class:`Study`; says which file is which version, so raters must not see it
``secret.json`` tokens and the key that names are drawn from; readable by its owner only
``images/``     one PNG for each version of each image, under random names
``mos.sqlite``  raters and ratings, unless they live in a PostgreSQL database
==============  ==========================================================================================
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import DataError, InputError
from ..picture_paths import REFERENCE

STUDY_FILE = "study.json"
SECRET_FILE = "secret.json"
IMAGES = "images"
DATABASE_FILE = "mos.sqlite"
DATABASE_VARIABLE = "SRZOO_MOS_DATABASE"

OPEN_RATERS = 500
"""How many there may be before nobody else may join through the open link, which may have got around."""

Mode = Literal["rating", "pair"]
Question = Literal["nicer", "closer"]

SCALE = {1: "Bad", 2: "Poor", 3: "Fair", 4: "Good", 5: "Excellent"}
"""The five-grade quality scale of ITU-R BT.500 and of SRGAN's study (arXiv:1609.04802, sec. 3.3)."""


Model = TypeVar("Model", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Frozen):
    """One version of every image: an entry, or the high-resolution original.

    Attributes:
        label: how reports name it; ``HR`` for the original.
        configuration, weights, recipe, seed: as in :class:`srzoo.store.Subject`.
    """

    label: str
    configuration: str = ""
    weights: str = ""
    recipe: str = ""
    seed: int | None = None

    @property
    def is_reference(self) -> bool:
        """Whether it is the high-resolution original."""
        return self.label == REFERENCE


class Shown(_Frozen):
    """One image as raters see it.

    Attributes:
        left, top, width, height: the part of the high-resolution image that is shown, in pixels.
        whole: whether that is all of it.
        files: version's label to its file in ``images/``.
    """

    dataset: str
    dataset_digest: str
    image: str
    image_digest: str
    left: int
    top: int
    width: int
    height: int
    whole: bool
    files: dict[str, str]


class Example(_Frozen):
    """An image to calibrate raters with: the file of its worst and of its best version."""

    lowest: str
    highest: str


class Study(_Frozen):
    """A study as it was made; nothing here changes afterwards.

    Attributes:
        id: random; tells the studies of one database apart.
        mode: ``rating`` (one image, 1 to 5) or ``pair`` (which of two).
        question: of pairs: ``nicer``, or ``closer`` to the original, which is then shown as well.
        trials: how many a rater is asked, without examples and repeats; None asks all.
        repeats: how many of them are shown a second time, for each rater's consistency.
        examples: how many calibration examples are shown before.
        introduction: text for raters, paragraphs separated by empty lines.
        open_raters: how many raters there may be before nobody else may join through the open link.
    """

    format: Literal[1] = 1
    id: str
    title: str
    mode: Mode
    question: Question = "nicer"
    seed: int
    scale: int
    versions: tuple[Version, ...] = Field(min_length=2)
    images: tuple[Shown, ...] = Field(min_length=1)
    calibration: tuple[Example, ...] = ()
    examples: int = 20
    repeats: int = 0
    trials: int | None = None
    introduction: str = ""
    open_raters: int = Field(default=OPEN_RATERS, ge=0)
    srzoo: str = ""

    @property
    def rated(self) -> tuple[int, ...]:
        """Indices of the versions that answers are about: without the original where it is the yardstick."""
        return tuple(
            i for i, version in enumerate(self.versions) if not (self.shows_reference and version.is_reference)
        )

    @property
    def shows_reference(self) -> bool:
        """Whether the original stands beside what is asked about."""
        return self.mode == "pair" and self.question == "closer"

    def file(self, image: int, version: int) -> str:
        """Return the file of one version of one image."""
        return self.images[image].files[self.versions[version].label]

    def reference(self, image: int) -> str:
        """Return the file of an image's original, which the study must have."""
        return self.images[image].files[REFERENCE]


class Secret(_Frozen):
    """What only the person who runs the study may know.

    Attributes:
        admin: token of the page about the study.
        open: token of the open link.
        key: that names of stimuli are drawn from, hexadecimal.
        database: URL; empty for SQLite in the study's folder.
    """

    admin: str
    open: str
    key: str
    database: str = ""

    @classmethod
    def draw(cls, database: str = "") -> Secret:
        """Return new random tokens of 128 bits, and a key of 256."""
        return cls(admin=new_token(), open=new_token(), key=secrets.token_hex(32), database=database)

    def stimulus(self, rater: int, position: int, part: int) -> str:
        """Return the name that an image is served under, another one for every rater, position and part.

        It is a keyed hash (HMAC-SHA256), so that it says nothing to whoever lacks the key.
        """
        text = f"{rater} {position} {part}".encode()
        digest = hmac.digest(bytes.fromhex(self.key), text, "sha256")
        return base64.urlsafe_b64encode(digest[:15]).decode("ascii")


def new_token() -> str:
    """Return a random name of 128 bits, fit for a URL."""
    return secrets.token_urlsafe(16)


def load_study(folder: str | os.PathLike[str]) -> tuple[Study, Secret]:
    """Return the study in a folder, and its secret.

    Raises:
        InputError: the folder holds no study.
        DataError: its files are damaged.
    """
    path = Path(folder)
    if not (path / STUDY_FILE).is_file():
        raise InputError(f"{folder} holds no {STUDY_FILE}; 'srzoo mos new {folder} --entries ...' makes a study.")
    return _read(Study, path / STUDY_FILE), _read(Secret, path / SECRET_FILE)


def save_study(folder: Path, study: Study, secret: Secret) -> None:
    """Write both files into a folder that holds the images already; they are on disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    for name, content, mode in ((STUDY_FILE, study, 0o666), (SECRET_FILE, secret, 0o600)):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())  # without the key, ratings that are on disk say nothing


def _read(model: type[Model], path: Path) -> Model:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    except (ValueError, ValidationError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path} is damaged or of a newer srzoo: {what}.") from None
