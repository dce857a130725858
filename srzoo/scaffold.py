"""``srzoo plugin new``: a whole package to begin with, written from templates that are shipped as data."""

from __future__ import annotations

import keyword
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import jinja2

from .errors import InputError, did_you_mean
from .plugins import normalised
from .registry import get_registry
from .specs import KINDS, hook_name

TEMPLATES = ("block", "generator", "discriminator", "loss", "metric", "dataset", "upsampler")
"""Kinds of components that there is a template for."""

TRAINED_ON = 3
"""Photographs of the nine that a new package's entry trains on; a benchmark needs six to tell entries apart."""

_DISTRIBUTION = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


@dataclass(frozen=True)
class NewPackage:
    """What was written.

    Attributes:
        files: each file, relative to the folder, to what it is for.
        next_steps: commands that try the package.
    """

    folder: Path
    files: dict[str, str]
    next_steps: tuple[str, ...]


def write_package(name: str, kind: str = "block", out: Path | None = None) -> NewPackage:
    """Write a package with one component, one zoo entry, tests and a README; all of it or nothing.

    Args:
        name: of the distribution, such as ``my-block``; the module and the component are called ``my_block``.
        kind: one of :data:`TEMPLATES`.
        out: folder to write, ``name`` by default. It must not exist, or be empty.

    Raises:
        InputError: the kind has no template; the name is no name of a package, is that of an installed module, or
            belongs to a component, plugin or entry that is registered already; or the folder is not empty.
    """
    if kind not in TEMPLATES:
        raise InputError(
            f"There is no template for {kind!r}.{did_you_mean(kind, TEMPLATES)} Kinds: {', '.join(TEMPLATES)}."
        )
    module = _checked_module(name)
    _check_free(normalised(name), module, kind)
    folder = out if out is not None else Path(name)
    _check_folder(folder)
    values = _values(name, module, kind)
    contents = {path: _render(template, values) for path, (template, _) in _files(module, kind).items()}
    try:
        _write(folder, contents)
    except OSError as error:
        raise InputError(f"Cannot write {folder}: {error}.") from error
    return NewPackage(
        folder, {path: purpose for path, (_, purpose) in _files(module, kind).items()}, _commands(values, folder)
    )


def _write(folder: Path, contents: Mapping[str, str]) -> None:
    """Write files beside a folder and then put them in its place, so that nobody ever finds half of them there."""
    existed = folder.is_dir()
    folder = folder.resolve()
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder if existed else folder.parent))
    moved: list[Path] = []
    try:
        for path, text in contents.items():
            file = begun / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        if existed:  # it may be the working folder of a shell, so it stays the one it is
            for part in sorted(begun.iterdir()):
                moved.append(part.rename(folder / part.name))
            begun.rmdir()
        else:
            begun.chmod(0o777 & ~_mask())
            begun.rename(folder)
    except BaseException:  # an interruption above all
        shutil.rmtree(begun, ignore_errors=True)
        for part in moved:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        for parent in missing[1:]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _mask() -> int:
    """Return the process's mask of permissions, which Python can only read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _files(module: str, kind: str) -> dict[str, tuple[str, str]]:
    """Return path in the package to its template and purpose."""
    return {
        "pyproject.toml": ("pyproject.toml.j2", "name, dependencies, and the entry point that srzoo finds it by"),
        f"{module}/__init__.py": ("hooks.py.j2", "the hooks; they say what there is, and import nothing heavy"),
        f"{module}/{kind}.py": (f"{kind}.py.j2", f"the {kind} itself; change this one"),
        f"{module}/zoo.yaml": ("zoo.yaml.j2", "an entry that trains it"),
        f"tests/test_{module}.py": ("test.py.j2", "srzoo's checks of everything it registers, and a test of its own"),
        "README.md": ("README.md.j2", "what it is and how to run it"),
    }


def _values(name: str, module: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "module": module,
        "component": module,
        "entry": f"{normalised(name)}-x4",
        "kind": kind,
        "hook": hook_name(kind),
        "spec": KINDS[kind].__name__,
        "title": "".join(part.capitalize() for part in module.split("_")),
        "version": _release(),
        "training_data": module if kind == "dataset" else f"photos[:{TRAINED_ON}]",
        "bench_options": ("" if kind == "dataset" else f' --data "photos[{TRAINED_ON}:]"')
        + (f" --metric psnr,{module}" if kind == "metric" else ""),
        "held_out": f"photos[{TRAINED_ON}:]",
    }


def _release() -> str:
    """Return the first two numbers of srzoo's version, which a new package asks for."""
    return ".".join(metadata.version("srzoo").split(".")[:2])


def _render(template: str, values: dict[str, Any]) -> str:
    folder = resources.files(__package__) / "templates"
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    source = (folder / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(values)


def _commands(values: dict[str, Any], folder: Path) -> tuple[str, ...]:
    where = folder.as_posix() if folder.is_absolute() else f"./{folder.as_posix()}"
    run = f"runs/{values['entry']}"
    return (
        f"pip install -e {where}",  # or what is edited afterwards is not what runs
        f"srzoo plugin check {values['name']}",
        f"srzoo train {values['entry']} --steps 100",
        f"srzoo bench {run} bicubic{values['bench_options']}",
    )


def _checked_module(name: str) -> str:
    """Return the name of the module that belongs to a distribution's name."""
    if not _DISTRIBUTION.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a package: use lower-case letters, digits and '-', '_' or '.' between them, "
            "such as my-block."
        )
    module = re.sub(r"[-.]+", "_", name)
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InputError(
            f"{name!r} makes {module!r}, which Python cannot import; begin with a letter, such as my-{name}."
        )
    return module


def _check_free(name: str, module: str, kind: str) -> None:
    if module in sys.stdlib_module_names or module in ("srzoo", "torch", "tests"):
        raise InputError(f"A package {name!r} would hide the module {module!r}; choose another name.")
    registry = get_registry()
    for component in registry.claimants(kind, module):
        raise InputError(f"The {kind} {module!r} is already registered by {component.owner}; choose another name.")
    for record in registry.records:
        if name in (normalised(record.name), normalised(record.distribution)):
            raise InputError(f"{name!r} is already installed: {record}; choose another name.")
    _check_not_installed(name, module)
    from .zoo import get_zoo

    if f"{name}-x4" in get_zoo():
        raise InputError(f"The zoo has an entry {name}-x4 already; choose another name.")


def _check_not_installed(name: str, module: str) -> None:
    """Refuse a name that pip would replace another package for, or a module that another package has."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        pass
    else:
        raise InputError(
            f"A package {found.name} {found.version} is installed, which pip would replace; choose another name."
        )
    here = Path.cwd()
    spec = PathFinder.find_spec(module, [path for path in sys.path if path and Path(path).resolve() != here])
    if spec is not None and spec.origin is not None:
        raise InputError(f"A module {module!r} is installed ({spec.origin}); choose another name.")


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"The folder {folder} is not empty; --out names another.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out names a folder.")
