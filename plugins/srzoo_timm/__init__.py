"""Any timm backbone as a discriminator or as a feature extractor."""

from srzoo import DiscriminatorSpec, ExtractorSpec, hookimpl


@hookimpl
def srzoo_discriminators():
    return [
        DiscriminatorSpec(
            "timm",
            "srzoo_timm.discriminator:TimmDiscriminator",
            summary="Any timm image model with a single logit, e.g. backbone: resnet18",
            paper="Wightman, doi:10.5281/zenodo.4414861",
            min_size=32,
            examples=[{"backbone": "resnet10t"}],
        )
    ]


@hookimpl
def srzoo_extractors():
    return [
        ExtractorSpec(
            "timm",
            "srzoo_timm.extractor:TimmExtractor",
            summary="Any timm model that gives feature maps, e.g. backbone: resnet50",
            paper="Wightman, doi:10.5281/zenodo.4414861",
            examples=[{"backbone": "resnet10t", "pretrained": False}],
        )
    ]
