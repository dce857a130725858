"""Checks of a plugin as a whole: it loads, quickly and without side effects, and what its zoo files say composes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..errors import SrzooError
from ..plugins import PluginRecord
from ..preflight import preflight
from ..registry import SLOW, Registry
from ..zoo import get_zoo
from . import probe
from .outcome import PACKAGE, Failed, NotApplicable, listed, promise, require


class Package:
    """A plugin under check."""

    exempt: Mapping[str, str] = {}

    def __init__(self, record: PluginRecord, registry: Registry) -> None:
        self.record, self.registry = record, registry

    @property
    def label(self) -> str:
        """``plugin NAME``."""
        return f"plugin {self.record.name}"

    def obstacle(self, check: str) -> str:
        """Return why a check has nothing to look at: there is no such reason for a plugin."""
        return ""

    @cached_property
    def probed(self) -> dict[str, Any]:
        """What importing it does, see :mod:`srzoo.conformance.probe`."""
        return self.probe()

    def probe(self, factories: bool = True) -> dict[str, Any]:
        """Import it in a process of its own and return what was seen there."""
        return probe.run((self.record.name, self.record.distribution), factories=factories)[0]


@promise("loads", PACKAGE)
def loads(package: Package) -> str:
    """The plugin loads and its hooks return what they should."""
    record = package.record
    require(record.status != "broken", record.error)
    if record.status == "disabled":
        raise NotApplicable(f"{record.error}.")
    return listed((f"{spec.kind}/{spec.name}" for spec in record.specs), 6) or "zoo files only"


@promise("own-names", PACKAGE)
def own_names(package: Package) -> None:
    """No other plugin claims one of its names."""
    record = package.record
    for spec in record.specs:
        others = [c.owner for c in package.registry.claimants(spec.kind, spec.name) if c.owner.name != record.name]
        if others:
            raise Failed(
                f"{spec.kind} {spec.name!r} is also registered by {listed(map(str, others))}, so the bare name is "
                "refused to everybody; choose another."
            )


@promise("known-exemptions", PACKAGE)
def known_exemptions(package: Package) -> str:
    """Exemptions name checks that exist.

    Here and not with the components, since a misspelt exemption is the plugin's and not a property of the part.
    """
    from .run import checks_of

    exempt = 0
    for spec in package.record.specs:
        known = [check.name for check in checks_of(spec.kind)]
        for name in spec.exempt:
            require(
                name in known, f"{spec.kind} {spec.name!r} is exempt from {name!r}, which is no check of a {spec.kind}."
            )
            exempt += 1
    if not exempt:
        raise NotApplicable("nothing is exempt from any check.")
    return f"{exempt} exemptions"


@promise("entries-compose", PACKAGE)
def entries_compose(package: Package) -> str:
    """Every entry of its zoo files resolves and composes."""
    record, zoo = package.record, get_zoo()
    if not record.zoo_files:
        raise NotApplicable("it has no zoo file.")
    missing = [path for path in record.zoo_files if not path.is_file()]
    require(not missing, f"there is no zoo file {listed(map(str, missing))}; is it part of the wheel?")
    for problem in zoo.file_problems:
        if any(str(path) in str(problem) for path in record.zoo_files):
            raise Failed(str(problem))
    names = [name for name in zoo.names() if zoo.source(name).path in record.zoo_files]
    wrong = []
    for name in names:
        try:
            preflight(zoo.entry(name))
        except SrzooError as error:  # and go on: there may be another
            wrong.append(str(error))
    require(not wrong, listed(wrong, 3, " "))
    return listed(names, 6)


@promise("quick-import", PACKAGE)
def quick_import(package: Package) -> str:
    """Loading it takes at most half a second, and so do its own modules beside the libraries they import."""
    seconds = package.probed["seconds"]
    for _ in range(2):  # a busy machine is not the plugin's fault
        if seconds > SLOW:
            seconds = min(seconds, package.probe(factories=False)["seconds"])
    require(
        seconds <= SLOW,
        f"its import and its hooks take {seconds:.1f} s of every srzoo command; import what is heavy where it is used, "
        "and name factories as 'package.module:Name'.",
    )
    own = package.probed.get("own_seconds", 0.0)
    require(
        own <= SLOW,
        f"importing its modules takes {own:.1f} s beside what the libraries take; compute and read what they need "
        "where it is used.",
    )
    return f"{1000 * seconds:.0f} ms"


@promise("light-import", PACKAGE)
def light_import(package: Package) -> None:
    """Its hooks import no heavy library."""
    heavy = package.probed["heavy"]
    require(
        not heavy,
        f"its hooks import {listed(heavy)}, which srzoo list then waits for; put components into a module of their own "
        "and name factories as 'package.module:Name'.",
    )


@promise("pure-import", PACKAGE)
def pure_import(package: Package) -> None:
    """Importing it prints and writes nothing, and changes no state of the process and no other module."""
    told = []
    for key, when in (
        ("effects", "Its import and its hooks change"),
        ("effects_of_factories", "Importing its factories changes"),
    ):
        if found := package.probed[key]:
            told.append(f"{when} {listed(found)}.")
    require(not told, " ".join(told))


CHECKS = (
    loads,
    own_names,
    known_exemptions,
    entries_compose,
    quick_import,
    light_import,
    pure_import,
)
