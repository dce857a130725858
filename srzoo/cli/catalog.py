"""``list``, ``show`` and ``plugins``: looking around, without importing torch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.markup import escape

from ..composition import full_composition
from ..costs import HR_SIZE, cost_of, remembered_cost
from ..entry import ComponentRef, Entry, diff_entries
from ..errors import InputError, SrzooError, UnknownNameError, did_you_mean
from ..extras import is_installed
from ..options import signature_of
from ..plugins import unknown_plugins
from ..ready import generator_spec, is_ready
from ..registry import Component, get_registry
from ..specs import KINDS, ComponentSpec
from ..zoo import Source, get_zoo
from .completion import complete_entry, complete_entry_or_component, complete_kind
from .console import console, errors, make_table, print_error, print_json, print_table, reports_errors
from .paths import entry_at, what_tells

_ENTRY_KINDS = ("entry", "entries")


def _kind_of(word: str) -> str | None:
    """Return the kind a word names, singular or plural; None if it names none."""
    for kind in KINDS:
        if word in (kind, f"{kind}s", f"{kind}es"):
            return kind
    return None


@reports_errors
def list_command(
    kind: Annotated[
        str,
        typer.Argument(
            help="entry, " + ", ".join(KINDS) + "; or the pattern itself.",
            show_default=False,
            autocompletion=complete_kind,
        ),
    ] = "entry",
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern, e.g. '*gan*'.")] = "*",
    ready: Annotated[bool, typer.Option("--ready", help="Only entries that upscale as they are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List zoo entries, or the components of a kind.

    Entries that are ready to use come first, then those that are to be trained.

    Examples: [bold]srzoo list[/bold], [bold]srzoo list '*gan*'[/bold], [bold]srzoo list block[/bold].
    """
    found_kind = _kind_of(kind)
    if found_kind is not None:
        if ready:
            raise InputError("--ready is for entries, not for components.")
        _list_components(found_kind, pattern, as_json)
        return
    if kind not in _ENTRY_KINDS:
        if pattern != "*":
            raise UnknownNameError(
                f"There is no kind {kind!r}.{did_you_mean(kind, [*KINDS, 'entry'])} Kinds: entry, {', '.join(KINDS)}."
            )
        pattern = kind
    _list_entries(pattern, ready, as_json)


def _list_components(kind: str, pattern: str, as_json: bool) -> None:
    components = get_registry().find(kind, pattern)
    if not components:
        known = [c.name for c in get_registry().find(kind)]
        raise UnknownNameError(f"No {kind} matches {pattern!r}.{did_you_mean(pattern, known)}")
    if as_json:
        rows, broken = [], []
        for component in components:
            try:
                rows.append(_component_data(component))
            except SrzooError as error:  # of a factory that cannot be loaded; the others can
                broken.append(error)
        print_json(rows)
        for problem in broken:
            print_error(str(problem))
        if broken:
            raise typer.Exit(2)
        return
    absent = {c.spec.library for c in components if c.spec.library and not is_installed(c.spec.library)}
    table = make_table([kind, "owner", "summary"])
    for c in sorted(components, key=lambda c: c.spec.library in absent):  # what works here comes first
        style = "dim" if c.spec.library in absent else "bold"
        table.add_row(f"[{style}]{c.name}[/{style}]", c.owner.name, escape(c.spec.summary))
    print_table(table)
    for library in sorted(absent):
        count = sum(c.spec.library == library for c in components)
        console.print(f"[dim]{count} of them, the last, need {library}, which is not installed here.[/dim]")
    console.print(f"[dim]srzoo show {kind}/NAME tells its options.[/dim]")


