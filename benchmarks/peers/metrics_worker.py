"""Metrics of other packages at work, run by their own interpreter, each as its users call it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import serve

CROP = 4


def luma(rgb: Any) -> Any:
    """Return Y of (H, W, 3) uint8 in floating point, without the border, as the protocol ``y`` has it."""
    y = 16 + rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255
    return y[CROP:-CROP, CROP:-CROP]


def scikit_image() -> Callable[[Any, Any], Any]:
    """PSNR and SSIM on Y; these options are what makes its SSIM the usual one."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}

    def both(sr: Any, hr: Any) -> tuple[float, float]:
        one, two = luma(sr), luma(hr)
        return peak_signal_noise_ratio(two, one, data_range=255), structural_similarity(two, one, **options)

    return both


def on_tensors(metric: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Give a metric RGB (1, 3, H, W) float32 in [0, 1]."""
    import torch

    def tensor(image: Any) -> Any:
        return torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).float() / 255

    def scored(sr: Any, hr: Any) -> Any:
        with torch.inference_mode():
            return metric(tensor(sr), tensor(hr))

    return scored


def pyiqa_ssim() -> Callable[[Any, Any], Any]:
    """SSIM on Y of BT.601, which has to be asked for: pyiqa's own choice is YIQ."""
    import pyiqa

    return on_tensors(pyiqa.create_metric("ssim", device="cpu", color_space="ycbcr", crop_border=CROP))


def torchmetrics_ssim() -> Callable[[Any, Any], Any]:
    """SSIM on the three channels: it has no Y."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    return on_tensors(lambda sr, hr: structural_similarity_index_measure(sr, hr, data_range=1.0))


def lpips_squeeze(backbone: str) -> Callable[[Any, Any], Any]:
    """LPIPS of the package that defines it, with SqueezeNet's weights from a file in place of a download."""
    import lpips
    from safetensors.torch import load_file

    model = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()
    features = load_file(backbone)
    for name, parameter in model.net.named_parameters():
        parameter.data.copy_(features[f"features.{name.split('.', 1)[1]}"])
    return on_tensors(lambda sr, hr: model(sr, hr, normalize=True))


def row(backbone: str) -> Callable[[Any, Any], Any]:
    """PSNR, SSIM and LPIPS, each by the fastest of the packages."""
    both, distance = scikit_image(), lpips_squeeze(backbone)
    return lambda sr, hr: (*both(sr, hr), float(distance(sr, hr)))


METRICS: dict[str, Callable[..., Callable[[Any, Any], Any]]] = {
    "scikit-image": scikit_image,
    "pyiqa-ssim": pyiqa_ssim,
    "torchmetrics-ssim": torchmetrics_ssim,
    "lpips-squeeze": lpips_squeeze,
    "row": row,
    "five-entries": row,
}


def main(name: str, pairs: str, *arguments: str) -> None:
    """Score every pair of a folder a piece; each file is one pair, (2, H, W, 3) uint8."""
    metric = METRICS[name](*arguments)
    images = [np.load(path) for path in sorted(Path(pairs).glob("*.npy"))]
    entries = 5 if name == "five-entries" else 1

    def piece() -> int:
        for sr, hr in images:
            for _ in range(entries):
                metric(sr, hr)
        return entries * len(images)

    serve(piece, values=np.ravel(metric(*images[0])).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
