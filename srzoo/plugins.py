"""Discovery that one broken plugin cannot bring down.

Each entry point is loaded, checked and asked on its own. What goes wrong is kept as a record with the
distribution, the plugin and the cause; the other plugins never notice.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

import pluggy

from . import hookspecs
from .specs import KINDS, ComponentSpec, hook_name

GROUP = "srzoo"
OWN_DISTRIBUTION = "srzoo"
FAULTS = (Exception, SystemExit)
"""What code of a plugin may raise, whenever it runs: one that ends the process, as ``argparse`` does, is as broken."""
_LIBRARIES = {"torch", "numpy", "sympy", "onnx", "onnx_ir", "onnxscript", "safetensors"}
"""Libraries that plugins are run by, in whose files nothing is to be changed."""


@dataclass(frozen=True)
class PluginRecord:
    """One entry point and what became of it.

    Attributes:
        name: the entry point's name; the *owner* of everything the plugin registers.
        distribution: the installed package it came from.
        status: ``ok``; ``broken``: skipped, see ``error``; ``disabled``: by ``SRZOO_PLUGINS``.
        error: the cause, in one line.
        seconds: time spent importing it and calling its hooks.
        folder: of the plugin's own file, where weights of its entries may lie.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Literal["ok", "broken", "disabled"] = "ok"
    error: str = ""
    seconds: float = 0.0
    specs: tuple[ComponentSpec, ...] = field(default=(), repr=False)
    zoo_files: tuple[Path, ...] = ()
    ablations: tuple[Path, ...] = ()
    folder: Path | None = None

    @property
    def first_party(self) -> bool:
        """Whether the plugin is shipped with srzoo itself."""
        return self.distribution == OWN_DISTRIBUTION

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


def discover(entry_points: Iterable[metadata.EntryPoint] | None = None) -> list[PluginRecord]:
    """Load every plugin and return one record each, first-party ones first.

    ``SRZOO_PLUGINS`` chooses among the plugins of *other* distributions: unset, all; empty, none; otherwise
    a comma-separated list of plugin or distribution names.

    Args:
        entry_points: what to load instead of the installed entry points; for tests.
    """
    if entry_points is None:
        entry_points = metadata.entry_points(group=GROUP)
    allowed = _allowed_plugins()
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)

    records: list[PluginRecord] = []
    taken: dict[str, PluginRecord] = {}
    seen: set[tuple[str, str, str]] = set()
    for entry_point in sorted(entry_points, key=_load_order):
        record = _describe(entry_point)
        identity = (record.name, record.distribution, record.module)
        if identity in seen:  # the same installation found twice on sys.path
            continue
        seen.add(identity)
        names = {normalised(record.name), normalised(record.distribution)}
        if not record.first_party and allowed is not None and not allowed & names:
            records.append(replace(record, status="disabled", error="not named in SRZOO_PLUGINS"))
            continue
        if record.name in taken:
            record = replace(
                record,
                status="broken",
                error=f"the plugin name {record.name!r} is already taken by {taken[record.name]}",
            )
        else:
            record = _load(manager, entry_point, record)
            taken[record.name] = record
        records.append(record)
    return records


def _allowed_plugins() -> set[str] | None:
    value = os.environ.get("SRZOO_PLUGINS")
    if value is None:
        return None
    return {normalised(name) for name in value.split(",") if name.strip()}


def unknown_plugins(records: Iterable[PluginRecord]) -> list[str]:
    """Return a sentence for every name in ``SRZOO_PLUGINS`` that no installed plugin has."""
    from .errors import did_you_mean

    names = {name for record in records for name in (record.name, record.distribution)}
    known = {normalised(name) for name in names}
    return [
        f"SRZOO_PLUGINS names {name!r}, but no such plugin is installed.{did_you_mean(name, names)}"
        for name in sorted(_allowed_plugins() or ())
        if name not in known
    ]


