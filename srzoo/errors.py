"""Every error srzoo raises on purpose.

The message of each says what was wrong, where, and what to write instead; the command line prints it
without a traceback and exits with ``exit_code``: 2 where the user's input was wrong, 1 where the run failed, and as
shells do, 128 and its number, where a signal stopped it.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class SrzooError(Exception):
    """Base class. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class InputError(SrzooError, ValueError):
    """Something the user wrote is wrong and can be written differently."""

    exit_code = 2


class UnknownNameError(InputError):
    """No component, entry, dataset or layer has this name."""


class AmbiguousNameError(InputError):
    """Several plugins register this name; ``owner/name`` picks one."""


class OptionError(InputError):
    """An option is unknown, missing or of the wrong type; ``option`` is its name."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class EntryError(InputError):
    """A zoo file or an override does not describe a valid entry."""


class CompositionError(InputError):
    """Parts that are each valid do not fit together."""


class DataError(InputError):
    """A dataset or an image cannot be found or read."""


class WeightsError(InputError):
    """A weight file is damaged or belongs to another model."""


class MissingWeightsError(WeightsError):
    """A weight file is not on this machine; the message says which file to put where."""


class MissingLibraryError(InputError):
    """An optional library is not installed; the message names the extra that brings it."""


class PluginError(SrzooError):
    """A plugin broke its contract while it was being used."""


class MemoryShortageError(SrzooError):
    """Memory does not suffice, even in the smallest parts that the work can be done in."""


class UndefinedScoreError(SrzooError, ValueError):
    """A metric is not defined for an image, for instance because it is smaller than the metric's window."""


class TrainingError(SrzooError):
    """A training run cannot go on."""


class InterruptedRunError(TrainingError):
    """A training run was asked to stop, by the signal of this name, and saved its state before it did."""

    def __init__(self, message: str, received: str = "SIGINT") -> None:
        super().__init__(message)
        self.exit_code = 128 + signal.Signals[received]


class PluginWarning(UserWarning):
    """A plugin was skipped because it is broken, or one that was asked for is not installed."""


class RecipeWarning(UserWarning):
    """A recipe is valid but known to train badly, or to give scores that mislead."""


class UpscaleWarning(UserWarning):
    """A picture was enlarged in tiles that may be told apart, or written with less than it held."""


def labelled(name: str, reason: str) -> str:
    """Return a reason with the name of what it is about before it, unless it begins with that."""
    return reason if reason.startswith(f"{name} ") else f"{name}: {reason}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x' or 'y'?"`` for the nearest known names, or an empty string."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if not close and len(name) > 2:  # 'lpips' for 'lpips_squeeze'
        close = sorted(other for other in names if other.startswith(name))[:3]
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(match) for match in close) + "?"
