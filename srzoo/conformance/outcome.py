"""What a check is, and what comes of one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import MissingLibraryError, MissingWeightsError, SrzooError
from ..plugins import FAULTS, describe_exception

if TYPE_CHECKING:
    from .package import Package
    from .subject import Subject

Status = Literal["pass", "fail", "n/a"]
NETWORKS = ("block", "upsampler", "generator", "discriminator", "extractor")
"""Kinds that are an ``nn.Module`` from images or features to tensors."""
PACKAGE = "plugin"
"""Stands for the plugin as a whole where a check names the kinds it applies to."""

FACTORY, DEFAULTS = "factory", "defaults"
"""The checks without which no other has anything to look at."""
FIRST_USE = {
    "output-shape": NETWORKS,
    "finite-scalar": ("loss",),
    "one-value-an-image": ("metric",),
    "readable": ("dataset",),
}
"""The check that tells, of each kind, that a component cannot be used at all."""
FINITE = "finite-output"
"""The check that tells of an output that no other could compare."""
SIGNATURE = ("unknown-options", "typed-options")
"""The checks that need a signature and nothing that was built."""


class Failed(Exception):  # noqa: N818
    """A promise is broken; the message says which and what to write instead."""


class NotApplicable(Exception):  # noqa: N818
    """A check has nothing to look at here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One promise.

    Args:
        name: as reports and a spec's ``exempt`` have it.
        shows: what a pass means, in one line.
        kinds: of components it applies to, or ``plugin``.
        run: raises :class:`Failed` or :class:`NotApplicable`, or returns what was seen, in a few words.
        thorough: too slow to be run unless asked for.
    """

    name: str
    shows: str
    kinds: tuple[str, ...]
    run: Callable[[Any], str | None]
    thorough: bool = False

    def __call__(self, subject: Subject | Package) -> Finding:
        """Run it. Whatever the component raises is a failure of the component, never of the run."""
        start = time.perf_counter()
        status: Status = "pass"
        reason = subject.exempt.get(self.name)
        try:
            if reason is not None:
                raise NotApplicable(f"exempt: {reason}")
            with _offline():
                if obstacle := subject.obstacle(self.name):
                    raise NotApplicable(obstacle)
                reason = self.run(subject) or ""
        except Failed as failure:
            status, reason = "fail", str(failure)
        except (NotApplicable, MissingLibraryError, MissingWeightsError) as absence:
            status, reason = "n/a", str(absence)
        except SrzooError as error:  # says all there is to say; the line it was raised in is ours
            status, reason = "fail", " ".join(str(error).split())
        except FAULTS as error:
            status, reason = "fail", describe_exception(error)
        return Finding(subject.label, self.name, self.shows, status, reason or "", time.perf_counter() - start)


@contextmanager
def _offline() -> Iterator[None]:
    """Let no component download its weights: that is not what is checked, and takes as long as it takes."""
    names = ("SRZOO_OFFLINE", "HF_HUB_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    hub = sys.modules.get("huggingface_hub.constants")  # which read its variable when it was imported
    was_offline = getattr(hub, "HF_HUB_OFFLINE", False)
    if hub is not None:
        hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if hub is not None:
            hub.HF_HUB_OFFLINE = was_offline  # type: ignore[attr-defined]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def promise(name: str, *kinds: str, thorough: bool = False) -> Callable[[Callable[[Any], str | None]], Check]:
    """Make a check of a function; what it shows is the first line of the function's docstring."""

    def decorate(run: Callable[[Any], str | None]) -> Check:
        shows = (run.__doc__ or "").strip().splitlines()[0].rstrip(".")
        return Check(name, shows, kinds, run, thorough)

    return decorate


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Attributes:
        subject: ``kind/name`` of the component, or ``plugin NAME``.
        reason: why it failed or does not apply; what was seen where it passed.
    """

    subject: str
    check: str
    shows: str
    status: Status
    reason: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """The findings on one plugin or component."""

    name: str
    distribution: str
    version: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.count("fail")

    def count(self, status: Status) -> int:
        """Return how many findings have a status."""
        return sum(finding.status == status for finding in self.findings)


def require(condition: object, message: str) -> None:
    """Raise :class:`Failed` unless a condition holds."""
    if not condition:
        raise Failed(message)


def listed(words: Iterable[str], most: int = 3, between: str = ", ") -> str:
    """Return the first few of some words for a message."""
    words = list(words)
    rest = len(words) - most
    return between.join(words[:most]) + (f" and {rest} more" if rest > 0 else "")
