"""DCGAN (Radford et al., arXiv:1511.06434) carried over to super-resolution."""

from srzoo import BlockSpec, DiscriminatorSpec, hookimpl


@hookimpl
def srzoo_blocks():
    return [
        BlockSpec(
            "conv",
            "srzoo_dcgan.parts:ConvBlock",
            summary="Plain convolution, batch normalisation, ReLU; no skip",
            paper="arXiv:1511.06434, sec. 3",
        )
    ]


@hookimpl
def srzoo_discriminators():
    return [
        DiscriminatorSpec(
            "dcgan",
            "srzoo_dcgan.parts:DCGANDiscriminator",
            summary="DCGAN's: 4x4 stride-2 convolutions 64-128-256-512, then 4x4 to one channel",
            paper="arXiv:1511.06434, sec. 3",
            output="map",
            min_size=64,
            examples=[{"num_features": 8}],
        )
    ]
