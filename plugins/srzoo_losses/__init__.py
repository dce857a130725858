"""Pixel and perceptual losses."""

from srzoo import LossSpec, hookimpl


@hookimpl
def srzoo_losses():
    return [
        LossSpec("l1", "srzoo_losses.pixel:L1", summary="Mean absolute error"),
        LossSpec("mse", "srzoo_losses.pixel:MSE", summary="Mean squared error"),
        LossSpec(
            "charbonnier",
            "srzoo_losses.pixel:Charbonnier",
            summary="Differentiable L1: sqrt(error^2 + eps^2)",
            paper="arXiv:1710.01992, sec. 3.3",
            minimum=1e-3,  # eps
        ),
        LossSpec(
            "total_variation",
            "srzoo_losses.pixel:TotalVariation",
            summary="Mean absolute difference of neighbouring output pixels",
            paper="Rudin et al. 1992, doi:10.1016/0167-2789(92)90242-F",
            minimum=None,  # of a flat image
        ),
        LossSpec(
            "perceptual",
            "srzoo_losses.perceptual:Perceptual",
            summary="Distance of deep features: any extractor, layers, before or after the activation, L1 or MSE",
            paper="arXiv:1603.08155; arXiv:1609.04802, eq. 5; arXiv:1809.00219, sec. 3.3",
            role="perceptual",
            examples=[{"layers": {"relu1": 1.0}}],
        ),
        LossSpec(
            "texture",
            "srzoo_losses.perceptual:Texture",
            summary="Distance of Gram matrices of deep features in 16x16 patches",
            paper="arXiv:1612.07919, sec. 4.2.3",
            role="perceptual",
            examples=[{"layers": {"relu1": 1.0}}],
        ),
    ]
