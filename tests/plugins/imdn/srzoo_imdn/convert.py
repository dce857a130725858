"""Turn the published checkpoint into the weight file of ``imdn-x4``.

python -m srzoo_imdn.convert IMDN_x4.pth
"""

import re
import sys
from pathlib import Path

from srzoo.weights import check_hash, load_tensors, save_checkpoint

PUBLISHED = "e660c38221147217a136debeb99eb304d62d9c0f73ac421ed66281b619719714"
NAMES = [
    (r"^module\.", ""),
    (r"^fea_conv\.", "head."),
    (r"^IMDB(\d)\.", lambda found: f"blocks.{int(found[1]) - 1}."),
    (r"\.c([1-4])\.", lambda found: f".steps.{int(found[1]) - 1}."),
    (r"\.c5\.", ".fusion."),
    (r"\.cca\.conv_du\.0\.", ".attention.squeeze."),
    (r"\.cca\.conv_du\.2\.", ".attention.excite."),
    (r"^c\.0\.", "join."),
    (r"^LR_conv\.", "trunk_end."),
    (r"^upsampler\.0\.", "tail."),
]
"""Names in the published checkpoint, which the paper does not give, and what they are called here."""


def convert(source: Path, target: Path) -> None:
    """Write the tensors of the published checkpoint under the names of :mod:`srzoo_imdn.network`.

    Raises:
        WeightsError: the source is not the published file.
    """
    check_hash(source, PUBLISHED)
    tensors = {}
    for name, tensor in load_tensors(source).items():
        for published, own in NAMES:
            name = re.sub(published, own, name)
        tensors[name] = tensor
    save_checkpoint(target, tensors, {})


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(__file__).parent / "weights" / "imdn-x4.safetensors")
