"""A generator that spandrel builds from a checkpoint file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from srzoo.errors import WeightsError
from srzoo.extras import import_extra
from srzoo.pickles import load_pickle
from srzoo.weights import check_finite, read_checkpoint


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
            raise WeightsError(f"{checkpoint} holds a {type(content).__name__}, not named tensors.")
        tensors = spandrel.canonicalize_state_dict(content)
        _refuse_gaps(tensors, checkpoint)
        check_finite({n: t for n, t in tensors.items() if isinstance(t, torch.Tensor)}, str(checkpoint))
        try:
            descriptor = spandrel.MAIN_REGISTRY.load(tensors)
        except spandrel.UnsupportedModelError:
            raise WeightsError(f"{checkpoint} is of no architecture that spandrel recognises.") from None
        except Exception as error:  # tensors of the right names and the wrong shapes fail in many ways
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(
                f"{checkpoint} cannot be loaded by spandrel: {reason or type(error).__name__}."
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


def _refuse_gaps(names: Collection[str], checkpoint: Path) -> None:
    """Refuse numbers of layers that a file of so few tensors cannot reach.

    spandrel builds as many layers as the highest number says: a single name could fill the memory. Layers without
    tensors count as well, so numbers may exceed that of the tensors, but not by far.
    """
    most = 8 * len(names) + 64
    for name in names:
        if any(part.isdecimal() and int(part) > most for part in name.split(".")):
            raise WeightsError(f"{checkpoint} has {len(names)} tensors, one of which is called {name[:80]!r}.")
