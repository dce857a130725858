"""RCAN (Zhang et al., arXiv:1807.02758): channel attention, and groups of blocks with a skip around them."""

from srzoo import BlockSpec, hookimpl


@hookimpl
def srzoo_blocks():
    return [
        BlockSpec(
            "channel_attention",
            "srzoo_rcan.blocks:ChannelAttentionBlock",
            summary="Two 3x3 convolutions whose result is weighted channel by channel, and a skip",
            paper="arXiv:1807.02758, sec. 3.3",
        ),
        BlockSpec(
            "residual_group",
            "srzoo_rcan.blocks:ResidualGroup",
            summary="Any blocks in a row, a convolution, and a skip around them all",
            paper="arXiv:1807.02758, sec. 3.2",
        ),
    ]
