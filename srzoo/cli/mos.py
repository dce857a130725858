"""``srzoo mos``: studies in which people rate images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ..errors import DataError, InputError
from .completion import complete_entry
from .console import console, make_table, print_json, print_table, reports_errors
from .progress import make_progress
from .values import checked_protocol, split_names

if TYPE_CHECKING:
    from ..mos.ratings import RatingStore
    from ..mos.report import StudyReport
    from ..mos.study import Secret, Study

mos_app = typer.Typer(
    help="Mean-opinion-score studies: people rate what entries make of images, in a browser.\n\n"
    "[bold]srzoo mos new[/bold] makes a study, [bold]serve[/bold] asks people, [bold]report[/bold] says what "
    "may be concluded.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

StudyFolder = Annotated[Path, typer.Argument(help="Folder of the study.", metavar="STUDY", show_default=False)]
Base = Annotated[
    str, typer.Option("--url", help="What raters reach the server by, such as https://mos.example.org.", metavar="URL")
]


@mos_app.command("new")
@reports_errors
def new_command(
    study: StudyFolder,
    entries: Annotated[
        list[str],
        typer.Option(
            "--entries",
            help="Entries, checkpoint files or run folders; commas or repeats.",
            metavar="NAME",
            show_default=False,
            autocompletion=complete_entry,
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option("--data", help="Datasets or folders; commas or repeats.", metavar="NAME", show_default=False),
    ],
    versions: Annotated[
        str, typer.Option("--versions", help="Further versions; hr is the original.", metavar="NAMES")
    ] = "hr,nearest,bicubic",
    mode: Annotated[str, typer.Option("--mode", help="rating (1 to 5) or pair (which of two).")] = "rating",
    question: Annotated[
        str, typer.Option("--question", help="Of pairs: which is nicer, or closer to the original shown beside.")
    ] = "nicer",
    size: Annotated[
        int, typer.Option("--size", help="Largest side shown, in pixels; larger images are cut, none is scaled.")
    ] = 512,
    crop: Annotated[
        str, typer.Option("--crop", help="Part of larger images: detail, centre or random; the same for all versions.")
    ] = "detail",
    trials: Annotated[
        int | None, typer.Option("--trials", help="At most so many for each rater.  \\[default: all]", min=1)
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", help="Shown twice, for consistency.  \\[default: a tenth]", min=0),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="Calibration examples before; 0 for none.", min=0)] = 20,
    calibration: Annotated[
        str, typer.Option("--calibration", help="Dataset or folder that examples are of.", metavar="NAME")
    ] = "photos",
    seed: Annotated[int, typer.Option("--seed", help="Of orders and random crops.")] = 0,
    title: Annotated[str, typer.Option("--title", help="What raters read above all pages.")] = "",
    introduction: Annotated[
        Path | None,
        typer.Option("--introduction", help="Text file for raters: purpose, contact, consent.", metavar="FILE"),
    ] = None,
    open_raters: Annotated[
        int, typer.Option("--open-raters", help="With so many raters nobody else may join by the open link.", min=0)
    ] = 500,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            help="postgresql://USER:PASSWORD@HOST/NAME for large studies.  \\[default: SQLite in STUDY]",
            metavar="URL",
        ),
    ] = "",
) -> None:
    """Make a study: render every version of every image once, and fix what raters see in which order.

    Example: [bold]srzoo mos new study --entries srgan-lite-x4,rrdb-lite-x4 --data set5[/bold].
    """
    _require_extra()
    from ..mos.making import new_study
    from ..mos.plan import session_length

    text = _read_introduction(introduction)
    with make_progress() as progress:
        task = progress.add_task("rendering", total=None, values="")

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, values=what)

        made = new_study(
            study,
            split_names(entries),
            split_names(data),
            versions=versions,
            mode=mode,  # type: ignore[arg-type]  # checked there
            question=question,  # type: ignore[arg-type]
            size=size,
            crop=crop,  # type: ignore[arg-type]
            seed=seed,
            calibration=calibration,
            examples=examples,
            repeats=repeats,
            trials=trials,
            title=title,
            introduction=text,
            open_raters=open_raters,
            database=database,
            progress=show,
        )
    labels = ", ".join(version.label for version in made.versions)
    console.print(
        f"{_counted(len(made.images), 'image')} in {len(made.versions)} versions ({labels}); a rater is asked "
        f"{session_length(made)} times, {_counted(made.examples, 'example')} and {_counted(made.repeats, 'repeat')} "
        "among them.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    console.print(f"[dim]srzoo mos serve {escape(str(study))}[/dim] asks them.", soft_wrap=True, highlight=False)


def _read_introduction(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The introduction {path} cannot be read: {error}.") from None


@mos_app.command("serve")
@reports_errors
def serve_command(
    study: StudyFolder,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen at.", min=1, max=65535)] = 8400,
    url: Base = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Take addresses of raters from a proxy on this machine.")
    ] = False,
) -> None:
    """Ask raters: serve the study until Ctrl-C.

    Prints the open link, by which anybody may join, and the link for you, who runs it.
    [bold]srzoo mos invite[/bold] makes a link for each rater instead.
    """
    _require_extra()
    from ..mos.serving import serve

    found, secret = _load(study)
    base = url.rstrip("/") or f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"

    def ready() -> None:
        console.print(f"Serving {escape(found.title)} until Ctrl-C.", highlight=False, soft_wrap=True)
        console.print(f"For raters:  {base}/join/{secret.open}", highlight=False, soft_wrap=True)
        console.print(f"For you:     {base}/admin/{secret.admin}", highlight=False, soft_wrap=True)

    serve(study, host, port, behind_proxy=behind_proxy, ready=ready)


@mos_app.command("report")
@reports_errors
def report_command(
    study: StudyFolder,
    bench: Annotated[
        Path | None,
        typer.Option(
            "--bench",
            help="Folder of 'srzoo bench' with the same entries and data: correlates its metrics with the opinions, "
            "which enter its leaderboard and page.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    screening: Annotated[
        bool, typer.Option("--screening/--no-screening", help="Leave out raters who do not look, or count all.")
    ] = True,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Under which the opinions are stored, where there is no --bench.")
    ] = "y",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report a study: scores with intervals, tests, agreement, screening, and what metrics say.

    Writes report.html, mos.csv and results.sqlite into the study's folder; [bold]srzoo leaderboard BENCH STUDY[/bold]
    ranks opinions beside metrics.

    Example: [bold]srzoo mos report study --bench bench[/bold].
    """
    _require_extra()
    from ..mos.report import report

    found = report(study, benchmark=bench, screened=screening, protocol=checked_protocol(protocol))
    if as_json:
        print_json(_as_json(found))
        return
    _print_report(found)
    console.print(f"[dim]To look at: {escape(str(study / 'report.html'))}[/dim]", highlight=False, soft_wrap=True)


