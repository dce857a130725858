"""What stands in README and pages is run: commands as they are, but for what SMALLER and ELSEWHERE say, and other
blocks by the tests that OTHER_BLOCKS names.
"""

from __future__ import annotations

import random
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from reference_nets import RRDBNet
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.preflight import preflight
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/classics.md",
    "docs/training.md",
    "docs/benchmarking.md",
    "docs/checkpoints.md",
    "docs/ablations.md",
    "docs/studies.md",
]

OTHER_BLOCKS = {
    ("README.md", "python"): (3, "test_readme.py compares two with the example plugin, one is run below"),
    ("README.md", "toml"): (1, "test_readme.py"),
    ("README.md", "yaml"): (1, "test_readme.py"),
    ("docs/ablations.md", "yaml"): (1, "test_ablation.py makes a plan of it"),
    ("docs/checkpoints.md", "python"): (1, "test_readme.py"),
    ("docs/checkpoints.md", "yaml"): (1, "below"),
    ("docs/training.md", "yaml"): (2, "below"),
    ("docs/studies.md", "nginx"): (1, "by nothing: needs nginx and a certificate"),
    ("docs/write-a-block.md", ""): (4, "test_plugin_docs.py, in an environment of its own"),
    ("docs/write-a-block.md", "python"): (3, "likewise"),
    ("docs/write-a-block.md", "yaml"): (1, "likewise"),
    ("docs/discriminators-and-losses.md", ""): (2, "likewise"),
    ("docs/discriminators-and-losses.md", "python"): (5, "likewise"),
    ("docs/checks.md", ""): (1, "likewise"),
    ("docs/checks.md", "python"): (1, "test_plugin_docs.py evaluates it"),
}
"""Page and language of the blocks that are no commands of PAGES: how many there are, and which test runs them."""

ELSEWHERE = {
    "pip install": "tests/test_plugin_docs.py installs into environments of its own; an extra is a download",
    "pip install -e .": "what runs this test was installed so",
    "srzoo plugin": "tests/test_plugin_docs.py runs the page that these five commands are of",
    "srzoo train my-block-x4": "as before",
    "srzoo train esrgan-x4 --out runs/esrgan-x4-2": "tests/test_training.py goes on from a run that failed",
    "srzoo bench runs/my-block-x4": "as before",
    "srzoo mos serve": "tests/test_mos_*.py; a server has no end",
    "srzoo mos new study --entries srgan-lite-x4,rrdb-lite-x4 --data set5 &&": "as before",
    "accelerate launch": "needs several GPUs; tests/test_distributed.py runs two processes",
    "torchrun": "likewise",
    "OMP_NUM_THREADS=1 torchrun": "likewise",
    "srun": "needs a cluster",
    "timeout": "the gpu budget",
    "srzoo weights pull": "needs the network; tests/test_backbones.py pulls from a server of its own",
    "srzoo weights add": "a file of half a gigabyte; tests/test_backbones.py adds a small one",
    "srzoo push runs/esrgan-x4 me/my-esrgan": "needs an account; tests/test_hub.py has a hub of its own",
    "srzoo bench rrdb-lite-x4 bicubic --metric psnr,pyiqa": "tests/test_bridges.py, where pyiqa is installed",
    "pip install -e ./my-net": "as before",
    "srzoo weights import trained.pth": "tests/test_importing.py imports tensors under a network's own names",
    "srzoo bench mine.safetensors": "likewise",
    "srzoo interpolate ablation/runs": "its names stand for those of an ablation",
    "srzoo ablate esrgan": "tests/test_ablation.py runs the smoke budget",
}
"""Beginning of a command to where it is run instead, or why it is not."""

