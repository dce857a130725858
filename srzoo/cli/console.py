"""Consoles, the table style, and errors without tracebacks."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InterruptedRunError, SrzooError

console = Console()
errors = Console(stderr=True)

Command = TypeVar("Command", bound=Callable[..., None])


def reports_errors(command: Command) -> Command:
    """Turn an error that srzoo raises on purpose into one message and its exit code."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except SrzooError as error:
            rank = int(os.environ.get("RANK", "0"))
            # Of several processes, each says what stopped it: the launcher may end the first before it can. That
            # all were asked to stop, one says for all.
            errors.quiet = rank > 0 and isinstance(error, InterruptedRunError)
            print_error(f"process {rank}: {error}" if rank else str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print_error("interrupted.")
            raise typer.Exit(1) from None

    return wrapped  # type: ignore[return-value]


def print_error(message: str) -> None:
    """Print an error message to standard error."""
    errors.print(f"[bold red]error:[/bold red] {escape(message)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, undecorated."""
    typer.echo(json.dumps(value, indent=2))


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
