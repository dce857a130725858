"""BasicSR 1.4.2 at work, run by its own interpreter: its models and its dataset as they are shipped."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torchvision

# BasicSR imports a module that newer torchvision no longer has.
stand_in = types.ModuleType("torchvision.transforms.functional_tensor")
stand_in.rgb_to_grayscale = torchvision.transforms.functional.rgb_to_grayscale  # type: ignore[attr-defined]
sys.modules["torchvision.transforms.functional_tensor"] = stand_in

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import serve  # noqa: E402


def options(kind: str) -> dict[str, Any]:
    """Options as in the published MSRResNet and ESRGAN recipes."""
    common: dict[str, Any] = {"is_train": True, "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1}
    common |= {"path": {}, "logger": {}, "name": "benchmark"}
    adam = {"type": "Adam", "weight_decay": 0, "betas": [0.9, 0.99]}
    pixel = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    if kind == "msrresnet":
        cosine = {"type": "CosineAnnealingRestartLR", "periods": [250000], "restart_weights": [1], "eta_min": 1e-7}
        return {
            **common,
            "model_type": "SRModel",
            "scale": 4,
            "network_g": {
                "type": "MSRResNet",
                "num_in_ch": 3,
                "num_out_ch": 3,
                "num_feat": 64,
                "num_block": 16,
                "upscale": 4,
            },
            "train": {
                "ema_decay": 0.999,
                "optim_g": {**adam, "lr": 2e-4},
                "scheduler": cosine,
                "total_iter": 1000000,
                "warmup_iter": -1,
                "pixel_opt": pixel,
            },
        }
    return {
        **common,
        "model_type": "ESRGANModel",
        "scale": 4,
        "network_g": {
            "type": "RRDBNet",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 32,
            "num_block": 4,
            "num_grow_ch": 16,
        },
        "network_d": {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 64},
        "train": {
            "ema_decay": 0.999,
            "optim_g": {**adam, "lr": 1e-4},
            "optim_d": {**adam, "lr": 1e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [50000], "gamma": 0.5},
            "total_iter": 400000,
            "warmup_iter": -1,
            "pixel_opt": {**pixel, "loss_weight": 1e-2},
            "perceptual_opt": {
                "type": "PerceptualLoss",
                "layer_weights": {"conv5_4": 1},
                "vgg_type": "vgg19",
                "use_input_norm": True,
                "range_norm": False,
                "perceptual_weight": 1.0,
                "style_weight": 0,
                "criterion": "l1",
            },
            "gan_opt": {
                "type": "GANLoss",
                "gan_type": "vanilla",
                "real_label_val": 1.0,
                "fake_label_val": 0.0,
                "loss_weight": 5e-3,
            },
            "net_d_iters": 1,
            "net_d_init_iters": 0,
        },
    }


def steps(kind: str, batch: int, size: int, count: int) -> None:
    """Do training steps on random images; reading data is not part of the measurement."""
    if kind == "esrgan":  # BasicSR would download VGG19; random weights cost the same
        path = Path("experiments/pretrained_models/vgg19-dcbb9e9d.pth")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torchvision.models.vgg19(weights=None).state_dict(), path)
    from basicsr.models import build_model

    model = build_model(options(kind))
    data = {"lq": torch.rand(batch, 3, size, size), "gt": torch.rand(batch, 3, 4 * size, 4 * size)}
    step = 0

    def piece() -> int:
        nonlocal step
        for _ in range(count):
            step += 1
            model.update_learning_rate(step, warmup_iter=-1)
            model.feed_data(data)
            model.optimize_parameters(step)
        return count

    piece()
    serve(piece)


def crops(folder: str, count: int) -> None:
    """Draw crops of 128 pixels out of image files, in one process."""
    from basicsr.data.paired_image_dataset import PairedImageDataset

    dataset = PairedImageDataset(
        {
            "dataroot_gt": os.path.join(folder, "HR"),
            "dataroot_lq": os.path.join(folder, "LR"),
            "io_backend": {"type": "disk"},
            "gt_size": 128,
            "use_hflip": True,
            "use_rot": True,
            "scale": 4,
            "phase": "train",
        }
    )
    place = 0

    def piece() -> int:
        nonlocal place
        for _ in range(count):
            dataset[place % len(dataset)]
            place += 1
        return count

    piece()
    serve(piece)


if __name__ == "__main__":
    if sys.argv[1] == "crops":
        crops(sys.argv[2], int(sys.argv[3]))
    else:
        steps(sys.argv[1], *map(int, sys.argv[2:5]))
