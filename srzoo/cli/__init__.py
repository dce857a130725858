"""The command line. Each command is a thin layer over the function of the same name in :mod:`srzoo.api`."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from .. import __version__
from ..errors import PluginWarning, RecipeWarning, UpscaleWarning
from .ablate import ablate_command
from .bench import bench_command, leaderboard_command
from .catalog import list_command, plugins_command, show_command
from .console import errors, print_error
from .exchange import export_command, pull_command, push_command, verify_command
from .interpolate import interpolate_command
from .mos import mos_app
from .plugin import plugin_app
from .train import train_command
from .upscale import upscale_command
from .weights import weights_app

app = typer.Typer(
    name="srzoo",
    help="Compose, train and benchmark super-resolution GANs. Every part is a plugin.\n\n"
    "Start with [bold]srzoo list[/bold] and [bold]srzoo show esrgan-x4[/bold]; "
    "[bold]srzoo bench[/bold] compares what is ready to use.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"srzoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    zoo: Annotated[
        str, typer.Option("--zoo", help="A zoo file of your own; its entries join the zoo.", metavar="FILE")
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if zoo and not Path(zoo).is_file():
        what = f"{zoo} is a folder; give the zoo file in it" if Path(zoo).is_dir() else f"There is no zoo file {zoo}"
        print_error(f"{what}.")
        raise typer.Exit(2)
    if zoo:
        before = os.environ.get("SRZOO_ZOO", "")
        os.environ["SRZOO_ZOO"] = os.pathsep.join(part for part in (before, zoo) if part)


app.command("list")(list_command)
app.command("show")(show_command)
app.command("plugins")(plugins_command)
app.command("train")(train_command)
app.command("bench")(bench_command)
app.command("leaderboard")(leaderboard_command)
app.command("ablate")(ablate_command)
app.command("upscale")(upscale_command)
app.command("interpolate")(interpolate_command)
app.command("verify")(verify_command)
app.command("export")(export_command)
app.command("push")(push_command)
app.command("pull")(pull_command)
app.add_typer(weights_app, name="weights")
app.add_typer(mos_app, name="mos")
app.add_typer(plugin_app, name="plugin")


def main() -> None:
    """Run the command line; it exits with 0, 1 (the run failed), 2 (the input was wrong) or 128 + a signal's number."""
    warnings.filterwarnings("ignore")  # of libraries; srzoo's own follow
    warnings.filterwarnings("always", category=PluginWarning)
    warnings.filterwarnings("always", category=RecipeWarning)
    warnings.filterwarnings("always", category=UpscaleWarning)
    warnings.showwarning = _show_warning
    try:
        app(_zoo_first(sys.argv[1:]))
    except BrokenPipeError:  # 'srzoo list | head'
        sys.stderr.close()
        sys.exit(0)
    except SystemExit as end:
        if "torch.distributed" in sys.modules:
            from ..distribution import leave_distribution

            leave_distribution(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _zoo_first(arguments: list[str]) -> list[str]:
    """Return arguments with ``--zoo FILE``, an option of every command, before the command, where typer wants it."""
    for position, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--zoo" or argument.startswith("--zoo="):
            end = position + (2 if argument == "--zoo" else 1)
            return [*arguments[position:end], *arguments[:position], *_zoo_first(arguments[end:])]
    return arguments


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    errors.print(f"[yellow]warning:[/yellow] {escape(str(message))}", highlight=False, soft_wrap=True)
