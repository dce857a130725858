"""Running the checks: on a plugin, on a distribution, or on one component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UnknownNameError, did_you_mean
from ..plugins import PluginRecord, normalised
from ..registry import Component, Registry, get_registry
from ..specs import KINDS
from . import data, declared, devices, effects, history, losses, metrics, networks, options, package, usage
from .outcome import PACKAGE, Check, Finding, Report
from .package import Package
from .subject import Subject

CHECKS: tuple[Check, ...] = (
    *package.CHECKS,
    options.factory,
    *effects.CHECKS,  # before a check that builds the component and so hides what building changes
    *options.CHECKS,
    *usage.CHECKS,
    *networks.CHECKS,
    *history.CHECKS,
    *devices.CHECKS,
    *declared.CHECKS,
    *losses.CHECKS,
    *metrics.CHECKS,
    *data.CHECKS,
)
"""Every check there is."""


def checks_of(kind: str, thorough: bool = True) -> list[Check]:
    """Return the checks that apply to a kind of component, or to ``plugin``."""
    return [check for check in CHECKS if kind in check.kinds and (thorough or not check.thorough)]


@dataclass(frozen=True)
class Job:
    """One check and what it is to be run on."""

    check: Check
    subject: Subject | Package

    def __str__(self) -> str:
        return f"{self.subject.label}: {self.check.name}"

    def __call__(self) -> Finding:
        """Run the check."""
        return self.check(self.subject)


def plan(name: str, thorough: bool = False, registry: Registry | None = None) -> tuple[PluginRecord, list[Job]]:
    """Return the plugin a name stands for and the checks to run.

    Args:
        name: a plugin, an installed distribution, ``KIND/NAME`` or ``KIND/OWNER/NAME`` of a component.
        thorough: include torch.export and torch.compile.

    Raises:
        UnknownNameError: nothing has this name; AmbiguousNameError: several plugins claim the component's name.
    """
    registry = get_registry() if registry is None else registry
    kind, slash, rest = name.partition("/")
    if slash and kind in KINDS:
        component = registry.get(kind, rest)
        return component.owner, _jobs_on(component, thorough)
    records = [r for r in registry.records if name == r.name or normalised(name) == normalised(r.distribution)]
    exact = [r for r in records if r.name == name] or records
    if not exact:
        known = {known for r in registry.records for known in (r.name, r.distribution)}
        raise UnknownNameError(
            f"No plugin and no distribution with plugins is called {name!r}.{did_you_mean(name, known)} 'srzoo "
            "plugins' shows what is installed; a component is written KIND/NAME."
        )
    jobs: list[Job] = []
    for record in exact:
        whole = Package(record, registry)
        checks = checks_of(PACKAGE, thorough)
        jobs += [Job(check, whole) for check in (checks if record.status == "ok" else checks[:1])]
        for spec in record.specs:
            jobs += _jobs_on(Component(spec, record), thorough)
    return exact[0], jobs


def _jobs_on(component: Component, thorough: bool) -> list[Job]:
    subject = Subject(component)
    return [Job(check, subject) for check in checks_of(component.kind, thorough)]


def check(name: str, thorough: bool = False, progress: Callable[[int, int, str], None] | None = None) -> Report:
    """Run every check that applies to a plugin or component and return the report.

    Args:
        progress: called with the number of checks done, of all, and the one that comes next.

    Raises:
        UnknownNameError, AmbiguousNameError: see :func:`plan`.
    """
    record, jobs = plan(name, thorough)
    findings = []
    for index, job in enumerate(jobs):
        if progress is not None:
            progress(index, len(jobs), str(job))
        findings.append(job())
    if progress is not None:
        progress(len(jobs), len(jobs), "")
    return Report(name, record.distribution, record.version, tuple(findings))
