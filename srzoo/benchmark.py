"""Benchmark: entries x datasets x metrics, one row an image and metric, kept in a store that a rerun goes on from."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from . import __version__
from .allocator import keep_freed_memory
from .composition import composition_digest, plugin_versions
from .costs import cost_of
from .data import ImageItem, ImageSet, load_image_set
from .distribution import joined
from .errors import DataError, SrzooError
from .images import to_tensor
from .inference import PRECISIONS, best_device, prepare, run_generator
from .latency import measure_latency, measure_peak_memory
from .leaderboard import Leaderboard, Standing, leaderboard_markdown, leaderboards
from .outputs import Outputs
from .page import PageData, page_costs, write_page
from .pretrained import Model, is_ready, load_model
from .protocol import PROTOCOLS, Protocol
from .registry import get_registry
from .report import Row, RowWriter
from .scoring import Metric, Reference, available_metrics, image_to_device, upscaled
from .store import FILE, CostRow, Environment, Pictures, Question, Store, Subject
from .zoo import get_zoo

DEFAULT_METRICS = ("psnr", "ssim", "lpips_alex", "lpips_squeeze")
DEFAULT_DATA = ("photos",)
LATENCY_SIZE = 128
"""Side of the square low-resolution input that latency is stated for."""

Progress = Callable[[str, str, int, int], None]


@dataclass
class BenchResult:
    """What a benchmark found.

    Attributes:
        rows: one for each image and metric.
        leaderboards: one for each dataset.
        directions: metric to whether higher is better, in the order asked for.
        costs: entry to what it takes on this device.
        computed: how many of the rows were computed now; the others were known from before.
        unavailable: metric to the reason why it could not be computed here.
        failed: entry to the reason why it could not be benchmarked.
        out: folder with ``results.sqlite``, ``results.csv`` and ``leaderboard.md``, if one was given.
    """

    rows: list[Row] = field(default_factory=list)
    leaderboards: list[Leaderboard] = field(default_factory=list)
    directions: dict[str, bool] = field(default_factory=dict)
    costs: dict[str, CostRow] = field(default_factory=dict)
    computed: int = 0
    unavailable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    out: Path | None = None

    @property
    def standings(self) -> list[Standing]:
        """Every entry on every dataset, best first."""
        return [standing for board in self.leaderboards for standing in board.standings]


def bench(
    entries: str | Sequence[str] | None = None,
    data: str | Sequence[str] = DEFAULT_DATA,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    protocol: Protocol = "y",
    precision: str | Sequence[str] = "fp32",
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
        entries: zoo entries, checkpoint files or run folders; all entries that are ready by default.
        data: datasets or folders.
        metrics: names of metrics; one whose backbone is missing is reported and left out.
        protocol: ``y``, ``y-matlab`` or ``rgb``.
        precision: ``fp32``, ``bf16`` or ``fp16``, or several, which are ranked against each other: quality and speed.
        out: folder for ``results.sqlite``, ``results.csv``, ``leaderboard.md`` and ``report.html``.
        pictures: of how many images the report shows the outputs, 0 writes none; or ``(dataset, image)`` of each.
        resume: False computes everything anew.
        progress: called as ``progress(entry, dataset, images done, images)``.

    Raises:
        InputError: an entry, dataset, metric or protocol does not exist, or an asked-for entry has no weights.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"There is no protocol {protocol!r}; use {', '.join(PROTOCOLS)}.")
    precisions = listed(precision)
    for name in precisions:
        if name not in PRECISIONS:
            raise DataError(f"There is no precision {name!r}; use {', '.join(PRECISIONS)}.")
    processes = joined()
    device = processes.device if processes is not None else best_device()
    keep_freed_memory()
    names = ready_entries() if entries is None else listed(entries)
    image_sets = [load_image_set(name) for name in listed(data)]
    _refuse_duplicates("datasets", [image_set.name for image_set in image_sets])
    result = BenchResult(out=Path(out) if out is not None else None)
    found, result.unavailable = available_metrics(listed(metrics), device)
    if not found:
        raise DataError("None of the metrics can be computed here: " + " ".join(result.unavailable.values()))
    models = [load_model(name) for name in names]  # all of them before the first image, so that a typo costs no time
    _refuse_duplicates("models", [model.name for model in models])
    _refuse_mixed_scales(models)
    if processes is not None and result.out is None:
        raise DataError("Several processes need a folder to bring their rows together in: give out.")
    result.directions = {metric.name: metric.spec.higher_is_better for metric in found}
    outputs = Outputs(result.out, image_sets, pictures) if result.out is not None else None
    run = _Run(models, precisions, found, protocol, device, result, outputs, resume, progress)
    if processes is None:
        run.alone(image_sets)
    else:
        run.together(image_sets, processes)
    if processes is None or processes.is_main_process:
        _write(result, protocol, device_name(device), run.pictures())
    return result


class _Run:
    """One call of :func:`bench`: its models on the device, and the store that they are looked up in."""

    def __init__(
        self,
        models: Sequence[Model],
        precisions: Sequence[str],
        metrics: Sequence[Metric],
        protocol: Protocol,
        device: torch.device,
        result: BenchResult,
        outputs: Outputs | None,
        resume: bool,
        progress: Progress | None,
    ) -> None:
        self.metrics, self.protocol, self.device, self.result = metrics, protocol, device, result
        self.outputs, self.resume, self.progress = outputs, resume, progress
        self.full_names = {metric.name: get_registry().get("metric", metric.name).full_name for metric in metrics}
        self.environment = Environment(
            __version__, plugin_versions(), torch.__version__, device_name(device), torch.get_num_threads()
        )
        self.subjects: dict[str, Subject] = {}
        self.models: dict[str, Model] = {}
        for model in models:
            configuration = composition_digest(model.entry)
            for precision in precisions:
                subject = Subject(
                    model.name,
                    model.entry.scale,
                    configuration,
                    model.digest,
                    precision,
                    recipe=model.recipe,
                    seed=model.seed,
                )
                own = copy.deepcopy(model.generator) if len(precisions) > 1 else model.generator
                self.subjects[subject.label] = subject
                self.models[subject.label] = replace(model, generator=prepare(own, device, precision))
        self._asked: list[dict[str, Question]] = []

    def alone(self, image_sets: Sequence[ImageSet]) -> None:
        """Compute what is not known yet, and collect all rows."""
        with self._store() as store:
            self._cost(store)
            questions = self._questions(image_sets)
            for image_set, asked in zip(image_sets, questions, strict=True):
                self._score_set(image_set, asked, store, store)
            self._collect(questions, store)

    def together(self, image_sets: Sequence[ImageSet], processes: PartialState) -> None:
        """Do the same, each process for its share of the images and into a file of its own."""
        if processes.is_main_process:
            with self._store() as store:
                self._cost(store)
                self._take_in(store)  # what processes left that were killed
        processes.wait_for_everyone()
        questions = self._questions(image_sets)
        rank, world = processes.process_index, processes.num_processes
        with (
            Store(self.result.out, self.environment, read_only=True) as known,
            self._store(f"results.{rank}.sqlite") as own,
        ):
            for image_set, asked in zip(image_sets, questions, strict=True):
                share = ImageSet(image_set.name, image_set.items[rank::world])
                self._score_set(share, asked, known, own)
        failed, computed = gather_object([self.result.failed]), gather_object([self.result.computed])
        self.result.failed = {name: reason for part in failed for name, reason in part.items()}
        self.result.computed = sum(computed)
        if processes.is_main_process:
            with self._store() as store:
                self._take_in(store)
                self._collect(questions, store)
        processes.wait_for_everyone()

    def _store(self, name: str = FILE) -> Store:
        return Store(self.result.out, self.environment, name)

    def _cost(self, store: Store) -> None:
        """Take from the store, or measure, what each model costs here."""
        for name, model in self.models.items():
            subject = self.subjects[name]
            store.present(subject)
            cost = store.cost(subject, LATENCY_SIZE) if self.resume else None
            if cost is None:
                try:
                    cost = measure_cost(model, self.device, self.environment.device, subject.precision)
                except SrzooError as error:
                    self.result.failed[name] = str(error)
                    continue
                store.add_cost(subject, cost)
            self.result.costs[name] = cost

    def _questions(self, image_sets: Sequence[ImageSet]) -> list[dict[str, Question]]:
        scale = next(iter(self.models.values())).entry.scale
        self._asked = [_questions(image_set, scale, self.protocol) for image_set in image_sets]
        return self._asked

    def _take_in(self, store: Store) -> None:
        assert self.result.out is not None
        for other in sorted(self.result.out.glob("results.*.sqlite")):
            store.take_in(other)

    def _score_set(self, image_set: ImageSet, asked: Mapping[str, Question], known: Store, own: Store) -> None:
        for done, item in enumerate(image_set, start=1):
            pair = _Pair(self, item, asked[item.name])
            for name in self.models:
                if name in self.result.failed:
                    continue
                try:
                    self._score_one(name, pair, known, own)
                except DataError:
                    raise
                except SrzooError as error:
                    self.result.failed[name] = str(error)
                    continue
                if self.progress is not None:
                    self.progress(name, image_set.name, done, len(image_set))

    def _score_one(self, name: str, pair: _Pair, known: Store, own: Store) -> None:
        """Upscale an image with a model, if one of its values or its picture is missing."""
        subject, question = self.subjects[name], pair.question
        have = known.find(subject, question, self.full_names) if self.resume else {}
        missing = [metric.name for metric in self.metrics if metric.name not in have]
        lacks_picture = self.outputs is not None and self.outputs.is_missing(subject, question)
        if not missing and not lacks_picture:
            return
        model = self.models[name]
        sr = upscaled(model.generator, pair.lr, model.entry.scale, model.size_multiple, question.image)
        if self.outputs is not None:
            self.outputs.keep(None, question, pair.reference.hr)
            self.outputs.keep(subject, question, sr)
        if missing:
            values = pair.reference.score(sr, missing)
            own.add(subject, question, values, self.full_names, self.result.directions)
            self.result.computed += len(values)

    def pictures(self) -> Pictures:
        """Return the outputs that are kept, of models that did not fail."""
        if self.outputs is None:
            return {}
        models = [subject for name, subject in self.subjects.items() if name not in self.result.failed]
        return self.outputs.there(models, [q for asked in self._asked for q in asked.values()])

    def _collect(self, questions: Sequence[Mapping[str, Question]], store: Store) -> None:
        for asked in questions:
            for name in self.models:
                for question in asked.values():
                    for metric, value in store.find(self.subjects[name], question, self.full_names).items():
                        row = Row(name, question.dataset, question.image, metric, self.protocol, value)
                        self.result.rows.append(row)


class _Pair:
    """An image and its reference, read when the first model asks."""

    def __init__(self, run: _Run, item: ImageItem, question: Question) -> None:
        self.question = question
        self._run, self._item = run, item

    @cached_property
    def _read(self) -> tuple[torch.Tensor, Reference]:
        run = self._run
        scale = next(iter(run.models.values())).entry.scale
        lr, hr, grey = self._item.read_pair(scale)
        reference = Reference(image_to_device(hr, run.device), run.metrics, run.protocol, scale, grey)
        return to_tensor(lr).to(run.device), reference

    @property
    def lr(self) -> torch.Tensor:
        """The low-resolution image, (1, 3, H, W) in [0, 1], on the device."""
        return self._read[0]

    @property
    def reference(self) -> Reference:
        """The reference, with what metrics computed of it for an earlier model."""
        return self._read[1]


def _questions(image_set: ImageSet, scale: int, protocol: Protocol) -> dict[str, Question]:
    """Return what is asked of every model for each image of a set."""
    digests = {item.name: item.digest(scale) for item in image_set}
    whole = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests.items()).encode()).hexdigest()
    return {name: Question(image_set.name, whole, name, digest, protocol) for name, digest in digests.items()}


def _write(result: BenchResult, protocol: Protocol, device: str, pictures: Pictures) -> None:
    """Rank the entries, and write what people read."""
    ranked = [row for row in result.rows if row.entry not in result.failed]  # what is not whole is not compared
    result.leaderboards = leaderboards(ranked, result.directions, result.costs)
    with RowWriter(result.out) as writer:
        for row in result.rows:
            writer.write(row)
    if result.out is None:
        return
    notes = [f"{name}: {reason}" for name, reason in result.unavailable.items()]
    notes += [f"{name} failed and is left out: {reason}" for name, reason in result.failed.items()]
    text = leaderboard_markdown(result.leaderboards, result.directions, protocol, device, LATENCY_SIZE, notes)
    try:
        (result.out / "leaderboard.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot write {result.out / 'leaderboard.md'}: {error}.") from error
    if pictures and ranked:
        write_page(
            result.out / "report.html",
            PageData(
                ranked,
                result.directions,
                page_costs(result.costs),
                protocol,
                device,
                LATENCY_SIZE,
                notes,
                pictures,
            ),
        )


def ready_entries() -> list[str]:
    """Return the zoo entries that can be benchmarked at once; entries with errors are left to ``srzoo list``."""
    names = []
    for name in get_zoo().names():
        try:
            if is_ready(name):
                names.append(name)
        except SrzooError:
            continue
    return names


def measure_cost(
    model: Model, device: torch.device, name: str, precision: str = "fp32", size: int = LATENCY_SIZE
) -> CostRow:
    """Return what one forward pass of a model takes, batch 1.

    Args:
        name: of the device, in words.
        precision: that the model was prepared for.
        size: side of the square low-resolution input.
    """
    image = torch.rand(1, 3, size, size, device=device)

    def call() -> torch.Tensor:
        return run_generator(model.generator, image, model.entry.scale, model.size_multiple)

    latency = measure_latency(call, device)
    cost = cost_of(model.entry)
    return CostRow(
        model.name,
        size,
        latency.median,
        latency.quartile_low,
        latency.quartile_high,
        measure_peak_memory(call, device),
        cost.parameters,
        cost.multiply_adds,
        precision,
        name,
    )


def device_name(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def listed(names: str | Sequence[str]) -> list[str]:
    """Split comma-separated names and drop repeats, keeping the order."""
    parts = [names] if isinstance(names, (str, Path)) else names
    return list(dict.fromkeys(p.strip() for part in parts for p in str(part).split(",") if p.strip()))


def _refuse_duplicates(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two {what} are called {name!r}, so their rows could not be told apart; rename one.")


def _refuse_mixed_scales(models: Sequence[Model]) -> None:
    scales = {model.entry.scale: model.name for model in models}
    if len(scales) > 1:
        named = " and ".join(f"x{scale} ({name})" for scale, name in sorted(scales.items()))
        raise DataError(f"Scores of different scales are not comparable: {named}; benchmark one scale at a time.")