def _print_report(found: StudyReport) -> None:
    is_pair = found.study.mode == "pair"
    for table in found.tables:
        score = "score" if is_pair else "MOS"
        shown = make_table(
            ["version", score, "95% interval", *(["won"] if is_pair else []), "answers"],
            right=[score, "won", "answers"],
            title=escape(f"{table.dataset}: {_counted(table.images, 'image')}, {_counted(table.raters, 'rater')}"),
        )
        for standing in table.standings:
            opinion = standing.opinion or standing.preference
            assert opinion is not None
            low, high = standing.interval
            interval = "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
            won = [f"{standing.preference.share:.0%}"] if standing.preference is not None else []
            shown.add_row(
                f"[bold]{escape(standing.label)}[/bold]", f"{standing.value:.2f}", interval, *won, str(opinion.answers)
            )
        print_table(shown)
        for difference in table.differences:
            if difference.p_holm is not None and not difference.told_apart:
                first, second = (found.study.versions[v].label for v in (difference.first, difference.second))
                _say(f"  {first} and {second} are not told apart ({difference.verdict})")
    alphas = ", ".join(f"{value:.2f} ({level})" for level, value in found.agreement.items())
    _say(f"{found.kept} of {found.answered} raters kept; Krippendorff's alpha {alphas}.")
    for screening in found.screenings:
        if screening.rejected:
            _say(f"  rater {screening.rater} {'' if found.screened else 'would be '}left out: {screening.reason}")
    if found.correlations:
        related = make_table(
            ["metric", "dataset", "of", "points", "Spearman", "95% interval", "Kendall"],
            right=["points", "Spearman", "Kendall"],
            title="Rank correlation of metrics with the opinion",
        )
        for c in found.correlations:
            interval = "" if math.isnan(c.low) else f"{c.low:+.2f} to {c.high:+.2f}"
            values = ["-" if math.isnan(x) else f"{x:+.2f}" for x in (c.spearman, c.kendall)]
            arrow = "↑" if c.higher_is_better else "↓"
            related.add_row(
                f"{c.metric} {arrow}", escape(c.dataset), c.level, str(c.points), values[0], interval, values[1]
            )
        print_table(related)
    for note in found.notes:
        _say(note)


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _as_json(found: StudyReport) -> dict[str, Any]:
    """Return a report as plain values; NaN, which JSON does not have, as null."""
    labels = [version.label for version in found.study.versions]

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return plain(dataclasses.asdict(value))
        if isinstance(value, Mapping):
            return {key: plain(part) for key, part in value.items() if part is not None}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    tables = []
    for table in plain(found.tables):
        for difference in table["differences"]:
            difference["first"], difference["second"] = labels[difference["first"]], labels[difference["second"]]
        tables.append(table)
    return {
        "title": found.study.title,
        "mode": found.study.mode,
        "raters": {"answered": found.answered, "kept": found.kept, "states": dict(found.states)},
        "answers": found.answers,
        "agreement": plain(found.agreement),
        "repeats_alike": plain(found.repeats),
        "screening": [{**plain(s), "rejected": s.rejected, "reason": s.reason} for s in found.screenings],
        "tables": tables,
        "correlations": plain(found.correlations),
        "notes": list(found.notes),
    }


