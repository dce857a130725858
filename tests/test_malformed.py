"""Two hundred and more malformed inputs, each with one clear error, no file left behind, and nothing executed.

Checkpoints with missing, extra, mis-shaped and broken tensors; archives that would explode; pickles with a payload;
safetensors with false headers; zoo files that reach outside, explode, or hold the wrong types.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import enum
import functools
import importlib
import io
import json
import os
import pickle
import random
import re
import resource
import runpy
import struct
import subprocess
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_nets import RRDBNet
from typer.testing import CliRunner

from srzoo.cli import app
from srzoo.data import load_image_set
from srzoo.entry import Entry
from srzoo.errors import InputError, SrzooError, UnknownNameError, WeightsError
from srzoo.importing import import_checkpoint, states_in
from srzoo.pickles import load_pickle
from srzoo.pretrained import load_model, load_start
from srzoo.registry import get_registry
from srzoo.unpickling import unpickle
from srzoo.verification import verify
from srzoo.weights import load_tensors
from srzoo.zoo import Source, Zoo, get_zoo, training_entry

torch.set_num_threads(1)

MARKER = "SRZOO_TEST_MARKER"
"""Environment variable with the path that a payload creates when it runs."""


def state(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    tensors = {**RRDBNet(4, 1, 2, 2).state_dict()}
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


GOOD = state()
Write = Callable[[Path], None]
CHECKPOINTS: dict[str, tuple[str, Write]] = {}
"""Name of a malformed checkpoint to its ending and what writes it."""


def saved(name: str, content: Any, suffix: str = ".pth", **options: Any) -> None:
    CHECKPOINTS[name] = (suffix, lambda path: torch.save(content, path, **options))


def written(name: str, content: bytes | Callable[[], bytes], suffix: str = ".pth") -> None:
    CHECKPOINTS[name] = (suffix, lambda path: void(path.write_bytes(content() if callable(content) else content)))


def void(_: object) -> None:
    """Let a lambda return nothing."""


# --- tensors ----------------------------------------------------------------------------------------------------

for number, name in enumerate(list(GOOD)[::2]):
    saved(f"missing {name}", state(**{name: None}))
    wrong = [torch.nan, torch.inf, -torch.inf][number % 3]
    saved(f"{wrong} in {name}", state(**{name: torch.full_like(GOOD[name], wrong)}))
    shape = [(0,), (1,), (*GOOD[name].shape, 1), tuple(2 * n for n in GOOD[name].shape)][number % 4]
    saved(f"shape {shape} of {name}", state(**{name: torch.zeros(shape)}))

for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
    saved(f"{dtype} weights", {n: t.to(dtype) for n, t in GOOD.items()})

EXTRA = torch.zeros(2)
for name in (
    "extra.weight",
    "body.9999.rdb1.conv1.weight",
    "body.99999999999999999999.rdb1.conv1.weight",
    "body.-1.rdb1.conv1.weight",
    "body.0.rdb4.conv1.weight",
    "conv_up3.weight",
    "conv_first.weight.weight",
    "../../etc/passwd",
    "__class__.__init__",
    "",
    "\x1b[2J\x1b[31mred.weight",
    "x" * 100_000,
    "{block}.weight",
    "[bold]markup[/bold]",
    "%s%n.weight",
):
    saved(f"extra {name[:20]!r}", state(**{name: EXTRA}))

saved("first convolution of 27 channels", state(**{"conv_first.weight": torch.zeros(4, 27, 3, 3)}))
saved("a scalar for the first convolution", state(**{"conv_first.weight": torch.tensor(1.0)}))
saved("no features at all", {n: t[:0] for n, t in GOOD.items()})
saved("an expanded tensor", state(**{"conv_hr.weight": torch.zeros(1).expand(10**6, 10**6)}))
saved("a sparse tensor", state(**{"conv_hr.weight": torch.zeros(4, 4).to_sparse()}))
saved("a meta tensor", state(**{"conv_hr.weight": torch.zeros(4, 4, 3, 3, device="meta")}))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # quantised tensors are about to leave torch
    if hasattr(torch, "quantize_per_tensor"):
        saved(
            "a quantised tensor",
            state(**{"conv_hr.weight": torch.quantize_per_tensor(torch.zeros(4, 4, 3, 3), 0.1, 0, torch.qint8)}),
        )

# --- structure --------------------------------------------------------------------------------------------------

for label, content in {
    "nothing": {},
    "none": None,
    "a number": 5,
    "a text": "weights",
    "a list": [torch.zeros(2)],
    "a lone tensor": torch.zeros(2),
    "a tuple": (GOOD,),
    "text for tensors": dict.fromkeys(GOOD, "0.5"),
    "lists for tensors": {n: [0.0] for n in GOOD},
    "numbers for names": dict(enumerate(GOOD.values())),
    "a number among names": {**GOOD, "extra": torch.zeros(1), 5: torch.zeros(2)},
    "an empty part": {"params": {}},
    "a part of none": {"params": None},
    "an epoch alone": {"epoch": 3, "best": 0.5},
    "parts too deep": {"a": {"b": {"c": {"d": {"e": GOOD}}}}},
    "an optimizer alone": {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}},
    "a discriminator alone": {"params": {"features.0.weight": torch.zeros(3, 3), "classifier.bias": torch.zeros(1)}},
    "our names without saying so": {"head.0.weight": torch.zeros(4, 3, 3, 3), "tail.weight": torch.zeros(3, 4, 3, 3)},
    "marks of two layouts": {**GOOD, "upconv1.weight": EXTRA, "body.0.conv1.weight": EXTRA},
    "both sets of names": {**GOOD, **{f"module.{n}": t for n, t in GOOD.items()}},
}.items():
    saved(label, content)

deep: Any = {"params": GOOD}
for _ in range(200):
    deep = {"a": deep}
saved("two hundred levels", deep)
saved("nested lists", {"a": [[[[[[[[[[torch.zeros(2)]]]]]]]]]]})
circle: dict[str, Any] = {}
circle["params"] = circle
saved("a circle", circle)
laughs: Any = [torch.zeros(1)]
for _ in range(40):
    laughs = [laughs, laughs]
saved("shared lists that double forty times", {"a": laughs})

# --- payloads ---------------------------------------------------------------------------------------------------


class Runs:
    """Reduces to a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


