"""PSNR, SSIM and LPIPS."""

from srzoo import MetricSpec, hookimpl
from srzoo.imagenet import ALEXNET, SQUEEZENET1_1, VGG16


@hookimpl
def srzoo_metrics():
    lpips = [
        MetricSpec(
            f"lpips_{net}",
            f"srzoo_metrics.lpips_metric:lpips_{net}",
            summary=f"LPIPS v0.1 on {title} features, from the lpips package",
            paper="arXiv:1801.03924",
            higher_is_better=False,
            value_range=(0.0, None),
            domain="rgb",
            weights=weights,
            tolerance=5e-4,
        )
        for net, title, weights in (
            ("alex", "AlexNet", ALEXNET),
            ("vgg", "VGG16", VGG16),
            ("squeeze", "SqueezeNet 1.1", SQUEEZENET1_1),
        )
    ]
    return [
        MetricSpec("psnr", "srzoo_metrics.psnr_ssim:PSNR", summary="Peak signal-to-noise ratio in dB", tolerance=5e-3),
        MetricSpec(
            "ssim",
            "srzoo_metrics.psnr_ssim:SSIM",
            summary="Structural similarity, 11x11 Gaussian window, valid region",
            paper="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
            value_range=(-1.0, 1.0),
            tolerance=2e-4,
        ),
        *lpips,
    ]
