"""The pages for those who write plugins: every code block is run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from plugin_site import Site
from venvs import Environment

import srzoo
from srzoo.conformance.options import COMPONENTS
from srzoo.conformance.outcome import NETWORKS
from srzoo.conformance.run import CHECKS, Job, checks_of
from srzoo.conformance.subject import Subject
from srzoo.plugins import discover
from srzoo.reference import hook_reference
from srzoo.registry import Component

DOCS = Path(__file__).parents[1] / "docs"
FIRST_BLOCK, GAN_PARTS, CHECKS_PAGE = (
    (DOCS / name).read_text() for name in ("write-a-block.md", "discriminators-and-losses.md", "checks.md")
)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of every code block, in order."""
    yield from re.findall(r"^```([a-z]*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


def lines(text: str) -> list[str]:
    """Return the commands of a block, without comments and with continued lines joined."""
    joined = text.replace("\\\n", " ")
    return [line.partition("#")[0].strip() for line in joined.splitlines() if line.partition("#")[0].strip()]


def files(page: str) -> dict[str, str]:
    """Return the Python blocks that begin with the name of their file."""
    named = [
        re.fullmatch(r"# (\S+\.py)\n(.*)", text, flags=re.DOTALL) for name, text in blocks(page) if name == "python"
    ]
    return {found[1]: found[2] for found in named if found is not None}


def test_the_hook_reference_is_what_hookspecs_say() -> None:
    assert (DOCS / "hooks.md").read_text() == hook_reference(), "srzoo plugin hooks > docs/hooks.md"


def test_the_table_of_checks_is_complete() -> None:
    def of(kinds: tuple[str, ...]) -> str:
        rest = [kind for kind in kinds if kind not in NETWORKS]
        if kinds == COMPONENTS:
            return "all"
        return ", ".join(["networks", *rest] if set(NETWORKS) <= set(kinds) else kinds)

    expected = [f"| `{c.name}`{'*' if c.thorough else ''} | {of(c.kinds)} | {c.shows} |" for c in CHECKS]
    assert re.findall(r"^\| `.*$", CHECKS_PAGE, flags=re.MULTILINE) == expected


def test_the_exemption_of_the_page_can_be_written_so() -> None:
    (code,) = [text for name, text in blocks(CHECKS_PAGE) if name == "python"]
    spec = eval(code, {"srzoo": srzoo})
    assert set(spec.exempt) <= {check.name for check in checks_of("block")}


@pytest.mark.parametrize("page", [FIRST_BLOCK, GAN_PARTS], ids=["block", "discriminator and losses"])
def test_what_the_pages_write_passes_every_check(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    site = Site(tmp_path)
    suffix = re.sub(r"\W", "", tmp_path.name)  # a module of this name may be loaded already
    for name, text in files(page).items():
        package, _, module = name.partition("/")
        if module == "test_my_block.py":
            continue
        (tmp_path / f"{package}_{suffix}").mkdir(exist_ok=True)
        text = re.sub(rf"\b{package}\.", f"{package}_{suffix}.", text)
        (tmp_path / f"{package}_{suffix}" / module).write_text(text)
    for package in {name.partition("/")[0] for name in files(page)} - {"tests"}:
        site.install(package, f"from {package}_{suffix} import *\n")
    records = discover(site.entry_points())
    assert [record.error for record in records] == [""] * len(records)
    components = [Component(spec, record) for record in records for spec in record.specs]
    assert components
    for component in components:
        jobs = [Job(check, Subject(component)) for check in checks_of(component.kind, thorough=False)]
        assert [f"{f.check}: {f.reason}" for f in (job() for job in jobs) if f.status == "fail"] == []


def run_page(page: str, environment: Environment, folder: Path) -> dict[str, float]:
    """Do what a page says, block by block; return the seconds of each command."""
    took: dict[str, float] = {}
    for language, text in blocks(page):
        if language == "python":
            (name,) = files(f"```python\n{text}```\n")
            package = name.partition("/")[0].replace("_", "-") if not name.startswith("tests/") else "my-block"
            (folder / package / name).write_text(text)
        elif language == "yaml":
            with (folder / "my-block" / "my_block" / "zoo.yaml").open("a") as file:
                file.write("\n" + text)
            (entry,) = yaml.safe_load(text)
            shown = environment.run(f"srzoo show {entry}", folder)
            assert shown.returncode == 0, shown.stderr
        else:
            for line in lines(text):
                start = time.perf_counter()
                done = environment.run(line, folder)
                assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
                took[line] = time.perf_counter() - start
    return took


@pytest.mark.slow
def test_from_an_empty_folder_to_a_benchmark_in_five_commands(tmp_path: Path) -> None:
    """And all else that the page says, in an environment of its own."""
    environment = Environment(tmp_path / "venv")
    folder = tmp_path / "empty"
    folder.mkdir()
    took = run_page(FIRST_BLOCK, environment, folder)
    first = next(text for language, text in blocks(FIRST_BLOCK) if not language)
    assert len(lines(first)) == 5
    assert sum(took[line] for line in lines(first)) < 300
    assert "| my-block-x4 |" in (folder / "bench" / "leaderboard.md").read_text()


@pytest.mark.slow
def test_the_page_on_discriminators_and_losses_runs(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    folder = tmp_path / "empty"
    folder.mkdir()
    run_page(GAN_PARTS, environment, folder)


@pytest.mark.slow
def test_the_commands_of_the_page_on_checks_run(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    assert environment.run("srzoo plugin new my-block", tmp_path).returncode == 0
    assert environment.run("pip install ./my-block", tmp_path).returncode == 0
    (commands,) = [text for language, text in blocks(CHECKS_PAGE) if not language]
    for line in lines(commands):
        done = environment.run(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