CODE = f"import os; os.mkdir(os.environ[{MARKER!r}])"
SHELL = f'mkdir "${MARKER}"'
PAYLOADS: dict[str, Any] = {
    "os.system": Runs(os.system, SHELL),
    "os.popen": Runs(os.popen, SHELL),
    "exec": Runs(exec, CODE),
    "eval": Runs(eval, f"__import__('os').mkdir(__import__('os').environ[{MARKER!r}])"),
    "subprocess.call": Runs(subprocess.call, ["sh", "-c", SHELL]),
    "runpy": Runs(runpy.run_path, "/nonexistent"),
    "torch.load": Runs(torch.load, "/nonexistent"),
    "torch.hub.load": Runs(torch.hub.load, "a/b", "c"),
    "getattr": Runs(getattr, Path("/"), "unlink"),
    "__import__": Runs(__import__, "this"),
    "a module": torch.nn.Conv2d(1, 1, 1),
    "a path": Path("/etc/passwd"),
    "partial": functools.partial(exec, CODE),
}


def in_archive(data: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    """Return a zip archive such as torch.save makes, with any pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


for name, payload in PAYLOADS.items():
    plain = pickle.dumps({"epoch": 3, "x": payload}, protocol=2)
    saved(f"torch.save with {name}", {**GOOD, "x": payload})
    written(f"pickle with {name}", plain, ".ckpt")
    written(f"archive with {name}", in_archive(plain), ".pt")
    if name in ("os.system", "exec"):
        saved(f"torch.save with {name} before 1.6", {"x": payload}, _use_new_zipfile_serialization=False)
        written(f"pickle of protocol 4 with {name}", pickle.dumps({"x": payload}, protocol=4))
        written(f"pickle with {name} as safetensors", plain, ".safetensors")
        written(f"archive with {name} as safetensors", in_archive(plain), ".safetensors")

# --- archives that explode, and damaged ones ----------------------------------------------------------------------

NOTHING = bytes(200 << 20)


def overlapping() -> bytes:
    """Return an archive of a thousand records, all of which are the same ten megabytes."""
    content = bytearray(in_archive(pickle.dumps({}, protocol=2), big=bytes(10 << 20)))
    end = content.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", content[end + 10 : end + 20])
    directory = bytes(content[start : start + size])
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(last.replace(b"archive/big", b"archive/%03d" % number) for number in range(1000))
    tail = bytearray(content[end:])
    struct.pack_into("<HHII", tail, 8, count + 1000, count + 1000, size + len(copies), start)
    return bytes(content[:end]) + copies + bytes(tail)


def good_bytes(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(GOOD, buffer, **options)
    return buffer.getvalue()


written("a pickle of 200 MB deflated", lambda: in_archive(NOTHING, zipfile.ZIP_DEFLATED))
written("a record of 200 MB deflated", lambda: in_archive(b"\x80\x02}.", zipfile.ZIP_DEFLATED, **{"data/0": NOTHING}))
written(
    "a record of 30 MB by bzip2",
    lambda: in_archive(b"\x80\x02}.", zipfile.ZIP_BZIP2, **{"data/0": NOTHING[: 30 << 20]}),
)
written(
    "a record of 30 MB by LZMA", lambda: in_archive(b"\x80\x02}.", zipfile.ZIP_LZMA, **{"data/0": NOTHING[: 30 << 20]})
)
written("records that overlap", overlapping)
written("an archive of nothing", lambda: in_archive(b""))
written("an archive of half a pickle", lambda: in_archive(pickle.dumps({"a": 1}, protocol=2)[:-3]))
written("an archive without a pickle", lambda: in_archive(b"").replace(b"data.pkl", b"data.txt"))
written("an archive with code", lambda: in_archive(b"\x80\x02}.", **{"code/x.py": b"import os", "constants.pkl": b"."}))
written("a number of 2 GB", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\0")
written("a text of 4 GB", b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a")
written("a memo out of range", b"\x80\x02j" + struct.pack("<I", 2**31) + b".")
written("an empty stack", b"\x80\x02.")
written("a mark too many", b"\x80\x02((((.")
written("a storage of a terabyte", lambda: good_bytes(_use_new_zipfile_serialization=False)[:-100])
for cut in (0, 1, 2, 4, 30, 100, 1000, -1, -22, -100, -1000):
    written(f"an archive cut at {cut}", lambda cut=cut: good_bytes()[:cut])
for cut in (3, 20, 200, -1, -20, -200):
    written(f"a file before 1.6 cut at {cut}", lambda c=cut: good_bytes(_use_new_zipfile_serialization=False)[:c])
for label, content in {
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a web page": b"<!DOCTYPE html><html>404 Not Found</html>",
    "a pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 66929193\n",
    "an archive by tar": b"pickle\0" + bytes(93) + b"0000644\0" + bytes(156) + b"ustar\0" + bytes(761),
    "zeros": bytes(1000),
    "random bytes": bytes(range(256)) * 4,
    "ELF": b"\x7fELF" + bytes(60),
}.items():
    written(label, content)
    written(f"{label} as safetensors", content, ".safetensors")

# --- pickles of allowed names alone, that hang, crash, or show what is not there -----------------------------------


def as_text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def as_number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def as_name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def called(module: str, attribute: str, *arguments: bytes) -> bytes:
    return as_name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(as_text(key) + value for key, value in items.items()) + b"u"


def window(shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0, count: int = 4) -> bytes:
    """Return the instructions for a tensor, of a storage that has four values."""
    storage = (
        b"("
        + as_text("storage")
        + as_name("torch", "FloatStorage")
        + as_text("0")
        + as_text("cpu")
        + as_number(count)
        + b"tQ"
    )
    sizes, strides = (b"(" + b"".join(map(as_number, numbers)) + b"t" for numbers in (shape, stride))
    hooks = called("collections", "OrderedDict")
    return called("torch._utils", "_rebuild_tensor_v2", storage, as_number(offset), sizes, strides, b"\x89", hooks)


def hostile(instructions: bytes) -> bytes:
    return in_archive(b"\x80\x02" + instructions + b".", **{"data/0": bytes(16)})


def attributed(content: bytes, **attributes: bytes) -> bytes:
    """Return an ordered dictionary that has attributes of Python's, which hide its methods."""
    return (
        called("collections", "OrderedDict")
        + b"("
        + as_text("conv_first.weight")
        + content
        + b"u"
        + mapping(**attributes)
        + b"b"
    )


ZEROS = called("builtins", "bytearray", as_number(2 * 10**9))
DOUBLED = b"})" + b"q\x01h\x01\x86" * 30 + b"Ns"
SHARED = mapping(
    **{
        f"a{i}": b"h\x01"
        if i
        else mapping(
            **{
                f"b{j}": b"h\x02"
                if j
                else mapping(**{f"c{k}": b"h\x03" if k else window() + b"q\x03" for k in range(300)}) + b"q\x02"
                for j in range(300)
            }
        )
        + b"q\x01"
        for i in range(300)
    }
)

for label, instructions in {
    "a shape of two billion numbers": mapping(w=called("torch", "Size", ZEROS)),
    "a set of two billion numbers": mapping(w=called("builtins", "set", ZEROS)),
    "a counter of two billion numbers": mapping(w=called("collections", "Counter", ZEROS)),
    "bytes that are not in the file": mapping(w=ZEROS),
    "a tensor that is not in the file": mapping(w=called("torch", "FloatTensor", as_number(10**9))),
    "a codec of quadratic time": mapping(
        w=called("_codecs", "encode", as_text("\u0101\u1e02" * 20_000), as_text("punycode"))
    ),
    "a key whose hash takes for ever": DOUBLED,
    "a key whose hash overflows the stack": b"})" + b"\x85" * 100_000 + b"Ns",
    "numbers that share a hash": b"}" + b"".join(as_number(k * (2**61 - 1)) + b"Ns" for k in range(1, 100)),
    "a dictionary shared thirty million times": SHARED,
    "a tensor over values that do not suffice": mapping(w=window((10**10,))),
    "a tensor beyond its values": mapping(w=window(offset=1)),
    "a tensor before its values": mapping(w=window(offset=-1)),
    "a stride below zero": mapping(w=window(stride=(-1,))),
    "a shape of another length": mapping(w=window((2, 2))),
    "values that are not in the record": mapping(w=window((10**7,), count=10**7)),
    "a record that is larger": mapping(w=window((2,), count=2)),
    "a repeated tensor behind a hidden method": attributed(
        window((999, 999), (0, 0)), values=as_name("builtins", "set")
    ),
    "a parameter that calls itself finite": mapping(
        w=called("torch._utils", "_rebuild_parameter", window((9, 9), (0, 0)), b"\x89", b"N")
    ),
    "a name that drives a terminal": as_name("os\x1b[2J", "system"),
    "a class that is built on": as_name("torch", "Tensor") + b")" + mapping(numel=b"N") + b"b",
    "a reference to a module": as_text("os") + b"Q",
    "a placeholder for values": mapping(
        w=called("torch._utils", "_rebuild_tensor_v2", as_name("os", "system"), as_number(0), b")", b")", b"\x89", b"}")
    ),
    "a placeholder for the type of values": mapping(
        w=b"(" + as_text("storage") + as_name("os", "system") + as_text("0") + as_text("cpu") + as_number(4) + b"tQ"
    ),
    "a placeholder for a name": mapping(params=b"}" + as_name("os", "system") + window() + b"s"),
    "a module's name of a megabyte, a hundred thousand times": mapping(
        epoch=as_text("m" * 2**20) + b"q\x01", w=b"](" + b"h\x01h\x01\x93" * 100_000 + b"e"
    ),
    "a dictionary that is copied over and over": mapping(
        epoch=b"](" + b"".join(as_number(key) + b"N\x86" for key in range(100_000)) + b"e\x85q\x01",
        name=as_name("collections", "OrderedDict") + b"q\x02",
        w=as_name("os", "system") + b"(" + b"h\x02h\x01R" * 100_000 + b"e",
    ),
}.items():
    written(label, hostile(instructions))


def second_directory() -> bytes:
    """Return an archive of 100 MB deflated, with a harmless directory where Python looks for one."""
    content = in_archive(b"\x80\x02}.", zipfile.ZIP_DEFLATED, **{"data/0": bytes(100 << 20)})
    end = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    directory = bytearray(content[start : start + size])
    place = directory.rindex(b"PK\x01\x02")
    directory[place + 24 : place + 28] = directory[place + 20 : place + 24]
    return content[:end] + bytes(directory) + content[end:]


written("two directories, one for each reader", second_directory)
written("a record of twice the values, deflated", lambda: in_archive(b"", zipfile.ZIP_DEFLATED)[:-1])
written("a program of TorchScript", lambda: in_archive(b"\x80\x02}.", **{"constants.pkl": b"\x80\x02)."}))
written("another byte order", lambda: in_archive(b"\x80\x02}.").replace(b"little", b"bigbig"))

# --- safetensors --------------------------------------------------------------------------------------------------


def with_header(header: Any, data: bytes = bytes(64)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: Any = (4,), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


for label, content in {
    "a header of an exabyte": struct.pack("<Q", 2**60) + b"{}",
    "a header of 2**64 - 1": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header that is no JSON": with_header(b"{not json"),
    "a header that is a list": with_header([1, 2]),
    "a header of deep lists": with_header(b"[" * 100_000),
    "a type that does not exist": with_header({"a": tensor(dtype="F31")}),
    "a shape below zero": with_header({"a": tensor([-4])}),
    "a shape of text": with_header({"a": tensor("4")}),
    "a shape of 2**70": with_header({"a": tensor([2**70])}),
    "a shape that overflows": with_header({"a": tensor([2**33, 2**33])}),
    "a shape that is not its data": with_header({"a": tensor([5])}),
    "data beyond the end": with_header({"a": tensor([4096], [0, 16384])}),
    "data backwards": with_header({"a": tensor([4], [16, 0])}),
    "data twice": with_header({"a": tensor(), "b": tensor()}, bytes(16)),
    "data with a hole": with_header({"a": tensor(), "b": tensor([4], [32, 48])}, bytes(48)),
    "data left over": with_header({"a": tensor()}, bytes(64)),
    "no tensors": with_header({}, b""),
    "metadata of numbers": with_header({"__metadata__": {"srzoo": 5}}, b""),
    "a description that is no JSON": with_header({"a": tensor(), "__metadata__": {"srzoo": "{"}}, bytes(16)),
    "a description of deep lists": with_header({"a": tensor(), "__metadata__": {"srzoo": "[" * 100_000}}, bytes(16)),
}.items():
    written(f"safetensors: {label}", content, ".safetensors")


@pytest.fixture(scope="module", autouse=True)
def _everything_is_collected() -> None:
    assert len(CHECKPOINTS) >= 150
    assert len(CHECKPOINTS) + len(ZOOS) >= 250


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MARKER, str(tmp_path / "executed"))
    return tmp_path / "executed"


def assert_refused(call: Callable[[], Any], name: str) -> None:
    """One error of ours that names the file in a line of bearable length, in little time and memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(SrzooError) as caught:
        call()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 100, f"took {grown:.0f} MB"
    assert time.process_time() - start < 20
    message = str(caught.value)
    assert isinstance(caught.value, InputError), type(caught.value)
    assert name in message
    assert len(message) < 1500
    assert message.isprintable(), repr(message)


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_loaded() -> None:
    """Whose memory is not that of a file."""
    with contextlib.suppress(ImportError):
        importlib.import_module("spandrel")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_malformed_checkpoint_is_refused(name: str, tmp_path: Path, marker: Path) -> None:
    suffix, write = CHECKPOINTS[name]
    path = tmp_path / f"file{suffix}"
    write(path)
    out = tmp_path / "out.safetensors"
    assert_refused(lambda: import_checkpoint(path, out, published=True), path.name)
    assert_refused(lambda: load_model(path), path.name)
    if suffix == ".safetensors":
        with pytest.raises(InputError):
            load_start(torch.nn.Linear(1, 1), str(path), get_zoo().entry("srresnet-lite-x4"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "exec", "eval", "subprocess.call", "partial"])
def test_the_payloads_work_where_they_are_let(name: str, marker: Path) -> None:
    """Without which the test above would show nothing."""
    payload = pickle.loads(pickle.dumps(PAYLOADS[name], protocol=2))
    if name == "partial":
        payload()
    assert marker.is_dir()


def test_an_intact_file_is_read_in_each_form(tmp_path: Path) -> None:
    for number, options in enumerate(({}, {"_use_new_zipfile_serialization": False})):
        (tmp_path / "good.pth").write_bytes(good_bytes(**options))
        assert load_tensors(tmp_path / "good.pth").keys() == GOOD.keys()
        assert (
            import_checkpoint(tmp_path / "good.pth", tmp_path / f"{number}.safetensors", published=True).tensors == 42
        )


@pytest.mark.parametrize("hidden", ["items", "values", "keys", "__len__"])
def test_attributes_in_a_file_hide_no_method(hidden: str, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(hostile(attributed(window(), **{hidden: b"N"})))
    (tensors,) = states_in(tmp_path / "file.pth")
    assert torch.equal(tensors.tensors["conv_first.weight"], torch.zeros(4))


def test_the_instructions_of_a_pickle_are_counted() -> None:
    with pytest.raises(ValueError, match="takes more than"):
        unpickle(io.BytesIO(b"\x80\x02" + b"]" * 2000 + b"."), lambda *_: torch.empty(0), steps=1000)


def assert_alike(read: Any, saved: Any) -> None:
    if isinstance(saved, torch.Tensor):
        assert (read.dtype, read.shape) == (saved.dtype, saved.shape)
        assert torch.equal(read, saved)
    elif isinstance(saved, (dict, list, tuple)):
        assert len(read) == len(saved)
        for left, right in zip(*(x.items() if isinstance(x, dict) else x for x in (read, saved)), strict=True):
            assert_alike(left, right)
    else:
        assert read == saved


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_what_is_read_is_what_was_saved(options: dict[str, Any], tmp_path: Path) -> None:
    """State dict, optimizer, scheduler, parameters with attributes, windows, every type of number."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    parameter = torch.nn.Parameter(torch.randn(3))
    parameter.note = "an attribute"
    whole = torch.randn(6, 5)
    types = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 5]).state_dict(),
        "windows": [whole, whole.t()[1:3], whole[2], torch.empty(0, 3), torch.tensor(3.0), parameter],
        "types": {name: torch.tensor([0.0, 1.0]).to(getattr(torch, name)) for name in types},
        "plain": (None, True, 10**30, 0.5, "\u00e4", b"\xff", torch.Size([1, 2])),
    }
    torch.save(content, tmp_path / "file.pth", **options)
    read = load_pickle(tmp_path / "file.pth")
    assert_alike(read, content)
    assert type(read["windows"][-1]) is torch.Tensor


