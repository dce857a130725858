"""Making a study: what is rendered, what is shown in which order, and what its files give away."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mos_studies import made_up_study
from PIL import Image
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.data import load_image_set
from srzoo.errors import DataError, InputError, UnknownNameError
from srzoo.images import to_tensor
from srzoo.mos.making import most_detailed, new_study, padded_png
from srzoo.mos.plan import MIN_GAP, alternatives, make_plan
from srzoo.mos.study import IMAGES, load_study
from srzoo.pretrained import load_model
from srzoo.scoring import upscaled


def shown(folder: Path, file: str) -> np.ndarray:
    return np.asarray(Image.open(folder / IMAGES / file))


# --- rendering ----------------------------------------------------------------------------------------------


def test_versions_are_what_the_benchmark_computes_cut_and_never_scaled(data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study = new_study(folder, "bicubic", "set5", versions="hr,nearest", size=200, examples=4)
    assert [v.label for v in study.versions] == ["bicubic", "HR", "nearest"]
    model, item = load_model("bicubic"), load_image_set("set5").items[2]
    lr, hr, _ = item.read_pair(4)
    sr = upscaled(model.generator, to_tensor(lr), 4)[0].permute(1, 2, 0).numpy()
    part = study.images[2]
    window = (slice(part.top, part.top + part.height), slice(part.left, part.left + part.width))
    assert (part.image, part.width, part.height, part.whole) == (item.name, 200, 200, False)
    assert np.array_equal(shown(folder, part.files["HR"]), hr[window])
    assert np.array_equal(shown(folder, part.files["bicubic"]), sr[window])
    assert (study.versions[0].configuration, study.versions[0].weights) != ("", "x")
    assert all(len({(folder / IMAGES / f).stat().st_size for f in i.files.values()}) == 1 for i in study.images)
    files = [f for i in study.images for f in i.files.values()] + [
        f for e in study.calibration for f in (e.lowest, e.highest)
    ]
    assert sorted(files) == sorted(p.name for p in (folder / IMAGES).iterdir()) and len(set(files)) == len(files)
    assert all(re.fullmatch(r"[\w-]{22}\.png", file) for file in files)
    assert (folder / "secret.json").stat().st_mode & 0o077 == 0
    assert load_study(folder)[0] == study


def test_interpolation_takes_the_scale_of_the_trained_entry_and_scales_do_not_mix(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import srzoo.mos.making as making

    found, labels = making._models(["hr", "bicubic", "nearest", "srgan-lite-x4"])
    assert {model.entry.scale for model in found.values()} == {4} and labels[0] == "HR"
    monkeypatch.setattr(making, "generator_spec", lambda entry: type("Spec", (), {"trainable": entry.name == "two"})())
    two = making.replace(load_model("bicubic"), name="two")
    two = making.replace(two, entry=two.entry.model_copy(update={"name": "two", "scale": 2}))
    real = load_model
    monkeypatch.setattr(making, "load_model", lambda name: two if name == "two" else real(name))
    found, _ = making._models(["two", "bicubic", "nearest"])
    assert {model.entry.scale for model in found.values()} == {2}
    output = upscaled(found["nearest"].generator, to_tensor(np.zeros((8, 9, 3), np.uint8)), 2)
    assert output.shape == (1, 3, 16, 18)


def test_the_crop_has_the_detail_and_is_of_the_original_alone() -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    picture[180:260, 250:330] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    left, top = most_detailed(picture, 128, 128)
    assert left <= 250 <= 330 <= left + 128 and top <= 180 <= 260 <= top + 128
    assert most_detailed(picture[:128, :128], 128, 128) == (0, 0)


def test_padding_makes_files_equal_and_leaves_the_picture() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (1, 2, 3)).save(buffer, "PNG")
    for more in (12, 13, 5000):
        padded = padded_png(buffer.getvalue(), len(buffer.getvalue()) + more)
        assert len(padded) == len(buffer.getvalue()) + more
        picture = Image.open(io.BytesIO(padded))
        picture.load()
        assert picture.getpixel((3, 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"entries": "bicubix"}, UnknownNameError, "Did you mean 'bicubic'"),
        ({"data": "nowhere"}, UnknownNameError, "No dataset is called 'nowhere'"),
        ({"mode": "stars"}, InputError, "no mode 'stars'; use rating or pair"),
        ({"size": 8}, InputError, "at least 32"),
        ({"entries": "", "versions": "hr"}, InputError, "compares at least two versions"),
        ({"entries": "", "versions": "hr,bicubic", "mode": "pair", "question": "closer"}, InputError, "Nothing is"),
        ({"versions": "bicubic,nearest", "mode": "pair", "question": "closer"}, InputError, "add hr"),
        ({"calibration": "PHOTOS"}, InputError, "are asked about; give other ones"),
        ({"database": "mysql://a/b"}, InputError, "not in mysql"),
        ({"database": "postgresql://u:p@127.0.0.1:1/x"}, DataError, r"u:\*\*\*@127.0.0.1:1/x\?.* cannot be opened"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_study_is_refused_and_leaves_nothing(
    tmp_path: Path, photos: str, changes: dict[str, str], error: type[Exception], message: str
) -> None:
    options = {"entries": "bicubic", "data": photos, "size": 64, **changes}
    if options.get("calibration") == "PHOTOS":
        options["calibration"] = photos
    with pytest.raises(error, match=message):
        new_study(tmp_path / "study", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_not_overwritten(tmp_path: Path, photos: str) -> None:
    new_study(tmp_path / "study", "bicubic", photos, examples=0)
    with pytest.raises(InputError, match="holds a study already"):
        new_study(tmp_path / "study", "bicubic", photos)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        new_study(tmp_path / "full", "bicubic", photos)


def test_a_study_whose_making_was_killed_is_made_anew(tmp_path: Path, photos: str) -> None:
    code = (
        "import sys; from srzoo.mos.making import new_study; new_study(sys.argv[1], 'bicubic', sys.argv[2], examples=0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "study"), photos])
    while process.poll() is None and not list(tmp_path.glob(".study.making/images/*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "study").exists() or (tmp_path / "study" / "study.json").exists()
    if not (tmp_path / "study").exists():
        new_study(tmp_path / "study", "bicubic", photos, examples=0)
    assert [p.name for p in tmp_path.iterdir()] == ["study"]
    assert len(load_study(tmp_path / "study")[0].images) == 12


# --- the order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "mode"), [(7, "rating"), (3, "rating"), (4, "pair"), (1, "rating")])
def test_orders_are_balanced_and_complete(tmp_path: Path, images: int, mode: str) -> None:
    study, _ = made_up_study(tmp_path / "study", images=images, mode=mode, repeats=0)
    units = len(alternatives(study))
    blocks = max(images, units)
    where: Counter[tuple[int, tuple[int, ...], int]] = Counter()
    for slot in range(blocks):
        trials = [t for t in make_plan(study, slot) if t.kind == "trial"]
        assert len({(t.image, tuple(sorted(t.versions))) for t in trials}) == len(trials) == images * units
        size = len(trials) // blocks
        for index, trial in enumerate(trials):
            where[trial.image, tuple(sorted(trial.versions)), index // size] += 1
        if images > 1:
            assert all(a.image != b.image for a, b in pairwise(trials))
    assert len(where) == images * units * blocks and set(where.values()) == {1}, "everything everywhere once"
    assert make_plan(study, 5) == make_plan(study, 5) != make_plan(study, 6)


def test_sides_of_pairs_are_exchanged_between_raters(tmp_path: Path) -> None:
    study, _ = made_up_study(tmp_path / "study", mode="pair", repeats=0)
    sides = [{(t.image, frozenset(t.versions)): t.versions for t in make_plan(study, s)[1:]} for s in range(2)]
    common = set(sides[0]) & set(sides[1])
    assert len(common) > 20 and all(sides[0][unit] == sides[1][unit][::-1] for unit in common if unit[0] < 4)
    first = [versions[0] < versions[1] for versions in sides[0].values()]
    assert 0.2 < np.mean(first) < 0.8


@pytest.mark.parametrize("mode", ["rating", "pair"])
def test_repeats_come_later_and_with_sides_exchanged(tmp_path: Path, mode: str) -> None:
    study, _ = made_up_study(tmp_path / "study", images=8, mode=mode, repeats=4)
    for slot in range(10):
        plan = make_plan(study, slot)
        repeats = [(p, t) for p, t in enumerate(plan) if t.kind == "repeat"]
        assert len(repeats) == 4
        for position, repeat in repeats:
            original = next(
                p for p, t in enumerate(plan)
                if t.kind == "trial" and t.image == repeat.image and t.versions == repeat.versions[::-1]
            )  # fmt: skip
            assert position - original >= MIN_GAP


def test_short_sessions_ask_everything_equally_often(tmp_path: Path) -> None:
    study, _ = made_up_study(tmp_path / "study", images=6, repeats=0, trials=8)
    asked: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for slot in range(6):
        trials = [t for t in make_plan(study, slot) if t.kind == "trial"]
        assert len(trials) == 8
        asked.update((t.image, t.versions) for t in trials)
    assert len(asked) == 24 and set(asked.values()) == {2}


def test_examples_show_both_ends_equally_often(tmp_path: Path) -> None:
    study, _ = made_up_study(tmp_path / "study", examples=20)
    assert Counter(t.expected for t in make_plan(study, 0)) == {1: 10, 5: 10, None: 18}


# --- the command line ---------------------------------------------------------------------------------------


def test_a_study_from_the_command_line(tmp_path: Path, photos: str, database: str) -> None:
    run = CliRunner().invoke
    text = tmp_path / "introduction.txt"
    text.write_text("Purpose.\n\nContact: <lab@example.org>")
    study = str(tmp_path / "study")
    made = run(app, ["mos", "new", study, "--entries", "bicubic", "--data", photos, "--size", "48", "--examples", "2",
                     "--introduction", str(text), "--seed", "3", "--open-raters", "7",
                     "--database", database])  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "12 images in 3 versions (bicubic, HR, nearest); a rater is asked 41 times" in made.output
    assert load_study(study)[0].open_raters == 7
    invited = run(app, ["mos", "invite", study, "Anna", "Bo", "--url", "https://mos.example.org/"])
    links = [line.split("\t") for line in invited.output.splitlines()]
    assert [link[0] for link in links] == ["1", "2"] and links[0][2] == "Anna"
    assert re.fullmatch(r"https://mos\.example\.org/r/[\w-]{22}", links[0][1])
    assert run(app, ["mos", "invite", study, "--count", "2"]).exit_code == 0
    status = run(app, ["mos", "status", study], terminal_width=120)
    assert "Anna" in status.output and "0/41" in status.output
    forgotten = run(app, ["mos", "forget", study, "1", "--answers"])
    assert "Name and link of 1 rater deleted, and 0 answers" in forgotten.output
    assert "Anna" not in run(app, ["mos", "status", study], terminal_width=120).output
    assert b"Anna" not in b"".join(p.read_bytes() for p in Path(study).rglob("*") if p.is_file())
    assert (Path(study) / "mos.sqlite").exists() == (not database)
    out = tmp_path / "ratings.csv"
    assert run(app, ["mos", "export", study, "--out", str(out)]).exit_code == 0
    assert out.read_text().startswith("rater,position,kind,dataset,image,version")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "STUDY"], "Nobody has answered anything yet"),
        (["report", "nowhere"], "holds no study.json"),
        (["report", "STUDY", "--bench", "nowhere"], "holds no results.sqlite"),
        (["forget", "STUDY", "9"], "There is no rater 9"),
        (["forget", "STUDY"], "Give either numbers of raters"),
        (["invite", "STUDY"], "Give either names of raters or --count"),
        (["new", "STUDY", "--entries", "bicubic", "--data", "photos"], "holds a study already"),
        (["serve", "STUDY", "--host", "no.such.host.invalid"], "There is no address"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    made_up_study(tmp_path / "study")
    given = [str(tmp_path / "study") if a == "STUDY" else a for a in arguments]
    result = CliRunner().invoke(app, ["mos", *given], terminal_width=200)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_damaged_study_and_a_wrong_database_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_study(tmp_path / "study")
    for url, message in (
        ("mysql://a/b", "not in mysql"),
        ("nonsense", "no URL of a database"),
        ("postgresql://u:secretword@127.0.0.1:1/x", "cannot be opened"),
    ):
        monkeypatch.setenv("SRZOO_MOS_DATABASE", url)
        result = CliRunner().invoke(app, ["mos", "status", str(tmp_path / "study")], terminal_width=300)
        assert result.exit_code and message in " ".join(result.output.split()), result.output
        assert "secretword" not in result.output
    monkeypatch.delenv("SRZOO_MOS_DATABASE")
    text = (tmp_path / "study" / "study.json").read_text()
    for damaged in (text[:200], text.replace('"mode"', '"mood"'), json.dumps({"format": 2})):
        (tmp_path / "study" / "study.json").write_text(damaged)
        with pytest.raises(DataError, match=r"study\.json is damaged or of a newer srzoo"):
            load_study(tmp_path / "study")


def test_the_pages_are_in_the_wheel() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(Path(__file__).parents[1]))
    files = {file.distribution_path for file in builder.recurse_included_files()}
    here = Path(__file__).parents[1] / "srzoo" / "mos"
    pages = [*here.glob("templates/*.j2"), *here.glob("static/*")]
    assert len(pages) >= 10
    assert {f"srzoo/mos/{page.parent.name}/{page.name}" for page in pages} <= files


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else real(name, *a))
    made_up_study(tmp_path / "study")
    result = CliRunner().invoke(app, ["mos", "status", str(tmp_path / "study")], terminal_width=200)
    assert result.exit_code == 2 and "fastapi, not installed here: pip install 'srzoo[mos]'" in result.output
    assert os.environ.get("SRZOO_MOS_DATABASE") is None
