"""IMDN (Hui et al., arXiv:1909.11856) as a plugin of its own, with the weights its authors published."""

from srzoo import GeneratorSpec, hookimpl


@hookimpl
def srzoo_generators():
    return [
        GeneratorSpec(
            "imdn",
            "srzoo_imdn.network:IMDN",
            summary="Information multi-distillation blocks with contrast-aware channel attention",
            paper="arXiv:1909.11856",
            scales=(2, 3, 4),
        )
    ]


@hookimpl
def srzoo_entries():
    return ["zoo.yaml"]
