"""Optional libraries, imported where they are used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from types import ModuleType

from .errors import MissingLibraryError


def is_installed(module: str) -> bool:
    """Whether a module, ``package.module``, can be found; its package is imported to look."""
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # the package above it is not here, is none, or cannot be imported
        return False


def import_extra(module: str, extra: str, owner: str) -> ModuleType:
    """Import an optional library, keeping what it prints and warns of to itself.

    Args:
        extra: of srzoo that brings it.
        owner: what needs it, for the message.

    Raises:
        MissingLibraryError: it is not installed, or cannot be imported; the message names the extra.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        why = "is not installed" if error.name == module else f"cannot be imported ({error})"
        raise MissingLibraryError(f"{owner} not available: {module} {why}; pip install 'srzoo[{extra}]'.") from None
