"""The script that makes a training set out of Debian's packages, without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "debian_photographs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("debian_photographs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(files: dict[str, bytes]) -> bytes:
    """Return a Debian package with these files, as deb(5) has it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tree:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tree.addfile(member, io.BytesIO(content))
    parts = {b"debian-binary": b"2.0\n", b"control.tar.xz": b"odd", b"data.tar.xz": packed.getvalue()}
    found = b"!<arch>\n"
    for part, content in parts.items():
        header = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (part, 0, 0, 0, b"100644", len(content))
        found += header + content + b"\n" * (len(content) % 2)
    return found


def picture(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_photographs_come_out_of_packages_whose_hash_is_right(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive({"./usr/large.png": picture(1500, 750), "./usr/small.png": picture(90, 60)})
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "p.deb").write_bytes(content)
    images = {"p-0": "usr/large.png", "p-1": "usr/small.png"}
    package = {"file": "pool/p.deb", "sha256": hashlib.sha256(content).hexdigest(), "images": images}
    monkeypatch.setattr(script, "__file__", str(tmp_path / "list.py"))
    (tmp_path / "list.yaml").write_text(yaml.safe_dump({"p": package}))
    command = ["script", str(tmp_path / "out"), "--mirror", tmp_path.as_uri() + "/none", "--mirror", tmp_path.as_uri()]
    monkeypatch.setattr("sys.argv", command)
    script.main()
    folder = tmp_path / "out" / "debian_photographs" / "HR"
    sizes = {path.name: Image.open(path).size for path in folder.iterdir()}
    assert sizes == {"p-0.jpg": (1280, 640), "p-1.jpg": (90, 60)}
    (folder / "p-1.jpg").unlink()  # as after a run that was stopped
    script.main()
    assert (folder / "p-1.jpg").is_file()
    with pytest.raises(SystemExit, match=r"pool/p\.deb could not be had\. .*another content than its hash says"):
        script.downloaded({**package, "sha256": "0" * 64}, [tmp_path.as_uri()])


def test_the_list_names_every_photograph_once() -> None:
    packages = yaml.safe_load(SCRIPT.with_suffix(".yaml").read_text(encoding="utf-8"))
    names = [name for package in packages.values() for name in package["images"]]
    assert len(names) == len(set(names)) == 143
    assert all(re.fullmatch("[0-9a-f]{64}", package["sha256"]) and package["licence"] for package in packages.values())
