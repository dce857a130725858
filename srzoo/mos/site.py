"""What a request may reach: raters by their token, images by names drawn for each rater, and templates."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .limits import Rate
from .plan import EXAMPLE
from .ratings import MAX_NAME, Rater, RatingStore
from .study import IMAGES, SCALE, Secret, Study

HERE = Path(__file__).parent
AHEAD = 3
"""How many images beyond the current one may be loaded: enough that nobody waits, too few to look ahead."""
STATICS = {
    "mos.css": "text/css; charset=utf-8",
    "mos.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Site:
    """One study as it is served. Nothing here turns a part of an address into a path on disk.

    Args:
        folder: of the study.
    """

    def __init__(self, study: Study, secret: Secret, ratings: RatingStore, folder: Path) -> None:
        self.study, self.secret, self.ratings = study, secret, ratings
        self.statics = _statics()
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.globals |= {"study": study, "scale": SCALE, "max_name": MAX_NAME}
        self._templates.globals |= {name: f"/static/{file}" for name, (file, _, _) in self.statics.items()}
        # A class of raters may come from one address, so that addresses are only bounded where they guess or join.
        self.guesses = Rate(burst=30, per_second=0.5)
        self.joins = Rate(burst=60, per_second=1)
        self.requests = Rate(burst=120, per_second=20)
        self._images = folder / IMAGES

    def render(self, template: str, **values: Any) -> str:
        """Return a page."""
        return self._templates.get_template(template).render(**values)

    def is_open(self, token: str) -> bool:
        """Whether a token is that of the open link."""
        return hmac.compare_digest(token.encode(), self.secret.open.encode())

    def is_admin(self, token: str) -> bool:
        """Whether a token is that of who runs the study."""
        return hmac.compare_digest(token.encode(), self.secret.admin.encode())

    def image(self, rater: Rater, name: str) -> bytes | None:
        """Return the image of a name; None where there is none, or the rater has not come near it."""
        newest = min(rater.done + AHEAD, len(rater.plan) - 1)
        for position in range(newest, -1, -1):  # nearly always one of the first few; no table, which many raters fill
            for part, file in enumerate(self._files(rater, position)):
                if hmac.compare_digest(self.secret.stimulus(rater.id, position, part).encode(), name.encode()):
                    return (self._images / file).read_bytes()
        return None

    def trial(self, rater: Rater, position: int) -> dict[str, Any]:
        """Return what the page needs to show a trial, and what was answered before."""
        parts = range(len(self._files(rater, position)))
        names = [self.secret.stimulus(rater.id, position, part) for part in parts]
        value, revision = self.ratings.value(rater, position) if position < rater.done else (None, 0)
        return {
            "position": position,
            "example": rater.plan[position].kind == EXAMPLE,
            "images": [f"/r/{rater.token}/images/{name}" for name in names],
            "value": value,
            "revision": revision,
        }

    def window(self, rater: Rater, position: int) -> list[dict[str, Any]]:
        """Return a trial and those that come next."""
        return [self.trial(rater, place) for place in range(position, min(position + AHEAD, len(rater.plan)))]

    def state(self, rater: Rater) -> dict[str, Any]:
        """Return all that the rating page starts with; who has answered all sees the last trial again."""
        start = min(rater.done, len(rater.plan) - 1)
        return {
            "mode": self.study.mode,
            "question": self.study.question,
            "start": start,
            "done": rater.done,
            "total": len(rater.plan),
            "examples": sum(trial.kind == EXAMPLE for trial in rater.plan),
            "address": f"/r/{rater.token}",
            "trials": self.window(rater, start),
            "scale": list(SCALE.values()),
        }

    def _files(self, rater: Rater, position: int) -> list[str]:
        """Return the files of a trial: one, two, or two and the original that they are compared with."""
        trial = rater.plan[position]
        if trial.kind == EXAMPLE:
            example = self.study.calibration[trial.image]
            files = [(example.lowest, example.highest)[version] for version in trial.versions]
            return [*files, example.highest] if self.study.shows_reference else files
        files = [self.study.file(trial.image, version) for version in trial.versions]
        return [*files, self.study.reference(trial.image)] if self.study.shows_reference else files


def _statics() -> dict[str, tuple[str, str, bytes]]:
    """Return suffix to name with digest, media type and content of what pages refer to."""
    found = {}
    for name, media_type in STATICS.items():
        content = (HERE / "static" / name).read_bytes()
        stem, _, suffix = name.partition(".")
        digest = hashlib.sha256(content).hexdigest()[:12]
        found[suffix] = (f"{stem}-{digest}.{suffix}", media_type, content)
    return found
