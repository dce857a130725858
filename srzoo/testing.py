"""For the tests of a plugin: one line that runs srzoo's checks on everything a package registers.

.. code-block:: python

    import srzoo.testing

    test_conforms = srzoo.testing.conformance("my-block")

Each check of each component is a test of its own, under its name: ``pytest -k gradient`` runs the gradient checks,
``pytest --srzoo-thorough`` torch.export and torch.compile as well. This module is also the pytest plugin that makes
them; it imports nothing of srzoo before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from .conformance.run import Job

_FIXTURE = "conformance_check"


def conformance(name: str) -> Callable[[Job], None]:
    """Return a test that runs every check on a plugin, an installed package, or one component.

    Args:
        name: as for ``srzoo plugin check``: ``my-block``, or ``block/my_block``.
    """

    def test_conforms(conformance_check: Job) -> None:
        import pytest

        finding = conformance_check()
        if finding.status == "n/a":
            pytest.skip(finding.reason)
        if finding.status == "fail":
            pytest.fail(f"{finding.subject}: {finding.reason}", pytrace=False)

    test_conforms.conforming = name  # type: ignore[attr-defined]
    return test_conforms


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--srzoo-thorough``."""
    group = parser.getgroup("srzoo")
    group.addoption("--srzoo-thorough", action="store_true", help="also check torch.export and torch.compile")


def pytest_generate_tests(metafunc: Any) -> None:
    """Make one test of each check for a function from :func:`conformance`."""
    name = getattr(metafunc.function, "conforming", None)
    if name is None or _FIXTURE not in metafunc.fixturenames:
        return
    from .conformance.run import plan

    _, jobs = plan(name, metafunc.config.getoption("--srzoo-thorough"))
    metafunc.parametrize(_FIXTURE, jobs, ids=[f"{job.subject.label}-{job.check.name}" for job in jobs])
