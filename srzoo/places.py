"""Where data and weights are looked for. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path


def data_root() -> Path | None:
    """Return the folder that dataset names are resolved under, ``SRZOO_DATA``; None where it is not set."""
    given = os.environ.get("SRZOO_DATA")
    return Path(given) if given else None


def weights_folders() -> list[Path]:
    """Return the folders searched for backbones, first hit wins.

    ``SRZOO_WEIGHTS`` (several separated by the system's path separator), ``weights`` beside the folder
    ``SRZOO_DATA`` names, then ``srzoo/weights`` in the user's cache.
    """
    folders = [Path(part) for part in os.environ.get("SRZOO_WEIGHTS", "").split(os.pathsep) if part]
    root = data_root()
    if root is not None:
        folders.append(root.parent / "weights")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return list(dict.fromkeys([*folders, cache / "srzoo" / "weights"]))


def fetched_path(sha256: str, folder: Path) -> Path:
    """Return where a weights folder keeps an entry's weights that were fetched: under their hash, not under a name."""
    return folder / "entries" / f"{sha256}.safetensors"
