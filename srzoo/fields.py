"""What all typed models of a zoo file are made of: strict scalars, and a base that refuses unknown keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field, Strict
from pydantic_core import PydanticCustomError

from .errors import did_you_mean

# Scalars are strict ("16" is no integer, 1 no boolean); a YAML list may fill a tuple.
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
PositiveInt = Annotated[int, Strict(), Field(gt=0)]
PositiveFloat = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1)]
Probability = Annotated[float, Strict(), Field(ge=0, le=1)]


class Model(pydantic.BaseModel):
    """Frozen; an unknown key is an error that names the near miss."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}'.{near} Keys here: {known}",
                        {
                            "key": str(key),
                            "near": did_you_mean(str(key), cls.model_fields),
                            "known": ", ".join(cls.model_fields),
                        },
                    )
        return data

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON of this model, as hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def split_options(data: Mapping[str, Any], own: tuple[Text, ...]) -> dict[str, Any]:
    """Return what a model takes: its own keys, and all others as its options."""
    options = {key: value for key, value in data.items() if key not in own}
    return {**{key: data[key] for key in own if key in data}, "options": options}