class Kind(enum.Enum):
    GAN = 1


class Buffer:
    """Has what a log of a training framework has."""

    def __init__(self) -> None:
        self.history = np.arange(5.0)
        self.methods = {"mean": np.mean, "own": self.__class__}
        self.itself = self


BESIDE = {
    **PAYLOADS,
    "a NumPy scalar": np.float64(3),
    "a NumPy array": np.arange(3),
    "arguments": argparse.Namespace(lr=1e-4, betas=(0.9, 0.99), kind=Kind.GAN, seen={1, 2}, first=torch.zeros(2)),
    "a defaultdict": collections.defaultdict(list, a=[1]),
    "a deque of objects": collections.deque([Buffer(), complex(1, 2), slice(3)]),
    "a log": {"runtime": {"loss": Buffer()}},
    "a class": Buffer,
    "a sparse tensor": torch.zeros(4, 4).to_sparse(),
}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_tensors_is_neither_read_nor_run(
    name: str, options: dict[str, Any], tmp_path: Path, marker: Path
) -> None:
    path, out = tmp_path / "file.pth", tmp_path / "out.safetensors"
    for content in ({"x": BESIDE[name], "params": GOOD}, {"state_dict": GOOD, "x": [BESIDE[name], BESIDE[name]]}):
        torch.save(content, path, **options)
        assert import_checkpoint(path, out, published=True).tensors == len(GOOD)
        out.unlink()
        with pytest.raises(SrzooError, match=re.escape(str(path))):  # it holds more than a state dict
            load_tensors(path)
    torch.save({"params": {**GOOD, "conv_hr.weight": BESIDE[name]}}, path, **options)
    if name != "a log":
        with pytest.raises(SrzooError, match=r"holds (objects other than tensors|sparse tensors)"):
            import_checkpoint(path, out, published=True)
    assert not out.exists() and not marker.exists()


