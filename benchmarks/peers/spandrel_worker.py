"""spandrel at work, run by its own interpreter: a model descriptor called as its users call it, in float32."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import serve


def main(weights: str, image: str, output: str, count: int) -> None:
    """Upscale an image ``count`` times a piece; the first output is kept for comparison."""
    from spandrel import ImageModelDescriptor, ModelLoader

    model = ModelLoader(device="cpu").load_from_file(weights)
    assert isinstance(model, ImageModelDescriptor)
    lr = torch.load(image, weights_only=True)
    torch.save(model(lr), output)

    def piece() -> int:
        for _ in range(count):
            model(lr)
        return count

    serve(piece)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
