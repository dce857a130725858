"""The progress bars of all long work."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from .console import errors


class _Speed(ProgressColumn):
    """Units a second, over the last minute or so."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")


def make_progress() -> Progress:
    """Return the progress bars of all long work."""

    def whole() -> Column:
        return Column(no_wrap=True)

    values = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # gives way where the terminal is narrow
    return Progress(
        TextColumn("{task.description}", table_column=whole()),
        BarColumn(bar_width=12, table_column=whole()),
        MofNCompleteColumn(table_column=whole()),
        TimeElapsedColumn(table_column=whole()),
        TimeRemainingColumn(table_column=whole()),
        _Speed(table_column=whole()),
        TextColumn("{task.fields[values]}", table_column=values),
        console=errors,
        expand=True,
    )