def normalised(name: str) -> str:
    """Return a distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _load_order(entry_point: metadata.EntryPoint) -> tuple[bool, str, str]:
    record = _describe(entry_point)
    return (not record.first_party, record.distribution, record.name)


def _describe(entry_point: metadata.EntryPoint) -> PluginRecord:
    dist = entry_point.dist
    return PluginRecord(
        name=entry_point.name,
        distribution=((dist and dist.name) or "unknown").lower(),
        version=(dist and dist.version) or "?",
        module=entry_point.value,
    )


def _load(manager: pluggy.PluginManager, entry_point: metadata.EntryPoint, record: PluginRecord) -> PluginRecord:
    """Import, register and ask one plugin; all of its specs are taken, or none."""
    start = time.perf_counter()
    registered = None
    interrupts: list[int] = []
    try:
        with _own_streams(), _noting_interrupts(interrupts):
            plugin = entry_point.load()
            _check_hook_names(manager, plugin)
            registered = manager.register(plugin, name=record.name)
            specs = _ask(manager, record.name)
            files = {hook: _ask_paths(manager, hook, record.name) for hook in ("srzoo_entries", "srzoo_ablations")}
    except BaseException as error:  # a plugin may well call sys.exit() at import
        if interrupts and isinstance(error, KeyboardInterrupt):
            raise
        if registered is not None:
            manager.unregister(name=record.name)
        return replace(record, status="broken", error=describe_exception(error), seconds=time.perf_counter() - start)
    file = getattr(sys.modules.get(entry_point.module), "__file__", None)  # the plugin may be an object in it
    folder = Path(file).parent if file else None
    found = {hook: tuple(folder / path if folder else path for path in paths) for hook, paths in files.items()}
    return replace(
        record,
        specs=specs,
        zoo_files=found["srzoo_entries"],
        ablations=found["srzoo_ablations"],
        folder=folder,
        seconds=time.perf_counter() - start,
    )


@contextlib.contextmanager
def _own_streams() -> Iterator[None]:
    """Within this context, what is printed goes to stderr, for it must not get into --json output; none is closed."""
    errors = _KeptOpen(sys.stderr) if sys.stderr is not None else None
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
        yield


class _KeptOpen:
    """A stream that whoever writes to it cannot close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Do nothing."""


@contextlib.contextmanager
def _noting_interrupts(interrupts: list[int]) -> Iterator[None]:
    """Within this context, note each Ctrl-C: a KeyboardInterrupt without one is the plugin's own.

    Where Python does not handle SIGINT, or in another thread than the main one, none can come from the user.
    """
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        assert callable(before)
        before(number, frame)

    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # else the plugin handles it by itself
            signal.signal(signal.SIGINT, before)


def describe_exception(error: BaseException) -> str:
    """Return an exception as one line, with the place in the plugin's own code that raised it."""
    try:
        text = " ".join(str(error).split()) or "no message"
    except Exception:  # even its __str__ is broken
        text = "no message"
    if isinstance(error, SyntaxError) and error.filename:  # raised by the import machinery; it knows the place itself
        return f"{type(error).__name__}: {error.msg} ({_short_path(error.filename)}, line {error.lineno})"
    return f"{type(error).__name__}: {text}{foreign_place(error.__traceback__)}"


def foreign_place(traceback: TracebackType | None = None, frame: FrameType | None = None) -> str:
    """Return `` (file, line n)``, the innermost place of a traceback or frame in a plugin's own code; or nothing."""
    place = ""
    steps = [(frame, frame.f_lineno)] if frame is not None else []
    while traceback is not None:
        steps.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    for step, line in steps:
        filename = step.f_code.co_filename
        if not filename.startswith("<") and not _is_ours_or_torch(filename):
            place = f" ({_short_path(filename)}, line {line})"
    return place


def _short_path(filename: str) -> str:
    """Return a file's name within the package that it is of; of a lone file, the name."""
    path = Path(filename)
    parts, folder = [path.name], path.parent
    while (folder / "__init__.py").is_file() and folder.name:
        parts, folder = [folder.name, *parts], folder.parent
    return "/".join(parts)


@functools.cache
def _torch_folder() -> Path | None:
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parent if found is not None and found.origin else None


def _is_ours_or_torch(filename: str) -> bool:
    """Whether a frame is none of a plugin's code: a line of torch or Python tells no one what to change."""
    path = Path(filename)
    above = path.parts[:-1]
    library = above[above.index("site-packages") + 1 :][:1] if "site-packages" in above else ()
    ours = Path(__file__).parent in path.parents or _torch_folder() in path.parents
    pythons = Path(os.__file__).parent in path.parents and "site-packages" not in above
    return ours or pythons or bool({*library} & _LIBRARIES)


def _check_hook_names(manager: pluggy.PluginManager, plugin: Any) -> None:
    """Refuse a misspelt hook, which pluggy would otherwise never call."""
    from .errors import did_you_mean

    known = [name for name in dir(hookspecs) if name.startswith("srzoo_")]
    marked = 0
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in known:
                raise TypeError(f"{name}() is not marked with @srzoo.hookimpl")
            continue
        marked += 1
        hook = options.get("specname") or name
        if hook not in known:
            raise TypeError(f"srzoo has no hook {hook!r}.{did_you_mean(hook, known)} Hooks: {', '.join(known)}")
    if not marked:
        raise TypeError("implements no hook; mark one of " + ", ".join(known) + " with @srzoo.hookimpl")


def _ask(manager: pluggy.PluginManager, name: str) -> tuple[ComponentSpec, ...]:
    specs: list[ComponentSpec] = []
    for kind, spec_class in KINDS.items():
        for spec in _call(manager, hook_name(kind), name):
            if type(spec) is not spec_class:  # a class of the plugin's own could answer anything, at any time
                raise TypeError(
                    f"{hook_name(kind)}() must return a list of {spec_class.__name__}, "
                    f"not one with {type(spec).__name__} {_short(spec)}"
                )
            if any(other.kind == spec.kind and other.name == spec.name for other in specs):
                raise ValueError(f"{hook_name(kind)}() returns {spec.name!r} twice")
            specs.append(spec)
    return tuple(specs)


def _ask_paths(manager: pluggy.PluginManager, hook: str, name: str) -> tuple[Path, ...]:
    paths: list[Path] = []
    for path in _call(manager, hook, name):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{hook}() must return a list of paths, not one with {_short(path)}")
        paths.append(Path(path))
    return tuple(paths)


def _call(manager: pluggy.PluginManager, hook: str, plugin_name: str) -> Sequence[Any]:
    results: list[Any] = []
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin_name != plugin_name:
            continue
        result = implementation.function()
        if not isinstance(result, (list, tuple)):
            raise TypeError(f"{hook}() must return a list, not {type(result).__name__} {_short(result)}")
        results.extend(result)
    return results


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
