"""A check that no option is accepted and then used nowhere.

Two witnesses have to agree. The source: the option is never read, or only checked, renamed, handed to a function of the
same package that never reads it, or kept in an attribute that nothing reads. And what it does: none of its values
changes the parameters or what is computed. So an option that only saves memory, or acts only on large images, passes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..plugins import FAULTS
from .effects import state_sums
from .options import COMPONENTS, alternatives, exercise
from .outcome import NETWORKS, NotApplicable, listed, promise, require
from .subject import Subject

READ_BY_SRZOO = {
    "out_channels",
    "size_multiple",
    "names",
    "scale",
    "architecture",
    "input_size",
    "generator_needs_real",
}
"""Attributes that are read by others than the component."""
OPAQUE = {"locals", "vars", "eval", "exec", "globals", "inspect", "__dict__", "save_hyperparameters"}
"""Names by which anything may be read."""
ANY = "*"
"""Stands for whatever attribute it may be."""
DEPTH = 4
"""How many calls an option is followed through."""


@promise("used-options", *COMPONENTS)
def used_options(subject: Subject) -> str:
    """Every option is used: it is read somewhere, or one of its values makes a difference."""
    options = list(subject.signature.options)
    if not options:
        raise NotApplicable("it has no options.")
    factory = subject.spec.load()
    unread = [option for option in options if not _is_read(factory, option.name)]
    idle = [option.name for option in unread if not _matters(subject, option)]
    require(
        not idle,
        f"{listed(idle)} {'is' if len(idle) == 1 else 'are'} accepted and used nowhere: no value changes the "
        "parameters or the output, and nothing reads it; use it or drop it.",
    )
    return listed((option.name for option in options), 6)


# --- what it does -------------------------------------------------------------------------------------------


def _matters(subject: Subject, option: Any) -> bool:
    """Whether some value of an option, beside some example, changes the parameters or what is computed."""
    for example in subject.examples:
        usual = _effect(subject, example)
        for value, _ in alternatives(option):
            try:
                if _effect(subject, {**example, option.name: value}) != usual:
                    return True
            except FAULTS:  # refused, so it is looked at
                return True
    return False


def _effect(subject: Subject, options: Mapping[str, Any]) -> Any:
    built = subject.network(options=options) if subject.kind in NETWORKS else subject.build(options)
    outputs = exercise(subject, built)
    state = state_sums(built) if isinstance(built, nn.Module) else {}
    if subject.kind in NETWORKS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs = [*outputs, *exercise(subject, built.train())]
    return {name: int(total) for name, total in state.items()}, [output.double().tolist() for output in outputs]


# --- what the source says -----------------------------------------------------------------------------------


def _is_read(factory: Any, option: str, depth: int = DEPTH) -> bool:
    """Whether an argument of a function or class is read; yes where that cannot be told."""
    function = _function(factory)
    tree = _tree_of(function) if function is not None else None
    if tree is None or depth == 0 or any(name in OPAQUE for name in _names(tree)):
        return True
    return _reads(_Scope(factory, function, tree), option, depth)


def _function(factory: Any) -> Any:
    if not inspect.isclass(factory):
        return inspect.unwrap(factory) if inspect.isfunction(factory) else None
    owner = next((cls for cls in factory.__mro__ if "__init__" in vars(cls)), object)
    return vars(owner)["__init__"] if inspect.isfunction(vars(owner).get("__init__")) else None


@functools.cache
def _tree_of(function: Callable[..., Any]) -> ast.FunctionDef | None:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError):
        return None
    return body[0] if len(body) == 1 and isinstance(body[0], ast.FunctionDef) else None


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


class _Scope:
    """A function's source and what its names stand for."""

    def __init__(self, factory: Any, function: Any, tree: ast.FunctionDef) -> None:
        self.factory, self.function, self.tree = factory, function, tree
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.own = tree.args.args[0].arg if inspect.isclass(factory) and tree.args.args else ""

    def checks_only(self, node: ast.AST) -> bool:
        """Whether a name only decides whether an error is raised."""
        while (parent := self.parents.get(node)) is not None:
            if isinstance(parent, ast.Assert):
                return True
            if isinstance(parent, ast.If) and not parent.orelse:
                return all(isinstance(statement, ast.Raise) for statement in parent.body)
            if isinstance(parent, ast.Raise):
                return True
            node = parent
        return False

    def target(self, node: ast.AST) -> ast.AST | None:
        """Return what a name is assigned to as it is, also one of several at once; None if it is put to other use."""
        parent = self.parents.get(node)
        if isinstance(parent, ast.AnnAssign):
            return parent.target
        if isinstance(parent, ast.Assign) and len(parent.targets) == 1:
            return parent.targets[0]
        if isinstance(parent, ast.Tuple):
            whole = self.target(parent)
            if isinstance(whole, ast.Tuple) and len(whole.elts) == len(parent.elts):
                return whole.elts[parent.elts.index(node)]  # type: ignore[arg-type]
        return None

    def callee(self, call: ast.Call) -> tuple[Any, int]:
        """Return what is called, and how many of its parameters come before the first argument; None if unknown."""
        called = call.func
        if isinstance(called, ast.Attribute) and called.attr == "__init__":
            if ast.unparse(called.value) == "super()" and inspect.isclass(self.factory):
                line = self.factory.__mro__
                owner = next(cls for cls in line if "__init__" in vars(cls))
                return next((cls for cls in line[line.index(owner) + 1 :] if "__init__" in vars(cls)), None), 1
            return self.value(called.value), 0
        found = self.value(called)
        return found, int(inspect.isclass(found))

    def value(self, node: ast.AST) -> Any:
        """Return what a dotted name stands for in the function's module."""
        if isinstance(node, ast.Name):
            return self.function.__globals__.get(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self.value(node.value), node.attr, None)
        return None


