import srzoo


@srzoo.hookimpl
def srzoo_blocks():
    factory = "srzoo_example_block.block:GatedBlock"
    return [srzoo.BlockSpec("gated", factory, summary="Convolution with a sigmoid gate and a skip")]
