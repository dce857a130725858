"""Benchmark: entries x datasets x metrics, one row an image and metric, kept in a store that a rerun goes on from."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from .allocator import keep_freed_memory
from .confinement import ENSEMBLE, Name
from .costs import cost_of
from .coverage import comparable
from .data import ImageSet, load_image_set, shared_images
from .distribution import joined
from .errors import DataError, InputError, RecipeWarning, SrzooError, labelled
from .files import acquired, remedy
from .gallery import MAX_IMAGES
from .harness import LATENCY_SIZE, Findings, Harness, Progress, Settings
from .inference import PRECISIONS, best_device, device_name
from .leaderboard import Leaderboard, Standing, leaderboard_markdown, leaderboards
from .merged import group_recipes
from .outputs import Outputs
from .page import PageData, page_costs, write_page
from .picture_paths import Pictures
from .plugins import OWN_DISTRIBUTION
from .precisions import automatic, float32_of, precision_losses
from .pretrained import Model, load_model
from .protocol import PROTOCOLS, Protocol
from .ready import generator_spec, is_ready
from .registry import get_registry
from .remarks import Overlap, provenance_note, remark_notes
from .report import RowWriter, panel_notes
from .results import read_opinions, read_scores_of
from .scoring import available_metrics
from .statistics import group_seeds
from .store import label_of
from .tiling import SMALLEST_TILE
from .zoo import get_zoo

DEFAULT_METRICS = ("psnr", "ssim", "lpips_alex", "lpips_squeeze")
DEFAULT_DATA = ("photos",)


@dataclass
class BenchResult(Findings):
    """What a benchmark found: rows, costs, failures, and what follows from them.

    Attributes:
        leaderboards: one for each dataset.
        directions: metric to whether higher is better, in the order asked for.
        unavailable: metric to the reason why it could not be computed here.
        panels: dataset to metric to how many people it is the opinion of, where the folder holds a study's scores.
        recipes: entry to its recipe, where two or more seeds of it are there; one entry for each seed.
        out: folder with ``results.sqlite``, ``results.csv`` and ``leaderboard.md``, if one was given.
        left_out: entries that would have been benchmarked by default, were they not so large for a CPU.
        bases: label of each model in a lower precision to its label in float32 and that precision.
    """

    leaderboards: list[Leaderboard] = field(default_factory=list)
    directions: dict[str, bool] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    panels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    left_out: list[str] = field(default_factory=list)
    bases: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def standings(self) -> list[Standing]:
        """Every entry on every dataset, best first."""
        return [standing for board in self.leaderboards for standing in board.standings]


def bench(
    entries: str | Sequence[str | Path] | None = None,
    data: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    *,
    protocol: Protocol = "y",
    precision: str | Sequence[str] = "fp32",
    sizes: int | Sequence[int] = LATENCY_SIZE,
    tile: int | None = None,
    batch: int | None = None,
    out: str | Path | None = None,
    pictures: int | Collection[tuple[str, str]] = 12,
    resume: bool = True,
    progress: Progress | None = None,
) -> BenchResult:
    """Benchmark models against each other.

    Run it again to go on where it was stopped: values that are known already are not computed again as long as
    weights, composition, image, protocol, versions and device are the same. Under ``accelerate launch`` or
    ``torchrun`` the images are shared out over the processes, and the first returns all rows.

    Args:
        entries: zoo entries, checkpoint files or run folders, with a ``+`` for their self-ensembles; by default
            all entries that are ready, on a CPU those of at most 100 G multiply-adds for an output of 1280x720.
        data: datasets or folders; by default ``DEFAULT_DATA``.
        metrics: names of metrics, by default ``DEFAULT_METRICS``; one whose backbone is missing is reported and left
            out.
        protocol: ``y``, ``y-matlab`` or ``rgb``.
        precision: ``fp32``, ``bf16`` or ``fp16``, or several, which are ranked against each other: quality and speed.
        sizes: sides of the square low-resolution inputs that latency and memory are measured for; the first is the
            leaderboard's.
        tile: side of the tiles that images are upscaled in; 0 for whole images whatever their size; None for whole
            ones of up to a megapixel, and as long as memory suffices. Tiles that overlap by less than the generator
            sees give other values, so what is known of whole images is not taken for them, and a warning tells.
        batch: how many outputs of one image are scored at once; by default 8 on a GPU, and 1 on a CPU, where it is
            faster.
        out: folder for ``results.sqlite``, ``results.csv``, ``leaderboard.md`` and ``report.html``.
        pictures: of how many images the report shows the outputs; or ``(dataset, image)`` of each. With 0 there is no
            report, and one of an earlier call is removed.
        resume: False computes everything anew.
        progress: called as ``progress(entry, dataset, images done, images)``.

    Raises:
        InputError: an entry, dataset, metric or protocol does not exist, or an asked-for entry has no weights.

    Warns:
        RecipeWarning: a model was trained on some of the images, as far as its weight file or its recipe tells.
        UpscaleWarning: an image was upscaled in tiles that may show, or memory ran out; of each model and dataset the
            first time only. All of them are in the result's remarks.
    """
    settings = _checked(Settings(protocol, listed(precision), _several(sizes), tile, batch, resume))
    processes = joined()
    device = processes.device if processes is not None else best_device()
    keep_freed_memory()
    names, left_out = default_entries(device) if entries is None else (listed(entries), [])
    image_sets = load_image_sets(data)
    result = BenchResult(out=Path(out) if out is not None else None, left_out=left_out)
    found, result.unavailable = available_metrics(listed_or_own("metric", metrics, DEFAULT_METRICS), device)
    if not found:
        raise DataError("None of the metrics can be computed here: " + " ".join(result.unavailable.values()))
    models = [load_model(name) for name in names]  # all of them before the first image, so that a typo costs no time
    _refuse_duplicates("models", [label_of(m.name, p) for m in models for p in settings.precisions])
    _refuse_mixed_scales(models)
    overlaps = _warn_of_known_images(models, image_sets)
    if processes is not None and result.out is None:
        raise DataError("Several processes need a folder to bring their rows together in: give out.")
    result.directions = {metric.name: metric.spec.higher_is_better for metric in found}
    outputs = Outputs(result.out, image_sets, pictures, anew=not resume) if result.out is not None else None
    run = Harness(models, settings, found, device, result, result.out, outputs, progress, overlaps)
    with _held(result.out, processes):
        if processes is None:
            run.alone(image_sets)
        else:
            run.together(image_sets, processes)
        if processes is None or processes.is_main_process:
            _recall_opinions(result)
            result.bases = float32_of(run.subjects)
            result.recipes = group_recipes({name: s for name, s in run.subjects.items() if name not in result.failed})
            _write(result, settings, device_name(device), run.pictures())
    return result


@contextlib.contextmanager
def _held(out: Path | None, processes: PartialState | None) -> Iterator[None]:
    """Keep other benchmarks out of a folder; it is free again after this context, or when the process ends.

    Raises:
        InputError: another one is at work in it.
    """
    if out is None:
        yield
        return
    lock = filelock.FileLock(out / ".lock")
    told: list[SrzooError | None] = [None]
    if processes is None or processes.is_main_process:
        try:
            out.mkdir(parents=True, exist_ok=True)
            acquired(lock, timeout=0)
        except filelock.Timeout:
            told = [
                InputError(
                    f"Another benchmark is at work in {out}; two would take each other's results for those of a killed "
                    "process. Give another --out, or wait for it or stop it; what it has scored is kept."
                )
            ]
        except OSError as error:
            told = [DataError(f"Cannot write to {out}: {error}. {remedy(error)}")]
    if processes is not None:
        broadcast_object_list(told)  # else the others would wait for one that gave up
    if told[0] is not None:
        raise told[0]
    try:
        yield
    finally:
        lock.release()


def _several(sizes: int | Sequence[int]) -> list[int]:
    return list(dict.fromkeys([sizes] if isinstance(sizes, int) else sizes))


def _checked(settings: Settings) -> Settings:
    if settings.protocol not in PROTOCOLS:
        raise DataError(f"There is no protocol {settings.protocol!r}; use {', '.join(PROTOCOLS)}.")
    for name in settings.precisions:
        if name not in PRECISIONS:
            raise DataError(f"There is no precision {name!r}; use {', '.join(PRECISIONS)}.")
    if not settings.sizes or any(type(size) is not int or size < 1 for size in settings.sizes):
        raise DataError(f"sizes must be whole numbers of pixels, at least one of them, not {settings.sizes}.")
    if settings.tile is not None and settings.tile != 0 and settings.tile < SMALLEST_TILE:
        raise DataError(f"tile must be at least {SMALLEST_TILE} pixels, or 0 for no tiles, not {settings.tile}.")
    if settings.batch is not None and settings.batch < 1:
        raise DataError(f"batch must be at least 1, not {settings.batch}.")
    return settings


def _recall_opinions(result: BenchResult) -> None:
    """Add what people said about the same outputs, which a study has put into the folder."""
    if result.out is None:
        return
    found = read_opinions(result.out, result.rows)
    result.rows += found.rows
    result.directions = {**result.directions, **found.directions}
    result.panels = found.panels


def _write(result: BenchResult, settings: Settings, device: str, pictures: Pictures) -> None:
    """Rank the entries, and write what people read."""
    ranked = [row for row in result.rows if row.entry not in result.failed]  # what is not whole is not compared
    first = {name: costs[0] for name, costs in result.costs.items()}
    result.leaderboards = leaderboards(ranked, result.directions, first, result.panels)
    with RowWriter(result.out) as writer:
        for row in result.rows:
            writer.write(row)
    if result.out is None:
        return
    notes = [labelled(name, reason) for name, reason in result.unavailable.items()]
    notes += [f"{what} was not measured: {reason}" for what, reason in result.unmeasured.items()]
    notes += [f"{name} failed and is left out: {reason}" for name, reason in result.failed.items()]
    notes += remark_notes(remark for remark in result.remarks if remark.entry not in result.failed)
    notes += filter(None, [provenance_note(read_scores_of(result.out, ranked))])
    notes += panel_notes(result.panels)
    compared = comparable(ranked, result.directions).rows
    metrics = automatic(result.directions, result.panels)
    losses = precision_losses(compared, metrics, result.bases, result.costs)
    text = leaderboard_markdown(
        result.leaderboards,
        result.directions,
        settings.protocol,
        device,
        settings.sizes[0],
        notes,
        group_seeds(ranked, result.recipes),
        result.costs,
        losses,
    )
    try:
        (result.out / "leaderboard.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {result.out / 'leaderboard.md'}: {error}.") from error
    page = result.out / "report.html"
    if not pictures or not ranked:
        _remove(page)  # one of an earlier call would stand beside tables that say something else
    else:
        write_page(
            page,
            PageData(
                ranked,
                result.directions,
                page_costs(result.costs),
                settings.protocol,
                device,
                settings.sizes[0],
                notes,
                pictures,
                recipes=result.recipes or None,
                panels=result.panels,
                bases=result.bases,
            ),
            max_images=max(MAX_IMAGES, sum(map(len, pictures.values()))),
        )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"Cannot remove {path}, which is of an earlier benchmark: {error}.") from error


def _warn_of_known_images(models: Sequence[Model], image_sets: Sequence[ImageSet]) -> dict[str, dict[str, Overlap]]:
    """Warn of models that were trained on what they are benchmarked on, all of one data in one sentence.

    Returns:
        model to dataset to what it was trained on.
    """
    found: dict[str, dict[str, Overlap]] = {}
    by_data: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        by_data.setdefault(tuple(_training_data(model)), []).append(model.name)
    for data, names in by_data.items():
        sets = []
        for name in data:
            with contextlib.suppress(SrzooError):  # what is not here is not benchmarked on
                sets.append(load_image_set(name))
        certain = len(sets) == len(data)
        by_set = {image_set.name: shared_images([image_set], sets) for image_set in image_sets}
        known = [image for images in by_set.values() for image in images]
        for name in names:
            found[name] = {
                s: Overlap([image.removeprefix(f"{s}/") for image in images], certain) for s, images in by_set.items()
            }
        if known:
            warnings.warn(
                f"{', '.join(names)}: trained on {len(known)} of the benchmarked images ({', '.join(known[:3])}"
                f"{', ...' if len(known) > 3 else ''}), so the scores on them flatter. Benchmark on other images; of a "
                "set of which the first three were trained on, 'NAME[3:]' is the rest.",
                RecipeWarning,
                stacklevel=3,
            )
    return found


def _training_data(model: Model) -> list[str]:
    """Return the datasets that a model was trained on, with those of the entries that it started from or was taught by.

    The weight file tells, and where it does not, the recipe.
    """
    recipe: Mapping[str, Any] = model.description.get("training") or {}
    if not isinstance(recipe, Mapping) or not recipe:
        recipe = model.entry.training.model_dump() if model.entry.training is not None else {}
    scope = get_zoo().scope_of(model.entry)
    names: dict[str, None] = {}
    seen, recipes = {model.name}, [recipe]
    while recipes:
        recipe = recipes.pop()
        for given in recipe.get("data") or ():
            name = get_registry().own("dataset", str(given), scope)
            names[Name(name) if isinstance(given, Name) else name] = None
        for key in ("start_from", "teacher"):
            used = get_zoo().own(str(recipe.get(key) or "").removesuffix(ENSEMBLE), scope)
            if used and used not in seen and used in get_zoo():
                seen.add(used)
                with contextlib.suppress(SrzooError):  # an entry with an error tells nothing of this one
                    with_recipe = get_zoo().entry(used).training
                    recipes += [with_recipe.model_dump()] if with_recipe is not None else []
    return list(names)


LARGE = 100e9
"""Multiply-adds for an output of 1280x720 from which on an entry is benchmarked on a CPU only if it is named."""


def default_entries(device: torch.device) -> tuple[list[str], list[str]]:
    """Return the entries that are benchmarked where none are named, and those left out as too slow for a CPU."""
    names = ready_entries()
    if device.type != "cpu":
        return names, []
    large = [name for name in names if _is_large(name)]
    return [name for name in names if name not in large], large


def _is_large(name: str) -> bool:
    try:
        return cost_of(get_zoo().entry(name)).multiply_adds > LARGE
    except SrzooError:  # what cannot be counted is told once it is run
        return False


def ready_entries() -> list[str]:
    """Return the zoo entries that can be benchmarked at once; entries with errors are left to ``srzoo list``."""
    names = []
    for name in get_zoo().names():
        try:
            if "/" in name and get_zoo().source(name).distribution != OWN_DISTRIBUTION:
                continue  # of those that share a name, two rows could not be told apart
            if is_ready(get_zoo().entry(name)):
                names.append(name)
        except SrzooError:
            continue
    return names


def listed(names: str | Path | Sequence[str | Path]) -> list[str]:
    """Split comma-separated names and drop repeats, keeping the order; a ``Path`` is one whatever is in it."""
    parts = [names] if isinstance(names, (str, Path)) else names
    split = [[str(part)] if isinstance(part, Path) else part.split(",") for part in parts]
    return list(dict.fromkeys(name.strip() for names in split for name in names if name.strip()))


def listed_or_own(kind: str, names: str | Sequence[str] | None, default: Sequence[str]) -> list[str]:
    """Return the names asked for; where there are none, the default ones, which are srzoo's own components."""
    return listed(names) if names is not None else [get_registry().own(kind, n, OWN_DISTRIBUTION) for n in default]


def load_image_sets(data: str | Sequence[str] | None) -> list[ImageSet]:
    """Return the datasets asked for, or the default ones.

    Raises:
        InputError: one does not exist, or two have one name.
    """
    found = [load_image_set(name) for name in listed_or_own("dataset", data, DEFAULT_DATA)]
    _refuse_duplicates("datasets", [image_set.name for image_set in found])
    return found


def _refuse_duplicates(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two {what} are called {name!r}, so their rows could not be told apart; rename one.")


def _refuse_mixed_scales(models: Sequence[Model]) -> None:
    scales = {model.entry.scale: model.name for model in models}
    if len(scales) > 1:
        named = " and ".join(f"x{scale} ({name})" for scale, name in sorted(scales.items()))
        hint = ""
        untrained = next((m for m in models if not generator_spec(m.entry).trainable), None)
        if untrained is not None:
            other = next(scale for scale in scales if scale != untrained.entry.scale)
            hint = (
                f" {untrained.name} at another scale is an entry of your own, "
                f"{{extends: {untrained.name.removesuffix(ENSEMBLE)}, scale: {other}}}."
            )
        raise DataError(f"Scores of different scales are not comparable: {named}; benchmark one scale at a time.{hint}")
