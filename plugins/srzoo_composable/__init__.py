"""The generator that every block and upsampler fits into, and the upsamplers."""

from srzoo import GeneratorSpec, UpsamplerSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "trunk",
            "srzoo_composable.trunk:Trunk",
            summary="Head, a trunk of any block, any upsampler, tail: SRResNet, MSRResNet, EDSR and RRDBNet by options",
            paper="arXiv:1609.04802, arXiv:1707.02921, arXiv:1809.00219",
            examples=[{"num_features": 8, "num_blocks": 2}],
            initial=("init", "init_scale"),
        )
    ]


@hookimpl
def srzoo_upsamplers():
    return [
        UpsamplerSpec(
            "pixelshuffle",
            "srzoo_composable.upsamplers:PixelShuffle",
            summary="Convolution and sub-pixel shuffle, one step for each factor of the scale",
            paper="arXiv:1609.05158",
        ),
        UpsamplerSpec(
            "pixelshuffle_direct",
            "srzoo_composable.upsamplers:PixelShuffleDirect",
            summary="One convolution and one sub-pixel shuffle for the whole scale, as light networks end",
            paper="arXiv:1609.05158; arXiv:2108.10257",
        ),
        UpsamplerSpec(
            "nearest_conv",
            "srzoo_composable.upsamplers:NearestConv",
            summary="Nearest-neighbour enlargement and convolution, one step for each factor of the scale",
            paper="arXiv:1809.00219; Odena et al., Distill 2016",
        ),
        UpsamplerSpec(
            "transposed_conv",
            "srzoo_composable.upsamplers:TransposedConv",
            summary="Transposed convolution (4x4, stride 2), one step for each factor of the scale",
            paper="arXiv:1511.06434",
        ),
    ]
