"""Measuring two programs in turn, as one process tree: each is a worker that does a piece of work when told to.

A worker prints ``ready`` once it is warm. For every line it reads, it does one piece and prints a JSON object:
``{"work": units done, "seconds": ..., "peak_mib": ...}``.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PEERS = Path(os.environ.get("SRZOO_PEERS") or Path.home() / ".cache" / "srzoo" / "peers")
"""Where virtual environments of peers are kept."""


def serve(piece: Callable[[], float], values: Sequence[float] = ()) -> None:
    """Be a worker: ``piece`` does some work and returns its units.

    Args:
        values: results that the other side should have as well.
    """
    print("ready " + json.dumps(list(values)), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work = piece()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"work": work, "seconds": seconds, "peak_mib": peak}), flush=True)


class Worker:
    """A started worker."""

    def __init__(self, command: list[str], cwd: str | None = None, **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, **environment},
        )
        self.values: list[float] = json.loads(self._read("ready").removeprefix("ready"))

    def _read(self, wanted: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(wanted):
                return line
        raise SystemExit(f"a worker ended with {self._process.wait()} before it said {wanted!r}")

    def piece(self) -> dict[str, float]:
        """Have one piece of work done."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._read("{"))
        return found

    def close(self) -> None:
        """End the worker."""
        self._process.kill()
        self._process.wait()


def compare(name: str, own: Worker, peer: Worker, rounds: int) -> dict[str, Any]:
    """Let both work in turn, print rates and peak memory, and return them with the median ratio of rates."""
    rates: dict[str, list[float]] = {"srzoo": [], "peer": []}
    peaks = {"srzoo": 0.0, "peer": 0.0}
    for number in range(rounds):
        pairs = [("srzoo", own), ("peer", peer)]
        for label, worker in pairs if number % 2 == 0 else reversed(pairs):
            found = worker.piece()
            rates[label].append(found["work"] / found["seconds"])
            peaks[label] = max(peaks[label], found["peak_mib"])
    ratios = [a / b for a, b in zip(rates["srzoo"], rates["peer"], strict=True)]
    for label, values in rates.items():
        print(
            f"{name}: {label} {statistics.median(values):.3g} a second "
            f"({min(values):.3g} to {max(values):.3g}), peak {peaks[label]:.0f} MiB"
        )
    return {
        "name": name,
        "srzoo": statistics.median(rates["srzoo"]),
        "peer": statistics.median(rates["peer"]),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "peak_mib": peaks,
        "rounds": rounds,
    }


def peer_python(name: str, *requirements: str, build: tuple[str, ...] = ()) -> str:
    """Return the interpreter of a virtual environment that holds a peer, making it on first use.

    It sees the packages of this environment, so that both sides run on the same torch; what is installed into it is
    the peer alone, without its dependencies.
    """
    folder = PEERS / f"{name}-{platform.python_version()}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.is_file():
        venv.create(folder, clear=True, with_pip=True)
        (site,) = folder.glob("lib/python*/site-packages")
        own = [path for path in sys.path if path.endswith("site-packages")]
        (site / "own.pth").write_text("\n".join(own) + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        if build:
            subprocess.run([*pip, *build], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", *requirements], check=True)
        done.touch()
    return str(python)


def basicsr_python() -> str:
    """Return the interpreter of BasicSR 1.4.2, which is built from its source distribution."""
    own = ("addict", "future", "lmdb", "yapf", "opencv-python-headless")
    return peer_python("basicsr", "basicsr==1.4.2", *own, build=("setuptools>=70.1", "wheel", "cython"))


def machine() -> dict[str, Any]:
    """Return what a figure was measured on."""
    import torch

    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def record(script: str, results: list[dict[str, Any]]) -> None:
    """Write results beside the scripts, with the machine they came from."""
    path = Path(__file__).parent / "results" / f"{Path(script).stem}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    print(f"wrote {path}")
    for result in results:
        print(f"ratio {result['name']} {result['ratio']:.2f}")