def _list_entries(pattern: str, only_ready: bool, as_json: bool) -> None:
    zoo = get_zoo()
    names = zoo.names(pattern)
    if not names:
        near = did_you_mean(pattern, [*zoo.names(), *KINDS])
        if within := zoo.names(f"*{pattern}*"):
            near = f" It is part of {len(within)} names: srzoo list '*{pattern}*'."
        raise UnknownNameError(f"No entry matches {pattern!r}.{near}")
    broken: list[SrzooError] = []
    entries: dict[str, Entry] = {}
    for name in names:
        try:
            entries[name] = zoo.entry(name)
        except SrzooError as error:
            broken.append(error)
    told = {name: {**_entry_facts(entry), "name": name} for name, entry in entries.items()}
    usable = [name for name in entries if told[name]["ready"]]
    if only_ready:
        entries = {name: entries[name] for name in usable}
    if as_json:
        print_json([{**told[name], "summary": e.summary, "paper": e.paper} for name, e in entries.items()])
    elif entries:
        scales = {e.scale for e in entries.values()}
        one = f"All are x{scales.pop()}. " if len(scales) == 1 else ""  # a column that tells nothing narrows others
        table = make_table(["entry", *([] if one else ["scale"]), "stages", "weights", "summary"], right=["scale"])
        for name, e in sorted(entries.items(), key=lambda named: named[0] not in usable):
            facts = told[name]
            stages = ", ".join(facts["stages"]) or "-"
            weights = "-" if facts["weights"] is None else "no"
            if facts["weights"]:
                weights = "[green]yes[/green]" if facts["ready"] else "not here"
            scale = [] if one else [f"x{e.scale}"]
            table.add_row(f"[bold]{name}[/bold]", *scale, stages, weights, escape(e.summary))
        print_table(table)
        note = f"{one}{len(usable)} are ready to use. srzoo show ENTRY tells composition, recipe, cost and scores."
        if broken:
            are = "One is" if len(broken) == 1 else f"{len(broken)} are"
            note += f" {are} left out for an error, told below."
        console.print(f"[dim]{note}[/dim]", soft_wrap=True)
    for problem in [*broken, *zoo.file_problems]:
        print_error(str(problem))
    if broken or zoo.file_problems:
        raise typer.Exit(2)


def _entry_facts(entry: Entry) -> dict[str, Any]:
    trained = generator_spec(entry).trainable
    return {
        "name": entry.name,
        "scale": entry.scale,
        "stages": list(entry.training.stages) if entry.training is not None else [],
        "weights": entry.weights is not None if trained else None,
        "ready": is_ready(entry),
    }


