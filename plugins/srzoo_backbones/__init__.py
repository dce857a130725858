"""ImageNet backbones for perceptual losses: VGG19 and SqueezeNet 1.1 of torchvision."""

from srzoo import ExtractorSpec, hookimpl
from srzoo.imagenet import SQUEEZENET1_1, VGG19


@hookimpl
def srzoo_extractors():
    return [
        ExtractorSpec(
            "vgg19",
            "srzoo_backbones.vgg:VGG19",
            summary="VGG19 by layer: conv1_1, relu1_1, ..., conv5_4, relu5_4, pool1 to pool5",
            paper="arXiv:1409.1556",
            weights=VGG19,
            examples=[{"pretrained": False}],
        ),
        ExtractorSpec(
            "squeezenet1_1",
            "srzoo_backbones.squeezenet:SqueezeNet",
            summary="SqueezeNet 1.1 by layer: conv1, relu1, fire2_conv, fire2_relu, ..., fire9_relu",
            paper="arXiv:1602.07360",
            weights=SQUEEZENET1_1,
            examples=[{"pretrained": False}],
        ),
    ]
