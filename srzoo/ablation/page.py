"""The page of an ablation: one HTML file that holds all it shows. Needs no torch."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from ..errors import DataError
from ..files import replacing
from ..page import TEMPLATES
from .figure import Strip, enlarged
from .forest import forest_svg
from .results import Change, Findings
from .table import build_table, change_sentences, method_sentences, p_value


def write_ablation_page(findings: Findings, figure: Sequence[Strip], path: Path) -> None:
    """Write the page.

    Raises:
        DataError: it cannot be written.
    """
    text = render(findings, figure)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}.") from error


def render(findings: Findings, figure: Sequence[Strip]) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    labels, blocks = build_table(findings)
    script = (TEMPLATES / "ablation.js").read_text(encoding="utf-8")
    styles = [(TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "ablation.css")]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("ablation.html.j2").render(
        plan=findings.plan,
        findings=findings,
        labels=labels,
        blocks=blocks,
        sentences=change_sentences(findings),
        changes_plot=Markup(forest_svg(findings.changes, findings.directions, "changes", "What each change did")),
        starts_plot=Markup(
            forest_svg(findings.starts, findings.directions, "starts", "What each stage did to the one it started from")
        ),
        changes=_by_dataset(findings, findings.changes),
        starts=_by_dataset(findings, findings.starts),
        p_value=p_value,
        strips=[(strip, {label: _data_uri(strip, label) for label in strip.crops}) for strip in figure],
        method=[*method_sentences(findings), *findings.notes],
        style=Markup("\n".join(styles)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _by_dataset(findings: Findings, changes: Sequence[Change]) -> list[tuple[str, list[Change]]]:
    return [(dataset, [c for c in changes if c.dataset == dataset]) for dataset in findings.datasets]


def _data_uri(strip: Strip, label: str) -> str:
    buffer = BytesIO()
    enlarged(strip.crops[label]).save(buffer, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