@reports_errors
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            help="An entry, KIND/NAME of a component, or the path of a run, pulled folder or checkpoint.",
            show_default=False,
            autocompletion=complete_entry_or_component,
        ),
    ],
    diff: Annotated[
        str,
        typer.Option(
            "--diff",
            help="Another entry, or a path: show what differs.",
            metavar="OTHER",
            autocompletion=complete_entry,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show an entry (composition, recipe, cost, scores) or a component (options with types and defaults).

    Examples: [bold]srzoo show esrgan-x4[/bold], [bold]srzoo show block/rrdb[/bold],
    [bold]srzoo show srgan-vgg54-x4 --diff esrgan-x4[/bold].
    """
    kind, slash, rest = name.partition("/")
    of_kind = _kind_of(kind) if rest else None
    if of_kind is not None and Path(name).exists() and not get_registry().claimants(of_kind, rest):
        of_kind = None  # a folder that happens to be called like a kind
    is_known = _kind_of(kind) is not None or Path(name).exists() or bool(get_zoo().names(rest))
    if slash and not is_known and (near := did_you_mean(kind, KINDS)):
        raise UnknownNameError(f"There is no kind {kind!r}.{near} Kinds: {', '.join(KINDS)}.")
    if of_kind is not None:
        if diff:
            raise InputError("--diff compares entries, not components.")
        _show_component(get_registry().get(of_kind, rest), as_json)
    elif diff:
        left, right = _alike(name, diff)
        _show_diff(left, right, (name, diff) if left.name == right.name else (left.name, right.name), as_json)
    elif name not in get_zoo() and (kinds := [k for k in KINDS if get_registry().claimants(k, name)]):
        raise UnknownNameError(f"{name!r} is no entry; write {' or '.join(f'{kind}/{name}' for kind in kinds)}.")
    elif name and name not in get_zoo() and (found := entry_at(Path(name))):
        _show_entry(*found, as_json)
    elif name and name not in get_zoo() and (told := what_tells(Path(name))):
        raise InputError(f"{name} is no entry of the zoo. {told}")
    else:
        _show_entry(get_zoo().entry(name), get_zoo().source(name), as_json)


def _alike(*names: str) -> list[Entry]:
    """Return the entries that names or paths stand for; beside a path, which has all its options, with all of theirs.

    A checkpoint tells no recipe, so beside one only compositions are compared.
    """
    at_paths = {}
    for name in names:
        if name and name not in get_zoo():
            if found := entry_at(Path(name)):
                at_paths[name] = found[0]
            elif told := what_tells(Path(name)):
                raise InputError(f"{name} is no entry of the zoo. {told}")
    entries = [at_paths.get(name) or get_zoo().entry(name) for name in names]
    if not at_paths:
        return entries
    written = [ComponentRef.model_validate(full_composition(entry)["generator"]) for entry in entries]
    entries = [entry.model_copy(update={"generator": ref}) for entry, ref in zip(entries, written, strict=True)]
    if any(entry.training is None for entry in entries):
        entries = [entry.model_copy(update={"training": None, "discriminator": None, "paper": ""}) for entry in entries]
    return entries


def _show_entry(entry: Entry, source: Source, as_json: bool) -> None:
    data = entry.model_dump(mode="json", exclude_defaults=True)
    if as_json:
        cost = cost_of(entry)
        whole = {**entry.model_dump(mode="json"), "file": str(source.path), "owner": source.owner}
        print_json({**whole, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds})
        return
    console.print(f"[bold]{entry.name}[/bold]  {escape(entry.summary)}")
    if entry.paper:
        console.print(f"[dim]{escape(entry.paper)}[/dim]")
    console.print(f"[dim]{_origin(source)}[/dim]", highlight=False, soft_wrap=True)
    console.print()
    shown = {key: value for key, value in data.items() if key not in ("name", "summary", "paper")}
    text = yaml.safe_dump({"scale": entry.scale, **shown}, sort_keys=False, default_flow_style=None, width=100)
    console.print(escape(text), end="", highlight=False, soft_wrap=True)
    console.print()
    if remembered_cost(entry) is None:
        with console.status("counting parameters and multiply-adds (once) ..."):
            cost_of(entry)
    cost = cost_of(entry)
    console.print(
        f"{cost.parameters:,} parameters, {cost.multiply_adds / 1e9:,.1f} G multiply-adds "
        f"for an output of {HR_SIZE[1]}x{HR_SIZE[0]}",
        highlight=False,
    )


def _origin(source: Source) -> str:
    owner = next((r for r in get_registry().records if r.name == source.owner), None)
    version = f", {owner.distribution} {owner.version}" if owner is not None else ""
    return f"from {source.path.name}, owner {source.owner}{version}"


def _show_diff(left: Entry, right: Entry, names: tuple[str, str], as_json: bool) -> None:
    skipped = ("name", "summary", "weights", "recorded")
    found = [row for row in diff_entries(left, right) if row[0].split(".")[0] not in skipped]
    if as_json:
        print_json([{"key": key, names[0]: a, names[1]: b} for key, a, b in found])
        return
    if not found:
        console.print(f"{names[0]} and {names[1]} are composed and trained alike.")
        return
    table = make_table(["key", *names])
    for key, a, b in found:
        table.add_row(key, *(("[dim]-[/dim]" if v is None else escape(str(v))) for v in (a, b)))
    print_table(table)


def _component_data(component: Component) -> dict[str, Any]:
    spec = component.spec
    signature = signature_of(component)
    return {
        "kind": spec.kind,
        "name": spec.name,
        "owner": component.owner.name,
        "distribution": component.owner.distribution,
        "version": component.owner.version,
        "summary": spec.summary,
        "paper": spec.paper,
        "licence": spec.licence,
        "facts": _spec_facts(spec),
        "options": [
            {"name": o.name, "type": o.type_text, "default": o.default_text, "help": o.help} for o in signature.options
        ],
        "slots": [{"name": o.name, "help": o.help} for o in signature.slots],
    }


def _spec_facts(spec: ComponentSpec) -> dict[str, Any]:
    shared = {f.name for f in fields(ComponentSpec)}
    facts = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in shared}
    if "weights" in facts:
        facts["weights"] = [w.filename for w in facts["weights"]]
    return facts


def _show_component(component: Component, as_json: bool) -> None:
    data = _component_data(component)
    if as_json:
        print_json(data)
        return
    console.print(f"[bold]{component.kind}/{component.name}[/bold]  {escape(component.spec.summary)}")
    console.print(f"[dim]owner {component.full_name}, {component.owner.distribution} {component.owner.version}[/dim]")
    if component.spec.paper:
        console.print(f"[dim]{escape(component.spec.paper)}[/dim]")
    if component.spec.licence:
        console.print(f"[dim]licence: {escape(component.spec.licence)}[/dim]")
    facts = ", ".join(f"{key}: {value}" for key, value in data["facts"].items() if value not in (None, [], ()))
    if facts:
        console.print(escape(facts), highlight=False)
    signature = signature_of(component)
    if not signature.options and not signature.slots:
        console.print("\nIt takes no options.")
        return
    table = make_table(["option", "type", "default", ""])
    for option in signature.slots:
        table.add_row(
            f"[bold]{option.name}[/bold]", f"<{option.name}>", option.default_text or "-", escape(option.help)
        )
    for option in signature.options:
        default = "[red]required[/red]" if option.required else escape(option.default_text or "")
        table.add_row(f"[bold]{option.name}[/bold]", escape(option.type_text), default, escape(option.help))
    print_table(table)


@reports_errors
def plugins_command(
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a plugin is broken or a name clashes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed plugins, what they provide, and what is wrong with those that are broken.

    SRZOO_PLUGINS="" leaves out all but srzoo's own; SRZOO_PLUGINS="a,b" allows those two.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table below says it better
        registry = get_registry()
    problems = [*registry.problems(), *unknown_plugins(registry.records)]
    problems += [*get_zoo().clashes(), *(str(problem) for problem in get_zoo().file_problems)]
    if as_json:
        print_json(
            {
                "plugins": [
                    {
                        "name": r.name,
                        "distribution": r.distribution,
                        "version": r.version,
                        "module": r.module,
                        "status": r.status,
                        "error": r.error,
                        "seconds": round(r.seconds, 4),
                        "provides": [f"{s.kind}/{s.name}" for s in r.specs],
                    }
                    for r in registry.records
                ],
                "problems": problems,
                "remarks": registry.remarks(),
            }
        )
    else:
        table = make_table(["plugin", "distribution", "status", "provides"])
        colours = {"ok": "green", "broken": "red", "disabled": "yellow"}
        for r in registry.records:
            provides = ", ".join(f"{s.kind}/{s.name}" for s in r.specs)
            provides = ", ".join(
                part for part in (provides, *(path.name for path in (*r.zoo_files, *r.ablations))) if part
            )
            status = f"[{colours[r.status]}]{r.status}[/{colours[r.status]}]"
            table.add_row(
                f"[bold]{r.name}[/bold]", f"{r.distribution} {r.version}", status, escape(provides or r.error)
            )
        print_table(table)
        for problem in problems:
            print_error(problem)
        for remark in registry.remarks():
            errors.print(f"[yellow]slow:[/yellow] {escape(remark)}", highlight=False, soft_wrap=True)
    if strict and problems:
        raise typer.Exit(1)
