"""Consoles, the table style, and errors without tracebacks."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from ..errors import InterruptedRunError, SrzooError

console = Console()
errors = Console(stderr=True)

Command = TypeVar("Command", bound=Callable[..., None])

_reserved: list[int] = []
"""The descriptor of standard output, where it is kept for JSON."""
_LEAST_TEXT = 12
"""Width that a column of text keeps, where it has as much."""


def reports_errors(command: Command) -> Command:
    """Turn an error that srzoo raises on purpose, or the exit of a plugin, into one message and an exit code."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        if options.get("as_json"):
            _reserve_standard_output()
        try:
            command(*arguments, **options)
        except SrzooError as error:
            rank = int(os.environ.get("RANK", "0"))
            # Of several processes, each says what stopped it: the launcher may end the first before it can. That
            # all were asked to stop, one says for all.
            errors.quiet = rank > 0 and isinstance(error, InterruptedRunError)
            if isinstance(error, InterruptedRunError):  # it was wanted, and nothing is lost
                errors.print(f"[yellow]{escape(str(error))}[/yellow]", highlight=False, soft_wrap=True)
            else:
                print_error(f"process {rank}: {error}" if rank else str(error))
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            print_error(f"what is printed cannot be written: {error.strerror}.")
            raise typer.Exit(1) from None
        except SystemExit as error:  # of a plugin, where no part is at work that could be named
            from ..plugins import describe_exception

            if isinstance(error.__context__, BrokenPipeError):  # of rich: nobody reads on
                raise
            print_error(f"code of a plugin or library ended srzoo: {describe_exception(error)}.")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("[yellow]stopped by SIGINT.[/yellow]")
            raise typer.Exit(128 + signal.SIGINT) from None

    # Help is laid out for the reader's terminal, in which the line breaks of the source would stand in mid-sentence.
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    wrapped.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return wrapped  # type: ignore[return-value]


def _reserve_standard_output() -> None:
    """Keep standard output for :func:`print_json` until the process ends; what else is written to it goes to errors.

    Plugins print where they are imported, called and ended, and so do C libraries and processes that they start.
    """
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout or _reserved:  # it is another's already, as in tests
        return
    with contextlib.suppress(OSError):  # where there is no standard error, nothing can be told apart
        stdout.flush()
        copy = os.dup(1)
        os.dup2(2, 1)
        _reserved.append(copy)


def print_error(message: str) -> None:
    """Print an error message to standard error."""
    errors.print(f"[bold red]error:[/bold red] {escape(message)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, undecorated; NaN and infinity, which JSON does not have, as null."""
    text = json.dumps(_strict(value), indent=2, allow_nan=False)
    if not _reserved:
        typer.echo(text)
        return
    with open(_reserved[0], "w", closefd=False) as file:  # JSON is ASCII, whatever the terminal's encoding
        file.write(text + "\n")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_table(columns: Sequence[str], right: Sequence[str] = (), title: str = "") -> Table:
    """Return a table in the house style; ``right`` names the columns of numbers."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1),
    )
    for index, column in enumerate(columns):
        number = column in right
        whole = number or index == 0 or column == "entry"
        table.add_column(column, justify="right" if number else "left", no_wrap=whole, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table so that no number and no name of it is cut, however narrow the terminal.

    Where it does not fit, rich would cut the cells of a column that may not wrap, without a sign: ``1.07 M`` became
    ``1.07``. Here the gaps give way first, then texts wrap, then headers, then names, and at last the table is wider
    than the terminal.
    """
    if _width(table) > console.width:
        table.collapse_padding = True
        sizes = [_sizes(column) for column in table.columns]
        gaps = _width(table) - sum(max(size.cell, size.header) for size in sizes)
        for may_wrap in ("texts", "headers", "names"):
            least = [_confine(column, size, may_wrap) for column, size in zip(table.columns, sizes, strict=True)]
            if gaps + sum(least) <= console.width:
                break
        else:
            table.width = gaps + sum(least)
    console.print(table, crop=False)


class _Sizes(NamedTuple):
    """Widths of a column's widest cell, of its header, and of the longest word of that."""

    cell: int
    header: int
    word: int


def _width(table: Table) -> int:
    """Return how wide a table is that nothing confines."""
    return table.__rich_measure__(console, console.options.update(width=10_000)).maximum


def _sizes(column: Column) -> _Sizes:
    header, *cells = (Text.from_markup(str(cell)) for cell in (column.header, *column.cells))
    lines = (cell_len(line) for cell in cells for line in cell.plain.split("\n"))
    words = (cell_len(word) for word in header.plain.split())
    return _Sizes(max(lines, default=1), header.cell_len, max(words, default=0))


def _confine(column: Column, size: _Sizes, may_wrap: str) -> int:
    """Tell rich how narrow a column may become where texts, headers too, or names too may wrap; return it."""
    number, name = column.justify == "right", column.no_wrap or column.width is not None
    if number or (name and may_wrap != "names"):
        # A column of a fixed width is none that rich makes narrower; that its header wraps has to be said.
        column.width = max(size.cell, size.header if may_wrap == "texts" else size.word)
        column.no_wrap = may_wrap == "texts"
        return column.width
    column.width, column.no_wrap = None, False
    column.min_width = max(size.word, min(size.cell, _LEAST_TEXT))
    return column.min_width
