"""The results of several runs brought together: one label for each model, and nothing that may not be compared.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .picture_paths import REFERENCE, Pictures, output_path
from .remarks import Remark, other_weights, provenance_note, remark_notes
from .report import Row
from .results import Score, read_costs, read_panels, read_remarks, read_scores
from .store import FILE, CostRow, Subject, label_of
from .timing import Timing, compared_times


@dataclass(frozen=True)
class Merged:
    """The results of several run folders, ready to be ranked.

    Attributes:
        scores: what was merged, for exports.
        rows: the same, with labels as entries: ``NAME``, ``NAME (bf16)``, or ``NAME [FOLDER]`` where two folders hold
            different models of one name, with as much of the path as tells the folders apart.
        directions: metric to whether higher is better.
        timing: what may be compared of the times that were measured.
        recipes: label to its recipe, where two or more seeds of it are there; one label for each seed.
        pictures: outputs that the runs kept.
        panels: dataset to metric to how many people it is the opinion of.
        remarks: what is to be known of the models' outputs.
    """

    protocol: str
    scores: tuple[Score, ...]
    rows: tuple[Row, ...]
    directions: dict[str, bool]
    timing: Timing
    recipes: dict[str, str]
    pictures: Pictures
    panels: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    def notes(self, datasets: Collection[str], metrics: Collection[str]) -> list[str]:
        """Return in words what is to be known beside the scores by some metrics on some datasets."""
        scores = [
            (row.entry, score)
            for row, score in zip(self.rows, self.scores, strict=True)
            if score.dataset in datasets and score.metric in metrics
        ]
        told = remark_notes(remark for remark in self.remarks if remark.dataset in datasets)
        told += other_weights(self.models)
        return [*told, *filter(None, [provenance_note(scores)])]

    @property
    def models(self) -> dict[str, Score]:
        """Label to a score of its model, which says what it is made by."""
        return {row.entry: score for row, score in zip(self.rows, self.scores, strict=True)}

    @property
    def costs(self) -> dict[str, list[CostRow]]:
        """Label to what it takes at each input size, all on one device, the size that is compared first."""
        return self.timing.measured


def merge(folders: Sequence[Path], protocol: str | None = None) -> Merged:
    """Bring the results of several runs together.

    Args:
        protocol: which to take where the runs have several.

    Raises:
        InputError: a folder holds no results; they have no protocol or scale in common; two folders have different
            images, or datasets without a common image, under one name.
    """
    by_folder = {folder: read_scores(folder) for folder in folders}
    everything = [score for scores in by_folder.values() for score in scores]
    if not everything:
        raise InputError(f"{', '.join(map(str, folders))}: no scores are there yet.")
    wanted = _one_protocol(everything, protocol)
    by_folder = {f: [score for score in scores if score.protocol == wanted] for f, scores in by_folder.items()}
    _refuse_mixtures(by_folder)
    labels = _labels(by_folder)
    chosen: dict[tuple[str, str, str, str], Score] = {}
    costs: dict[str, list[CostRow]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            chosen[labels[folder, score.entry, score.precision], score.dataset, score.image, score.metric] = score
        for cost in read_costs(folder):
            if (folder, cost.entry, cost.precision) in labels:
                costs.setdefault(labels[folder, cost.entry, cost.precision], []).append(cost)
    rows = tuple(Row(*key, wanted, score.value) for key, score in chosen.items())
    directions = {score.metric: score.higher_is_better for score in chosen.values()}
    pictures = _pictures(by_folder, labels)
    panels: dict[str, dict[str, int]] = {}
    remarks: list[Remark] = []
    for folder, scores in by_folder.items():
        named = {label_of(entry, p): label for (where, entry, p), label in labels.items() if where == folder}
        there = {(s.dataset, image) for s in scores for image in ("", s.image)}
        remarks += [
            remark._replace(entry=named[remark.entry])
            for remark in read_remarks(folder)
            if remark.entry in named and (remark.dataset, remark.image) in there
        ]
        for (metric, dataset, of_protocol), raters in read_panels(folder).items():
            if of_protocol == wanted:
                panels.setdefault(dataset, {})[metric] = raters
    own = tuple(chosen.values())
    recipes, timing = _recipes(chosen), compared_times(costs)
    return Merged(wanted, own, rows, directions, timing, recipes, pictures, panels, tuple(dict.fromkeys(remarks)))


def _pictures(by_folder: Mapping[Path, Sequence[Score]], labels: Mapping[tuple[Path, str, str], str]) -> Pictures:
    found: Pictures = {}
    for folder, scores in by_folder.items():
        for (dataset, image), score in {(s.dataset, s.image): s for s in scores}.items():
            reference = output_path(folder, dataset, image, score.image_digest)
            if reference.is_file():
                found.setdefault(dataset, {}).setdefault(image, {})[REFERENCE] = reference
        for score in {(s.entry, s.precision, s.dataset, s.image): s for s in scores}.values():
            path = output_path(
                folder,
                score.dataset,
                score.image,
                score.image_digest,
                label_of(score.entry, score.precision),
                (score.configuration, score.weights, score.precision),
            )
            if path.is_file():
                label = labels[folder, score.entry, score.precision]
                found.setdefault(score.dataset, {}).setdefault(score.image, {})[label] = path
    return found


def _recipes(chosen: Mapping[tuple[str, str, str, str], Score]) -> dict[str, str]:
    return group_recipes({label: score for (label, *_), score in chosen.items()})


def group_recipes(models: Mapping[str, Score | Subject]) -> dict[str, str]:
    """Return label to recipe, named by its runs, where there are several seeds of one at one precision.

    A seed counts once, by the first model of it: a copy, a repeat or another precision tells nothing of other seeds.
    """
    seeds: dict[tuple[str, str], dict[int, str]] = {}
    for label, model in models.items():
        if model.recipe and model.seed is not None:
            seeds.setdefault((model.recipe, model.precision), {}).setdefault(model.seed, label)
    groups = [runs.values() for runs in seeds.values() if len(runs) > 1]
    return {label: " and ".join(sorted(runs)) for runs in groups for label in runs}


def _one_protocol(scores: Sequence[Score], protocol: str | None) -> str:
    there = list(dict.fromkeys(score.protocol for score in scores))
    if protocol is not None:
        if protocol not in there:
            raise InputError(f"There are no scores under protocol {protocol!r}; there are {', '.join(there)}.")
        return protocol
    if len(there) > 1:
        entries = {name: next(score.entry for score in scores if score.protocol == name) for name in there}
        named = " and ".join(f"{name!r} ({entry}, ...)" for name, entry in entries.items())
        raise InputError(
            f"Scores under protocols {named} are not comparable; choose one with --protocol, or leave a folder out."
        )
    return there[0]


def _refuse_mixtures(by_folder: Mapping[Path, Sequence[Score]]) -> None:
    scales: dict[int, str] = {}
    images: dict[tuple[str, str, int], tuple[str, Path]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            scales.setdefault(score.scale, score.entry)
            name = (score.dataset, score.image, score.scale)
            digest, where = images.setdefault(name, (score.image_digest, folder))
            if digest != score.image_digest:
                raise InputError(
                    f"{where} and {folder} have different images under the name {score.dataset}/{score.image}; "
                    "benchmark both on the same files."
                )
    if len(scales) > 1:
        named = " and ".join(f"x{scale} ({entry})" for scale, entry in sorted(scales.items()))
        raise InputError(f"Scores of different scales are not comparable: {named}.")
    _refuse_other_datasets(by_folder)


def _refuse_other_datasets(by_folder: Mapping[Path, Sequence[Score]]) -> None:
    """Refuse two folders' datasets of one name that share no image and are not parts of one, as after a run that broke.

    Entries that are in both folders would be averaged over the two as if they were one dataset.
    """
    seen: dict[str, list[tuple[Path, set[str], set[str]]]] = {}
    for folder, scores in by_folder.items():
        for dataset in dict.fromkeys(score.dataset for score in scores):
            own = [score for score in scores if score.dataset == dataset]
            images, digests = {score.image for score in own}, {score.dataset_digest for score in own}
            for where, others, other_digests in seen.setdefault(dataset, []):
                if not images & others and not digests & other_digests:
                    raise InputError(
                        f"{where} and {folder} have different datasets under the name {dataset!r}, without a common "
                        "image; leave one out, or rename one and benchmark it again."
                    )
            seen[dataset].append((folder, images, digests))


def _labels(by_folder: Mapping[Path, Sequence[Score]]) -> dict[tuple[Path, str, str], str]:
    """Return what each folder's models are called; one label stands for one composition, weights and precision.

    Raises:
        InputError: the folders' names cannot tell two models apart.
    """
    models: dict[str, set[tuple[str, str]]] = {}
    for scores in by_folder.values():
        for score in scores:
            models.setdefault(score.entry, set()).add((score.configuration, score.weights))
    titles = _titles(list(by_folder))
    labels = {}
    meant: dict[str, tuple[str, str, str]] = {}
    for folder, scores in by_folder.items():
        for score in scores:
            label = label_of(score.entry, score.precision)
            if len(by_folder) > 1 and len(models[score.entry]) > 1:
                label += f" [{titles[folder]}]"
            labels[folder, score.entry, score.precision] = label
            model = (score.configuration, score.weights, score.precision)
            if meant.setdefault(label, model) != model:
                raise InputError(
                    f"Two models would both be called {label!r}, so their rows could not be told apart; "
                    "rename one and benchmark it again, or leave a folder out."
                )
    return labels


def _titles(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the end of each folder's path, as long as it must be to be no other's, as editors title their tabs."""
    whole = {folder: (folder.parent if folder.name == FILE else folder).resolve() for folder in folders}
    titles = {}
    for folder, path in whole.items():
        others = [other.parts for other in whole.values() if other != path]
        parts = path.parts
        length = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
        titles[folder] = Path(*parts[-length:]).as_posix()
    return titles
