"""PSNR, SSIM and LPIPS."""

from srzoo import MetricSpec, WeightFile, hookimpl

# torchvision's files; the digits are the ones in their names, which torch.hub checks.
VGG16 = WeightFile("vgg16-397923af.pth", "397923af", "https://download.pytorch.org/models/vgg16-397923af.pth")
ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth", "7be5be79", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
)
SQUEEZENET = (
    WeightFile(
        "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    ),
    WeightFile(
        "squeezenet1_1_features.safetensors", "7fe577dcb00b1205709ba32fd698cfaccd1252b3e98c20113e2cc803e33c125a"
    ),
)


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
        )
        for net, title, weights in (
            ("alex", "AlexNet", (ALEXNET,)),
            ("vgg", "VGG16", (VGG16,)),
            ("squeeze", "SqueezeNet 1.1", SQUEEZENET),
        )
    ]
    return [
        MetricSpec("psnr", "srzoo_metrics.psnr_ssim:PSNR", summary="Peak signal-to-noise ratio in dB"),
        MetricSpec(
            "ssim",
            "srzoo_metrics.psnr_ssim:SSIM",
            summary="Structural similarity, 11x11 Gaussian window, valid region",
            paper="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
            value_range=(-1.0, 1.0),
        ),
        *lpips,
    ]
