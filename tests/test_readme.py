"""What the README promises is run."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.zoo import Source, Zoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_plugin_is_the_one_that_is_tested() -> None:
    for name in ("block.py", "__init__.py"):
        code = (ROOT / "plugins" / "example_block" / "srzoo_example_block" / name).read_text()
        assert f"# srzoo_example_block/{name}\n{code}" in blocks("python")
    (toml,) = blocks("toml")
    assert toml.strip() in (ROOT / "plugins" / "example_block" / "pyproject.toml").read_text()


def test_the_example_entry_resolves(tmp_path: Path) -> None:
    from srzoo.registry import get_registry
    from srzoo.zoo import get_zoo

    (text,) = blocks("yaml")
    (tmp_path / "zoo.yaml").write_text(text)
    main = get_zoo().source("esrgan-lite-x4")
    zoo = Zoo([main, Source(tmp_path / "zoo.yaml", "local", "local")], get_registry())
    (name,) = yaml.safe_load(text)
    assert zoo.entry(name).generator.options["block"] == {"name": "dense", "growth": 24}


def test_commands_that_look_around_work() -> None:
    (around,) = [block for block in blocks("") if "srzoo list block" in block]
    for line in around.strip().splitlines():
        arguments = shlex.split(line.partition("#")[0])[1:]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output


def test_every_entry_and_component_named_in_a_command_exists() -> None:
    from srzoo.zoo import get_zoo

    named = set(re.findall(r"[a-z0-9-]+-x4\b", README)) - {"photo-x4", "my-block-x4"}
    assert named
    assert named <= set(get_zoo().names())


TRAINING = (ROOT / "docs" / "training.md").read_text()
BENCHMARKING = (ROOT / "docs" / "benchmarking.md").read_text()
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text()
ABLATIONS = (ROOT / "docs" / "ablations.md").read_text()


def test_every_setting_named_in_the_docs_exists() -> None:
    from srzoo.recipe import Stage, Training

    text = README + TRAINING
    settings = set(re.findall(r"\btraining\.([a-z_]+)\b", text)) - {"py", "png", "md"}
    assert len(settings) > 5
    assert settings <= set(Training.model_fields)
    stage = set(re.findall(r"^\| `([a-z_]+)` \|", TRAINING.partition("Settings of a stage")[2], flags=re.MULTILINE))
    assert len(stage) >= 6
    assert stage <= set(Stage.model_fields)


def test_the_scores_of_the_readme_are_those_that_are_recorded() -> None:
    from srzoo.zoo import get_zoo

    found = re.findall(r"^\| `([a-z-]+-x4)` \| [\d,]+ \| (.*) \|$", README, flags=re.MULTILINE)
    recorded = {name: get_zoo().entry(name).recorded for name in get_zoo().names()}
    assert {name for name, _ in found} == {name for name, record in recorded.items() if record is not None}
    for name, row in found:
        for data, cell in zip(("set5", "set14", "bsd100"), row.split(" | "), strict=True):
            scores = recorded[name].scores[data]
            for text, metric in zip(cell.split(" / "), ("psnr", "ssim", "lpips_squeeze"), strict=True):
                assert_rounded(text, scores[metric], f"{name}, {data}")


def test_the_scores_beside_published_ones_are_those_that_are_recorded() -> None:
    from srzoo.zoo import get_zoo

    text = README.partition("### How far from the papers")[2].partition("\n## ")[0]
    text += (ROOT / "docs" / "classics.md").read_text().partition("## Published and here")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| `([a-z0-9-]+-x4)`[^|]* \| ([\d. |]+) \|$", text, flags=re.MULTILINE)
    rows = [(name, cells) for published, name, cells in rows if "rgb" not in published]
    assert len(rows) == 9
    for name, cells in rows:
        recorded = get_zoo().entry(name).recorded
        assert recorded is not None
        for data, cell in zip(("set5", "set14", "bsd100"), cells.split(" | "), strict=True):
            assert_rounded(cell, recorded.scores[data]["psnr"], f"{name}, {data}")


def assert_rounded(text: str, value: float, where: str) -> None:
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    assert abs(float(text) - value) <= half * 1.001, f"{where}: {text} stands for {value}"


RECORDED = ["esrgan-ablation-gpu", "esrgan-ablation-cpu-seeds", "esrgan-ablation-cpu"]
RECORDED += ["batchnorm-ablation-cpu", "deep-rrdb-ablation-cpu"]


@pytest.mark.parametrize("name", RECORDED)
def test_the_tables_of_the_page_on_ablations_are_the_results(name: str) -> None:
    (section,) = [text for text in ABLATIONS.split("\n## ") if f"results/{name})" in text]
    assert rows_that_are_the_results(section, name) >= 3


def test_the_table_of_the_readme_is_the_result_whose_figure_stands_above_it() -> None:
    (section,) = [text for text in README.split("\n## ") if text.startswith("Ablate\n")]
    (name,) = re.findall(r"results/([\w-]+)/figure\.png", section)
    assert rows_that_are_the_results(section, name) == 4


def rows_that_are_the_results(section: str, name: str) -> int:
    """Compare the rows of a section's table with a recorded one; return how many were compared."""
    with open(ROOT / "benchmarks" / "results" / name / "table.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["column"].startswith("psnr stage")]
    metrics = {"PSNR": "psnr", "SSIM": "ssim", "LPIPS (SqueezeNet)": "lpips_squeeze"}
    checked = 0
    for label, cells in re.findall(r"^\| ([^|]*) \| (.*) \|$", section, flags=re.MULTILINE):
        data, _, metric = label.partition(", ")
        of_metric = [row for row in rows if (row["dataset"], row["metric"]) == (data.lower(), metrics.get(metric))]
        if label == "training step of the generator, ms":
            values = [float(row["step_milliseconds"]) for row in rows if row["dataset"] + row["metric"] == "set14psnr"]
        elif label == "its memory, MiB":
            values = [
                int(row["step_peak_bytes"]) / 2**20 for row in rows if row["dataset"] + row["metric"] == "set14psnr"
            ]
        elif of_metric:
            values = [float(row["mean"]) for row in of_metric]
        else:
            continue
        checked += 1
        for text, value in zip(cells.split(" | "), values, strict=True):
            assert_rounded(text, value, label)
    return checked


def test_the_table_of_gan_criteria_is_the_result() -> None:
    (section,) = [text for text in ABLATIONS.split("\n## ") if "results/gan-criteria-ablation-cpu)" in text]
    with open(ROOT / "benchmarks" / "results" / "gan-criteria-ablation-cpu" / "table.csv", newline="") as file:
        found = {
            (row["dataset"], row["metric"], int(row["column"])): float(row["mean"])
            for row in csv.DictReader(file)
            if row["column"].isdigit()
        }
    rows = [line.split(" | ") for line in section.splitlines() if re.match(r"\| (cross|LSGAN|hinge|WGAN)", line)]
    assert len(rows) == 8
    for number, (label, *cells) in enumerate(rows):
        for column, cell in enumerate(cells, start=number % 4 * 3 + 1):
            for text, metric in zip(cell.strip(" |").split(" / "), ("psnr", "lpips_squeeze"), strict=True):
                dataset = ("set14", "bsd100")[number // 4]
                assert_rounded(text, found[dataset, metric, column], f"{label}, {dataset}, column {column}")


def test_the_table_of_interpolation_is_the_result() -> None:
    (section,) = [text for text in ABLATIONS.split("\n## ") if "results/interpolation)" in text]
    values: dict[tuple[str, str], list[float]] = {}
    with open(ROOT / "benchmarks" / "results" / "interpolation" / "results.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == "set14":
                values.setdefault((row["entry"], row["metric"]), []).append(float(row["value"]))
    for kind in ("network", "image"):
        (line,) = [line for line in section.splitlines() if line.startswith(f"| {kind}s | ")]
        cells = line.strip("| ").split(" | ")[1:]
        for weight, cell in zip(("0", "0.2", "0.4", "0.6", "0.8", "1"), cells, strict=True):
            for text, metric in zip(cell.split(" / "), ("psnr", "lpips_squeeze"), strict=True):
                of_images = values[f"{kind} {weight}", metric]
                assert_rounded(text, sum(of_images) / len(of_images), f"{kind}, {weight}, {metric}")


def test_what_batch_normalisation_takes_is_what_was_measured() -> None:
    (section,) = [text for text in ABLATIONS.split("\n### ") if text.startswith("What batch normalisation takes")]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if " blocks of " in line]
    record = json.loads((ROOT / "benchmarks" / "results" / "batchnorm_step.json").read_text())
    for cells, found in zip(lines, record["results"], strict=True):
        assert cells[0].startswith(found["name"])
        for text, middle, (low, high) in zip(cells[1:3], found["milliseconds"], found["quartiles"], strict=True):
            assert text == f"{middle:.0f} ({low:.0f} to {high:.0f})"
        saved = [100 * (1 - without / with_norm) for with_norm, without in (found["milliseconds"], found["peak_bytes"])]
        assert cells[3:] == [f"{percent:.0f} %" for percent in saved]


def test_every_file_the_docs_link_to_exists() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_entries_named_in_the_docs_exist_and_options_are_understood() -> None:
    from srzoo.zoo import get_zoo

    text = TRAINING + BENCHMARKING + CHECKPOINTS + ABLATIONS
    assert set(re.findall(r"[a-z0-9-]+-x4\b", text)) - {"photo-x4", "my-net-x4"} <= set(get_zoo().names())
    code = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    commands = re.findall(r"^.*?\bsrzoo ([a-z]+) (.*)$", code.replace("\\\n", " "), flags=re.MULTILINE)
    assert {name for name, _ in commands} >= {
        "train",
        "interpolate",
        "bench",
        "leaderboard",
        "weights",
        "export",
        "pull",
        "ablate",
    }
    for name, rest in commands:
        words = [name, rest.split()[0]] if name in ("weights", "plugin") and rest.split()[0].isalpha() else [name]
        helped = CliRunner().invoke(app, [*words, "--help"], terminal_width=200)
        assert helped.exit_code == 0, f"there is no command srzoo {name}"
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0]):
            assert option in helped.output, f"srzoo {name} has no option {option}"


