"""torchvision's ImageNet weight files, for plugins that need one of these backbones.

The digits are the beginning of the file's SHA-256, as they stand in its name and as torch.hub checks them.
"""

from __future__ import annotations

from .specs import WeightFile

_URL = "https://download.pytorch.org/models/"


def _torchvision(filename: str) -> WeightFile:
    return WeightFile(filename, filename.rpartition("-")[2].partition(".")[0], _URL + filename)


ALEXNET = (_torchvision("alexnet-owt-7be5be79.pth"),)
VGG16 = (_torchvision("vgg16-397923af.pth"),)
VGG19 = (_torchvision("vgg19-dcbb9e9d.pth"),)
SQUEEZENET1_1 = (
    _torchvision("squeezenet1_1-b8a52dc0.pth"),
    # the convolutional part alone, as safetensors
    WeightFile(
        "squeezenet1_1_features.safetensors", "7fe577dcb00b1205709ba32fd698cfaccd1252b3e98c20113e2cc803e33c125a"
    ),
)
