"""The benchmark at work: models, images and metrics brought together on a device, and what is known looked up."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from . import __version__
from .composition import built_digest, composition_digest, plugin_versions
from .data import ImageItem, ImageSet
from .errors import DataError, SrzooError, UpscaleWarning
from .images import UInt8Array, to_tensor
from .inference import device_name, prepare
from .measuring import measure_costs
from .outputs import Outputs
from .picture_paths import Pictures
from .pretrained import Model
from .protocol import Protocol
from .ready import generator_spec
from .registry import get_registry
from .remarks import Overlap, Remark, overlap_remark
from .report import Row
from .scoring import Metric, Reference, image_to_device, upscaled
from .store import FILE, CostRow, Environment, Question, Store, Subject
from .tiling import AUTOMATIC_TILE, is_out_of_memory
from .upscaling import enlarge_in_tiles

LATENCY_SIZE = 128
"""Side of the square low-resolution input that latency is stated for."""
WHOLE_PIXELS = 2**20
"""Low-resolution images of up to so many pixels are upscaled at once, unless tiles are asked for or memory runs out."""
BATCH_ON_GPU = 8
"""Outputs of one image that are scored at once. On a CPU, one at a time stays in its caches and is faster."""

Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run; see :func:`srzoo.benchmark.bench`."""

    protocol: Protocol = "y"
    precisions: Sequence[str] = ("fp32",)
    sizes: Sequence[int] = (LATENCY_SIZE,)
    tile: int | None = None
    batch: int | None = None
    resume: bool = True


@dataclass
class Findings:
    """What a run of the harness finds.

    Attributes:
        rows: one for each image and metric.
        costs: entry to what it takes at each input size, in the order asked for.
        computed: how many of the rows were computed now.
        failed: entry to the reason why it could not be benchmarked.
        unavailable: metric to the reason why it could not be computed.
        unmeasured: entry and input size, beyond the first, to the reason why its time was not measured.
        remarks: what is to be known of outputs: of models that were trained on the images, of tiles that may show.
    """

    rows: list[Row] = field(default_factory=list)
    costs: dict[str, list[CostRow]] = field(default_factory=dict)
    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)