def _reads(scope: _Scope, name: str, depth: int) -> bool:
    """Whether a function makes use of the value of one of its names."""
    for node in ast.walk(scope.tree):
        if not (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)):
            continue
        if scope.checks_only(node):
            continue
        target = scope.target(node)
        if isinstance(target, ast.Name) and target.id != name and depth:
            if _reads(scope, target.id, depth - 1):
                return True
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == scope.own:
            if _attribute_is_read(scope.factory, target.attr):
                return True
        elif not _handed_on(scope, node, depth):
            return True
    return False


def _handed_on(scope: _Scope, node: ast.Name, depth: int) -> bool:
    """Whether a name is only handed to something of the same package that does not read it either."""
    parent = scope.parents.get(node)
    keyword = parent.arg if isinstance(parent, ast.keyword) else None
    call = scope.parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if not isinstance(call, ast.Call) or node is call.func:
        return False
    callee, before = scope.callee(call)
    if _function(callee) is None or _package(callee) != _package(scope.factory):
        return False
    parameters = [p.name for p in inspect.signature(_function(callee)).parameters.values()]
    if keyword is None:
        position = call.args.index(node) + before
        keyword = parameters[position] if position < len(parameters) else None
    return keyword in parameters and not _is_read(callee, keyword, depth - 1)


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def _attribute_is_read(factory: Any, attribute: str) -> bool:
    """Whether a class reads one of its attributes, or its package that of some object which is no tensor's."""
    if attribute in READ_BY_SRZOO or not inspect.isclass(factory):
        return True
    line = {cls.__name__ for cls in factory.__mro__}
    files = {file for cls in factory.__mro__ for file in _files_of(cls)}
    if not any(file.is_file() for file in files):
        return True
    for file in files:
        for owner, name in _attributes_read(file):
            if name in (attribute, ANY) and (owner in line or not (owner or hasattr(torch.Tensor, name))):
                return True
    return False


@functools.cache
def _files_of(cls: type) -> tuple[Path, ...]:
    """Return the source files of a class's package, or its own file; none of torch's and Python's own."""
    package = _package(cls)
    if package in ("torch", "builtins", "abc", "typing"):
        return ()
    root = getattr(sys.modules.get(package), "__path__", None)
    if root:
        return tuple(sorted(path for folder in root for path in Path(folder).rglob("*.py")))
    file = getattr(sys.modules.get(package), "__file__", None)
    return (Path(file),) if file else ()


@functools.cache
def _attributes_read(file: Path) -> frozenset[tuple[str, str]]:
    """Return the attributes that a file reads, with the class that reads them of ``self``; empty for another object."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    return frozenset(_attribute_loads(tree, ""))


def _attribute_loads(node: ast.AST, owner: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef) and child.name in ("extra_repr", "__repr__", "__str__"):
            continue  # showing an option is no use of it
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Load):
            of_self = isinstance(child.value, ast.Name) and child.value.id == "self"
            yield owner if of_self else "", child.attr
            if owner and child.attr in OPAQUE:
                yield owner, ANY
        elif isinstance(child, ast.Call):
            names = [a.value for a in child.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((owner, name) for name in names)  # getattr(self, "name") and its like
            called = ast.unparse(child.func)
            if owner and (called in OPAQUE or (called == "getattr" and not names)):
                yield owner, ANY
        yield from _attribute_loads(child, child.name if isinstance(child, ast.ClassDef) else owner)


CHECKS = (used_options,)