def test_bytes_that_are_changed_at_random_run_nothing_and_fail_in_our_words(tmp_path: Path, marker: Path) -> None:
    """Whatever instruction meets whatever else."""
    draw = random.Random(0)
    wholes = [
        pickle.dumps({"params": [1, "a", b"b"], "x": [one, one]}, protocol=p)
        for one in PAYLOADS.values()
        for p in (2, 4)
    ]
    for _ in range(1500):
        data = bytearray(draw.choice(wholes))
        for _ in range(draw.randint(1, 6)):
            place, kind = draw.randrange(len(data)), draw.randrange(3)
            if kind == 0:
                data[place] = draw.choice(b"}])(.tuesRbco\x81\x92\x93\x85\x86Qh\x01\x02N")
            elif kind == 1:
                data[place:place] = draw.choice(wholes)[place : place + draw.randint(1, 30)]
            else:
                del data[place : place + draw.randint(1, 4)]
        (tmp_path / "file.pth").write_bytes(in_archive(bytes(data)))
        with contextlib.suppress(InputError):
            load_pickle(tmp_path / "file.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer")],
)
def test_what_stands_in_place_of_a_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(SrzooError, match=rf"file\.pth {message}"):
        load_pickle(tmp_path / "file.pth")
    (tmp_path / "file.safetensors").write_bytes(content)
    with pytest.raises(SrzooError, match=rf"file\.safetensors {message}"):
        load_tensors(tmp_path / "file.safetensors")


