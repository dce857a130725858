"""Generators as programs for other runtimes, ONNX and TorchScript; each is run and compared before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import CompositionError
from .extras import import_extra
from .plugins import FAULTS, describe_exception, foreign_place

TOLERANCE = 1e-4
"""How far an exported generator's output may lie from the generator's, of images in [0, 1]."""
_CHECKED_SIZES = ((1, 24, 32), (2, 37, 21), (1, 50, 50))
_OPSET = 18
_LEAVING = {"item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"}
"""Methods of a tensor by which a value leaves torch, where no exporter can follow it."""

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Program:
    """A generator on its way to other runtimes.

    Args:
        name: for messages.
        generator: in evaluation mode, float32, on the CPU.
        size_multiple: what its input's sides must be multiples of.

    Attributes:
        errors: format to the largest difference of its output to the generator's.
        notes: what could not be checked, a sentence each.
    """

    name: str
    generator: nn.Module
    size_multiple: int
    advice: str
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write_torchscript(self, path: Path) -> None:
        """Write it by tracing.

        Raises:
            CompositionError: it cannot be traced, or the trace computes something else.
            OSError: the file cannot be written.
        """
        self.check_traceable("torchscript")
        with _quiet():
            try:
                with torch.inference_mode(False), torch.no_grad():
                    traced: Any = torch.jit.trace(self.generator, self._images()[0], check_trace=False)  # type: ignore[no-untyped-call]
                    traced = torch.jit.freeze(traced.eval())
            except FAULTS as error:
                raise self._refused("torchscript", error) from None
            whole = io.BytesIO()  # where a disk is full, torch's own writer takes the process with it
            torch.jit.save(traced, whole)  # type: ignore[no-untyped-call]
            path.write_bytes(whole.getbuffer())
            loaded: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            self._compare("torchscript", lambda image: cast(torch.Tensor, loaded(image)))

    def write_onnx(self, path: Path) -> None:
        """Write it with batch, height and width dynamic.

        Raises:
            MissingLibraryError: ONNX needs an extra.
            CompositionError: it cannot be exported, or computes something else.
            OSError: the file cannot be written.
        """
        for library in ("onnx", "onnxscript"):
            import_extra(library, "onnx", "ONNX is")
        self.check_traceable("onnx")
        batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
        example = self._images()[1]  # of a batch larger than 1, which torch.export would take for a constant
        with _quiet():
            try:
                program: Any = torch.onnx.export(
                    self.generator,
                    (example,),
                    input_names=["lr"],
                    output_names=["sr"],
                    opset_version=_OPSET,
                    dynamo=True,
                    dynamic_shapes=({0: batch, 2: height, 3: width},),
                )
            except FAULTS as error:
                raise self._refused("onnx", error) from None
            program.save(str(path), external_data=False)
            self._run_onnx(path)

    def _run_onnx(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            self.notes.append("onnxruntime is not installed, so the ONNX file was not run; pip install 'srzoo[onnx]'.")
            return
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._compare("onnx", lambda image: torch.from_numpy(session.run(None, {"lr": image.numpy()})[0]))

    def check_traceable(self, form: str) -> None:
        """Refuse a generator that leaves torch with values of its input: a program would hold them as they were.

        Raises:
            CompositionError: it does; says where.
        """
        found = []
        for image in self._flat_images():
            with torch.no_grad(), _Leaving() as leaving:
                self.generator(image)
            found.append(leaving)
        if any(one.values != found[0].values for one in found):
            place = next(one.place for one in found if one.place)
            raise CompositionError(
                f"{self.name!r} cannot be exported as {form}: {place}, takes a value of the image out of torch, so "
                "the program would keep it as it was when it was exported; torch.where can choose by values. "
                f"{self.advice}"
            )

    def _images(self) -> list[torch.Tensor]:
        """Return images of several sizes, (N, 3, H, W) in [0, 1], each a multiple of what the generator takes."""
        generator = torch.Generator().manual_seed(0)
        return [torch.rand(n, 3, *self._size(h, w), generator=generator) for n, h, w in _CHECKED_SIZES]

    def _flat_images(self) -> list[torch.Tensor]:
        """Return images of one size whose values have little in common."""
        noise = self._images()[0]
        return [noise, torch.zeros_like(noise), torch.ones_like(noise)]

    def _size(self, height: int, width: int) -> tuple[int, int]:
        multiple = self.size_multiple
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _compare(self, form: str, run: Run) -> None:
        for image in [*self._images(), *self._flat_images()[1:]]:
            with torch.no_grad():
                expected = self.generator(image)
                try:
                    found = run(image)
                except FAULTS as error:
                    raise self._refused(form, error) from None
            if found.shape != expected.shape:
                raise CompositionError(
                    f"{self.name!r} as {form} maps {tuple(image.shape)} to {tuple(found.shape)}, not to "
                    f"{tuple(expected.shape)}: it holds the size it was exported with, as where a size is made a "
                    f"number by int(...). {self.advice}"
                )
            difference = float((found - expected).abs().max())
            self.errors[form] = max(difference, self.errors.get(form, 0.0))
            if not difference <= TOLERANCE:
                raise CompositionError(
                    f"{self.name!r} as {form} differs from the generator by {difference:.3g} on an image of "
                    f"{image.shape[3]}x{image.shape[2]}, more than {TOLERANCE:g}. {self.advice}"
                )

    def _refused(self, form: str, error: BaseException) -> CompositionError:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = re.split(r"\. |\(unhinted|For more information", describe_exception(root))[0].rstrip(" .:")
        place = "" if re.search(r"line \d+\)$", reason) else foreign_place(root.__traceback__)
        return CompositionError(f"{self.name!r} cannot be exported as {form}: {reason[:300]}{place}. {self.advice}")


class _Leaving(TorchFunctionMode):
    """Notes the values that leave torch while it is active, and where in a plugin's code the first one does."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[bytes] = []
        self.place = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _LEAVING:
            self.place = self.place or _caller(sys._getframe(1))
            self.values.append(result.tobytes() if hasattr(result, "tobytes") else repr(result).encode())
        return result


def _caller(frame: FrameType | None) -> str:
    while frame is not None:
        if place := foreign_place(frame=frame):
            return place.strip(" ()")
        frame = frame.f_back
    return "its forward"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print and warn of, about their own insides, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
