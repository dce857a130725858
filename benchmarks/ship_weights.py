"""Put the weights of runs beside the zoo file, rounded to fp16, with their logs, and print what zoo.yaml says of them.

python benchmarks/ship_weights.py runs/srresnet-distilled-x4

A file of half the size gives the same scores to three digits; ``srzoo verify`` tells for each. A weight file alone may
be given in place of a run's folder, such as one that is shipped in fp32.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from srzoo.weights import file_sha256, read_checkpoint, save_checkpoint

WEIGHTS = Path(__file__).parents[1] / "plugins" / "srzoo_zoo" / "weights"


def ship(source: Path) -> None:
    """Write a run's, or a file's, weights as fp16 and print the lines of its entry."""
    (file,) = [source] if source.is_file() else source.glob("*.safetensors")
    tensors, description = read_checkpoint(file)
    rounded = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if not all(torch.isfinite(tensor).all() for tensor in rounded.values()):
        raise SystemExit(f"{file}: some values are too large for fp16; ship it as it is.")
    target = WEIGHTS / f"{description['entry']}.safetensors"
    save_checkpoint(target, rounded, description)
    print(f"{description['entry']}, {target.stat().st_size / 2**20:.2f} MiB:")
    print(f"  weights:\n    file: weights/{target.name}\n    sha256: {file_sha256(target)}\n    licence: Apache-2.0")
    log = source / "log.jsonl"
    if log.is_file():
        shutil.copyfile(log, target.with_suffix(".jsonl"))
        last = [json.loads(line) for line in log.read_text().splitlines() if '"losses"' in line][-1]
        print(f"  recorded:\n    command: srzoo train {description['entry']}")
        print(f"    seed: {description['training']['seed']}\n    log: weights/{target.stem}.jsonl")
        print(f"    steps: {last['step']}\n    hours: {last['seconds'] / 3600:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="+", type=Path, help="folder of a run, or a weight file")
    for source in parser.parse_args().source:
        ship(source)


if __name__ == "__main__":
    main()
