"""What this package brings to srzoo. Keep it light: every srzoo command imports this file."""

import srzoo


@srzoo.hookimpl
def srzoo_blocks():
    return [
        srzoo.BlockSpec(
            "my_block",
            "my_block.block:MyBlock",  # imported on first use
            summary="Convolution with a sigmoid gate and a scaled skip",
        )
    ]


@srzoo.hookimpl
def srzoo_entries():
    return ["zoo.yaml"]
