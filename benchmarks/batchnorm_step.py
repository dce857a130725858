"""What batch normalisation takes of a training step: ablations' generators with and without it, in turn.

    python benchmarks/batchnorm_step.py [SECONDS]

A step is what the ablations' tables call one: forward and backward of the generator with a batch of its recipe, in the
precision it trains in there. With and without take turns, SECONDS of each (30), so whatever else the machine does slows
both. Prints, last for each, ``ratio NAME VALUE``: time with batch normalisation to time without.
"""

from __future__ import annotations

import sys

from turns import record

from srzoo.ablation.estimate import measure_steps
from srzoo.ablation.plan import make_plan
from srzoo.ablation.recipe import read_recipe
from srzoo.inference import best_device, device_name

PAIRS = {
    "6 blocks of 32 features": ("esrgan", "cpu", "2", "3"),
    "8 blocks of 64 features": ("esrgan", "gpu", "2", "3"),
    "12 blocks of 32 features": ("batchnorm", "cpu", "PSNR with BN", "PSNR without"),
}
"""Ablation, budget, and the columns with and without."""


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    found = []
    for name, (recipe, budget, *labels) in PAIRS.items():
        plan = make_plan(read_recipe(recipe), budget)
        entries = [plan.planned(label).runs[0].entry for label in labels]
        with_norm, without = measure_steps(entries, seconds)
        training = entries[0].training
        assert training is not None
        found.append(
            {
                "name": name,
                "device": device_name(best_device()),
                "precision": without.precision,
                "batch": [training.batch_size, 3, *2 * [training.patch_size // entries[0].scale]],
                "milliseconds": [with_norm.milliseconds, without.milliseconds],
                "quartiles": [
                    [with_norm.quartile_low, with_norm.quartile_high],
                    [without.quartile_low, without.quartile_high],
                ],
                "peak_bytes": [with_norm.peak_bytes, without.peak_bytes],
                "ratio": with_norm.milliseconds / without.milliseconds,
            }
        )
    record(__file__, found)


if __name__ == "__main__":
    main()
