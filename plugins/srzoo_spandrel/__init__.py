"""Checkpoints of some forty architectures through spandrel, as chaiNNer and its relatives read them."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "spandrel",
            "srzoo_spandrel.generator:SpandrelGenerator",
            summary="Whatever spandrel recognises in a checkpoint file: SwinIR, HAT, DAT, SPAN, Compact, RRDBNet, ...",
            paper="https://github.com/chaiNNer-org/spandrel",
            licence="MIT; the licence of a checkpoint is its author's",
            scales=(1, 2, 3, 4, 8, 16),
            reads=(".pth", ".pt", ".ckpt", ".safetensors"),
            library="spandrel",
        )
    ]
