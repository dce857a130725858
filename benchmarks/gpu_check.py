"""The whole check of a CUDA machine in one call: do the harness and the trainer run there, and agree with the CPU?

    python benchmarks/gpu_check.py [OUT [PART...]]

Parts, all by default:

1. agree: benchmarks every entry that was trained on the embedded photographs, on CPU and on CUDA, row by row: PSNR
   within 0.001 dB, SSIM within 1e-5, LPIPS within 1e-4.
2. formulations: trains every formulation (criterion x pairing) for some steps on CUDA and checks that all terms stay
   finite.
3. steps: times training steps of SRResNet, SRGAN and ESRGAN with the papers' networks (ESRGAN's 23 blocks), all at
   ESRGAN's batches of 16 crops of 128 px, with srzoo's defaults, with every operation launched by itself, and by a
   plain loop in eager fp32: two discriminator passes a loss, no autocast, no channels-last.
4. inference: takes latency and memory of generators in fp32, bf16 and fp16, as ``srzoo bench`` does.

Writes ``gpu_check.json`` with the device's name, and prints last, for every comparison, ``ratio NAME VALUE``. Exit code
1 if anything fails; 2 without a CUDA device. ``--cpu-trial`` runs part 3 with tiny networks on a CPU.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
import tempfile
import time
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import srzoo
from srzoo import benchmark, measuring, scoring
from srzoo.compose import build_discriminator, build_generator, build_terms
from srzoo.graphs import SWITCH
from srzoo.inference import best_device
from srzoo.latency import measure_latencies
from srzoo.options import signature_of
from srzoo.registry import get_registry
from srzoo.zoo import get_zoo

TOLERANCES = {"psnr": 1e-3, "ssim": 1e-5, "lpips_squeeze": 1e-4, "lpips_alex": 1e-4}


TRAINED = [name for name in get_zoo().names() if get_zoo().entry(name).weights is not None]
TIMED = ("srresnet-lite-x4", "rrdb-lite-x4")


def rows_on(device: str) -> dict[tuple[str, str, str], float]:
    with (
        mock.patch.object(
            benchmark, "best_device", return_value=torch.device(device)
        ),  # the harness itself always takes the best device
        mock.patch.object(measuring, "measure_latencies", partial(measure_latencies, budget=0.1)),
    ):
        result = srzoo.bench(["bicubic", *TRAINED], metrics=list(TOLERANCES))
    return {(row.entry, row.image, row.metric): row.value for row in result.rows}


def compare_devices() -> dict[str, Any]:
    cpu, cuda = rows_on("cpu"), rows_on("cuda")
    assert cpu.keys() == cuda.keys()
    worst: dict[str, float] = {}
    for key, value in cpu.items():
        worst[key[2]] = max(worst.get(key[2], 0.0), abs(value - cuda[key]))
    return {"entries": TRAINED, "rows": len(cpu), "worst": worst, "ok": all(worst[m] <= TOLERANCES[m] for m in worst)}


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


VGG = {"training.stages.gan.losses.perceptual.extractor": {"name": "vgg19", "pretrained": False}}
"""Of random weights, so that the pretrained ones need not be there; they take the same time."""
ALONE = {"training.stages.psnr": None, "training.start_from": None}
PAPER: dict[str, dict[str, Any]] = {
    "srresnet-mse-x4": {},
    "srgan-vgg54-x4": {**ALONE, **VGG},
    "esrgan-x4": {**ALONE, **VGG},
}
"""Entries whose steps are timed, and what is changed so that just the last stage runs."""

STEPS = {"srresnet-mse-x4": 800, "srgan-vgg54-x4": 240, "esrgan-x4": 100}
"""The last half of them is timed."""

TINY = {"generator.num_features": 8, "generator.num_blocks": 1, "training.batch_size": 2}
NO_VGG = {"training.stages.gan.losses.perceptual": None}


def overrides_of(entry: str, tiny: bool) -> dict[str, Any]:
    common = {"training.validation": None, "training.patch_size": 128, "training.batch_size": 16}
    without = NO_VGG if "training.stages.gan.losses.perceptual.extractor" in PAPER[entry] else {}
    return {**common, **({**ALONE, **without} if without else {}), **TINY} if tiny else {**common, **PAPER[entry]}


def time_training(entry: str, steps: int, changes: dict[str, Any], recorded: bool = True) -> dict[str, float]:
    """Train as a user does; the first half of the steps warms up."""
    reset_memory()
    before = os.environ.get(SWITCH, "1")
    os.environ[SWITCH] = str(int(recorded))
    try:
        with tempfile.TemporaryDirectory() as out:
            srzoo.train(
                entry, out, data="photos", steps=steps, overrides=changes, log_every=steps // 2, checkpoint_every=steps
            )
            records = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    finally:
        os.environ[SWITCH] = before
    half, whole = (next(r["seconds"] for r in records if r.get("step") == s) for s in (steps // 2, steps))
    return {"steps_per_second": (steps - steps // 2) / (whole - half), **memory()}


def time_reference(entry: str, steps: int, tiny: bool, device: torch.device) -> dict[str, float]:
    """Train the same networks and terms by the loop that most code bases have, on a batch that lies on the device.

    In fp32 as torch comes, so with TF32 convolutions, and with cuDNN's choice of algorithms by trial. It averages no
    weights, reads no images and logs nothing.
    """
    resolved = get_zoo().entry(entry, overrides_of(entry, tiny))
    recipe = resolved.training
    assert recipe is not None
    (name,) = recipe.stages
    terms = build_terms(resolved, name)
    image = [t for t in terms if t.role in ("pixel", "perceptual")]
    adversarial = [t for t in terms if t.role == "adversarial"]
    for term in image:
        if isinstance(term.loss, torch.nn.Module):
            term.loss.to(device)
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

    reset_memory()
    torch.backends.cudnn.benchmark = True
    for _ in range(max(3, steps // 8)):
        step()
    synchronise()
    start = time.perf_counter()
    for _ in range(steps // 4):
        step()
    synchronise()
    seconds = time.perf_counter() - start
    torch.backends.cudnn.benchmark = False
    return {"steps_per_second": (steps // 4) / seconds, **memory()}


def reset_memory() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    found = {"peak_gib": torch.cuda.max_memory_allocated(), "peak_reserved_gib": torch.cuda.max_memory_reserved()}
    return {name: round(value / 2**30, 3) for name, value in found.items()}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_steps(steps: dict[str, int], tiny: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in PAPER:
        changes = overrides_of(entry, tiny)
        reference = time_reference(entry, steps[entry], tiny, best_device())
        defaults = time_training(entry, steps[entry], changes)
        launched = time_training(entry, steps[entry] // 2, changes, recorded=False)
        ratio = defaults["steps_per_second"] / reference["steps_per_second"]
        found[entry] = {
            "defaults": defaults,
            "defaults, operation by operation": launched,
            "eager fp32 loop": reference,
            "ratio": ratio,
        }
        print(entry, json.dumps(found[entry]), flush=True)
    return found


def time_inference() -> dict[str, Any]:
    """Latency and memory of the shipped entries in each precision."""
    with mock.patch.object(measuring, "measure_latencies", partial(measure_latencies, budget=1.0)):
        result = srzoo.bench(list(TIMED), metrics="psnr", precision=["fp32", "bf16", "fp16"], sizes=[128, 256])
    means = {standing.entry: standing.means["psnr"] for standing in result.standings}
    return {
        name: {"psnr": means.get(name), "costs": [dataclasses.asdict(cost) for cost in costs]}
        for name, costs in result.costs.items()
    }


def print_ratios(steps: dict[str, Any]) -> None:
    for entry, found in steps.items():
        print(f"ratio {entry}-step {found['ratio']:.3g}")


def main() -> int:
    if sys.argv[1:] == ["--cpu-trial"]:
        print_ratios(time_steps(dict.fromkeys(PAPER, 8), tiny=True))
        return 0
    if best_device().type != "cuda":
        print("no CUDA device; nothing was checked")
        return 2
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wanted = sys.argv[2:] or list(PARTS)
    path = out / "gpu_check.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    report |= {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    metrics, missing = scoring.available_metrics(list(TOLERANCES), torch.device("cuda"))
    report["metrics"], report["not available"] = [m.name for m in metrics], missing
    out.mkdir(parents=True, exist_ok=True)
    for part in wanted:
        report[part] = PARTS[part]()
        path.write_text(json.dumps(report, indent=2) + "\n")  # what is known is kept, whatever comes after
    print(json.dumps(report, indent=2))
    print_ratios(report.get("steps", {}))
    return 0 if all(found.get("ok", True) for found in (report[part] for part in wanted)) else 1


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "agree": compare_devices,
    "formulations": train_formulations,
    "steps": lambda: time_steps(STEPS),
    "inference": time_inference,
}

if __name__ == "__main__":
    sys.exit(main())
