"""Make a training set of 143 photographs out of packages of Debian 12, free as each package's copyright file says.

    python benchmarks/debian_photographs.py ~/datasets

downloads eight packages (206 MB) and writes ``debian_photographs/HR``; with ``SRZOO_DATA=~/datasets`` it is the dataset
``debian_photographs`` that some recipes name. ``debian_photographs.yaml`` lists the photographs. None of them is in
Set5, Set14, BSD100 or the embedded photographs; abstract wallpapers and screenshots are left out.

Photographs with a side of more than 1400 pixels are reduced to 1280, which leaves little of their JPEG artefacts.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from PIL import Image
from rich.progress import track

from srzoo.files import replacing

MIRRORS = ("https://deb.debian.org/debian", "https://snapshot.debian.org/archive/debian/20230801T000000Z")
"""Debian's packages of today, and as they were while these versions were its current ones."""
LARGE, REDUCED = 1400, 1280


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of datasets, as SRZOO_DATA names it")
    parser.add_argument("--mirror", action="append", help="where Debian's packages are to be had")
    arguments = parser.parse_args()
    packages = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    folder = arguments.out / "debian_photographs" / "HR"
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in track(packages.items(), "packages"):
        images = {f"./{path}": stem for stem, path in package["images"].items()}
        if all((folder / f"{stem}.jpg").is_file() for stem in images.values()):
            continue
        with tarfile.open(fileobj=io.BytesIO(data_of(downloaded(package, arguments.mirror or MIRRORS)))) as tree:
            for path, stem in images.items():
                member = tree.extractfile(path)
                assert member is not None, f"{name} has no {path}"
                with replacing(folder / f"{stem}.jpg") as temporary:
                    prepared(member.read()).save(temporary, "JPEG", quality=90, subsampling=0)
    print(f"{len(list(folder.glob('*.jpg')))} photographs in {folder}")


def downloaded(package: dict[str, str], mirrors: list[str] | tuple[str, ...]) -> bytes:
    """Return a package from the first mirror that has it, checked by its hash."""
    reasons = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror.rstrip('/')}/{package['file']}", timeout=60) as answer:
                content: bytes = answer.read()
        except (urllib.error.URLError, OSError) as error:
            reasons.append(f"{mirror}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == package["sha256"]:
            return content
        reasons.append(f"{mirror}: another content than its hash says")
    raise SystemExit(f"{package['file']} could not be had. {'; '.join(reasons)}")


def data_of(package: bytes) -> bytes:
    """Return the tar file with the data of a Debian package, an ar archive (deb(5))."""
    place = 8
    while place < len(package):
        header = package[place : place + 60]
        size = int(header[48:58])
        if header[:16].startswith(b"data.tar"):
            return package[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise SystemExit("a package without data")


def prepared(content: bytes) -> Image.Image:
    """Return a photograph in RGB, reduced where it is large."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    longest = max(image.size)
    if longest <= LARGE:
        return image
    width, height = (round(side * (REDUCED / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
