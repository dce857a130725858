"""Whether the scores that a zoo entry records hold: computed again from its weights, as the benchmark computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .confinement import Name
from .data import ImageSet, load_image_set
from .errors import InputError, UnknownNameError, did_you_mean
from .inference import best_device, prepare
from .pretrained import Model, load_model
from .protocol import Protocol
from .ready import generator_spec
from .registry import get_registry
from .scoring import Metric, available_metrics, mean_scores, score_set
from .specs import MetricSpec
from .zoo import get_zoo, shared_entry

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """One recorded score, and what came out.

    Attributes:
        found: the score computed here; None where it could not be, see ``reason``.
        tolerance: how far the two may lie apart; see :class:`srzoo.MetricSpec`.
    """

    dataset: str
    metric: str
    recorded: float
    found: float | None
    tolerance: float
    reason: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether both agree within the tolerance; None where nothing could be computed."""
        if self.found is None:
            return None
        return self.found == self.recorded or abs(self.found - self.recorded) <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """The checks of one entry.

    Attributes:
        digest: SHA-256 of the weights, which were checked against the zoo's; empty where there are none.
    """

    entry: str
    protocol: Protocol
    digest: str
    checks: tuple[Check, ...] = field(default=())

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that do not hold."""
        return tuple(check for check in self.checks if check.holds is False)

    @property
    def unchecked(self) -> tuple[Check, ...]:
        """Those that could not be computed here."""
        return tuple(check for check in self.checks if check.holds is None)

    @property
    def holds(self) -> bool:
        """Whether something was computed, and all of it holds."""
        return not self.failed and len(self.unchecked) < len(self.checks)


def verify(
    entry: str,
    data: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compute the recorded scores of a zoo entry again.

    Weights are checked by hash and composition first, as on every load. A dataset or backbone that is not here leaves
    the scores that need it unchecked, with the reason.

    Args:
        entry: a zoo entry, or a folder that ``srzoo pull`` made.
        data: of the recorded datasets, those to compute; all by default.
        metrics: of the recorded metrics, those to compute; all by default.
        progress: called as ``progress(dataset, images done, images)``.

    Raises:
        UnknownNameError: there is no such entry, or it records nothing for a dataset or metric asked for.
        InputError: it records no scores.
        MissingWeightsError, WeightsError: its weights are missing, damaged, or of another model.
    """
    scores = recorded_scores(entry, data, metrics)
    model = load_model(entry)
    recorded = model.entry.recorded
    assert recorded is not None
    checks: list[Check] = []
    for dataset, values in scores.items():
        checks += _check_set(model, dataset, values, recorded.protocol, progress)
    return Verification(model.name, recorded.protocol, model.digest, tuple(checks))


def recorded_scores(
    entry: str, data: Sequence[str] | None = None, metrics: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Return dataset to metric to recorded value, of those asked for. See :func:`verify`."""
    folder = Path(entry)
    is_folder = entry not in get_zoo() and (folder / "zoo.yaml").is_file()
    if not is_folder and entry not in get_zoo() and folder.exists():
        raise InputError(
            f"{entry} records no scores that could be verified, as a zoo entry or the folder of a pulled model does; "
            "'srzoo bench' computes some of a checkpoint or a finished run."
        )
    found = shared_entry(folder)[0] if is_folder else get_zoo().entry(entry)
    recorded = found.recorded
    if recorded is None or not recorded.scores:
        first = "" if found.weights is not None or not generator_spec(found).trainable else " once it is trained"
        raise InputError(
            f"entry {entry!r} records no scores that could be verified; 'srzoo bench {entry}' computes some{first}."
        )
    names = list(dict.fromkeys(metric for scores in recorded.scores.values() for metric in scores))
    datasets = _chosen(data, list(recorded.scores), "dataset", entry)
    wanted = _chosen(metrics, names, "metric", entry)
    return {
        dataset: {name: value for name, value in recorded.scores[dataset].items() if name in wanted}
        for dataset in datasets
    }


def _chosen(asked: Sequence[str] | None, there: Sequence[str], what: str, entry: str) -> list[str]:
    for name in asked or ():
        if name not in there:
            raise UnknownNameError(
                f"entry {entry!r} records nothing for the {what} {name!r}.{did_you_mean(name, there)} "
                f"It records {', '.join(there)}."
            )
    return list(asked or there)


def _check_set(
    model: Model, dataset: str, scores: dict[str, float], protocol: Protocol, progress: Progress | None
) -> Iterator[Check]:
    device, scope = best_device(), get_zoo().scope_of(model.entry)
    components = {name: get_registry().get("metric", name, scope=scope) for name in scores}
    found, unavailable = available_metrics([component.full_name for component in components.values()], device)
    missing = {name: unavailable[c.full_name] for name, c in components.items() if c.full_name in unavailable}
    means: dict[str, float] = {}
    try:
        images = load_image_set(Name(get_registry().own("dataset", dataset, scope)))
        if found:
            means = _means(model, images, found, protocol, progress)
    except InputError as error:  # a damaged image, or a set that is not here
        missing = dict.fromkeys(scores, str(error))
    for name, value in scores.items():
        spec = components[name].spec
        assert isinstance(spec, MetricSpec)
        mean = means.get(components[name].name)
        reason = "" if mean is not None else missing.get(name, f"{name} is defined for no image of {dataset}.")
        yield Check(dataset, name, value, mean, spec.tolerance, reason)


def _means(
    model: Model, images: ImageSet, metrics: Sequence[Metric], protocol: Protocol, progress: Progress | None
) -> dict[str, float]:
    generator = prepare(model.generator, best_device())
    values = []
    for done, score in enumerate(
        score_set(generator, images, metrics, protocol, model.entry.scale, model.size_multiple), start=1
    ):
        values.append(score.values)
        if progress is not None:
            progress(images.name, done, len(images))
    return {name: mean for name, mean in mean_scores(values).items() if not math.isnan(mean)}
