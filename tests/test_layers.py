"""The architecture: which module may import which, what needs torch, and that the core names no plugin."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from srzoo import hookspecs
from srzoo.registry import get_registry
from srzoo.specs import KINDS

ROOT = Path(__file__).parents[1]
CORE = ROOT / "srzoo"
PLUGINS = ROOT / "plugins"

# From the bottom up. A module imports only from the rows below its own, never from its own row.
ROWS = [
    {"errors"},
    {"specs", "extras", "files", "places", "picture_paths", "offline"},
    {"hookspecs", "imagenet", "remarks"},
    {"plugins"},
    {"registry"},
    {"options", "fields", "yamlio", "layouts", "unpickling"},
    {"recipe", "explaining"},
    {"entry"},
    {"confinement", "composition", "exif", "png16", "merging"},
    {"named"},
    {"zoo", "reference"},
    {"scaffold", "sharding", "ready"},
    {
        "images",
        "layers",
        "features",
        "inference",
        "optim",
        "allocator",
        "process",
        "guard",
        "curves",
        "distribution",
        "pickles",
        "staging",
    },
    {"data", "protocol", "store", "latency", "receptive", "colour"},
    {"decoded", "trackers", "outputs", "tiling"},
    {"patches"},
    {"weights"},
    {"compose", "states"},
    {"costs", "preflight", "pretrained", "scoring", "tasks", "backbones", "importing"},
    {"runs", "report", "stages", "rehearsal", "timing", "teaching"},
    {"card", "programs", "step", "coverage", "failures"},
    {"exporting", "graphs"},
    {"results", "statistics", "plots", "gallery", "upscaling"},
    {"measuring"},
    {"precisions", "loop", "harness", "merged"},
    {"leaderboard", "page"},
    {"training", "benchmark", "audit", "verification", "hub", "conformance"},
    {"interpolation", "mos", "testing", "ablation"},
    {"api"},
    {"cli"},
    {"__main__"},
]
RANK = {module: rank for rank, row in enumerate(ROWS) for module in row}
WITHOUT_TORCH = ["specs", "hookspecs", "plugins", "imagenet", "registry", "options", "yamlio", "zoo"]
WITHOUT_TORCH += ["fields", "recipe", "entry", "composition", "costs", "errors", "store", "report", "results"]
WITHOUT_TORCH += ["statistics", "leaderboard"]
WITHOUT_TORCH += ["plots", "gallery", "page", "remarks", "merged", "precisions", "coverage", "timing"]
WITHOUT_TORCH += ["scaffold", "reference", "conformance", "testing"]
WITHOUT_TORCH += ["api", "cli"]


@cache
def sources() -> dict[str, list[Path]]:
    """Module of the core to its files; a package is one module. ``srzoo/__init__.py`` is lazy and exempt."""
    found: dict[str, list[Path]] = {}
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        if parts != ("__init__",):
            found.setdefault(parts[0], []).append(path)
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path, package: str) -> Iterator[str]:
    """Yield the full names of all that a file imports, within functions too, but not for type checking only."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree(path)):  # parents come before what they contain
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {below for statement in node.body for below in ast.walk(statement)}
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def core_imports(module: str) -> set[str]:
    """Return the other modules of the core that a module imports."""
    found = set()
    for path in sources()[module]:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for name in imports(path, package):
            parts = name.split(".")
            if parts[0] == "srzoo" and len(parts) > 1 and parts[1] in sources():
                found.add(parts[1])
    return found - {module}


def test_every_module_of_the_core_has_its_place() -> None:
    assert set(RANK) == set(sources())
    assert sum(len(row) for row in ROWS) == len(RANK), "a module stands in two rows"


@pytest.mark.parametrize("module", sorted(sources()))
def test_imports_point_down_only(module: str) -> None:
    upwards = {other for other in core_imports(module) if RANK[other] >= RANK[module]}
    assert upwards == set(), f"{module} must not import these"


def test_the_walk_sees_imports_of_every_form() -> None:
    assert core_imports("registry") == {"errors", "plugins", "specs"}
    assert "compose" in core_imports("costs"), "an import inside a function"
    assert "training" in core_imports("api"), "an import inside a function"
    assert "errors" in core_imports("cli"), "from ..errors"
    assert "entry" not in core_imports("api"), "an import for type checking only"
    assert "hookspecs" in core_imports("plugins"), "from . import"


def test_there_are_no_circles() -> None:
    graph = {module: core_imports(module) for module in sources()}
    while leaves := {module for module, below in graph.items() if not below}:
        graph = {module: below - leaves for module, below in graph.items() if module not in leaves}
    assert graph == {}


