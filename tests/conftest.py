"""Shared fixtures. Tests that need real data find it under SRZOO_DATA and say so when they skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one torch thread a worker; pytest-xdist has the cores

DATA = Path(os.environ.get("SRZOO_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data").resolve()
os.environ.pop("SRZOO_ZOO", None)
os.environ.pop("SRZOO_WEIGHTS", None)
os.environ.pop("SRZOO_PLUGINS", None)
if DATA.is_dir():
    os.environ["SRZOO_DATA"] = str(DATA)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with set5, set14, bsd100 and reference scores."""
    if not (DATA / "set5").is_dir():
        pytest.skip(f"needs the test sets under SRZOO_DATA; {DATA / 'set5'} is not there")
    return DATA


@pytest.fixture(scope="session")
def squeezenet(data_root: Path) -> Path:
    """Real SqueezeNet weights."""
    path = data_root.parent / "weights" / "squeezenet1_1_features.safetensors"
    if not path.is_file():
        pytest.skip(f"needs SqueezeNet's ImageNet weights; {path} is not there")
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of twelve small smooth pictures to train on."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    for index, coarse in enumerate(pixels):
        Image.fromarray(coarse).resize((48, 64), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return str(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for all tests of a session that store something in one; each makes a study of its own."""
    from mos_studies import postgres

    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Where a study stores what people say, one after the other: the URL, empty for SQLite in the study's folder."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of the tests and the tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Forget what was discovered, before and after."""
    from srzoo.options import _signature
    from srzoo.registry import get_registry
    from srzoo.zoo import get_zoo

    def clear() -> None:
        get_registry.cache_clear()
        get_zoo.cache_clear()
        _signature.cache_clear()

    clear()
    yield
    clear()
