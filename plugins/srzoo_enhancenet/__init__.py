"""EnhanceNet (Sajjadi et al., arXiv:1612.07919): its discriminator.

Its generator is a composition of the trunk, and its texture loss is the loss ``texture``.
"""

from srzoo import DiscriminatorSpec, hookimpl


@hookimpl
def srzoo_discriminators():
    return [
        DiscriminatorSpec(
            "enhancenet",
            "srzoo_enhancenet.discriminator:EnhanceNetDiscriminator",
            summary="EnhanceNet's: ten 3x3 convolutions, 32 to 512 channels, no normalisation, one logit an image",
            paper="arXiv:1612.07919, supplement, table 1",
            min_size=32,
        )
    ]