@pytest.mark.parametrize("name", ["", ".", "/dev/zero", "missing.pth", "pipe.pth"])
def test_what_is_no_file_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    if name == "pipe.pth":
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError):
        import_checkpoint(tmp_path / name, tmp_path / "out.safetensors")


# --- zoo files ----------------------------------------------------------------------------------------------------

ENTRY = """e:
  summary: an entry
  generator: {name: trunk, block: residual, upsampler: pixelshuffle}
"""
RECIPE = """  training:
    data: [photos]
    patch_size: 32
    stages: {psnr: {steps: 5, losses: {l1: 1.0}, optimizer: {lr: 1e-4}}}
"""
EXTRACTOR = "{perceptual: {extractor: {name: timm%s}, layers: {a: 1.0}}}"
OUTSIDE = ["/etc/passwd", "../up", "a/../../up", "~/x", "~root/x", "C:/x", "C:\\x", "\\\\host\\share", "..\\up", ".."]
ZOOS: dict[str, str] = {}
for place in OUTSIDE:
    quoted = json.dumps(place)
    ZOOS[f"weights at {place}"] = f"{ENTRY}  weights: {{file: {quoted}, sha256: {'0' * 64}}}\n"
    ZOOS[f"data at {place}"] = ENTRY + RECIPE.replace("photos", quoted)
    ZOOS[f"start from {place}"] = ENTRY + RECIPE + f"    start_from: {quoted}\n"
    ZOOS[f"scores of {place}"] = f"{ENTRY}  recorded: {{scores: {{{quoted}: {{psnr: 30.0}}}}}}\n"
    ZOOS[f"validation on {place}"] = ENTRY + RECIPE + f"    validation: {{data: {quoted}}}\n"
    ZOOS[f"an extractor's weights at {place}"] = ENTRY + RECIPE.replace(
        "{l1: 1.0}", f"{{perceptual: {{extractor: {{name: timm, weights: {quoted}}}, layers: {{a: 1.0}}}}}}"
    )

