"""Interpolation: the baselines every table starts with."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "nearest",
            "srzoo_interpolation.generators:Nearest",
            summary="Nearest-neighbour interpolation",
            trainable=False,
        ),
        GeneratorSpec(
            "bicubic",
            "srzoo_interpolation.generators:Bicubic",
            summary="Bicubic interpolation (Keys, a = -0.5), within one grey level of MATLAB's imresize",
            paper="Keys 1981, doi:10.1109/TASSP.1981.1163711",
            trainable=False,
        ),
    ]
