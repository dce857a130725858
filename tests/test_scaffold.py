"""srzoo plugin new: every kind of package passes its own tests at once, and plugins/template is what it writes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from venvs import Environment

from srzoo.cli import app
from srzoo.data import load_image_set, shared_images
from srzoo.errors import InputError
from srzoo.scaffold import TEMPLATES, write_package

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "plugins" / "template"


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_the_template_folder_is_what_the_command_writes(tmp_path: Path) -> None:
    written = write_package("my-block", "block", tmp_path / "my-block")
    assert tree(TEMPLATE) == tree(written.folder)
    assert set(tree(TEMPLATE)) == set(written.files)


def test_a_name_with_a_dot_is_one_entry_point(tmp_path: Path) -> None:
    """Bare, TOML would take it for a table in a table."""
    package = write_package("my.metric", "metric", tmp_path / "package")
    assert '\n"my.metric" = "my_metric"\n' in (package.folder / "pyproject.toml").read_text()


@pytest.mark.slow
def test_the_template_is_a_distribution_that_passes_its_tests_in_an_environment_of_its_own(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "template", ignore=shutil.ignore_patterns("__pycache__"))
    environment = Environment(tmp_path / "venv")
    for line, seen in (
        ("pip install ./template", ""),
        ("srzoo show my-block-x4 --diff srresnet-lite-x4", "my_block"),
        ("pytest -q -p no:cacheprovider -p no:xdist template", " passed"),
    ):
        done = environment.run(line, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert seen in done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 15


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package of every kind, with the dist-info that pip would leave."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in TEMPLATES:
        package = write_package(f"try-{kind}", kind, folder / f"try-{kind}")
        info = folder / "site" / f"try_{kind}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: try-{kind}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[srzoo]\ntry-{kind} = try_{kind}\n")
        (folder / "site" / f"try_{kind}").symlink_to(package.folder / f"try_{kind}")
    return folder


def with_packages(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(folder / "site"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_kind_passes_its_own_tests(packages: Path) -> None:
    """All but what imports do, which takes a process for each; the template's own test has it."""
    folders = [f"try-{kind}/tests" for kind in TEMPLATES]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "not import"]
    done = with_packages(packages, "pytest", *options, *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 10 * len(TEMPLATES)


@pytest.mark.slow
def test_every_kind_passes_what_takes_longer(packages: Path) -> None:
    for kind in TEMPLATES:
        done = with_packages(packages, "srzoo", "plugin", "check", f"try-{kind}", "--thorough")
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_written_is_clean_by_ruffs_own_rules_and_formatted(packages: Path) -> None:
    folders = [f"try-{kind}" for kind in TEMPLATES]
    for command in (
        ["check", "--isolated", "--select", "E,F,W,B,UP", "--line-length", "120"],
        ["format", "--check", "--isolated", "--line-length", "120"],
    ):
        done = with_packages(packages, "ruff", *command, *folders)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_entry_composes_and_none_is_named_like_another(packages: Path) -> None:
    listed = with_packages(packages, "srzoo", "plugins", "--strict")
    assert listed.returncode == 0, listed.stderr
    shown = with_packages(packages, "srzoo", "list", "try-*")
    assert shown.returncode == 0, shown.stderr
    assert all(f"try-{kind}-x4" in shown.stdout for kind in TEMPLATES)


def test_what_an_entry_is_benchmarked_on_it_was_not_trained_on(tmp_path: Path) -> None:
    for kind in TEMPLATES:
        package = write_package(f"my-{kind}", kind, tmp_path / kind)
        (entry,) = yaml.safe_load((package.folder / f"my_{kind}" / "zoo.yaml").read_text()).values()
        words = shlex.split(package.next_steps[-1])
        benchmarked = words[words.index("--data") + 1] if "--data" in words else "photos"
        trained = [load_image_set(name) for name in entry["training"]["data"] if name != "my_dataset"]
        assert shared_images([load_image_set(benchmarked)], trained) == []
        assert " ".join(words[:4]) in (package.folder / "README.md").read_text()
        assert bool(trained) is (kind != "dataset")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Block", "lower-case letters"),
        ("my block", "lower-case letters"),
        ("../evil", "lower-case letters"),
        ("-block", "lower-case letters"),
        ("block-", "lower-case letters"),
        ("", "lower-case letters"),
        ("3d-block", "begin with a letter, such as my-3d-block"),
        ("class", "Python cannot import"),
        ("json", "would hide the module 'json'"),
        ("torch", "would hide the module 'torch'"),
        ("srzoo", "would hide"),
        ("rrdb", "block 'rrdb' is already registered by plugin 'esrgan'"),
        ("esrgan", "already installed: plugin 'esrgan'"),
        ("edsr", "The zoo has an entry edsr-x4 already"),
        ("pillow", "A package pillow"),
        ("scikit-image", "which pip would replace"),
        ("skimage", "A module 'skimage' is installed"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        write_package(name, "block", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my-block").mkdir()
    (tmp_path / "my-block" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not empty; --out names another"):
        write_package("my-block", "block", tmp_path / "my-block")
    assert tree(tmp_path) == {"my-block/thesis.txt": "years of work"}
    with pytest.raises(InputError, match="is a file"):
        write_package("my-block", "block", tmp_path / "my-block" / "thesis.txt")


@pytest.mark.parametrize("existed", [False, True])
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool) -> None:
    written: list[Path] = []
    write, rename = Path.write_text, Path.rename

    def stop_writing(path: Path, text: str, **options: str) -> int:
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(path, text, **options)

    def stop_moving(path: Path, target: Path) -> Path:
        if path.name == "pyproject.toml" or not existed:
            raise KeyboardInterrupt
        return rename(path, target)

    folder = tmp_path / "deep" / "my-block"
    if existed:
        folder.mkdir(parents=True)
    for name, stop in (("write_text", stop_writing), ("rename", stop_moving)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, stop)
            with pytest.raises(KeyboardInterrupt):
                write_package("my-block", "block", folder)
        assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if existed else [])
    assert (write_package("my-block", "block", folder).folder / "pyproject.toml").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["my-block"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_working_folder_can_be_filled_and_is_no_installed_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_block").mkdir()
    monkeypatch.chdir(tmp_path / "my_block")
    (tmp_path / "my_block" / "other_things.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "my_block"))
    write_package("other-things", "block", tmp_path / "elsewhere")  # as 'python -m srzoo' has the folder on its path
    (tmp_path / "my_block" / "other_things.py").unlink()
    assert (write_package("my-block", "block", Path()).folder / "my_block" / "block.py").is_file()


def test_a_kind_without_a_template_gets_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no template for 'blok'\. Did you mean 'block'"):
        write_package("my-block", "blok", tmp_path / "package")


def test_a_folder_that_cannot_be_written_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = CliRunner().invoke(app, ["plugin", "new", "my-block", "--out", str(tmp_path / "file" / "below")])
    assert shown.exit_code == 2
    assert shown.exception is None or isinstance(shown.exception, SystemExit)


def test_the_command_tells_what_it_wrote_and_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["plugin", "new", "my.metric", "--kind", "metric"])
    assert shown.exit_code == 0, shown.output
    assert 'srzoo bench runs/my-metric-x4 bicubic --data "photos[3:]" --metric psnr,my_metric' in shown.output
    assert "pip install -e ./my.metric" in shown.output
    assert (tmp_path / "my.metric" / "my_metric" / "metric.py").is_file()