ANCHORS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
for number, letter in enumerate("bcdefghi"):
    previous = "abcdefghi"[number]
    ANCHORS += f"{letter}: &{letter} [{', '.join([f'*{previous}'] * 10)}]\n"
FLAT_ANCHORS = "".join(
    f"k{number}: &a{number} {'[' * 60}{f'*a{number - 1}' if number else 'x'}{']' * 60}\n" for number in range(20)
)
ZOOS |= {
    "anchors that explode": ANCHORS,
    "anchors that nest twelve hundred levels": FLAT_ANCHORS,
    "anchors that explode in a mapping": ANCHORS.replace("[", "{k: [").replace("]", "]}"),
    "an anchor in itself": "e: &e {generator: *e}\n",
    "ten thousand levels": "[" * 10_000,
    "ten thousand mappings": "{a: " * 10_000,
    "python objects": "e: !!python/object/apply:os.system ['mkdir $SRZOO_TEST_MARKER']\n",
    "python names": "e: {generator: !!python/name:os.system }\n",
    "python modules": "e: !!python/module:antigravity\n",
    "a tag of its own": "e: !mine {generator: trunk}\n",
    "binary": "e: {generator: !!binary aGVsbG8=}\n",
    "a set": "e: !!set {a, b}\n",
    "a list": "- a\n- b\n",
    "a text": "hello\n",
    "a number": "5\n",
    "tabs": "e:\n\tgenerator: trunk\n",
    "an unclosed bracket": "e: {generator: [\n",
    "an unclosed quote": "e: {generator: 'trunk\n",
    "two documents": f"{ENTRY}---\n{ENTRY}",
    "an entry twice": ENTRY + ENTRY,
    "a key twice": ENTRY + "  summary: another\n",
    "an unknown anchor": "e: *nowhere\n",
    "a list for a key": "? [a, b]\n: c\n",
    "an escape sequence in the summary": ENTRY.replace("an entry", '"\\e[2J an entry"'),
    "a null character in the file": f'{ENTRY}  weights: {{file: "a\\0b", sha256: {"0" * 64}}}\n',
    "an entry's name with a path": ENTRY.replace("e:", "../../e:", 1),
    "an entry that extends itself": "e: {extends: e}\n",
    "an unknown key": ENTRY + "  trainin: {}\n",
    "an unknown generator": ENTRY.replace("trunk", "os.system"),
    "a factory for a name": ENTRY.replace("name: trunk", "name: 'os:system'"),
    "a hash of letters": f"{ENTRY}  weights: {{file: a, sha256: {'g' * 64}}}\n",
    "a hash too short": f"{ENTRY}  weights: {{file: a, sha256: abc}}\n",
    "a score of text": f"{ENTRY}  recorded: {{scores: {{set5: {{psnr: '30'}}}}}}\n",
    "a metric that does not exist": f"{ENTRY}  recorded: {{scores: {{set5: {{psnrr: 30.0}}}}}}\n",
}
for key in ("scale", "generator", "discriminator", "training", "weights", "recorded", "summary", "extends"):
    for value in ("[1, 2]", "-1", "1.5", "true", ".nan", "[[[]]]", "{a: {b: c}}"):
        if (key, value) != ("generator", "true"):
            before = "".join(line for line in ENTRY.splitlines(True) if not line.startswith(f"  {key}:"))
            ZOOS[f"{key}: {value}"] = f"{before}  {key}: {value}\n"


