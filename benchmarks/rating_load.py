"""How long a rater waits for the word that an answer is on disk, while 26 raters answer at once.

    python benchmarks/rating_load.py [--raters 26] [--kills 0] [--pause 0.25] [--rounds 3] [--database URL] [--record]

Every rater has a thread and a connection over the loopback, takes ``--pause`` seconds between answers on average, which
is about ten times as fast as a person, changes one answer of ten and sends one of ten twice. With ``--kills`` the
server is killed with SIGKILL so many times meanwhile, and the waits of those who come back count as well. Every round
checks that no acknowledged answer is lost or doubled. Raters and server share the machine. Prints median, 95th
percentile and maximum of each round and, last, ``p95 answer MILLISECONDS``, the median of the rounds' percentiles; with
``--record`` all of it goes to ``benchmarks/results/rating_load.json`` with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import machine

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # whose raters these are


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what one round gave, in milliseconds."""
    from mos_load import rate_under_fire

    with tempfile.TemporaryDirectory() as scratch:
        load = arguments.raters, arguments.kills, arguments.pause
        seconds, answers = rate_under_fire(Path(scratch) / "study", arguments.database, *load, images=16)
    p50, p95 = (1000 * seconds[int(share * len(seconds))] for share in (0.5, 0.95))
    return {"answers": answers, "p50_ms": p50, "p95_ms": p95, "max_ms": 1000 * seconds[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=26)
    parser.add_argument("--kills", type=int, default=0, help="of the server with SIGKILL, each round")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between a rater's answers, on average")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", default="", help="URL of an empty PostgreSQL database; SQLite by default")
    parser.add_argument("--record", action="store_true", help="keep the figures in benchmarks/results")
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        found = measured(arguments)
        rounds.append(found)
        print(
            f"{found['answers']} answers: median {found['p50_ms']:.1f} ms, 95th percentile {found['p95_ms']:.1f} ms, "
            f"maximum {found['max_ms']:.0f} ms; load average {os.getloadavg()[0]:.1f}"
        )
    p95 = statistics.median(found["p95_ms"] for found in rounds)
    if arguments.record:
        settings = {name: getattr(arguments, name) for name in ("raters", "kills", "pause")}
        settings["database"] = "PostgreSQL" if arguments.database else "SQLite"
        kept = {"machine": machine(), "settings": settings, "p95_ms": p95, "rounds": rounds}
        path = HERE / "results" / f"{Path(__file__).stem}.json"
        path.write_text(json.dumps(kept, indent=2) + "\n")
        print(f"recorded in {path.relative_to(HERE.parent)}")
    print(f"p95 answer {p95:.1f}")


if __name__ == "__main__":
    main()
