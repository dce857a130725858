"""Generators for other programs: weights under their names, ONNX, TorchScript; each read back and compared."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .card import model_card, zoo_text
from .compose import create
from .composition import full_composition
from .errors import CompositionError, InputError, TrainingError, UnknownNameError, did_you_mean
from .extras import import_extra
from .layouts import Layout, renamed
from .pickles import load_pickle
from .plugins import describe_exception
from .pretrained import Model, generator_spec, load_model
from .registry import get_registry
from .specs import LayoutSpec
from .weights import check_hash, save_checkpoint

FORMATS = {"safetensors": ".safetensors", "pth": ".pth", "onnx": ".onnx", "torchscript": ".pt"}
"""Format to the ending of its file."""
OWN_LAYOUT = "srzoo"
TOLERANCE = 1e-4
"""How far an exported generator's output may lie from the generator's, of images in [0, 1]."""
_CHECKED_SIZES = ((1, 24, 32), (2, 37, 21), (1, 50, 50))
_OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: format to file.
        layout: whose names the tensors have, for safetensors and pth.
        errors: format to the largest difference of its output to the generator's, where it was run.
        notes: what was not as asked or could not be checked, a sentence each.
        card: the model card beside the files.
    """

    folder: Path
    files: Mapping[str, Path]
    layout: str
    errors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    card: Path | None = None


