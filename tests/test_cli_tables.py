"""Tables in terminals of any width: they may grow long, and lose nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from srzoo.cli import console as consoles
from srzoo.cli.ablate import ablate_command
from srzoo.cli.bench import bench_command
from srzoo.cli.console import make_table, print_table

WIDTHS = [160, 80, 72, 60, 40, 20]
SCORES = ["#", "entry", "psnr ↑", "ssim ↑", "lpips_squeeze ↓", "ms", "params"]
ROWS = [
    ["1=", "srresnet-direct-x4", "32.01", "0.8462", "0.1695", "995", "1.07 M"],
    ["10=", "enhancenet-e-lite-x4", "31.99", "0.8417", "0.1839", "13,345", "24.8 K"],
]


def printed(
    monkeypatch: pytest.MonkeyPatch, width: int, header: list[str], right: list[str], rows: list[list[str]]
) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(consoles, "console", Console(file=stream, width=width))
    table = make_table(header, right=right)
    for row in rows:
        table.add_row(*row)
    print_table(table)
    return stream.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_of_a_leaderboard_is_cut_or_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = printed(monkeypatch, width, SCORES, [SCORES[0], *SCORES[2:]], ROWS)
    for row in ROWS:
        assert all(cell in text for cell in (row[0], *row[2:])), text
    letters = "".join(text.split())
    assert all(word in letters for word in ("psnr", "ssim", "lpips_squeeze", "ms", "params", "↑", "↓"))
    if width >= 80:
        assert all(row[1] in text for row in ROWS)


@pytest.mark.parametrize("width", [160, 80, 72])
def test_a_leaderboard_of_three_metrics_fits_a_terminal_of_72_columns(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = printed(monkeypatch, width, SCORES, [SCORES[0], *SCORES[2:]], ROWS)
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_texts_wrap_before_a_table_grows_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    summary = "Residual-in-residual dense block: three dense blocks, scaled skip around them"
    text = printed(monkeypatch, width, ["block", "owner", "summary"], [], [["rrdb", "esrgan", summary]])
    assert all(word in text for word in ("rrdb", "esrgan", "three", "skip"))
    if width >= 40:
        assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("command", [bench_command, ablate_command])
def test_help_leaves_line_breaks_to_the_terminal(command: object) -> None:
    paragraphs = (command.__doc__ or "").split("\n\n")
    assert len(paragraphs) > 1
    assert not any("\n" in paragraph for paragraph in paragraphs)