class Harness:
    """One call of :func:`srzoo.benchmark.bench`: its models on the device, and the store that they are looked up in.

    Args:
        models: of one scale.
        settings: how images are enlarged and scored, and costs measured.
        metrics: that can be computed here.
        findings: what is found; filled by :meth:`alone` or :meth:`together`.
        outputs: where some outputs are kept to be looked at.
        overlaps: model to dataset to what it was trained on.
        progress: called as ``progress(entry, dataset, images done, images)``.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        metrics: Sequence[Metric],
        device: torch.device,
        findings: Findings,
        out: Path | None,
        outputs: Outputs | None,
        progress: Progress | None,
        overlaps: Mapping[str, Mapping[str, Overlap]] = MappingProxyType({}),
    ) -> None:
        self.settings, self.metrics, self.device, self.findings = settings, metrics, device, findings
        self.out, self.outputs, self.progress, self.overlaps = out, outputs, progress, overlaps
        self.batch = settings.batch or (BATCH_ON_GPU if device.type == "cuda" else 1)
        self.identities = {metric.name: _identity(metric) for metric in metrics}
        self.environment = Environment(
            __version__, plugin_versions(), torch.__version__, device_name(device), torch.get_num_threads()
        )
        self.subjects: dict[str, Subject] = {}
        self.models: dict[str, Model] = {}
        for model in models:
            configuration = composition_digest(model.entry)
            if generator_spec(model.entry).reads:  # what was built from a file alone is composed by that file
                configuration += f"-file{model.digest}"
            if settings.tile:  # a generator that sees farther than tiles overlap gives something else
                configuration += f"-tile{settings.tile}"
            for precision in settings.precisions:
                subject = Subject(
                    model.name,
                    model.entry.scale,
                    configuration,
                    model.digest,
                    precision,
                    recipe=model.recipe,
                    seed=model.seed,
                )
                own = copy.deepcopy(model.generator) if len(settings.precisions) > 1 else model.generator
                self.subjects[subject.label] = subject
                self.models[subject.label] = replace(model, generator=prepare(own, device, precision))
        self.directions = {metric.name: metric.spec.higher_is_better for metric in metrics}
        self._asked: list[dict[str, Question]] = []
        self._warned: set[tuple[object, ...]] = set()
        self._computed: Counter[str] = Counter()

    def alone(self, image_sets: Sequence[ImageSet]) -> None:
        """Compute what is not known yet, and collect all rows."""
        with self._store() as store:
            if self.out is not None:
                self._take_in(store)  # what processes left that were killed
            questions = self._questions(image_sets)
            self._present_images(store, questions)
            self._cost(store)
            self._note_overlaps(store, image_sets)
            for image_set, asked in zip(image_sets, questions, strict=True):
                self._score_set(image_set, asked, store, store)
            self._collect(questions, store)

    def together(self, image_sets: Sequence[ImageSet], processes: PartialState) -> None:
        """Do the same, each process for its share of the images and into a file of its own."""
        questions = self._questions(image_sets)
        if processes.is_main_process:
            with self._store() as store:
                self._take_in(store)  # what processes left that were killed
                self._present_images(store, questions)
                self._cost(store)
                self._note_overlaps(store, image_sets)
        processes.wait_for_everyone()
        rank, world = processes.process_index, processes.num_processes
        with (
            Store(self.out, self.environment, read_only=True) as known,
            self._store(f"results.{rank}.sqlite") as own,
        ):
            for image_set, asked in zip(image_sets, questions, strict=True):
                share = ImageSet(image_set.name, image_set.items[rank::world])
                self._score_set(share, asked, known, own)
        self._computed = sum(gather_object([self._computed]), Counter())
        for found in (self.findings.failed, self.findings.unavailable):
            for part in gather_object([found]):
                found.update(part)
        if processes.is_main_process:
            with self._store() as store:
                self._take_in(store)
                self._collect(questions, store)
        processes.wait_for_everyone()

    def _store(self, name: str = FILE) -> Store:
        return Store(self.out, self.environment, name)

    def _note_overlaps(self, store: Store, image_sets: Sequence[ImageSet]) -> None:
        """Note who was trained on what; what was noted before stays where that cannot be told any more."""
        for subject in self.subjects.values():
            for image_set in image_sets:
                found = self.overlaps.get(subject.entry, {}).get(image_set.name, Overlap(()))
                known = store.remark(subject, image_set.name, "")
                if found.certain or not known:
                    text = overlap_remark(subject.label, image_set.name, found.images).text if found.images else ""
                    if text != known:
                        store.set_remark(subject, image_set.name, "", text)

    def _cost(self, store: Store) -> None:
        """Take from the store, or measure, what each model costs here.

        Times are compared, so where one is not known, those of all are measured, in turn.
        """
        for subject in self.subjects.values():
            store.present(subject)
        for size in self.settings.sizes:
            names = [name for name in self.models if name not in self.findings.failed]
            known = {name: store.cost(self.subjects[name], size) for name in names if self.settings.resume}
            costs = {name: cost for name, cost in known.items() if cost is not None}
            if len(costs) < len(names):
                asked = {name: (self.subjects[name], self.models[name]) for name in names}
                costs, failed = measure_costs(asked, size, self.device)
                if size == self.settings.sizes[0]:
                    self.findings.failed |= failed
                else:  # such as one that memory does not suffice for, which scores do not depend on
                    self.findings.unmeasured |= {f"{name} at {size}x{size}": why for name, why in failed.items()}
                for name, cost in costs.items():
                    store.add_cost(self.subjects[name], cost)
            for name, cost in costs.items():
                self.findings.costs.setdefault(name, []).append(cost)
        for name, found in self.findings.costs.items():  # the first size is the leaderboard's, also when read again
            store.add_cost(self.subjects[name], found[0])

    def _questions(self, image_sets: Sequence[ImageSet]) -> list[dict[str, Question]]:
        scale = next(iter(self.models.values())).entry.scale
        self._asked = [_questions(image_set, scale, self.settings.protocol) for image_set in image_sets]
        return self._asked

    def _present_images(self, store: Store, questions: Sequence[Mapping[str, Question]]) -> None:
        scale = next(iter(self.models.values())).entry.scale
        store.present_images(scale, (question for asked in questions for question in asked.values()))

    def _take_in(self, store: Store) -> None:
        assert self.out is not None
        for other in sorted(self.out.glob("results.*.sqlite")):
            store.take_in(other)

    def _score_set(self, image_set: ImageSet, asked: Mapping[str, Question], known: Store, own: Store) -> None:
        for done, item in enumerate(image_set, start=1):
            pair = _Pair(self, item, asked[item.name])
            waiting: list[_Output] = []
            for name in self.models:
                if name in self.findings.failed:
                    continue
                with self._failing(name):
                    waiting += self._outputs_of(name, pair, known, own)
                if len(waiting) >= self.batch:
                    self._score(waiting, pair, own)
                    waiting = []
                if self.progress is not None:
                    self.progress(name, image_set.name, done, len(image_set))
            self._score(waiting, pair, own)

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Note what is wrong with a model, and go on without it; what is wrong with an image stops the benchmark."""
        try:
            yield
        except DataError:
            raise
        except SrzooError as error:
            self.findings.failed[name] = str(error)

    def _outputs_of(self, name: str, pair: _Pair, known: Store, own: Store) -> list[_Output]:
        """Upscale an image with a model, if one of its values or its picture is missing."""
        subject, question = self.subjects[name], pair.question
        have = known.find(subject, question, self.identities) if self.settings.resume else {}
        missing = [metric.name for metric in self.metrics if metric.name not in have]
        noted = known.remark(subject, question.dataset, question.image)
        if noted and (missing or self.settings.tile == 0):  # values of one image are of one output, which is not whole
            missing = [metric.name for metric in self.metrics]
        lacks_picture = self.outputs is not None and self.outputs.is_missing(subject, question)
        if not missing and not lacks_picture:
            return []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UpscaleWarning)
            sr = self._enlarged(self.models[name], pair)
        for found in caught:
            kind = (name, question.dataset, found.category, found.filename, found.lineno)
            if kind not in self._warned:  # the others, one an image, stand in the remarks
                self._warned.add(kind)
                warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)
        told = [str(found.message) for found in caught if issubclass(found.category, UpscaleWarning)]
        if (told or noted) and missing:
            own.set_remark(subject, question.dataset, question.image, " ".join(told))
        if self.outputs is not None:
            self.outputs.keep(None, question, pair.reference.hr)
            self.outputs.keep(subject, question, sr, anew=bool(noted and missing))
        return [_Output(name, sr, missing)] if missing else []

    def _enlarged(self, model: Model, pair: _Pair) -> torch.Tensor:
        """Upscale an image to uint8, whole where it may be and memory suffices, else in tiles."""
        tile, size = self.settings.tile, pair.lr.shape[-1] * pair.lr.shape[-2]
        if tile == 0 or (tile is None and size <= WHOLE_PIXELS):
            try:
                return upscaled(model.generator, pair.lr, model.entry.scale, model.size_multiple, pair.question.image)
            except SrzooError as error:
                if tile == 0 or not is_out_of_memory(error.__cause__):
                    raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        pixels = enlarge_in_tiles(model, pair.lr_pixels, tile or AUTOMATIC_TILE, self.device)
        return image_to_device(pixels, self.device)

    def _score(self, outputs: Sequence[_Output], pair: _Pair, own: Store) -> None:
        """Score outputs of one image together, as far as they lack the same values, and keep what is found."""
        for wanted in dict.fromkeys(tuple(self._left(output.missing)) for output in outputs):
            alike = [output for output in outputs if tuple(self._left(output.missing)) == wanted]
            reason = None
            try:
                found = pair.reference.score_all([output.sr for output in alike], wanted)
            except DataError:
                raise
            except SrzooError as error:
                reason = str(error)
            if reason is not None:  # out of the except clause, whose traceback holds what filled the memory
                if self._blames_a_metric(pair, wanted):
                    self._score(alike, pair, own)
                elif len(alike) == 1:
                    self.findings.failed[alike[0].name] = reason
                else:
                    for output in alike:  # so that the one that it fails for is told, or memory suffices
                        self._score([output], pair, own)
                continue
            for output, values in zip(alike, found, strict=True):
                own.add(self.subjects[output.name], pair.question, values, self.identities, self.directions)
                self._computed.update(values.keys())

    def _left(self, metrics: Sequence[str]) -> list[str]:
        return [name for name in metrics if name not in self.findings.unavailable]

    def _blames_a_metric(self, pair: _Pair, metrics: Sequence[str]) -> bool:
        """Leave out the metrics that fail for the plainest of outputs too; returns whether there are any."""
        lr = torch.from_numpy(pair.lr_pixels).permute(2, 0, 1).unsqueeze(0)
        scale = next(iter(self.models.values())).entry.scale
        plain = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3).to(self.device)
        before = len(self.findings.unavailable)
        for name in metrics:
            try:
                pair.reference.score(plain, [name])
            except SrzooError as error:
                self.findings.unavailable[name] = str(error)
        return len(self.findings.unavailable) > before

    def pictures(self) -> Pictures:
        """Return the outputs that are kept, of models that did not fail."""
        if self.outputs is None:
            return {}
        models = [subject for name, subject in self.subjects.items() if name not in self.findings.failed]
        return self.outputs.there(models, [q for asked in self._asked for q in asked.values()])

    def _collect(self, questions: Sequence[Mapping[str, Question]], store: Store) -> None:
        pairs = [(subject, q) for subject in self.subjects.values() for asked in questions for q in asked.values()]
        store.renew(pairs, self.identities)
        datasets = [next(iter(asked.values())).dataset for asked in questions if asked]
        there = {(question.dataset, question.image) for asked in questions for question in asked.values()}
        for subject in self.subjects.values():
            found = store.remarks(subject, datasets)
            self.findings.remarks += [r for r in found if not r.image or (r.dataset, r.image) in there]
        missing = 0
        for asked in questions:
            for name in self.models:
                for question in asked.values():
                    known = store.find(self.subjects[name], question, self.identities)
                    if name not in self.findings.failed:
                        missing += sum(metric not in known for metric in self._left(list(self.identities)))
                    for metric, value in known.items():
                        if metric in self.findings.unavailable:  # what is not whole is not compared
                            continue
                        row = Row(name, question.dataset, question.image, metric, self.settings.protocol, value)
                        self.findings.rows.append(row)
        if missing:  # another benchmark in the folder takes in, and deletes, what a process is still writing
            raise DataError(
                f"{missing} values were computed and are not in {store.path}, as where two benchmarks run in one "
                "folder at a time; run the same command again, which computes just these."
            )
        self.findings.computed = sum(
            count for metric, count in self._computed.items() if metric not in self.findings.unavailable
        )