LONG = "9" * 100_000
for label, content in {
    "a number of a hundred thousand digits": f"{ENTRY}  scale: {LONG}\n",
    "a number of thirty digits": (ENTRY + RECIPE).replace("steps: 5", f"steps: {LONG[:30]}"),
    "a long text for a number": f"{ENTRY}  scale: '{LONG}'\n",
    "a long list for a number": f"{ENTRY}  scale: [{'1, ' * 5000}1]\n",
    "a long list for a key": f"? [{'a, ' * 5000}]\n: b\n",
    "a long name to extend": f"e: {{extends: {LONG}}}\n",
    "no number": ENTRY.replace("block: residual", "block: {name: residual, residual_scale: .nan}"),
    "an eight-bit escape sequence": ENTRY.replace("an entry", '"\\x9b2J"'),
    "text from right to left": ENTRY.replace("an entry", '"\\u202etxet"'),
    "a key from right to left": ENTRY + '  "\\u202eelacs": 4\n',
    "a name as number and as text": "1: {generator: trunk}\n'1': {generator: trunk}\n",
    "seventy levels": f"e: {'[' * 70}{']' * 70}\n",
    "a merge key": "a: &a {scale: 4}\ne: {<<: *a, generator: trunk}\n",
    "null for a name": "~: {generator: trunk}\n",
    "nothing": "# nothing\n",
    "start from a run in the current folder": ENTRY + RECIPE + "    start_from: runs/mine\n",
    "start from a file": ENTRY + RECIPE + "    start_from: mine.safetensors\n",
    "start from a file by a dotted key": ENTRY + RECIPE + "  training.start_from: mine.safetensors\n",
    "data in the current folder": ENTRY + RECIPE.replace("photos", "."),
    "data below the current folder": ENTRY + RECIPE.replace("photos", "./private"),
    "data by an address": ENTRY + RECIPE.replace("photos", "file:///etc"),
    "a model of timm from a folder": ENTRY
    + RECIPE.replace(
        "{l1: 1.0}", "{perceptual: {extractor: {name: timm, backbone: local-dir:/etc}, layers: {a: 1.0}}}"
    ),
    "an extractor's weights in the current folder": ENTRY
    + RECIPE.replace("{l1: 1.0}", EXTRACTOR % ", weights: mine.pth"),
    "an extractor's weights without an ending": ENTRY
    + RECIPE.replace("{l1: 1.0}", EXTRACTOR % ", weights: secret/net"),
    "a path under a key for people": ENTRY.replace("block: residual", "block: {name: residual, url: /etc/passwd}"),
}.items():
    ZOOS[label] = content


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "a path under a key for people",
            r"line 3: entry 'e': generator\.block\.url: a zoo file may name no path outside",
        ),
        ("a model of timm from a folder", "line 7: .*backbone: a zoo file may name no path outside"),
        ("an extractor's weights in the current folder", "line 7: .*weights: a zoo file may name no path outside"),
        (
            "an extractor's weights without an ending",
            "line 7: .*extractor.weights: a zoo file may name no file that a p",
        ),
        (
            "start from a run in the current folder",
            "line 8: entry 'e': training.start_from: no entry is called 'runs/mine'",
        ),
        ("anchors that explode", "line 1: expands to more than 200000"),
        ("anchors that nest twelve hundred levels", "line 1: nested too deeply through its anchors"),
        ("an anchor in itself", "line 1: an anchor contains itself"),
        ("seventy levels", "line 1: nested too deeply"),
        ("a name as number and as text", "line 2: the key '1' stands here twice"),
        ("a merge key", "line 2: .*'extends: ENTRY'"),
        ("nothing", "line 1: must be a mapping"),
    ],
)
def test_what_is_wrong_in_a_zoo_file_is_told_with_its_line(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text(ZOOS[name])
    (problem, *_) = Zoo([Source(tmp_path / "zoo.yaml", "s", "s", (tmp_path,))], get_registry()).problems()
    assert re.search(rf"zoo\.yaml, {told}", str(problem)), problem


@pytest.mark.parametrize("name", ZOOS)
def test_a_malformed_zoo_file_is_refused_and_takes_no_other_with_it(name: str, tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOOS[name], encoding="utf-8")
    main = get_zoo().source("bicubic")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    stranger = Source(path, "stranger", "stranger", (tmp_path,))
    problems = Zoo([stranger], get_registry()).problems()  # those of the zoo's own entries are not looked for
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200
    assert time.process_time() - start < 20
    assert problems
    for problem in problems:
        assert isinstance(problem, InputError)
        assert "zoo.yaml" in str(problem)
        assert len(str(problem)) < 1500
        assert str(problem).isprintable()
    assert isinstance(Zoo([main, stranger], get_registry()).entry("bicubic"), Entry)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00e", b"\x00" * 100, b"e: \x01", "e: \ud7ff\x85".encode()])
def test_a_zoo_file_that_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_bytes(content)
    zoo = Zoo([Source(tmp_path / "zoo.yaml", "stranger", "stranger", (tmp_path,))], get_registry())
    (problem, *_) = zoo.problems()
    assert isinstance(problem, InputError)


def test_the_user_may_name_any_path_that_a_zoo_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text(ENTRY + RECIPE.replace("{l1: 1.0}", EXTRACTOR % ""))
    zoo = Zoo([Source(tmp_path / "zoo.yaml", "stranger", "stranger", (tmp_path,))], get_registry())
    weights = "training.stages.psnr.losses.perceptual.extractor.weights"
    entry = zoo.entry("e", ["training.data=/somewhere/else", f"{weights}=secret/net"])
    assert entry.training is not None
    assert entry.training.data == ("/somewhere/else",)
    assert entry.training.stages["psnr"].losses["perceptual"].options["extractor"]["weights"] == "secret/net"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> Entry:
    """An entry of a stranger's zoo file that names what happens to lie in the folder that the user is in."""
    for folder in ("private", "sub/private", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "picture.png")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x.safetensors").write_bytes(b"never read")
    recipe = RECIPE.replace("photos", "private, sub/private, .hidden, 'private[:1]'") + "    start_from: model\n"
    recipe += "    validation: {data: private}\n"
    scores = "s: {extends: bicubic, recorded: {scores: {private: {psnr: 20.0}}}}\n"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "zoo.yaml").write_text(ENTRY + recipe + scores)
    monkeypatch.setenv("SRZOO_ZOO", "theirs/zoo.yaml")
    monkeypatch.chdir(tmp_path)
    return get_zoo().entry("e")


