"""GAN formulations: criterion times pairing, and the discriminator's regularisers."""

from srzoo import LossSpec, hookimpl


@hookimpl
def srzoo_losses():
    return [
        LossSpec(
            "adversarial",
            "srzoo_gan.adversarial:Adversarial",
            summary="Adversarial loss: criterion (bce, least_squares, hinge, wasserstein, ...) times pairing",
            paper="arXiv:1406.2661; arXiv:1611.04076; arXiv:1705.02894; arXiv:1701.07875; arXiv:1807.00734",
            role="adversarial",
            examples=[{}, {"criterion": "least_squares"}],
        ),
        LossSpec(
            "gradient_penalty",
            "srzoo_gan.regularisers:GradientPenalty",
            summary="WGAN-GP: gradient norm of the discriminator held at 1 between real and generated images",
            paper="arXiv:1704.00028",
            role="regulariser",
        ),
        LossSpec(
            "r1",
            "srzoo_gan.regularisers:R1",
            summary="R1: squared gradient norm of the discriminator on real images",
            paper="arXiv:1801.04406",
            role="regulariser",
        ),
    ]