@dataclass(frozen=True)
class _Output:
    """What a model made of an image, (1, 3, H, W) uint8, and the metrics that it is still to be scored by."""

    name: str
    sr: torch.Tensor
    missing: list[str]


class _Pair:
    """An image and its reference, read when the first model asks."""

    def __init__(self, run: Harness, item: ImageItem, question: Question) -> None:
        self.question = question
        self._run, self._item = run, item

    @cached_property
    def _read(self) -> tuple[UInt8Array, Reference]:
        run = self._run
        scale = next(iter(run.models.values())).entry.scale
        lr, hr, grey = self._item.read_pair(scale)
        reference = Reference(image_to_device(hr, run.device), run.metrics, run.settings.protocol, scale, grey)
        return lr, reference

    @property
    def lr_pixels(self) -> UInt8Array:
        """The low-resolution image, (H, W, 3) uint8."""
        return self._read[0]

    @cached_property
    def lr(self) -> torch.Tensor:
        """The low-resolution image, (1, 3, H, W) in [0, 1], on the device."""
        return to_tensor(self.lr_pixels).to(self._run.device)

    @property
    def reference(self) -> Reference:
        """The reference, with what metrics computed of it for an earlier model."""
        return self._read[1]


def _identity(metric: Metric) -> str:
    """Return a metric's full name with the digest of its code, which people edit without a new version."""
    component = get_registry().get("metric", metric.full_name)
    return f"{component.full_name} {built_digest(component, metric.function)}"


def _questions(image_set: ImageSet, scale: int, protocol: Protocol) -> dict[str, Question]:
    """Return what is asked of every model for each image of a set."""
    digests = {item.name: item.digest(scale) for item in image_set}
    whole = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests.items()).encode()).hexdigest()
    return {name: Question(image_set.name, whole, name, digest, protocol) for name, digest in digests.items()}
