"""SRCNN (Dong et al., arXiv:1501.00092), the first convolutional network for super-resolution."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "srcnn",
            "srzoo_srcnn.generator:SRCNN",
            summary="Bicubic enlargement, then three convolutions (9-5-5 or 9-1-5), on luma or RGB",
            paper="arXiv:1501.00092, sec. 3",
            initial=("init",),
        )
    ]
