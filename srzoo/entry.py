"""Typed, frozen models of a zoo entry: its composition, and what is recorded of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, Strict
from pydantic_core import PydanticCustomError

from .fields import Model, NonNegative, PositiveInt, Text, split_options
from .options import SLOTS
from .recipe import Training

PACKAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}( [A-Za-z0-9.+!_-]{1,50})?$"
"""A package as it is named to people: its name, and its version if that is known."""
Package = Annotated[str, Strict(), Field(pattern=PACKAGE)]


class ComponentRef(Model):
    """A component by name with its options; written ``rrdb`` or ``{name: rrdb, growth: 32}``."""

    name: Text
    options: dict[str, Any] = {}

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> ComponentRef:
        """Return a reference to a component with options."""
        return cls.model_validate({**options, "name": name})

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, Mapping):
            return split_options(data, ("name",))
        return data

    @pydantic.model_serializer
    def flat(self) -> dict[str, Any]:
        """Return the mapping a zoo file would hold."""
        return {"name": self.name, **self.options}


class WeightsRef(Model):
    """The weight file of an entry.

    Args:
        file: path relative to the zoo file.
        sha256: digest of the file; checked on every load.
        url: where ``srzoo weights pull`` gets the file if it is not beside the zoo file; never fetched unasked.
    """

    file: Text
    sha256: Annotated[str, Strict(), Field(pattern=r"^[0-9a-f]{64}$")]
    url: Text = ""
    licence: Text = ""

    @pydantic.field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        if file.startswith(("/", "\\", "~")) or ".." in file.replace("\\", "/").split("/") or ":" in file:
            raise ValueError("must be a path below the zoo file's folder")
        return file


class Recorded(Model):
    """What a training run and a benchmark of the shipped weights gave, as it came out.

    Args:
        log: file of the run's log, relative to the zoo file.
        seed: that it was trained with.
        scores: dataset to metric to mean value, under ``protocol``.
    """

    command: Text = ""
    seed: Annotated[int, Strict(), Field(ge=0)] | None = None
    log: Text = ""
    device: Text = ""
    date: Text = ""
    steps: PositiveInt | None = None
    hours: NonNegative | None = None
    protocol: Literal["y", "y-matlab", "rgb"] = "y"
    scores: dict[str, dict[str, Annotated[float, Strict()]]] = {}


class Entry(Model):
    """One entry of the zoo: a composition and, where it is trained, its recipe and weights.

    Args:
        self_ensemble: whether its output is the mean over the eight flips and quarter turns of the input
            (arXiv:1707.02921, sec. 4.3), at eight times the cost; what is trained is the generator alone.
        requires: packages that bring its parts, ``name`` or ``name version``, for whoever has them not.
    """

    name: Text
    summary: Text
    paper: Text = ""
    scale: PositiveInt = 4
    generator: ComponentRef
    self_ensemble: bool = False
    discriminator: ComponentRef | None = None
    training: Training | None = None
    weights: WeightsRef | None = None
    recorded: Recorded | None = None
    requires: tuple[Package, ...] = ()

    @pydantic.model_serializer(mode="wrap")
    def _leave_out_what_is_not_asked_for(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave entries without these as they were before there were any, so that their runs go on."""
        asked = {"requires": self.requires, "self_ensemble": self.self_ensemble}
        return {key: value for key, value in serialise(self).items() if asked.get(key, True)}

    @pydantic.model_validator(mode="after")
    def _check(self) -> Entry:
        if self.training is not None and self.training.patch_size % self.scale:
            raise PydanticCustomError(
                "misfit",
                "{size} is not a multiple of the scale {scale}",
                {"path": "training.patch_size", "size": self.training.patch_size, "scale": self.scale},
            )
        return self

    def composition(self) -> dict[str, Any]:
        """Return what decides the generator's function: scale and generator with its options."""
        return {"scale": self.scale, "generator": self.generator.flat()}


def diff_entries(left: Entry, right: Entry) -> list[tuple[str, Any, Any]]:
    """Return ``(dotted key, left value, right value)`` wherever two entries differ; None for a missing key."""
    flat_left, flat_right = _flatten(left.model_dump(mode="json")), _flatten(right.model_dump(mode="json"))
    keys = [*flat_left, *(key for key in flat_right if key not in flat_left)]
    return [(key, flat_left.get(key), flat_right.get(key)) for key in keys if flat_left.get(key) != flat_right.get(key)]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if key in SLOTS and isinstance(item, str):
            item = {"name": item}
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat
