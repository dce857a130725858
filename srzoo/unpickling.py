"""The instructions of a pickle, carried out on plain values: nothing is imported, and no name in it becomes a call.

``torch.load(weights_only=True)`` runs no foreign code either, but it calls ``set``, ``bytearray``, ``torch.Size`` and
codecs with any argument and hashes whatever stands for a key, so that a file of a few hundred bytes can make it work
for hours, take all memory or end the process. Here a state dict is all there is: instructions are counted, and the
names that mean something are those of one table. What is made with any other name is an :class:`Opaque`: programs keep
their arguments, logs and scores beside the tensors, and who takes the tensors alone has no need of them.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import torch

MAX_STEPS = 2_000_000
"""Instructions of a file; a tensor takes about forty."""
MAX_DIMENSIONS = 16
MAX_NAME = 500
"""Characters of a module and a name in it."""
MAX_ARGUMENTS = 16
MAX_COPIED = 32 << 20
"""Bytes that calls may copy in all: an instruction of three bytes can refer to all that stands before it."""


class UnreadableError(ValueError):
    """Why a file is not read, as the rest of a sentence that begins with its name."""


StorageOf = Callable[[str, torch.dtype, int], torch.Tensor]
"""Takes key, type and number of values, and returns them, one after the other."""


@dataclass(frozen=True)
class Name:
    """A module and a name in it, as the file spells them; never looked up."""

    text: str


@dataclass(frozen=True)
class Opaque:
    """Stands for an object, a class or a function that is not read: neither looked up, nor made, nor called.

    What it would be made from is left out. Who would take it for a value has to refuse it, see :func:`refused`.
    """

    text: str


_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
STORAGES = {f"{module} {kind}Storage": t for module in ("torch", "torch.cuda") for kind, t in _STORAGES.items()}
STORAGES["torch.storage UntypedStorage"] = torch.uint8
_TYPES = {f"torch {str(t)[6:]}": t for t in vars(torch).values() if isinstance(t, torch.dtype)}
_CLASSES = ("torch.nn.parameter Parameter", "torch Tensor")
"""Names that only say what a tensor was."""
_REFUSED = {
    "torch._utils _rebuild_sparse_tensor": "sparse",
    "torch._utils _rebuild_qtensor": "quantised",
    "torch._utils _rebuild_nested_tensor": "nested",
    "torch._utils _rebuild_meta_tensor_no_storage": "meta",
    "torch._utils _rebuild_wrapper_subclass": "wrapped",
}


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUSHED = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_MADE: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def unpickle(file: BinaryIO, storage_of: StorageOf, steps: int = MAX_STEPS) -> Any:
    """Return what the next pickle of a file holds: tensors, numbers, text and bytes in dictionaries, lists and tuples.

    Anything else is an :class:`Opaque`.

    Raises:
        UnreadableError: it is damaged, or takes more instructions than a state dict.
    """
    machine = _Machine(storage_of)
    for opcode, argument, _ in pickletools.genops(file):
        steps -= 1
        if steps < 0:
            raise UnreadableError(f"takes more than {MAX_STEPS:,} instructions to read; such files are not read")
        if opcode.name == "STOP":
            return machine.end()
        machine.step(opcode.name, argument)
    raise UnreadableError("ends within a pickle")


class _Machine:
    def __init__(self, storage_of: StorageOf) -> None:
        self._storage_of = storage_of
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def end(self) -> Any:
        (value,) = self._stack
        return value

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _MADE:
            self._stack.append(_MADE[name]())
        elif name in _TUPLES:
            taken = [self._stack.pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(reversed(taken)))
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise UnreadableError(f"has the instruction {name}, which no state dict needs")
            method(argument)

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, _: None) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    _frozenset = _tuple

    def _append(self, _: None) -> None:
        item = self._stack.pop()
        if not self._is_opaque():
            _a(list, self._stack[-1]).append(item)

    def _appends(self, _: None) -> None:
        items = self._since_mark()
        if not self._is_opaque():
            _a(list, self._stack[-1]).extend(items)

    _additems = _appends

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        if not self._is_opaque():
            _a(dict, self._stack[-1])[_key(key)] = value

    def _setitems(self, _: None) -> None:
        items = self._since_mark()
        if self._is_opaque():
            return
        into = _a(dict, self._stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            into[_key(key)] = value

    def _binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _long_binput = _binput

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _long_binget = _binget

    def _is_opaque(self) -> bool:
        """Whether what stands on top is a placeholder, which takes anything and keeps nothing."""
        return isinstance(self._stack[-1], Opaque)

    def _global(self, text: str) -> None:
        if len(text) > MAX_NAME:
            raise refused(Opaque(text[:MAX_NAME]))
        if text in _TYPES:
            self._stack.append(_TYPES[text])
        else:
            known = text in _CALLS or text in STORAGES or text in _CLASSES
            self._stack.append(Name(text) if known else Opaque(text))

    def _stack_global(self, _: None) -> None:
        name, module = _a(str, self._stack.pop()), _a(str, self._stack.pop())
        self._global(f"{module[: MAX_NAME + 1]} {name[: MAX_NAME + 1]}")

    def _inst(self, text: str) -> None:
        self._since_mark()
        self._global(text)
        self._made_of()

    def _obj(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append(items[0])
        self._made_of()

    def _newobj(self, _: None) -> None:
        _a(tuple, self._stack.pop())
        self._made_of()

    def _newobj_ex(self, _: None) -> None:
        self._stack.pop()
        self._newobj(None)

    def _made_of(self) -> None:
        """Leave on top the placeholder of a class for an object of it; torch makes nothing of its own this way."""
        found = self._stack[-1]
        if isinstance(found, Name):
            raise refused(Opaque(found.text))
        _a(Opaque, found)

    def _reduce(self, _: None) -> None:
        arguments, name = _a(tuple, self._stack.pop()), self._stack.pop()
        self._stack.append(name if isinstance(name, Opaque) else self._call(_a(Name, name), arguments))

    def _call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        for argument in arguments[:MAX_ARGUMENTS]:
            if isinstance(argument, Opaque):  # what it would be of is not known
                return argument
            if isinstance(argument, (str, bytes)):
                self._copied += len(argument)
            elif isinstance(argument, (list, tuple, dict)):
                self._copied += 64 * len(argument)
        if self._copied > MAX_COPIED:
            raise UnreadableError("copies its values over and over; such files are not read")
        return _call(name, arguments)

    def _build(self, _: None) -> None:
        """Leave out what Python objects carry beside their content, such as the versions of a state dict's modules."""
        self._stack.pop()
        if not isinstance(self._stack[-1], (dict, torch.Tensor, Opaque)):
            raise UnreadableError(f"sets the state of a {type(self._stack[-1]).__name__}, which no state dict needs")

    def _binpersid(self, _: None) -> None:
        match self._stack.pop():
            case ("storage", Name(kind), str(key), str(place), int(count), *view):
                pass
            case ("module", Opaque() as found, *_):  # a class with its source, before torch 1.6
                self._stack.append(found)
                return
            case ("storage", Opaque() as kind, *_):
                raise refused(kind)
            case _:
                raise UnreadableError("refers to something other than the values of a tensor")
        if place == "meta":
            raise UnreadableError("holds meta tensors; only plain ones are read")
        if kind not in STORAGES:
            raise refused(Opaque(kind))
        if view not in ([], [None]) or count < 0:
            raise UnreadableError("holds its values as torch before 0.4 did; load and save it with a newer torch first")
        self._stack.append(self._storage_of(key, STORAGES[kind], count))


T = TypeVar("T")


def _a(kind: type[T], value: Any) -> T:
    """Return a value that has to be of a type for an instruction to mean anything."""
    if type(value) is not kind:
        raise UnreadableError(f"has a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _key(value: Any) -> Any:
    """Return a key. Keys are hashed: of tuples in tuples that can take for ever, and large numbers may share a hash."""
    if value is None or type(value) in (str, bool, float, bytes) or (type(value) is int and abs(value) < 2**60):
        return value
    if isinstance(value, Opaque):
        raise refused(value)
    raise UnreadableError(f"has a {type(value).__name__} for a name")


def refused(found: Opaque) -> UnreadableError:
    """Return why a placeholder is no value."""
    if found.text in _REFUSED:
        return UnreadableError(f"holds {_REFUSED[found.text]} tensors; only plain ones are read")
    name = found.text.replace(" ", ".")[:120]
    return UnreadableError(
        "holds objects other than tensors, which would have to be executed to be read: "
        + (name if name.isprintable() else ascii(name))
    )


# --- what the names of the table stand for ------------------------------------------------------------------------


def _call(name: Name, arguments: tuple[Any, ...]) -> Any:
    call = _CALLS.get(name.text)
    if call is None:
        raise refused(Opaque(name.text))
    if len(arguments) > MAX_ARGUMENTS:
        raise _misused(name)
    try:
        return call(*arguments)
    except TypeError:  # of their number
        raise _misused(name) from None


def _misused(name: Name) -> UnreadableError:
    return UnreadableError(f"gives {name.text.replace(' ', '.')} something that torch.save does not")


def _tensor(values: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """Return a window of values, none of which it leaves, and of which it shows no more than there are."""
    if not isinstance(values, torch.Tensor) or values.dim() != 1:
        raise UnreadableError("has a tensor without values")
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise UnreadableError("has a tensor without a shape")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (offset, *size, *stride)):
        raise UnreadableError("has a tensor whose shape is not one of natural numbers")
    if math.prod(size) > values.numel():
        raise UnreadableError(
            f"has a tensor of shape {size} that shows the same values over and over; such tensors, which would take "
            "far more memory than the file, are not read"
        )
    reach = offset + sum((number - 1) * step for number, step in zip(size, stride, strict=True)) + 1
    if 0 not in size and reach > values.numel():
        raise UnreadableError(f"has a tensor of shape {size} that reaches beyond its {values.numel()} values")
    return values.as_strided(size, stride, offset) if 0 not in size else values.new_empty(size)


def _typed_tensor(values: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    if not isinstance(values, torch.Tensor) or not isinstance(dtype, torch.dtype):
        raise UnreadableError("has a tensor without values or without a type")
    return _tensor(values.view(dtype), offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise UnreadableError("has a parameter that is no tensor")
    return tensor


def _rebuilt(name: Any, _: Any, arguments: Any, __: Any) -> Any:
    """Return what a tensor with attributes of Python's is without them."""
    return _parameter(_call(_a(Name, name), _a(tuple, arguments)))


def _mapping(content: Any = ()) -> dict[Any, Any]:
    if type(content) is dict:
        return dict(content)
    result = {}
    for pair in content if type(content) in (list, tuple) else (content,):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise UnreadableError("has a dictionary that is not made of pairs")
        result[_key(pair[0])] = pair[1]
    return result


def _encoded(text: Any, codec: Any = None) -> bytes:
    if type(text) is bytes and codec is None:
        return text
    if type(text) is not str or codec not in ("latin1", "latin-1"):
        raise UnreadableError("holds bytes in a code that torch.save does not use")
    return text.encode("latin1")


_CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _typed_tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch._tensor _rebuild_from_type_v2": _rebuilt,
    "collections OrderedDict": _mapping,
    "collections Counter": _mapping,
    "torch Size": lambda sizes=(): _a(tuple, sizes),
    "torch device": lambda kind, index=None: str(_a(str, kind)) if index is None else f"{_a(str, kind)}:{index}",
    "_codecs encode": _encoded,
    **{f"{module} bytearray": _encoded for module in ("builtins", "__builtin__")},
    **{f"{module} set": lambda items: _a(list, items) for module in ("builtins", "__builtin__")},
}
