"""``upscale``: pictures of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID

from ..errors import InputError, SrzooError
from .completion import complete_entry
from .console import console, print_error, reports_errors
from .progress import make_progress

if TYPE_CHECKING:
    from ..pretrained import Model
    from ..upscaling import Settings


@reports_errors
def upscale_command(
    image: Annotated[Path, typer.Argument(help="An image, or a folder of images.", show_default=False)],
    entry: Annotated[
        str, typer.Option("--entry", help="A zoo entry, checkpoint file or run folder.", autocompletion=complete_entry)
    ],
    out: Annotated[Path, typer.Option("--out", help="The image to write; for a folder, a folder.", metavar="PATH")],
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side of the tiles in pixels of the input; 0 for none.  \\[default: tiles for large images]",
            min=0,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Overlap of the tiles.  \\[default: how far the generator sees]", min=0),
    ] = None,
    tile_batch: Annotated[int, typer.Option("--tile-batch", help="Tiles computed at once.", min=1)] = 1,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over the eight flips and quarter turns; eight times slower.")
    ] = False,
) -> None:
    """Upscale a picture, or every picture in a folder.

    Grey, 16-bit and transparent pictures stay what they are; EXIF and colour profile stay. Large pictures are
    computed in tiles.

    Example: [bold]srzoo upscale photo.png --entry rrdb-lite-x4 --out photo-x4.png[/bold].
    """
    from ..images import SUFFIXES
    from ..pretrained import load_model
    from ..upscaling import Settings

    settings = Settings(tile, overlap, self_ensemble, tile_batch)
    if image.is_dir():
        files = sorted(p for p in image.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{image} holds no images ({', '.join(SUFFIXES)}).")
        if out.suffix.lower() in SUFFIXES and not out.is_dir():
            raise InputError(f"{image} is a folder, so --out must be a folder, not {out}.")
        targets = [out / f"{file.stem}.png" for file in files]
        if len(set(targets)) < len(targets):
            raise InputError(f"{image} holds two images of one name; their outputs would overwrite each other.")
    else:
        files = [image]
        targets = [out / f"{image.stem}.png" if out.is_dir() else out]
    if not image.exists():
        raise InputError(f"There is no image or folder {image}.")
    for target in targets:
        if target.resolve() in {file.resolve() for file in files}:
            raise InputError(f"{target} would overwrite its own input; give another --out.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {target.parent}: {error}.") from None
    model = load_model(entry)
    failed = 0
    with make_progress() as progress:
        task = progress.add_task("upscaling", total=len(files), values="")
        for file, target in zip(files, targets, strict=True):
            try:
                _upscale_file(model, file, target, settings, progress)
            except SrzooError as error:
                print_error(str(error))
                failed += 1
                progress.update(task, advance=1, values=f"{failed} failed")
            else:
                progress.update(task, advance=1, values=target.name)
    if failed:
        raise typer.Exit(2)
    console.print(f"wrote {targets[0] if len(targets) == 1 else f'{len(targets)} images to {out}'}", soft_wrap=True)


def _upscale_file(model: Model, file: Path, target: Path, settings: Settings, progress: Progress) -> None:
    from ..images import check_writable, read_picture, write_picture
    from ..upscaling import upscale_picture

    picture = read_picture(file, keep_depth=True)
    height, width = (side * model.entry.scale for side in picture.rgb.shape[:2])
    check_writable(target, width, height, picture.alpha is not None)
    tasks: list[TaskID] = []

    def show(done: int, total: int) -> None:
        if total > 1 and not tasks:
            tasks.append(progress.add_task("tiles", total=total, values=file.name))
        if tasks:
            progress.update(tasks[0], completed=done, total=total)

    try:
        write_picture(upscale_picture(model, picture, settings, show), target)
    finally:
        for task in tasks:
            progress.remove_task(task)
