"""``srzoo weights``: the backbones that metrics and perceptual losses need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..errors import SrzooError
from .console import console, make_table, print_error, print_json, reports_errors

weights_app = typer.Typer(
    help="The pretrained backbones that metrics and perceptual losses need: where they lie, and getting them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@weights_app.command("list")
@reports_errors
def list_weights(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every file that a component needs, and whether it is here."""
    from ..backbones import backbones
    from ..weights import weights_folders

    found = backbones()
    if as_json:
        print_json(
            [
                {
                    "file": b.file.filename,
                    "sha256": b.file.sha256,
                    "url": b.file.url,
                    "needed_by": list(b.needed_by),
                    "alternatives": list(b.alternatives),
                    "path": str(b.path) if b.path is not None else None,
                }
                for b in found
            ]
        )
        return
    here = {b.file.filename for b in found if b.path is not None}
    table = make_table(["file", "here", "needed by"])
    for b in found:
        state = "[green]yes[/green]" if b.path is not None else "no"
        if b.path is None and here.intersection(b.alternatives):
            state = "no, but another that serves"
        table.add_row(f"[bold]{escape(b.file.filename)}[/bold]", state, escape(", ".join(b.needed_by)))
    console.print(table)
    folders = ", ".join(str(folder) for folder in weights_folders())
    console.print(f"[dim]Folders, the first of which is written to: {escape(folders)}[/dim]", soft_wrap=True)


@weights_app.command("pull")
@reports_errors
def pull_weights(
    names: Annotated[
        list[str],
        typer.Argument(help="Files, or components such as lpips_alex.", metavar="NAME...", show_default=False),
    ],
) -> None:
    """Download backbones. Never with SRZOO_OFFLINE=1; a file is kept only if its hash is right.

    Example: [bold]srzoo weights pull lpips_alex vgg19[/bold].
    """
    from ..backbones import choose, pull

    for backbone in [backbone for name in names for backbone in choose(name)]:
        before = backbone.path
        path = pull(backbone)
        console.print(f"{'was there' if before is not None else 'got'}: {escape(str(path))}", soft_wrap=True)


@weights_app.command("add")
@reports_errors
def add_weights(
    files: Annotated[list[Path], typer.Argument(help="Files you have.", metavar="FILE...", show_default=False)],
) -> None:
    """Copy files got by other means to where components look, after checking their hash.

    Example: [bold]srzoo weights add ~/Downloads/alexnet-owt-7be5be79.pth[/bold].
    """
    from ..backbones import add

    for file in files:
        console.print(f"added {escape(str(add(file)))}", soft_wrap=True)


@weights_app.command("verify")
@reports_errors
def verify_weights() -> None:
    """Recompute the hash of every backbone and of every entry's weights that are here."""
    from ..backbones import backbones
    from ..errors import MissingWeightsError
    from ..pretrained import weights_path
    from ..weights import check_hash
    from ..zoo import get_zoo

    checked, failed = 0, 0

    def check(path: Path, sha256: str) -> None:
        nonlocal checked, failed
        try:
            check_hash(path, sha256)
            checked += 1
        except SrzooError as error:
            print_error(str(error))
            failed += 1

    for backbone in backbones():
        if backbone.path is not None:
            check(backbone.path, backbone.file.sha256)
    zoo = get_zoo()
    for name in zoo.names():
        entry = zoo.entry(name)
        if entry.weights is None:
            continue
        try:
            path = weights_path(entry)
        except MissingWeightsError:
            continue
        check(path, entry.weights.sha256)
    console.print(f"{checked} files are what they should be" + (f", {failed} are not" if failed else "") + ".")
    if failed:
        raise typer.Exit(1)
