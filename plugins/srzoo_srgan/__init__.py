"""SRGAN (Ledig et al., arXiv:1609.04802): its residual block and its discriminator."""

from srzoo import BlockSpec, DiscriminatorSpec, hookimpl


@hookimpl
def srzoo_blocks():
    return [
        BlockSpec(
            "residual",
            "srzoo_srgan.residual:ResidualBlock",
            summary="Two 3x3 convolutions and a skip, with or without batch normalisation and residual scaling",
            paper="arXiv:1609.04802, fig. 4; arXiv:1707.02921, fig. 2",
        )
    ]


@hookimpl
def srzoo_discriminators():
    return [
        DiscriminatorSpec(
            "srgan",
            "srzoo_srgan.discriminators:SRGANDiscriminator",
            summary="SRGAN's: eight 3x3 convolutions, 64 to 512 channels, two dense layers, one logit an image",
            paper="arXiv:1609.04802, fig. 4",
            min_size=16,
            examples=[{"num_features": 8, "dense_features": 16}],
        ),
        DiscriminatorSpec(
            "patch",
            "srzoo_srgan.discriminators:PatchDiscriminator",
            summary="SRGAN's trunk with the dense layers applied at every position: a map of logits",
            paper="Keras-GAN's SRGAN; arXiv:1611.07004, sec. 3.2.2",
            output="map",
            min_size=16,
            examples=[{"num_features": 8, "dense_features": 16}],
        ),
    ]
