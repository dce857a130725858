"""Generators for other programs: weights under their names, ONNX, TorchScript; each read back and compared."""

from __future__ import annotations

import contextlib
import copy
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn

from .card import Written, card_name, earlier_rows, model_card, zoo_text
from .compose import create
from .composition import full_composition
from .confinement import ENSEMBLE
from .errors import InputError, UnknownNameError, did_you_mean
from .layouts import Layout, renamed
from .pickles import load_pickle
from .pretrained import Model, load_model
from .programs import Program
from .ready import generator_spec
from .registry import get_registry
from .specs import LayoutSpec
from .staging import put_in_place, staged
from .weights import check_hash, save_checkpoint

FORMATS = {"safetensors": ".safetensors", "pth": ".pth", "onnx": ".onnx", "torchscript": ".pt"}
"""Format to the ending of its file."""
TENSORS = ("safetensors", "pth")
"""Formats that hold weights alone, and no program."""
OWN_LAYOUT = "srzoo"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: format to file.
        layouts: format to whose names the tensors have, for safetensors and pth.
        errors: format to the largest difference of its output to the generator's, where it was run.
        notes: what was not as asked or could not be checked, a sentence each.
        card: the model card beside the files.
    """

    folder: Path
    files: Mapping[str, Path]
    layouts: Mapping[str, str]
    errors: Mapping[str, float]
    notes: tuple[str, ...]
    card: Path


def export(
    model: str | Path | Model,
    out: str | Path | None = None,
    formats: str | Sequence[str] = "safetensors",
    *,
    layout: str | None = None,
    licence: str = "",
) -> Exported:
    """Write a generator with its weights for other programs, and a model card beside it: all of it or nothing.

    Pickles are read back and compared; ONNX (where onnxruntime is installed) and TorchScript are run on images of
    several sizes and values, and what does not compute the same is not kept. Files get their names when all are whole.

    Args:
        model: a zoo entry, a checkpoint file or the folder of a run.
        out: the folder to write to; ``exports/NAME`` by default.
        formats: of ``safetensors``, ``pth``, ``onnx`` and ``torchscript``.
        layout: whose names tensors get: ``srzoo``, or a registered layout. By default our own in safetensors, the file
            as it is with a zoo file beside it, as ``srzoo push`` sends it; in pth those of the first layout that can
            stand for the composition.
        licence: of the weights, for the card, where the zoo does not say.

    Raises:
        InputError: there is no such format, the layout cannot stand for the composition, the folder holds a zoo file
            of something else, or the model is a self-ensemble; says why.
        MissingLibraryError: ONNX needs an extra.
        CompositionError: the generator cannot be exported, or the exported one computes something else.
        TrainingError: a file cannot be written.
    """
    names = list(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    _check_asked(names, layout)
    loaded = model if isinstance(model, Model) else load_model(model)
    if loaded.entry.self_ensemble:
        plain = loaded.name.removesuffix(ENSEMBLE)
        alone = plain if plain != loaded.name else loaded.path
        raise InputError(
            f"{loaded.name!r} is a self-ensemble, the mean of eight outputs of one generator. Give the generator "
            f"alone, {alone}, and let the program that runs it take the mean."
        )
    folder = Path(out) if out is not None else Path("exports") / loaded.name
    for name in names:
        _check_weights(loaded, name)
    with staged(folder, "export") as staging:
        export_ = _Export(loaded, staging, layout, licence)
        _check_zoo_file(folder, loaded, names)
        for name in names:
            export_.write(name)
        card = card_name(folder, loaded.name)
        written = {name: Written(file, export_.layouts.get(name, "")) for name, file in export_.files.items()}
        rows = earlier_rows(folder / card, loaded, [file.name for file in written.values()])
        left = _left_over(folder, loaded, [*export_.files.values()], rows)
        text = model_card(loaded, written, licence, rows)
        (staging / card).write_text(text, encoding="utf-8")
        zoo = ["zoo.yaml"] * (staging / "zoo.yaml").is_file()
        if not zoo and "safetensors" in names:  # it would name weights that are no more
            (folder / "zoo.yaml").unlink(missing_ok=True)
        put_in_place(staging, folder, [*export_.files.values(), card, *zoo])
    files = {name: folder / file for name, file in export_.files.items()}
    notes = (*export_.notes, *export_.program.notes, *left)
    return Exported(folder, files, export_.layouts, export_.program.errors, notes, folder / card)


def _left_over(folder: Path, model: Model, written: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Return a sentence where files of other formats lie there that no card says to be of the same weights.

    They stay: nothing tells for certain that srzoo wrote them.
    """
    known = [*written, *(row.split("`")[1] for row in rows)]
    if model.path is not None and model.path.resolve().parent == folder.resolve():
        known.append(model.path.name)  # what is exported
    files = [f"{model.name}{ending}" for ending in FORMATS.values()]
    left = [file for file in files if file not in known and (folder / file).is_file()]
    if not left:
        return []
    are = "is" if len(left) == 1 else "are"
    return [
        f"{' and '.join(left)} in {folder} {are} from before and may be of other weights: delete what is not "
        "wanted, or export it again."
    ]


def _check_asked(names: Sequence[str], layout: str | None) -> None:
    if not names:
        raise InputError(f"No format is asked for. Formats: {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            raise InputError(
                f"There is no format {name!r}.{did_you_mean(name, FORMATS)} Formats: {', '.join(FORMATS)}."
            )
    if layout is not None and not set(names) & set(TENSORS):
        raise InputError(f"A layout names tensors, which {' and '.join(names)} hide; ask for {' or '.join(TENSORS)}.")
    if layout not in (None, OWN_LAYOUT):
        get_registry().get("layout", layout)


