"""A virtual environment of one's own that sees the libraries of the environment the tests run in."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path


class Environment:
    """A new virtual environment; torch and srzoo come from this one, what is installed goes into that one."""

    def __init__(self, folder: Path) -> None:
        venv.EnvBuilder(with_pip=False).create(folder)
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        packages = self._ask("import sysconfig; print(sysconfig.get_path('purelib'))")
        own = [path for path in sys.path if path and Path(path).is_dir() and Path(path) != Path(__file__).parent]
        (Path(packages) / "libraries.pth").write_text("\n".join(own) + "\n")

    def _ask(self, code: str) -> str:
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def run(self, line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a line as a reader of the docs would type it: ``srzoo``, ``pip install`` or ``pytest``."""
        program, *arguments = shlex.split(line)
        if program == "pip":  # this environment's pip, build backend and libraries, so that nothing is fetched
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
            command = [sys.executable, "-m", "pip", "--python", str(self.python), *arguments, *options]
        else:
            command = [str(self.python), "-m", program, *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "SRZOO_"))}
        environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "XDG_CACHE_HOME": str(cwd / ".cache")}
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
