"""The whole check of a CUDA machine in one call: do the harness and the trainer run there, and agree with the CPU?

    python benchmarks/gpu_check.py [OUT]

1. Benchmarks every entry that is ready on the embedded photographs, on CPU and on CUDA, and compares row by row:
   PSNR within 0.001 dB, SSIM within 1e-5, LPIPS within 1e-4.
2. Trains every formulation (criterion x pairing) for some steps on CUDA and checks that all terms stay finite.
3. Times training steps of SRResNet, SRGAN's and ESRGAN's generators at the paper's sizes, fp32 and bf16.

Writes ``gpu_check.json`` with the device's name. Exit code 1 if anything fails; 2 without a CUDA device.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import typing
from pathlib import Path
from typing import Any

import torch

import srzoo
from srzoo import benchmark, scoring
from srzoo.inference import best_device
from srzoo.options import signature_of
from srzoo.registry import get_registry

TOLERANCES = {"psnr": 1e-3, "ssim": 1e-5, "lpips_squeeze": 1e-4, "lpips_alex": 1e-4}


def rows_on(device: str) -> dict[tuple[str, str, str], float]:
    forced = torch.device(device)
    original = benchmark.best_device
    benchmark.best_device = lambda: forced  # the harness itself always takes the best device
    try:
        result = srzoo.bench(metrics=list(TOLERANCES))
    finally:
        benchmark.best_device = original
    return {(row.entry, row.image, row.metric): row.value for row in result.rows}


def compare_devices() -> dict[str, Any]:
    cpu, cuda = rows_on("cpu"), rows_on("cuda")
    assert cpu.keys() == cuda.keys()
    worst: dict[str, float] = {}
    for key, value in cpu.items():
        worst[key[2]] = max(worst.get(key[2], 0.0), abs(value - cuda[key]))
    return {"rows": len(cpu), "worst": worst, "ok": all(worst[m] <= TOLERANCES[m] for m in worst)}


def train_formulations(steps: int = 20) -> dict[str, Any]:
    options = {o.name: o for o in signature_of(get_registry().get("loss", "adversarial")).options}
    criteria = typing.get_args(options["criterion"].annotation)
    pairings = typing.get_args(options["pairing"].annotation)
    failed = []
    for criterion in criteria:
        for pairing in pairings:
            with tempfile.TemporaryDirectory() as out:
                try:
                    srzoo.train(
                        "srgan-lite-x4",
                        out,
                        data="photos",
                        steps=steps,
                        overrides={
                            "training.start_from": None,
                            "training.validation": None,
                            "training.stages.gan.losses.perceptual": None,
                            "training.stages.gan.losses.adversarial.criterion": criterion,
                            "training.stages.gan.losses.adversarial.pairing": pairing,
                        },
                    )
                except srzoo.SrzooError as error:
                    failed.append(f"{criterion} {pairing}: {error}")
    return {"trained": len(criteria) * len(pairings) - len(failed), "failed": failed, "ok": not failed}


def time_training(entry: str, precision: str, steps: int = 30) -> dict[str, float]:
    recipe = {"training.validation": None, "training.precision": precision}
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        result = srzoo.train(entry, out, data="photos", steps=steps, overrides=recipe)
        wall = time.perf_counter() - start
    return {
        "steps_per_second": steps / result.seconds,
        "wall_seconds": wall,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def main() -> int:
    if best_device().type != "cuda":
        print("no CUDA device; nothing was checked")
        return 2
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    report: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    metrics, missing = scoring.available_metrics(list(TOLERANCES), torch.device("cuda"))
    report["metrics"], report["not available"] = [m.name for m in metrics], missing
    report["devices agree"] = compare_devices()
    report["formulations"] = train_formulations()
    for entry in ("srresnet-mse-x4", "esrgan-psnr-x4"):
        for precision in ("fp32", "bf16"):
            report[f"{entry} {precision}"] = time_training(entry, precision)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_check.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if report["devices agree"]["ok"] and report["formulations"]["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