def _check_weights(model: Model, name: str) -> None:
    """Refuse formats of weights for a model that has none, or none that srzoo may pass on."""
    if name not in TENSORS:
        return
    if generator_spec(model.entry).reads:
        raise InputError(
            f"{model.name!r} is a checkpoint of another program as it is, and is not written as {name}; pass the file "
            "itself on, or export onnx."
        )
    if not model.digest:
        raise InputError(
            f"{model.name!r} has no weights that could be written as {name}; 'srzoo export {model.name} --format onnx' "
            "tries to write what it computes."
        )


def _check_zoo_file(folder: Path, model: Model, names: Sequence[str]) -> None:
    """Refuse to write over a zoo file that is not the one of an earlier export of the same name."""
    path = folder / "zoo.yaml"
    if "safetensors" not in names or not path.exists():
        return
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        files = [entry.get("weights", {}).get("file") for entry in content.values()]
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        files = []
    if files != [f"{model.name}.safetensors"]:
        raise InputError(f"{path} is the zoo file of something else, and would be lost; give another folder.")


class _Export:
    """One call of :func:`export`, whose files are made in a staging folder."""

    def __init__(self, model: Model, staging: Path, layout: str | None, licence: str) -> None:
        self.model, self.staging, self.asked, self.licence = model, staging, layout, licence
        generator = copy.deepcopy(model.generator).eval().cpu().float()
        self.generator: nn.Module = generator.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.composition = full_composition(model.entry)
        instead = " Weights alone can be exported, as safetensors or pth." if model.digest else ""
        self.program = Program(model.name, self.generator, model.size_multiple, f"Nothing was written.{instead}")
        self.files: dict[str, str] = {}
        self.layouts: dict[str, str] = {}
        self.notes: list[str] = []

    def write(self, name: str) -> None:
        """Write a format; nothing is kept of what cannot be checked."""
        file = f"{self.model.name}{FORMATS[name]}"
        write = {
            "safetensors": self._safetensors,
            "pth": self._pth,
            "onnx": self.program.write_onnx,
            "torchscript": self.program.write_torchscript,
        }
        write[name](self.staging / file)
        self.files[name] = file

    def _named(self, default: str | None) -> tuple[dict[str, torch.Tensor], LayoutSpec | None]:
        """Return tensors under the names of the layout asked for, or of the default; None for any that will do."""
        tensors = {name: tensor.detach() for name, tensor in self.generator.state_dict().items()}
        wanted = self.asked or default
        if wanted == OWN_LAYOUT:
            return tensors, None
        if wanted is not None:
            spec = cast(LayoutSpec, get_registry().get("layout", wanted).spec)
            try:
                return self._converted(spec, tensors), spec
            except ValueError as error:
                if isinstance(error, UnknownNameError):
                    raise
                fitting = ", ".join([OWN_LAYOUT, *(get_registry().called(spec) for spec, _ in self._fitting(tensors))])
                raise InputError(
                    f"{self.model.name!r} cannot be written in layout {spec.name}: {error}. Layouts that can stand for "
                    f"it: {fitting}."
                ) from None
        for spec, converted in self._fitting(tensors):
            return converted, spec
        self.notes.append(
            f"No layout of another program can stand for {self.model.name!r}, so its tensors have srzoo's names; "
            "--layout NAME tells why not."
        )
        return tensors, None

    def _fitting(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[LayoutSpec, dict[str, torch.Tensor]]]:
        """Yield the layouts that can stand for the composition, each with the tensors in it."""
        for component in get_registry().find("layout"):
            spec = cast(LayoutSpec, component.spec)
            with contextlib.suppress(ValueError):
                yield spec, self._converted(spec, tensors)

    def _converted(self, spec: LayoutSpec, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        layout: Layout = create("layout", get_registry().called(spec))
        names = layout.names(self.composition)
        return layout.write(renamed(tensors, names), self.composition)

    def _safetensors(self, target: Path) -> None:
        tensors, spec = self._named(OWN_LAYOUT)
        self.layouts["safetensors"] = spec.name if spec is not None else OWN_LAYOUT
        if spec is not None:  # another program's names: it cannot be loaded as it is, and says what it was made from
            described = {"entry": self.model.entry.name, "composition": self.composition, **self.model.description}
            save_checkpoint(target, tensors, {"exported": described, "layout": spec.name})
            return
        assert self.model.path is not None
        if self.model.path.suffix == ".safetensors":
            shutil.copyfile(self.model.path, target)  # the same bytes, so that their hash stays
        else:  # the state of a run that is not finished
            save_checkpoint(target, tensors, self.model.description)
        check_hash(target, self.model.digest)
        (self.staging / "zoo.yaml").write_text(zoo_text(self.model, target.name, self.licence), encoding="utf-8")

    def _pth(self, target: Path) -> None:
        tensors, spec = self._named(None)
        self.layouts["pth"] = spec.name if spec is not None else OWN_LAYOUT
        plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        content: dict[str, Any] = {spec.wrapper: plain} if spec is not None and spec.wrapper else plain
        whole = io.BytesIO()  # where a disk is full, torch's own writer tells of its inside
        torch.save(content, whole)
        target.write_bytes(whole.getbuffer())
        read = load_pickle(target)
        read = read[spec.wrapper] if spec is not None and spec.wrapper else read
        if read.keys() != plain.keys() or not all(torch.equal(read[name], plain[name]) for name in plain):
            raise OSError("what was written does not read back as it was")
