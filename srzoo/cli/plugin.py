"""``srzoo plugin``: a package of one's own, begun, checked and explained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import TaskID

from .completion import complete_component_or_plugin, complete_template
from .console import console, make_table, print_json, print_table, reports_errors
from .progress import make_progress

if TYPE_CHECKING:
    from ..conformance.outcome import Finding, Report

plugin_app = typer.Typer(
    help="Write a plugin: a package to begin with, checks of what it promises, the hooks it can implement.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@plugin_app.command("new")
@reports_errors
def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the package, e.g. my-block.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="block, generator, discriminator, loss, metric, dataset or upsampler.",
            autocompletion=complete_template,
        ),
    ] = "block",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write.  \\[default: NAME]", metavar="DIR")
    ] = None,
) -> None:
    """Write a package of your own that installs, passes its tests and trains at once.

    Example: [bold]srzoo plugin new my-block --kind block[/bold], then [bold]pip install -e ./my-block[/bold].
    """
    from ..scaffold import write_package

    package = write_package(name, kind, out)
    table = make_table(["file", ""])
    for file, purpose in package.files.items():
        table.add_row(f"[bold]{escape(file)}[/bold]", purpose)
    console.print(f"Wrote {escape(str(package.folder))}", highlight=False, soft_wrap=True)
    print_table(table)
    for command in package.next_steps:
        console.print(escape(command), style="bold", highlight=False, soft_wrap=True)


@plugin_app.command("check")
@reports_errors
def check_plugin(
    name: Annotated[
        str,
        typer.Argument(
            help="A plugin, an installed package, or KIND/NAME of a component.",
            show_default=False,
            autocompletion=complete_component_or_plugin,
        ),
    ],
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also torch.export and torch.compile, which take a while.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what a plugin's components promise: shapes, gradients, determinism, storage, options, imports.

    Exits with 1 if a check fails. The plugin's own tests run the same with
    [bold]test_conforms = srzoo.testing.conformance("NAME")[/bold].
    """
    from ..conformance.run import check

    with make_progress() as progress:
        tasks: list[TaskID] = []  # none as long as the name is not known to be a plugin's

        def show(done: int, total: int, current: str) -> None:
            if not tasks:
                tasks.append(progress.add_task("checking", total=total, values=""))
            progress.update(tasks[0], completed=done, total=total, values=current)

        report = check(name, thorough, show)
    if as_json:
        print_json(_report_data(report, thorough))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _report_data(report: Report, thorough: bool) -> dict[str, Any]:
    import torch

    from .. import __version__

    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "srzoo": __version__,
        "torch": torch.__version__,
        "thorough": thorough,
        "passed": report.count("pass"),
        "failed": report.count("fail"),
        "not_applicable": report.count("n/a"),
        "findings": [asdict(finding) for finding in report.findings],
    }


def _print_report(report: Report) -> None:
    for subject in dict.fromkeys(finding.subject for finding in report.findings):
        table = make_table(["check", "", "what it shows; what was seen"], title=escape(subject))
        for finding in report.findings:
            if finding.subject == subject:
                table.add_row(finding.check, *_outcome(finding), style="dim" if finding.status == "n/a" else "")
        print_table(table)
    failed = report.count("fail")
    colour = "red" if failed else "green"
    console.print(
        f"[bold {colour}]{report.count('pass')} passed, {failed} failed, {report.count('n/a')} not applicable"
        f"[/bold {colour}]: {escape(report.distribution)} {escape(report.version)}",
        highlight=False,
    )


def _outcome(finding: Finding) -> tuple[str, str]:
    reason = escape(finding.reason)
    if finding.status == "fail":
        return "[bold red]fail[/bold red]", f"[red]{reason}[/red]"
    if finding.status == "n/a":
        return "n/a", f"{escape(finding.shows)}: {reason}"
    return "[green]pass[/green]", escape(finding.shows) + (f" [dim]({reason})[/dim]" if reason else "")


@plugin_app.command("hooks")
@reports_errors
def show_hooks() -> None:
    """Print the hooks a plugin can implement and the specs they return, as Markdown."""
    from ..reference import hook_reference

    typer.echo(hook_reference(), nl=False)