def test_the_code_of_the_checkpoint_page_runs(tmp_path: Path) -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", CHECKPOINTS, flags=re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("srzoo params ")
    assert (tmp_path / "mine.safetensors").is_file()


def test_the_checkpoint_page_names_every_layout_and_format() -> None:
    from srzoo.exporting import FORMATS
    from srzoo.registry import get_registry

    for component in get_registry().find("layout"):
        assert f"`{component.name}`" in CHECKPOINTS
    assert set(re.findall(r"^\| `(\w+)` \| ", CHECKPOINTS, flags=re.MULTILINE)) >= set(FORMATS)


def test_every_extra_named_in_the_docs_exists() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    for extra in set(re.findall(r"srzoo\[(\w+)\]", README + CHECKPOINTS)):
        assert re.search(rf"^{extra} = \[", pyproject, flags=re.MULTILINE), extra


def test_commands_and_options_in_the_page_on_studies_exist() -> None:
    from srzoo.zoo import get_zoo

    text = (ROOT / "docs" / "studies.md").read_text()
    assert set(re.findall(r"[a-z0-9-]+-x4\b", text)) <= set(get_zoo().names())
    code = "\n".join(re.findall(r"```\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    commands = re.findall(r"\bsrzoo mos ([a-z]+)(.*)", code)
    assert {name for name, _ in commands} >= {"new", "serve", "invite", "status", "report", "export", "forget"}
    of_new = re.findall(r"^\| (`--.*?) \|", text, flags=re.MULTILINE)
    for name, rest in [*commands, *(("new", option) for option in of_new)]:
        helped = CliRunner().invoke(app, ["mos", name, "--help"], terminal_width=200)
        assert helped.exit_code == 0, f"there is no command srzoo mos {name}"
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in helped.output, f"srzoo mos {name} has no option {option}"


def test_the_changes_in_the_readme_are_the_results() -> None:
    rows = re.findall(r"^\| (\d) against (\d): [^|]* \| (.*) \|$", README, flags=re.MULTILINE)
    assert [first for first, _, _ in rows] == ["3", "4", "5", "6", "7"]
    for place, name in enumerate(["esrgan-ablation-gpu", "esrgan-ablation-cpu-seeds", "esrgan-ablation-cpu"]):
        with open(ROOT / "benchmarks" / "results" / name / "changes.csv", newline="") as file:
            found = {
                (row["first"], row["second"], row["metric"]): row
                for row in csv.DictReader(file)
                if (row["kind"], row["dataset"]) == ("column", "bsd100")
            }
        for first, second, cells in rows:
            texts = cells.split(" | ")[place].split(" / ")
            for text, metric in zip(texts, ("psnr", "lpips_squeeze"), strict=True):
                row = found[first, second, metric]
                assert_rounded(text.strip("*"), float(row["difference"]), f"{name}, {first}, {metric}")
                assert text.startswith("**") == (row["verdict"] in ("better", "worse")), f"{name}, {first}, {metric}"
