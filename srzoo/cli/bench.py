"""``bench`` and ``leaderboard``: computing scores, and ranking what was computed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import TaskID

from ..errors import InputError, did_you_mean, labelled
from .completion import complete_entry, complete_metric
from .console import console, errors, make_table, print_error, print_json, print_table, reports_errors
from .progress import make_progress
from .values import checked_protocol, split_names

if TYPE_CHECKING:
    from ..leaderboard import Leaderboard
    from ..report import Row
    from ..store import CostRow


@reports_errors
def bench_command(
    entries: Annotated[
        list[str] | None,
        typer.Argument(
            help="Entries, checkpoint files or run folders; all that are ready by default. NAME+ is its "
            "self-ensemble, the mean over eight flips and turns.",
            metavar="[ENTRY]...",
            autocompletion=complete_entry,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Datasets or folders (HR images, or HR/ and LR_x4/).  \\[default: photos]",
            metavar="NAME|FOLDER",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Metrics.  \\[default: psnr,ssim,lpips_alex,lpips_squeeze]",
            metavar="NAME",
            autocompletion=complete_metric,
        ),
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="y, y-matlab or rgb.")] = "y",
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="fp32, bf16, fp16, or several to compare.  \\[default: fp32]", metavar="NAME"),
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--size",
            help="Side of the square input that time and memory are measured for; may repeat.  \\[default: 128]",
            metavar="PIXELS",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Upscale in tiles of this side; 0: never.  \\[default: what is above a megapixel, or memory]",
            metavar="PIXELS",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            help="Outputs of an image that are scored at once.  \\[default: 8 on a GPU, 1 on a CPU]",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the results, leaderboard.md and report.html.", metavar="DIR"),
    ] = Path("bench"),
    pictures: Annotated[
        int, typer.Option("--pictures", help="Images whose outputs report.html shows; 0 leaves no report.", min=0)
    ] = 12,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Keep what the folder holds already, or compute everything anew."),
    ] = True,
) -> None:
    """Benchmark models against each other and print a leaderboard.

    Without arguments it needs nothing downloaded: the photographs come with scikit-image. Run it again to go on
    where it was stopped, or to add entries: what is known is not computed again.

    Examples: [bold]srzoo bench[/bold], [bold]srzoo bench bicubic runs/mine --data set5,set14 --metric psnr,ssim[/bold].
    """
    from ..benchmark import bench
    from ..coverage import comparable
    from ..harness import LATENCY_SIZE
    from ..precisions import automatic
    from ..remarks import remark_notes
    from ..report import unsteady

    chosen = checked_protocol(protocol)
    if entries and not split_names(entries):
        raise InputError("The entry is an empty name; leave it out to benchmark all that are ready.")
    if int(os.environ.get("RANK", "0")) > 0:  # one of several processes speaks for all
        console.quiet = errors.quiet = True
    tasks: dict[str, TaskID] = {}
    with make_progress() as progress:

        def show(entry: str, dataset: str, done: int, total: int) -> None:
            if dataset not in tasks:
                tasks[dataset] = progress.add_task(dataset, total=total, values="")
            progress.update(tasks[dataset], completed=done, values=entry)

        result = bench(
            split_names(entries) or None,
            split_names(data) or None,
            split_names(metric) or None,
            protocol=chosen,
            precision=split_names(precision) or "fp32",
            sizes=sizes or LATENCY_SIZE,
            tile=tile,
            batch=batch,
            out=out,
            pictures=pictures,
            resume=resume,
            progress=show,
        )
    _print_boards(result.leaderboards, result.directions, protocol)
    _print_seeds(result.rows, result.recipes, result.panels)
    ranked = comparable([r for r in result.rows if r.entry not in result.failed], result.directions).rows
    _print_precisions(
        ranked, automatic(result.directions, result.panels), result.directions, result.bases, result.costs
    )
    if len(sizes or ()) > 1:
        _print_costs(result.costs)
    size = sizes[0] if sizes else LATENCY_SIZE
    known = len(result.rows) - result.computed
    note = f", {known} of {len(result.rows)} known from before" if known else ""
    note += f". To look at: {out / 'report.html'}" if (out / "report.html").is_file() else ""
    console.print(
        f"[dim]ms: median for one {size}x{size} input. Rows: {out / 'results.csv'}{note}[/dim]",
        soft_wrap=True,
        highlight=False,
    )
    of_images = [remark for remark in result.remarks if remark.image and remark.entry not in result.failed]
    for text in remark_notes(of_images):  # what holds of a whole dataset was a warning before the first image
        console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True, highlight=False)
    if caution := unsteady(result.costs):
        console.print(f"[dim]{escape(caution)}[/dim]", soft_wrap=True, highlight=False)
    if result.left_out:
        console.print(
            f"[dim]Left out, being slow on a CPU: {', '.join(result.left_out)}. Name them to have them.[/dim]",
            soft_wrap=True,
            highlight=False,
        )
    for what, reason in result.unmeasured.items():
        told = f"{what} was not measured: {reason}"
        errors.print(f"[yellow]{escape(told)}[/yellow]", highlight=False, soft_wrap=True)
    for name, reason in result.unavailable.items():
        errors.print(f"[yellow]{escape(labelled(name, reason))}[/yellow]", highlight=False, soft_wrap=True)
    for name, reason in result.failed.items():
        print_error(f"{name}: {reason}")
    if result.failed:
        raise typer.Exit(1)


def _print_boards(boards: Sequence[Leaderboard], directions: Mapping[str, bool], protocol: str) -> None:
    from ..leaderboard import table
    from ..report import panel_text

    for board in boards:
        header, cells = table(board, directions)
        asked = panel_text(board.panel)
        title = f"{board.dataset}: {board.images} images, protocol {protocol}{'; ' if asked else ''}{asked}"
        shown = make_table(header, right=["#", *header[2:]], title=escape(title))
        for row in cells:
            shown.add_row(row[0], f"[bold]{escape(row[1])}[/bold]", *row[2:])
        print_table(shown)
        for note in board.notes:
            console.print(f"[yellow]{escape(note)}[/yellow]", highlight=False, soft_wrap=True)


def _print_seeds(rows: Sequence[Row], recipes: Mapping[str, str], panels: Mapping[str, Mapping[str, int]]) -> None:
    from ..leaderboard import seed_line
    from ..statistics import group_seeds

    for group in group_seeds(rows, recipes):
        line = seed_line(group, opinion=group.metric in panels.get(group.dataset, {}))
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _print_costs(costs: Mapping[str, Sequence[CostRow]]) -> None:
    from ..report import cost_table

    header, cells = cost_table(costs)
    header, *cells = ([row[0], *row[3:]] for row in (header, *cells))  # parameters stand in the leaderboard
    shown = make_table(header, right=header[1:], title="cost of one forward pass, batch 1")
    for row in cells:
        shown.add_row(f"[bold]{escape(row[0])}[/bold]", *(escape(text) for text in row[1:]))
    print_table(shown)


def _print_precisions(
    rows: Sequence[Row],
    metrics: Sequence[str],
    directions: Mapping[str, bool],
    bases: Mapping[str, tuple[str, str]],
    costs: Mapping[str, Sequence[CostRow]],
) -> None:
    from ..precisions import precision_losses, precision_table

    losses = precision_losses(rows, metrics, bases, costs)
    if losses:
        header, cells = precision_table(losses, directions, intervals=False)
        title = "lower precisions against float32: differences of means, and parts of its time and memory"
        shown = make_table(header, right=header[3:], title=title)
        for row in cells:
            shown.add_row(f"[bold]{escape(row[0])}[/bold]", *(escape(text) for text in row[1:]))
        print_table(shown)


@reports_errors
def leaderboard_command(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that srzoo bench wrote.", metavar="DIR...", show_default=False)
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metrics, the first of which ranks.  \\[default: all that are there]"),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Datasets.  \\[default: all that are there]", metavar="NAME")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="y, y-matlab or rgb, where there are several.", show_default=False)
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option("--export", help="Write all rows to a .csv, .json or .parquet file; may repeat.", metavar="FILE"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Write the report page, one HTML file.", metavar="FILE", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the leaderboards as JSON.")] = False,
) -> None:
    """Rank what one or several benchmarks computed, with intervals and tests.

    Neighbours are compared image by image: the mean difference, its bootstrap 95 % interval, and Wilcoxon's
    signed-rank test with Holm's correction. Those that the test cannot tell apart share a place.

    Examples: [bold]srzoo leaderboard bench[/bold], [bold]srzoo leaderboard mine theirs --metric lpips_squeeze,psnr
    --export all.parquet[/bold].
    """
    from ..coverage import comparable
    from ..gallery import MAX_IMAGES
    from ..leaderboard import comparison_lines, leaderboards
    from ..merged import merge
    from ..page import PageData, page_costs, write_page
    from ..precisions import automatic, float32_of
    from ..report import panel_notes
    from ..results import export_scores

    merged = merge(folders, protocol)
    wanted = _known(split_names(metric), list(merged.directions), "metric")
    sets = _known(split_names(data), list(dict.fromkeys(row.dataset for row in merged.rows)), "dataset")
    directions = {name: merged.directions[name] for name in wanted}
    rows = [row for row in merged.rows if row.metric in wanted and row.dataset in sets]
    panels = {
        name: {metric: raters for metric, raters in asked.items() if metric in wanted}
        for name, asked in merged.panels.items()
    }
    boards = leaderboards(rows, directions, merged.timing.compared, panels)
    notes = merged.notes(sets, wanted)
    bases = float32_of(merged.models)
    for path in export or []:
        export_scores([s for s in merged.scores if s.metric in wanted and s.dataset in sets], path)
        errors.print(f"[dim]wrote {escape(str(path))}[/dim]", soft_wrap=True)
    if page is not None:
        shown = {name: images for name, images in merged.pictures.items() if name in sets}
        write_page(
            page,
            PageData(
                rows,
                directions,
                page_costs(merged.costs, merged.timing.compared),
                merged.protocol,
                merged.timing.device,
                merged.timing.size or PageData.latency_size,
                [*notes, *panel_notes(panels)],
                shown,
                recipes=merged.recipes or None,
                panels=panels,
                bases=bases,
            ),
            max_images=max(MAX_IMAGES, sum(map(len, shown.values()))),
        )
        errors.print(f"[dim]wrote {escape(str(page))}[/dim]", soft_wrap=True)
    if as_json:
        print_json([dataclasses.asdict(board) for board in boards])
        return
    for board in boards:
        _print_boards([board], directions, merged.protocol)
        for line in comparison_lines(board, directions):
            console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
        console.print()
    _print_seeds(comparable(rows, directions).rows, merged.recipes, panels)
    ranked = comparable(rows, directions).rows
    _print_precisions(ranked, automatic(wanted, panels), directions, bases, merged.costs)
    for text in filter(None, [*notes, merged.timing.text]):
        console.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)


def _known(asked: list[str], there: list[str], what: str) -> list[str]:
    for name in asked:
        if name not in there:
            raise InputError(f"No {what} {name!r} is there.{did_you_mean(name, there)} There are {', '.join(there)}.")
    return asked or there
