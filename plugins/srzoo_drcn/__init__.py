"""DRCN (Kim et al., arXiv:1511.04491): one convolution applied many times, supervised at every recursion."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "drcn",
            "srzoo_drcn.generator:DRCN",
            summary="Bicubic enlargement, one convolution applied many times, an image from every recursion, averaged",
            paper="arXiv:1511.04491, sec. 3",
            intermediate=True,
            examples=[{"num_features": 8, "recursions": 2}],
        )
    ]
