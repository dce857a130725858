"""``srzoo weights``: backbones that metrics and perceptual losses need, and checkpoints of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..errors import InputError, MissingWeightsError, SrzooError
from .completion import complete_entry
from .console import console, make_table, print_error, print_json, print_table, reports_errors

weights_app = typer.Typer(
    help="The pretrained backbones that metrics and perceptual losses need, and checkpoints of other programs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@weights_app.command("list")
@reports_errors
def list_weights(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every file that a component needs, and whether it is here."""
    from ..backbones import backbones
    from ..places import weights_folders

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
    print_table(table)
    folders = ", ".join(str(folder) for folder in weights_folders())
    console.print(f"[dim]Folders, the first of which is written to: {escape(folders)}[/dim]", soft_wrap=True)
    if len(here) < len(found):
        console.print(
            "[dim]srzoo weights pull NAME gets a file, or what a component needs, from its address; srzoo weights add "
            "FILE takes one that you have.[/dim]",
            soft_wrap=True,
        )


@weights_app.command("pull")
@reports_errors
def pull_weights(
    names: Annotated[
        list[str],
        typer.Argument(help="Files, components such as lpips_alex, or entries.", metavar="NAME...", show_default=False),
    ],
) -> None:
    """Download backbones, and the weights of entries whose zoo file gives an address.

    Never with SRZOO_OFFLINE=1; a file is kept only if its hash is right.

    Examples: [bold]srzoo weights pull lpips_alex vgg19[/bold], [bold]srzoo weights pull somebodys-entry-x4[/bold].
    """
    from ..backbones import choose, pull
    from ..zoo import get_zoo

    for name in names:
        if name in get_zoo():
            _show_pulled(*_pulled_entry(name))
            continue
        for backbone in choose(name):
            before = backbone.path
            _show_pulled(pull(backbone), before is not None)


def _show_pulled(path: Path, was_there: bool) -> None:
    console.print(f"{'was there' if was_there else 'got'}: {escape(str(path))}", soft_wrap=True)


def _pulled_entry(name: str) -> tuple[Path, bool]:
    """Return where an entry's weights lie, fetching them if they are not there, and whether they were."""
    from ..backbones import pull_entry
    from ..ready import weights_path
    from ..weights import check_hash
    from ..zoo import get_zoo

    entry, folders = get_zoo().entry(name), get_zoo().source(name).folders
    try:
        path = weights_path(entry)
    except MissingWeightsError:
        if entry.weights is None:
            raise
        return pull_entry(entry, folders[0] / entry.weights.file), False
    assert entry.weights is not None
    check_hash(path, entry.weights.sha256)
    return path, True


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


@weights_app.command("import")
@reports_errors
def import_weights(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt, .ckpt or .safetensors file.", show_default=False)],
    entry: Annotated[
        str,
        typer.Option(
            "--as", help="The zoo entry whose weights they are.", metavar="ENTRY", autocompletion=complete_entry
        ),
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="What tensors cannot tell, such as negative_slope=0.2.", metavar="KEY=VALUE"),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Take the published values of what is not given.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write.  \\[default: beside it]", metavar="FILE")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="The layout, where several would do.", metavar="NAME")] = "",
    part: Annotated[
        str, typer.Option("--part", help="The part of the file, such as params_ema or params.", metavar="NAME")
    ] = "",
) -> None:
    """Convert a checkpoint of ESRGAN, BasicSR, mmagic, KAIR, EDSR or SRGAN to a file that every command takes.

    The layout is recognised by the tensors' names, and features, blocks, growth and scale are read from their shapes.
    Nothing in the file is executed. 'srzoo list layout' shows what is recognised.

    Examples: [bold]srzoo weights import RRDB_ESRGAN_x4.pth --published[/bold],
    [bold]srzoo weights import net_g_400000.pth --as esrgan-x4 --out mine.safetensors[/bold].
    """
    from ..importing import import_checkpoint
    from ..weights import some_of
    from ..yamlio import parse_value

    answers = {}
    for text in option or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InputError(f"--option {text!r} is not of the form KEY=VALUE, e.g. negative_slope=0.2.")
        answers[key.strip()] = parse_value(value)
    found = import_checkpoint(
        file,
        out,
        entry=entry or None,
        layout=layout or None,
        part=part or None,
        options=answers,
        published=published,
    )
    generator = found.entry.generator
    where = f" in {found.part}" if found.part else ""
    sizes = ", ".join(f"{generator.options[k]} {w}" for k, w in _SIZES.items() if k in generator.options)
    console.print(
        escape(
            f"{file}: layout {found.layout}{where}, x{found.entry.scale}, {sizes or generator.name}, "
            f"{found.tensors} tensors, {found.parameters:,} parameters"
        ),
        soft_wrap=True,
        highlight=False,
    )
    if found.others:
        names = some_of(found.others, 12)
        console.print(escape(f"The file also holds {names}; --part takes another."), soft_wrap=True, highlight=False)
    left_out = [
        paths[0] if len(paths) == 1 else f"{group} ({len(paths)} tensors)"
        for group, paths in found.left_out.items()
        if group not in found.others
    ]
    if left_out:
        console.print(escape(f"Left out: {some_of(left_out, 12)}."), soft_wrap=True, highlight=False)
    if found.not_read:
        objects = [f"{where} ({text})" for where, text in found.not_read.items()]
        told = f"Not read, being objects and not plain tensors: {some_of(objects, 6)}."
        console.print(escape(told), soft_wrap=True, highlight=False)
    console.print(f"wrote {escape(str(found.path))}", soft_wrap=True)
    console.print(f"[dim]srzoo bench {escape(str(found.path))} bicubic compares it.[/dim]", soft_wrap=True)


_SIZES = {"num_features": "features", "num_blocks": "blocks"}


@weights_app.command("verify")
@reports_errors
def verify_weights() -> None:
    """Recompute the hash of every backbone and of every entry's weights that are here."""
    from ..backbones import backbones
    from ..ready import weights_path
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
        try:
            entry = zoo.entry(name)
            path = weights_path(entry)
        except MissingWeightsError:
            continue
        except SrzooError as error:
            print_error(str(error))
            failed += 1
            continue
        assert entry.weights is not None
        check(path, entry.weights.sha256)
    console.print(f"{checked} files are what they should be" + (f", {failed} are not" if failed else "") + ".")
    if failed:
        raise typer.Exit(1)
