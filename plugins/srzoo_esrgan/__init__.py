"""ESRGAN (Wang et al., arXiv:1809.00219) and Real-ESRGAN (arXiv:2107.10833)."""

from srzoo import BlockSpec, DiscriminatorSpec, hookimpl


@hookimpl
def srzoo_blocks():
    return [
        BlockSpec(
            "dense",
            "srzoo_esrgan.blocks:DenseBlock",
            summary="Five densely connected 3x3 convolutions without normalisation, scaled skip",
            paper="arXiv:1809.00219, fig. 4; arXiv:1608.06993",
        ),
        BlockSpec(
            "rrdb",
            "srzoo_esrgan.blocks:RRDB",
            summary="Residual-in-residual dense block: three dense blocks, scaled skip around them",
            paper="arXiv:1809.00219, fig. 4",
        ),
    ]


@hookimpl
def srzoo_discriminators():
    return [
        DiscriminatorSpec(
            "vgg128",
            "srzoo_esrgan.discriminators:VGGDiscriminator",
            summary="ESRGAN's VGG-style discriminator for 128x128 patches: ten convolutions, two dense layers",
            paper="arXiv:1809.00219 and its public code",
            input_size=128,
            examples=[{"num_features": 8}],
        ),
        DiscriminatorSpec(
            "unet",
            "srzoo_esrgan.discriminators:UNetDiscriminator",
            summary="U-Net with spectral normalisation: a logit for every pixel",
            paper="arXiv:2107.10833, sec. 3.3",
            output="map",
            size_multiple=8,
            min_size=16,
            examples=[{"num_features": 8}],
        ),
    ]