def export(
    model: str | Path | Model,
    out: str | Path | None = None,
    formats: str | Sequence[str] = "safetensors",
    *,
    layout: str | None = None,
    licence: str = "",
) -> Exported:
    """Write a generator with its weights for other programs, and a model card beside it.

    Pickles are read back and compared; ONNX (where onnxruntime is installed) and TorchScript are run on images of three
    sizes, and what does not compute the same is not kept.

    Args:
        model: a zoo entry, a checkpoint file or the folder of a run.
        out: the folder to write to; ``exports/NAME`` by default.
        formats: of ``safetensors``, ``pth``, ``onnx`` and ``torchscript``.
        layout: whose names tensors get: ``srzoo``, or a registered layout. By default our own in safetensors, the file
            as it is with a zoo file beside it, as ``srzoo push`` sends it; in pth those of the first layout that can
            stand for the composition.
        licence: of the weights, for the card, where the zoo does not say.

    Raises:
        InputError: there is no such format, or the layout cannot stand for the composition; says why.
        MissingLibraryError: ONNX needs an extra.
        CompositionError: the generator cannot be exported, or the exported one computes something else.
        TrainingError: a file cannot be written.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    for name in names:
        if name not in FORMATS:
            raise InputError(
                f"There is no format {name!r}.{did_you_mean(name, FORMATS)} Formats: {', '.join(FORMATS)}."
            )
    loaded = model if isinstance(model, Model) else load_model(model)
    folder = Path(out) if out is not None else Path("exports") / loaded.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"Cannot write to {folder}: {error}.") from None
    export_ = _Export(loaded, folder, layout, licence)
    files = {name: export_.write(name) for name in names}
    card = folder / "README.md"
    there = {name: f"{loaded.name}{ending}" for name, ending in FORMATS.items()}  # those of earlier calls as well
    there = {name: file for name, file in there.items() if (folder / file).is_file()}
    text = model_card(loaded, there, export_.layout, licence)
    _write_text(card, text)
    return Exported(folder, files, export_.layout, export_.errors, tuple(export_.notes), card)


class _Export:
    """One call of :func:`export`."""

    def __init__(self, model: Model, folder: Path, layout: str | None, licence: str) -> None:
        self.model, self.folder, self.asked, self.licence = model, folder, layout, licence
        generator = copy.deepcopy(model.generator).eval().cpu().float()
        self.generator: nn.Module = generator.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.composition = full_composition(model.entry)
        self.layout = OWN_LAYOUT
        self.errors: dict[str, float] = {}
        self.notes: list[str] = []

    def write(self, name: str) -> Path:
        target = self.folder / f"{self.model.name}{FORMATS[name]}"
        write = {"safetensors": self._safetensors, "pth": self._pth, "onnx": self._onnx, "torchscript": self._script}
        if name in ("safetensors", "pth") and generator_spec(self.model.entry).reads:
            raise InputError(f"{self.model.name!r} is a checkpoint of another program as it is; onnx may do.")
        if name in ("safetensors", "pth") and not self.model.digest:
            raise InputError(f"{self.model.name!r} has no weights that could be written as {name}; onnx may do.")
        write[name](target)
        return target

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
                raise InputError(f"{self.model.name!r} cannot be written in layout {spec.name}: {error}.") from None
        for component in get_registry().find("layout"):
            spec = cast(LayoutSpec, component.spec)
            with contextlib.suppress(ValueError):
                return self._converted(spec, tensors), spec
        self.notes.append(
            f"No layout of another program can stand for {self.model.name!r}, so its tensors have srzoo's names; "
            "--layout NAME tells why not."
        )
        return tensors, None

    def _converted(self, spec: LayoutSpec, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        layout: Layout = create("layout", spec.name)
        names = layout.names(self.composition)
        return layout.write(renamed(tensors, names), self.composition)

    def _safetensors(self, target: Path) -> None:
        tensors, spec = self._named(OWN_LAYOUT)
        self.layout = spec.name if spec is not None else OWN_LAYOUT
        if spec is not None:  # another program's names: it cannot be loaded as it is, and says what it was made from
            described = {"entry": self.model.entry.name, "composition": self.composition, **self.model.description}
            save_checkpoint(target, tensors, {"exported": described, "layout": spec.name})
            return
        assert self.model.path is not None
        with _whole(target) as temporary:  # the same bytes, so that their hash stays
            shutil.copyfile(self.model.path, temporary)
            check_hash(temporary, self.model.digest)
        _write_text(self.folder / "zoo.yaml", zoo_text(self.model, target.name, self.licence))

    def _pth(self, target: Path) -> None:
        tensors, spec = self._named(None)
        self.layout = spec.name if spec is not None else OWN_LAYOUT
        plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        content: dict[str, Any] = {spec.wrapper: plain} if spec is not None and spec.wrapper else plain
        with _whole(target) as temporary:
            torch.save(content, temporary)
            read = load_pickle(temporary)
            read = read[spec.wrapper] if spec is not None and spec.wrapper else read
            if read.keys() != plain.keys() or not all(torch.equal(read[name], plain[name]) for name in plain):
                raise OSError("what was written does not read back as it was")

    def _script(self, target: Path) -> None:
        example = self._images()[0]
        with _quiet(), _whole(target) as temporary:
            try:
                with torch.inference_mode(False), torch.no_grad():
                    traced: Any = torch.jit.trace(self.generator, example, check_trace=False)  # type: ignore[no-untyped-call]
                    traced = torch.jit.freeze(traced.eval())
                torch.jit.save(traced, str(temporary))
                loaded: Any = torch.jit.load(str(temporary), map_location="cpu")  # type: ignore[no-untyped-call]
            except OSError:
                raise
            except Exception as error:
                raise self._refused("TorchScript", error) from None
            self._compare("torchscript", lambda image: cast(torch.Tensor, loaded(image)))

    def _onnx(self, target: Path) -> None:
        for library in ("onnx", "onnxscript"):
            import_extra(library, "onnx", "ONNX is")
        batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
        example = self._images()[1]  # of a batch larger than 1, which torch.export would take for a constant
        with _quiet(), _whole(target) as temporary:
            try:
                torch.onnx.export(
                    self.generator,
                    (example,),
                    str(temporary),
                    input_names=["lr"],
                    output_names=["sr"],
                    opset_version=_OPSET,
                    dynamo=True,
                    dynamic_shapes=({0: batch, 2: height, 3: width},),
                    external_data=False,
                )
            except OSError:
                raise
            except Exception as error:
                raise self._refused("ONNX", error) from None
            self._run_onnx(temporary)

    def _run_onnx(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            self.notes.append("onnxruntime is not installed, so the ONNX file was not run; pip install 'srzoo[onnx]'.")
            return
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._compare("onnx", lambda image: torch.from_numpy(session.run(None, {"lr": image.numpy()})[0]))

    def _images(self) -> list[torch.Tensor]:
        """Return images of several sizes, (N, 3, H, W) in [0, 1], each a multiple of what the generator takes."""
        multiple = self.model.size_multiple
        generator = torch.Generator().manual_seed(0)
        sizes = [(n, -(-h // multiple) * multiple, -(-w // multiple) * multiple) for n, h, w in _CHECKED_SIZES]
        return [torch.rand(n, 3, h, w, generator=generator) for n, h, w in sizes]

    def _compare(self, name: str, run: Any) -> None:
        for image in self._images():
            with torch.no_grad():
                expected = self.generator(image)
                try:
                    found = run(image)
                except Exception as error:
                    raise self._refused(name, error) from None
            if found.shape != expected.shape:
                raise CompositionError(
                    f"{self.model.name!r} as {name} maps {tuple(image.shape)} to {tuple(found.shape)}, not to "
                    f"{tuple(expected.shape)}: it holds the size it was exported with. Nothing was written."
                )
            difference = float((found - expected).abs().max())
            self.errors[name] = max(difference, self.errors.get(name, 0.0))
            if not difference <= TOLERANCE:
                raise CompositionError(
                    f"{self.model.name!r} as {name} differs from the generator by {difference:.3g} on an image of "
                    f"{image.shape[3]}x{image.shape[2]}, more than {TOLERANCE:g}. Nothing was written."
                )

    def _refused(self, name: str, error: Exception) -> CompositionError:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        return CompositionError(
            f"{self.model.name!r} cannot be exported as {name}: {describe_exception(root)[:400]}. Nothing was written."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print and warn of, about their own insides, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Give a temporary name beside the target, which takes its place if nothing was raised.

    Raises:
        TrainingError: it cannot be written.
    """
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"Cannot write {target}: {error}. What was there before is untouched.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(target: Path, text: str) -> None:
    with _whole(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
