"""A generator that spandrel builds from a checkpoint file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from srzoo.errors import WeightsError
from srzoo.extras import import_extra
from srzoo.pickles import load_pickle, refuse_opaque
from srzoo.weights import check_finite, read_checkpoint, some_of


class SpandrelGenerator(nn.Module):
    """What spandrel makes of a file: RGB (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W), clamped to [0, 1].

    spandrel recognises the architecture by the tensors and takes the published values for what they cannot tell. The
    file is read by srzoo, so that nothing in it is executed. The network is for inference only.

    Args:
        checkpoint: the file.

    Raises:
        MissingLibraryError: spandrel is not installed.
        WeightsError: the file is damaged, of no architecture that spandrel has, or no RGB upscaler.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        spandrel = import_extra("spandrel", "spandrel", f"{checkpoint} is")
        content = read_checkpoint(checkpoint)[0] if checkpoint.suffix == ".safetensors" else load_pickle(checkpoint)
        if not isinstance(content, dict):
            refuse_opaque(checkpoint, [content])
            raise WeightsError(f"{checkpoint} holds a {type(content).__name__}, not named tensors.")
        tensors = spandrel.canonicalize_state_dict({n: value for n, value in content.items() if isinstance(n, str)})
        refuse_opaque(checkpoint, tensors.values())
        check_finite({n: t for n, t in tensors.items() if isinstance(t, torch.Tensor)}, str(checkpoint))
        _check_numbers(tensors, checkpoint)
        try:
            _try_without_memory(spandrel, tensors)
            descriptor = spandrel.MAIN_REGISTRY.load(tensors)
        except spandrel.UnsupportedModelError:
            raise WeightsError(f"{checkpoint} is of no architecture that spandrel recognises.") from None
        except Exception as error:  # tensors of the right names and the wrong shapes fail in many ways
            reason = " ".join(str(error).split())
            reason = reason if len(reason) <= 300 else reason[:300].rsplit(" ", 1)[0] + " ..."
            raise WeightsError(
                f"{checkpoint} cannot be loaded by spandrel: {(reason or type(error).__name__).removesuffix('.')}."
            ) from None
        name = descriptor.architecture.name
        if not isinstance(descriptor, spandrel.ImageModelDescriptor):
            raise WeightsError(f"{checkpoint} is {name}, for {descriptor.purpose.lower()}, and upscales nothing.")
        if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
            channels = f"{descriptor.input_channels} to {descriptor.output_channels}"
            raise WeightsError(f"{checkpoint} is {name} from {channels} channels; generators here map RGB to RGB.")
        self.scale = int(descriptor.scale)
        self.size_multiple = int(descriptor.size_requirements.multiple_of)
        self.architecture = " ".join([name, *descriptor.tags])
        self.model = descriptor.model.eval()  # parameters, where modules are looked for
        self._descriptor = descriptor  # pads to what the network takes, and calls it as it is meant to be

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self._descriptor(lr)


def _check_numbers(tensors: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse absurd numbers of layers in names: spandrel builds as many blocks as the largest number says.

    Raises:
        WeightsError: a name has one.
    """
    largest = 64 + 16 * len(tensors)  # layers without tensors are numbered as well
    for name in tensors:
        for part in str(name).split("."):
            if part.isdecimal() and (len(part) > 6 or int(part) > largest):
                raise WeightsError(
                    f"{checkpoint} cannot be loaded by spandrel: {some_of([name])} has a number far beyond its "
                    f"{len(tensors)} tensors."
                )


def _try_without_memory(spandrel: ModuleType, tensors: dict[str, Any]) -> None:
    """Let spandrel build and fill the network without memory, so that one that the file does not fill takes none.

    Raises:
        RuntimeError: names or shapes differ.
    """
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # copying to tensors without memory does nothing, which is the point
        try:
            spandrel.MAIN_REGISTRY.load(dict(tensors))
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, RuntimeError) and "loading state_dict" in str(error):
                raise
            # else it computes with values while it is built, so the numbers above must do
