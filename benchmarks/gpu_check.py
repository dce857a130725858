"""The whole check of a CUDA machine in one call: do the harness and the trainer run there, and agree with the CPU?

    python benchmarks/gpu_check.py [OUT]

1. Benchmarks every entry that is ready on the embedded photographs, on CPU and on CUDA, and compares row by row:
   PSNR within 0.001 dB, SSIM within 1e-5, LPIPS within 1e-4.
2. Trains every formulation (criterion x pairing) for some steps on CUDA and checks that all terms stay finite.
3. Times training steps of SRResNet, SRGAN and ESRGAN at the paper's sizes (batch 16, 128 px patches, 23 blocks), with
   srzoo's defaults and by a plain loop in eager fp32: two discriminator passes a loss, no autocast, no channels-last.
4. Takes latency and memory of the generators in fp32, bf16 and fp16, as ``srzoo bench`` does.

Writes ``gpu_check.json`` with the device's name, and prints last, for every comparison, ``ratio NAME VALUE``. Exit code
1 if anything fails; 2 without a CUDA device. ``--cpu-trial`` runs part 3 with tiny networks on a CPU.
"""

from __future__ import annotations

import dataclasses
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
from srzoo.compose import build_discriminator, build_generator, build_terms
from srzoo.inference import best_device
from srzoo.options import signature_of
from srzoo.registry import get_registry
from srzoo.zoo import get_zoo

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


PAPER: dict[str, dict[str, Any]] = {
    "srresnet-mse-x4": {},
    "srgan-mse-x4": {"training.stages.psnr": None, "training.start_from": None},
    # VGG19's weights need not be there: a perceptual term of another backbone would be another recipe, so none is timed
    "esrgan-x4": {"training.stages.psnr": None, "training.stages.gan.losses.perceptual": None},
}
"""Entries whose steps are timed, and what is changed so that just the last stage runs."""

TINY = {"generator.num_features": 8, "generator.num_blocks": 1, "training.batch_size": 2}


def overrides_of(entry: str, tiny: bool) -> dict[str, Any]:
    common = {"training.validation": None, "training.patch_size": 128, "training.batch_size": 16}
    return {**common, **PAPER[entry], **(TINY if tiny else {})}


def time_defaults(entry: str, steps: int, tiny: bool) -> dict[str, float]:
    """Train as a user does; the first half of the steps warms up."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as out:
        srzoo.train(entry, out, data="photos", steps=steps, overrides=overrides_of(entry, tiny), log_every=steps // 2)
        records = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    half, whole = (next(r["seconds"] for r in records if r.get("step") == s) for s in (steps // 2, steps))
    return {"steps_per_second": (steps - steps // 2) / (whole - half), **memory()}


def time_reference(entry: str, steps: int, tiny: bool, device: torch.device) -> dict[str, float]:
    """Train the same networks and terms by the loop that most code bases have, on a batch that lies on the device."""
    resolved = get_zoo().entry(entry, overrides_of(entry, tiny))
    recipe = resolved.training
    assert recipe is not None
    (name,) = recipe.stages
    terms = build_terms(resolved, name)
    image = [t for t in terms if t.role in ("pixel", "perceptual")]
    adversarial = [t for t in terms if t.role == "adversarial"]
    generator = build_generator(resolved).to(device)
    discriminator = build_discriminator(resolved, recipe.stages[name]).to(device) if adversarial else None
    optimizers = [torch.optim.Adam(n.parameters(), 1e-4) for n in (generator, discriminator) if n is not None]
    hr = torch.rand(recipe.batch_size, 3, recipe.patch_size, recipe.patch_size, device=device)
    lr = hr[..., :: resolved.scale, :: resolved.scale].contiguous()

    def step() -> None:
        optimizers[0].zero_grad()
        sr = generator(lr)
        loss = sum(t.config.weight * t.loss(sr, hr) for t in image)
        if discriminator is not None:
            loss = loss + sum(
                t.config.weight * t.loss.generator_loss(discriminator(hr).detach(), discriminator(sr))
                for t in adversarial
            )
        loss.backward()
        optimizers[0].step()
        if discriminator is not None:
            optimizers[1].zero_grad()
            judged = sum(t.loss.discriminator_loss(discriminator(hr), discriminator(sr.detach())) for t in adversarial)
            judged.backward()
            optimizers[1].step()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(max(2, steps // 4)):
        step()
    synchronise()
    start = time.perf_counter()
    for _ in range(steps // 2):
        step()
    synchronise()
    return {"steps_per_second": (steps // 2) / (time.perf_counter() - start), **memory()}


def memory() -> dict[str, float]:
    return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if torch.cuda.is_available() else {}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_steps(steps: int, tiny: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in PAPER:
        defaults = time_defaults(entry, steps, tiny)
        reference = time_reference(entry, steps, tiny, best_device())
        ratio = defaults["steps_per_second"] / reference["steps_per_second"]
        found[entry] = {"defaults": defaults, "eager fp32 loop": reference, "ratio": ratio}
    return found


def time_inference() -> dict[str, Any]:
    """Latency and memory of the shipped entries in each precision."""
    result = srzoo.bench(metrics="psnr", precision=["fp32", "bf16", "fp16"])
    means = {standing.entry: standing.means["psnr"] for standing in result.standings}
    return {name: {**dataclasses.asdict(costs[0]), "psnr": means.get(name)} for name, costs in result.costs.items()}


def print_ratios(steps: dict[str, Any]) -> None:
    for entry, found in steps.items():
        print(f"ratio {entry}-step {found['ratio']:.3g}")


def main() -> int:
    if sys.argv[1:] == ["--cpu-trial"]:
        print_ratios(time_steps(4, tiny=True))
        return 0
    if best_device().type != "cuda":
        print("no CUDA device; nothing was checked")
        return 2
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    report: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    metrics, missing = scoring.available_metrics(list(TOLERANCES), torch.device("cuda"))
    report["metrics"], report["not available"] = [m.name for m in metrics], missing
    report["devices agree"] = compare_devices()
    report["formulations"] = train_formulations()
    report["steps"] = time_steps(60)
    report["inference"] = time_inference()
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_check.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    print_ratios(report["steps"])
    return 0 if report["devices agree"]["ok"] and report["formulations"]["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
