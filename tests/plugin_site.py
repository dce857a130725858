"""Real distributions (a dist-info folder each) on sys.path, as pip would leave them."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from srzoo.plugins import PluginRecord, discover

FACTORY = "textwrap:TextWrapper"

_unique = itertools.count()


class Site:
    """A folder of installed distributions, as pip would leave it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, source: str, *, distribution: str = "", version: str = "1.0") -> str:
        """Install a distribution with one plugin module behind the entry point ``name``; return the module."""
        module = f"plugin_{next(_unique)}_{name.replace('-', '_')}"
        (self.folder / f"{module}.py").write_text(source, encoding="utf-8")
        distribution = distribution or f"dist-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        with (info / "entry_points.txt").open("a") as file:
            if file.tell() == 0:
                file.write("[srzoo]\n")
            file.write(f"{name} = {module}\n")
        importlib.invalidate_caches()
        return module

    def entry_points(self) -> list[metadata.EntryPoint]:
        found = metadata.distributions(path=[str(self.folder)])
        return [point for dist in found for point in dist.entry_points if point.group == "srzoo"]

    def discover(self) -> dict[str, PluginRecord]:
        return {record.name: record for record in discover(self.entry_points())}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the real command line with these distributions on sys.path."""
        return subprocess.run(
            [sys.executable, "-m", "srzoo", *arguments],
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "300", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def block_plugin(name: str = "mine") -> str:
    return plugin(f'srzoo.BlockSpec("{name}", "{FACTORY}", summary="A block")')


def plugin(returned: str, hook: str = "srzoo_blocks") -> str:
    return f"import srzoo\n\n@srzoo.hookimpl\ndef {hook}():\n    return [{returned}]\n"