SMALLER = [
    (r"--steps 200", "--steps 2"),
    (r"^(srzoo train esrgan-lite-x4 --(?:track|out).*)", r"\1 --steps 2 training.validation=null"),
    (r"^(srzoo train esrgan-lite-x4.*)", r"\1 --data photos training.stages.gan.losses.perceptual=null"),
    (r"^(srzoo train .*)", r"\1 training.batch_size=2 training.precision=fp32"),
    (r"^(srzoo train (?:srres|srgan|rcan).*)", r"\1 training.patch_size=64"),
    (r"--out runs/mine training", "--out runs/seed training"),
    (r"--alpha 0:1:0.2 --data photos", "--alpha 0:1:0.5 --data set5"),
    (r"--data photos,my/photographs", "--data set5,my/photographs"),
    (r"~/datasets", "sets"),
    (
        r"^(srzoo bench (?:rrdb-lite-x4 --precision|rrdb-lite-x4 bicubic --size|\./4x|models).*)",
        r"\1 --data set5 --out b",
    ),
    (r"^srzoo leaderboard mine theirs", "srzoo leaderboard table"),
    (r"--metric lpips_squeeze,psnr", "--metric psnr"),  # its backbone is not there
    (r"^srzoo pull me/my-esrgan", "srzoo pull ./shared/my-esrgan"),
    (r"^(srzoo mos new study .*)", r"\1 --examples 2"),
    (r"^srzoo verify srresnet-lite-x4 --data set5,photos", "srzoo verify srresnet-lite-x4 --data photos"),
]
"""What makes a command quick, or fit to the pictures and checkpoints of :func:`world`."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of every block of a page."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert 2 * len(found) == len(re.findall(r"```|~~~", text)), "a block that is indented, or not closed"
    yield from found


def commands() -> list[tuple[str, str]]:
    """Return ``(page, command)`` of every shell block, comments left out, and in sentences of the page on studies."""
    found = []
    for page in PAGES:
        for block in (block for language, block in blocks(page) if language == ""):
            for line in block.replace("\\\n", " ").splitlines():
                command = " ".join(re.sub(r"(?:^|\s)#.*", "", line).split())
                if command:
                    found.append((page, command))
    sentences = re.findall(r"`(srzoo \w+ [^`]+)`", (ROOT / "docs/studies.md").read_text())
    return found + [("docs/studies.md", command) for command in sentences]


def elsewhere(command: str) -> str | None:
    return max((start for start in ELSEWHERE if command.startswith(start)), key=len, default=None)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``photo.jpg`` in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photo.jpg", 92)
    return tmp_path / "photo.jpg"


@pytest.fixture
def world(photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Path:
    """That folder with the datasets and checkpoints, too, that the pages speak of."""
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, name in enumerate(("set5", "set14", "bsd100", "bsds500_train", "bsds500_test")):
        for number in range(2):
            picture(tmp_path / "sets" / name / f"{number}.png", 10 * seed + number)
    picture(tmp_path / "my" / "photographs" / "mine.png", 91)
    for name in ("4x-model.pth", "RRDB_ESRGAN_x4.pth", "net.pth"):
        torch.save(RRDBNet(8, 1, 32, 2).state_dict(), tmp_path / name)
    torch.save({"params": RRDBNet(64, 23, 32, 2).state_dict()}, tmp_path / "net_g_400000.pth")
    for name in ("esrgan-x4", "mine"):
        made = CliRunner().invoke(app, [*shlex.split(SMALL_RUN), "--out", f"runs/{name}"])
        assert made.exit_code == 0, made.output
    return tmp_path


SMALL_RUN = (
    "train esrgan-psnr-x4 --data photos --steps 1 generator.num_features=8 generator.num_blocks=1 "
    "training.batch_size=1 training.patch_size=64 training.validation=null"
)


def test_what_is_run_elsewhere_stands_in_the_pages() -> None:
    found = {start for _, command in commands() if (start := elsewhere(command)) is not None}
    assert found == set(ELSEWHERE), "one of them is no command of a page any more"
    assert all(any(re.search(pattern, command) for _, command in commands()) for pattern, _ in SMALLER)


def test_every_block_of_the_pages_is_run() -> None:
    pages = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    found = Counter((page, language) for page in pages for language, _ in blocks(page))
    commands = {(page, "") for page in PAGES}
    assert commands <= set(found)
    told = "write which test runs it, or why none does, into OTHER_BLOCKS; a page of commands into PAGES"
    others = {key: number for key, number in found.items() if key not in commands}
    assert others == {key: number for key, (number, _) in OTHER_BLOCKS.items()}, told


FRAGMENTS = {
    "docs/training.md": (
        ("whole:\n  extends: drcn-x4\n  training.stages.psnr:\n", 4),
        ("taught:\n  extends: srresnet-annealed-x4\n", 2),
    )
}
"""What each fragment of a page is the end of, so many columns further right."""


@pytest.mark.parametrize("page", [page for (page, _), (_, test) in OTHER_BLOCKS.items() if test == "below"])
def test_the_entries_of_the_pages_compose(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    found = [text for language, text in blocks(page) if language == "yaml"]
    ends = FRAGMENTS.get(page, (("", 0),))
    text = "".join(
        start + indent(fragment, columns * " ") for (start, columns), fragment in zip(ends, found, strict=True)
    )
    (tmp_path / "zoo.yaml").write_text(text)
    monkeypatch.setenv("SRZOO_ZOO", str(tmp_path / "zoo.yaml"))
    for name in yaml.safe_load(text):
        preflight(get_zoo().entry(name))


def rate(folder: Path) -> None:
    """Let six raters answer a study, in place of ``srzoo mos serve``."""
    from srzoo.mos.ratings import open_ratings
    from srzoo.mos.study import load_study

    ratings = open_ratings(folder, *load_study(folder))
    draw = random.Random(0)
    for number in range(6):
        rater = ratings.add_rater(f"rater {number}", begun=True)
        for position in range(len(rater.plan)):
            ratings.rate(rater.token, position, draw.randint(1, 5), f"key-{position:05}", milliseconds=1500)
    ratings.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_pages_runs(page: str, world: Path) -> None:
    ran = 0
    if page == "docs/studies.md":
        pytest.importorskip("fastapi", reason="needs the packages of the extra 'mos'")
    for name, command in commands():
        if name == page and command == "srzoo mos serve study":
            rate(world / "study")
        if name != page or elsewhere(command) is not None:
            continue
        for pattern, smaller in SMALLER:
            command = re.sub(pattern, smaller, command)
        words = shlex.split(command)
        if words[0].startswith("SRZOO_DATA="):
            assert words.pop(0) == "SRZOO_DATA=sets"
        assert words[0] == "srzoo", command
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{command}\n{done.output[-3000:]}"
        ran += 1
    assert ran or page == "docs/ablations.md"


def test_the_python_of_the_readme_upscales(photograph: Path) -> None:
    (code,) = re.findall(r"```python\n(import srzoo\n.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    made: dict[str, Any] = {}
    exec(code, made)
    assert made["picture"].size == made["finest"].size == (384, 320)
    assert sum(weight.numel() for weight in made["generator"].parameters()) == 615_747