@mos_app.command("invite")
@reports_errors
def invite_command(
    study: StudyFolder,
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of raters, where they are needed.", metavar="[NAME]...")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="So many raters without names.", min=1)] = None,
    url: Base = "http://127.0.0.1:8400",
) -> None:
    """Make a personal link for each rater, one a line.

    Example: [bold]srzoo mos invite study --count 26 --url https://mos.example.org[/bold].
    """
    if bool(names) == bool(count):
        raise InputError("Give either names of raters or --count.")
    with _Opened(study) as (_, _, ratings):
        for name in names or [""] * (count or 0):
            rater = ratings.add_rater(name)
            typer.echo(
                f"{rater.slot + 1}\t{url.rstrip('/')}/r/{rater.token}" + (f"\t{rater.name}" if rater.name else "")
            )


@mos_app.command("status")
@reports_errors
def status_command(study: StudyFolder) -> None:
    """Show the raters and how far they are."""
    with _Opened(study) as (found, _, ratings):
        from ..mos.progress import progress_rows

        rows = progress_rows(found, ratings.raters(), ratings.ratings())
        table = make_table(
            ["rater", "name", "state", "done", "seconds each", "repeats alike", "last answer (UTC)"],
            right=["rater", "done", "seconds each", "repeats alike"],
        )
        for row in rows:
            table.add_row(
                str(row.number),
                escape(row.name),
                row.state,
                f"{row.done}/{row.total}",
                "" if row.seconds is None else f"{row.seconds:.1f}",
                "" if row.same is None else f"{row.same:.0%}",
                row.seen[:16].replace("T", " "),
            )
        print_table(table)


@mos_app.command("export")
@reports_errors
def export_command(
    study: StudyFolder,
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.", metavar="FILE")] = Path("ratings.csv"),
) -> None:
    """Write every answer with its history as CSV, without names of raters."""
    with _Opened(study) as (found, _, ratings):
        from ..mos.progress import export_csv

        history = ratings.history()
        try:
            out.write_text(export_csv(found, ratings.raters(), history), encoding="utf-8")
        except OSError as error:
            raise DataError(f"Cannot write {out}: {error}.") from error
        console.print(f"{_counted(len(history), 'answer')} in {escape(str(out))}", highlight=False, soft_wrap=True)


@mos_app.command("forget")
@reports_errors
def forget_command(
    study: StudyFolder,
    raters: Annotated[
        list[int] | None, typer.Argument(help="Numbers of raters, as status shows them.", metavar="[RATER]...")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All raters.")] = False,
    answers: Annotated[bool, typer.Option("--answers", help="Delete their answers as well, with all history.")] = False,
) -> None:
    """Delete the names and links of raters, so that nothing leads from an answer to a person.

    Example: [bold]srzoo mos forget study 3 7 --answers[/bold].
    """
    if bool(raters) == everybody:
        raise InputError("Give either numbers of raters, as 'srzoo mos status' shows them, or --all.")
    with _Opened(study) as (_, _, ratings):
        slots = [rater.slot for rater in ratings.raters()] if everybody else [number - 1 for number in raters or []]
        deleted = ratings.forget(slots, ratings=answers)
        gone = f", and {_counted(deleted, 'answer')} with all changes" if answers else "; the answers remain"
        text = f"Name and link of {_counted(len(slots), 'rater')} deleted{gone}."
        console.print(text, highlight=False, soft_wrap=True)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Opened:
    """A study with its ratings, closed at the end."""

    def __init__(self, folder: Path) -> None:
        _require_extra()
        self._folder = folder

    def __enter__(self) -> tuple[Study, Secret, RatingStore]:
        from ..mos.ratings import open_ratings

        study, secret = _load(self._folder)
        self._ratings = open_ratings(self._folder, study, secret)
        return study, secret, self._ratings

    def __exit__(self, *_: object) -> None:
        self._ratings.close()


def _load(folder: Path) -> tuple[Study, Secret]:
    from ..mos.study import load_study

    return load_study(folder)


def _require_extra() -> None:
    from importlib.util import find_spec

    missing = [
        name for name in ("fastapi", "uvicorn", "sqlalchemy", "krippendorff", "choix") if find_spec(name) is None
    ]
    if missing:
        raise InputError(f"Studies need {', '.join(missing)}, not installed here: pip install 'srzoo[mos]'.")
