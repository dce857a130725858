"""ESPCN (Shi et al., arXiv:1609.05158), which brought the sub-pixel convolution."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "espcn",
            "srzoo_espcn.generator:ESPCN",
            summary="Three convolutions (5-3-3) at low resolution and a sub-pixel shuffle, on luma or RGB",
            paper="arXiv:1609.05158, sec. 3",
        )
    ]