def test_only_the_package_itself_is_lazy() -> None:
    """``srzoo/__init__.py`` is exempt from the order because it imports nothing when it is imported."""
    assert set(imports(CORE / "__init__.py", "srzoo")) <= {
        "__future__.annotations",
        "importlib",
        "typing.TYPE_CHECKING",
        "typing.Any",
        "importlib.metadata.version",
    }


# --- plugins ------------------------------------------------------------------------------------------------

PLUGIN_FILES = sorted(path for path in PLUGINS.rglob("*.py") if "build" not in path.parts)
FIRST_PARTY = {path.name for path in PLUGINS.iterdir() if (path / "__init__.py").is_file()}


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_plugin_imports_srzoo_and_itself_but_no_other_plugin(path: Path) -> None:
    package = path.relative_to(PLUGINS).parts[0]
    for name in imports(path, package):
        parts = name.split(".")
        first_party = parts[0].startswith("srzoo_") or parts[0] in FIRST_PARTY
        assert not first_party or parts[0] == package, f"imports {name}"
        if parts[0] == "srzoo":
            assert not any(part.startswith("_") for part in parts), f"{name} is not public"


def test_every_first_party_plugin_is_declared_and_shipped() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = set(re.findall(r'^\w+ = "(srzoo_\w+)"$', text, re.MULTILINE))
    shipped = set(re.findall(r'^\s*"plugins/(srzoo_\w+)",$', text, re.MULTILINE))
    assert declared == shipped == FIRST_PARTY


def test_the_core_names_no_plugin() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("srzoo_")}
    for paths in sources().values():
        for path in paths:
            named = set(re.findall(r"\bsrzoo_\w+", path.read_text(encoding="utf-8"))) - hooks
            assert named <= {"srzoo_"}, f"{path.name} names {named}"


def test_the_core_decides_nothing_by_the_name_of_a_component() -> None:
    """Capabilities are data on a spec, never ``if name ==``."""
    names = {component.name for kind in KINDS for component in get_registry().find(kind)}
    for module in sources():
        if module == "layers":  # its functions are shared by plugins, and choose among activations and norms
            continue
        for path in sources()[module]:
            for node in ast.walk(tree(path)):
                if not isinstance(node, ast.Compare) or "name" not in ast.unparse(node):
                    continue
                constants = {
                    n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                }
                assert not constants & names, f"{path.name}, line {node.lineno}: {ast.unparse(node)}"


# --- torch --------------------------------------------------------------------------------------------------


def modules_after(code: str, *arguments: str, **environment: str) -> set[str]:
    """Run code in a process of its own and return the modules that are loaded at its end."""
    tail = "import sys as _sys, json as _json\n_sys.__stderr__.write('\\n' + _json.dumps(sorted(_sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "\n" + tail, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_lower_half_imports_no_torch() -> None:
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(f'srzoo.{name}')"
    loaded = modules_after(code, *WITHOUT_TORCH)
    assert {f"srzoo.{name}" for name in WITHOUT_TORCH} <= loaded
    assert not loaded & {"torch", "torchvision", "timm", "accelerate", "lpips", "skimage"}


def test_no_plugin_imports_torch_when_its_hooks_are_asked() -> None:
    code = "from srzoo.registry import get_registry\nassert get_registry().problems() == []\nimport srzoo"
    loaded = modules_after(code, SRZOO_PLUGINS="")
    assert loaded >= FIRST_PARTY
    assert not loaded & {"torch", "torchvision", "timm", "accelerate", "lpips", "skimage"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "block"],
        ["plugins", "--strict"],
        ["show", "block/rrdb"],
        ["show", "generator/trunk", "--json"],
        ["show", "srgan-x4x"],
        ["show", "srgan-lite-x4", "--diff", "esrgan-lite-x4"],
        ["--help"],
        ["train", "--help"],
        ["bench", "--help"],
        ["mos", "new", "--help"],
        ["ablate"],
        ["ablate", "--help"],
        ["ablate", "esrgan", "--budget", "paper", "--plan"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_looking_around_needs_no_torch(arguments: list[str]) -> None:
    code = "import sys\nfrom srzoo.cli import main\nsys.argv[0] = 'srzoo'\ntry:\n    main()\nexcept SystemExit: pass"
    loaded = modules_after(code, *arguments, SRZOO_PLUGINS="")
    assert "srzoo.cli" in loaded
    assert "torch" not in loaded
