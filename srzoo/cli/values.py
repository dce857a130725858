"""Values of options that several commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..protocol import Protocol


def checked_protocol(name: str) -> Protocol:
    """Return a protocol by name, or say which there are."""
    from ..protocol import PROTOCOLS

    for protocol in PROTOCOLS:
        if protocol == name:
            return protocol
    raise InputError(f"There is no protocol {name!r}; use {', '.join(PROTOCOLS)}.")


def split_names(values: list[str] | None) -> list[str]:
    """Split comma-separated values of an option that may also repeat.

    Raises:
        InputError: there are values, and none says anything, as of a shell variable that is not set.
    """
    found = [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
    if values and not found:
        raise InputError("An option that takes names was given none; leave it out for its default.")
    return found