def test_a_zoo_file_reads_nothing_in_the_folder_that_the_user_is_in(stranger: Entry) -> None:
    recipe = stranger.training
    assert recipe is not None and recipe.validation is not None
    for name in (*recipe.data, *recipe.validation.data):
        with pytest.raises(UnknownNameError, match=r"a zoo file names no other folders.* --data FOLDER"):
            load_image_set(name)
    assert recipe.start_from is not None
    with pytest.raises(UnknownNameError, match=r"No entry is called 'model'.*training\.start_from=PATH"):
        load_start(torch.nn.Linear(1, 1), recipe.start_from, stranger)
    (check,) = verify("s").checks
    assert check.found is None
    assert "a zoo file names no other folders" in check.reason


def test_the_user_names_folders_as_before_where_a_zoo_file_may_not(stranger: Entry) -> None:
    changes = ["training.data=[private, sub/private]", "training.validation.data=.hidden", "training.start_from=model"]
    typed = get_zoo().entry("e", changes).training
    assert typed is not None and typed.validation is not None and typed.start_from is not None
    given = training_entry(stranger, ["private"], None, ()).training
    assert given is not None
    for name in (*typed.data, *typed.validation.data, *given.data):
        assert len(load_image_set(name)) == 1
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        load_start(torch.nn.Linear(1, 1), typed.start_from, stranger)


def test_a_weight_file_that_is_a_link_out_of_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None
) -> None:
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"secret")
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "w.safetensors").symlink_to(secret)
    (folder / "zoo.yaml").write_text(f"{ENTRY}  weights: {{file: w.safetensors, sha256: {'0' * 64}}}\n")
    monkeypatch.setenv("SRZOO_ZOO", str(folder / "zoo.yaml"))
    with pytest.raises(InputError, match=r"is a link to .*secret\.safetensors, which lies outside"):
        load_model("e")


def test_the_command_line_tells_it_without_a_traceback(tmp_path: Path, marker: Path) -> None:
    for name in ("torch.save with os.system", "records that overlap", "nan in conv_first.weight"):
        suffix, write = CHECKPOINTS[name]
        write(tmp_path / f"file{suffix}")
        told = CliRunner().invoke(app, ["weights", "import", str(tmp_path / f"file{suffix}"), "--published"])
        assert told.exit_code == 2, told.output
        assert told.stderr.count("error:") == 1
        assert "Traceback" not in told.output
    assert not marker.exists()
