"""Models of a stranger's part: where its package is not installed, and where its code has changed since."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from plugin_site import Site

from srzoo.api import train
from srzoo.compose import build_generator
from srzoo.composition import full_composition, plugin_versions
from srzoo.errors import InputError, RecipeWarning, UnknownNameError
from srzoo.exporting import export
from srzoo.hub import pull, push
from srzoo.options import _signature
from srzoo.pretrained import load_model
from srzoo.registry import get_registry
from srzoo.weights import read_checkpoint, save_checkpoint
from srzoo.zoo import get_zoo

HOOK = """import srzoo

@srzoo.hookimpl
def srzoo_blocks():
    return [srzoo.BlockSpec("acme", "{module}_block:Acme", summary="A block")]
"""
BLOCK = """from torch import nn


class Acme(nn.Module):
    def __init__(self, channels: int, width: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, width, padding=width // 2)

    def forward(self, x):
        return x + self.conv(x)
"""
ABSENT = (
    r"No block is called 'acme/acme'.*made with acme-blocks 1\.2, which is not installed here: 'pip install acme-blo"
)


class Package:
    """The package of a stranger, with one block."""

    def __init__(self, site: Site, name: str = "acme") -> None:
        self.module = site.install(name, "", distribution="acme-blocks", version="1.2")
        (site.folder / f"{self.module}.py").write_text(HOOK.format(module=self.module))
        self.site, self.block = site, site.folder / f"{self.module}_block.py"
        self.block.write_text(BLOCK)
        forget()

    def change(self) -> None:
        self.block.write_text(BLOCK.replace("x + self", "x - self"))
        sys.modules.pop(f"{self.module}_block", None)
        importlib.invalidate_caches()
        forget()

    def remove(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(self.site.folder)])
        forget()


def forget() -> None:
    for cached in (get_registry, get_zoo, _signature):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Package:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    return Package(Site(tmp_path / "site"))


COMPOSED = {"generator.num_features": 4, "generator.num_blocks": 1, "generator.block": "acme"}
CHANGES = {
    **COMPOSED,
    "training.validation": None,
    "training.patch_size": 16,
    "training.batch_size": 1,
}


def trained(photos: str, out: str = "run") -> Path:
    return train("srresnet-lite-x4", out, data=photos, steps=2, overrides=CHANGES).weights


def test_without_the_package_every_use_names_it(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = get_zoo().entry("srresnet-lite-x4", {**COMPOSED, "training": None})
    description = {"composition": full_composition(entry), "plugins": plugin_versions()}
    save_checkpoint(Path("run/run.safetensors"), build_generator(entry).state_dict(), description)
    push("run", "./shared")
    (written,) = yaml.safe_load(Path("shared/zoo.yaml").read_text()).values()
    assert written["requires"] == ["acme-blocks 1.2"]
    assert "Needs acme-blocks 1.2 beside srzoo: `pip install acme-blocks`" in Path("shared/README.md").read_text()
    pull("./shared", "there")
    package.remove(monkeypatch)
    uses: list[Callable[[], object]] = [
        lambda: pull("./shared", "new"),
        lambda: load_model("there"),
        lambda: load_model("run"),
        lambda: export("shared/run.safetensors"),
    ]
    for use in uses:
        with pytest.raises(UnknownNameError, match=ABSENT) as found:
            use()
        assert ".pull-" not in str(found.value)
    assert not Path("new").exists()


def test_a_package_that_is_installed_is_not_named(package: Package, tmp_path: Path) -> None:
    generator = "{name: trunk, block: acmee, upsampler: pixelshuffle}"
    entry = f"mine: {{summary: s, generator: {generator}, requires: [Acme.Blocks 1.2, other]}}\n"
    (tmp_path / "zoo.yaml").write_text(entry)
    with pytest.raises(UnknownNameError, match=r"made with other, which is not installed here: 'pip install other'"):
        load_model(tmp_path)
    (tmp_path / "zoo.yaml").write_text(entry.replace("other", '"other; rm -rf"'))
    with pytest.raises(InputError, match="requires"):
        load_model(tmp_path)


def test_changed_code_under_weights_or_a_run_is_told(package: Package, photos: str) -> None:
    weights = trained(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecipeWarning)
        load_model(weights)
    before = weights.read_bytes()
    package.change()
    with pytest.warns(RecipeWarning, match=r"made with other source code of block 'acme/acme' \(acme-blocks 1\.2\)"):
        load_model("run")
    with pytest.warns(RecipeWarning, match=r"source code of block 'acme/acme' \(acme-blocks 1\.2\) has changed since"):
        trained(photos)
    assert weights.read_bytes() == before, "nothing was trained by what the code is now"
    tensors, description = read_checkpoint(weights)
    del description["sources"]
    save_checkpoint(weights, tensors, description)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecipeWarning)
        load_model(weights)


def test_what_srzoo_ships_is_described_as_before(tmp_path: Path, photos: str) -> None:
    changes = {**CHANGES, "generator.block": "residual"}
    found = train("srresnet-lite-x4", tmp_path / "run", data=photos, steps=1, overrides=changes)
    assert "sources" not in read_checkpoint(found.weights)[1]
    assert "requires" not in found.entry.model_dump()
