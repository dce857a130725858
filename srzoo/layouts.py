"""How other programs name the tensors of a generator: what a layout is, and asking for what tensors cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InputError, did_you_mean

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Ask:
    """Stands in a composition for what tensors cannot tell.

    Args:
        published: the value that the published code has; offered, never assumed.
        meaning: a few words on what it is.
    """

    published: Any
    meaning: str


class Layout(Protocol):
    """What the factory of a :class:`srzoo.LayoutSpec` returns."""

    def composition(self, tensors: Tensors) -> dict[str, Any]:
        """Return what the tensors are the weights of: ``{"scale": 4, "generator": {"name": ..., options}}``.

        An option that tensors cannot tell is an :class:`Ask`. A key ``values`` holds those that :meth:`read` needs.

        Raises:
            srzoo.errors.WeightsError: the generator has something that no registered part has; says what.
        """

    def names(self, composition: Mapping[str, Any]) -> dict[str, str]:
        """Return our names of layers to theirs, without ``.weight`` and ``.bias``, for a composition of all options.

        Raises:
            ValueError: this layout cannot stand for the composition; says why.
        """

    def read(self, tensors: Tensors, values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the tensors under their own names, with values as our generator has them."""

    def write(self, tensors: Tensors, composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return tensors under their names with values, and what else belongs in, as the other program has them."""


class PlainLayout:
    """A layout whose values are ours; a base for most."""

    def read(self, tensors: Tensors, values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the tensors as they are."""
        return dict(tensors)

    def write(self, tensors: Tensors, composition: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the tensors as they are."""
        return dict(tensors)


def renamed(tensors: Tensors, names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return tensors with the layer's part of each name replaced; names of other layers are kept."""
    result = {}
    for name, tensor in tensors.items():
        layer, dot, parameter = name.rpartition(".")
        result[f"{names.get(layer, layer)}{dot}{parameter}"] = tensor
    return result


def asks_in(composition: Any, prefix: str = "") -> Iterator[tuple[str, Ask]]:
    """Yield the dotted key of everything in a composition that is to be asked for."""
    if isinstance(composition, Ask):
        yield prefix, composition
    elif isinstance(composition, Mapping):
        for key, value in composition.items():
            yield from asks_in(value, f"{prefix}.{key}" if prefix else str(key))


def answered(composition: Mapping[str, Any], answers: Mapping[str, Any], published: bool, source: str) -> Any:
    """Return a composition in which every :class:`Ask` is replaced by its answer.

    Args:
        answers: by dotted key, or by its last part, which then answers all keys that end so.
        published: take the published values for what is not answered.
        source: what the composition was read from, for messages.

    Raises:
        InputError: something is not answered, or an answer is to nothing that was asked.
    """
    asks = dict(asks_in(composition))
    words = sorted({key.rpartition(".")[2] for key in asks})
    for key in answers:
        if key not in asks and key not in words:
            told = f"It asks for {', '.join(words)}." if words else "Its tensors tell everything."
            raise InputError(f"{source}: nothing is asked about {key!r}.{did_you_mean(key, [*words, *asks])} {told}")
    open_: dict[str, Ask] = {}
    for key, ask in asks.items():
        word = key.rpartition(".")[2]
        if key not in answers and word not in answers and not published:
            open_.setdefault(word, ask)
    if open_:
        lines = "; ".join(f"{word}, {ask.meaning}: {ask.published!r} as published" for word, ask in open_.items())
        write = " ".join(f"--option {word}={_written(ask.published)}" for word, ask in open_.items())
        raise InputError(
            f"{source}: tensors cannot tell {lines}. Write {write}, with the values it was trained with, or "
            "--published to take the published ones."
        )
    return _filled(composition, answers, "")


def _filled(value: Any, answers: Mapping[str, Any], key: str) -> Any:
    if isinstance(value, Ask):
        return answers.get(key, answers.get(key.rpartition(".")[2], value.published))
    if isinstance(value, Mapping):
        return {name: _filled(below, answers, f"{key}.{name}" if key else str(name)) for name, below in value.items()}
    return value


def _written(value: Any) -> str:
    text = str(value)
    return f"'{text}'" if " " in text else text
