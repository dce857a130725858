"""How long ``srzoo list`` takes against ``import torch`` alone, in turn, as whole processes.

    python benchmarks/startup.py [REPEATS]

Prints the median of each and, last, ``ratio srzoo-list/import-torch VALUE``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "srzoo-list": [sys.executable, "-m", "srzoo", "list"],
    "import-torch": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repeat in range(repeats + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if repeat > 0:  # the first fills the file cache
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name}: median {statistics.median(values):.3f} s of {repeats}")
    ratios = [a / b for a, b in zip(seconds["srzoo-list"], seconds["import-torch"], strict=True)]
    print(f"ratio srzoo-list/import-torch {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
