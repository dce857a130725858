"""An ablation from recipe to table: train what is not trained, benchmark what is not known, write it down.

Nothing is kept in memory that a killed process would take with it: runs resume from their states, a run that ended is
known by its weight file, scores lie in the benchmark's store. Several processes on one folder share the runs out among
themselves by a lock on each, which the system lets go of when a process ends in whatever way.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import torch

from ..benchmark import BenchResult, bench, load_image_sets
from ..composition import full_composition
from ..data import ImageSet, load_image_set
from ..errors import (
    InputError,
    InterruptedRunError,
    RecipeWarning,
    SrzooError,
    TrainingError,
    UnknownNameError,
    did_you_mean,
)
from ..files import acquired, replacing
from ..inference import best_device, device_name
from ..preflight import preflight
from ..recipe import Training
from ..registry import without_own_owner
from ..scoring import available_metrics
from ..states import newest_weights
from ..teaching import teacher_of
from ..training import train
from ..weights import ABSENT, differences, file_sha256, read_checkpoint, shown
from .estimate import StepCosts, step_seconds, terms_of
from .figure import write_figure
from .forest import write_forest
from .outcome import Outcome
from .page import write_ablation_page
from .plan import Plan, Run, lineage, make_plan
from .recipe import Exhibit, read_recipe
from .results import Findings, duration
from .table import write_tables

LAUNCHED = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE"),
    *("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
)
"""What launchers tell processes by that they belong together."""
PATIENCE = 1.0
"""Seconds between looks at runs that other processes are at work on."""

Progress = Callable[[str, str, int, int, Mapping[str, float]], None]


@dataclass
class AblationResult:
    """What an ablation found.

    Attributes:
        trained: names of the runs that this process trained or went on with.
        computed: how many scores were computed now.
        findings: None in a process of several that leaves the benchmark to the first.
    """

    plan: Plan
    out: Path
    trained: list[str] = field(default_factory=list)
    computed: int = 0
    findings: Findings | None = None


def ablate(
    recipe: str | Path,
    budget: str,
    out: str | Path | None = None,
    *,
    seeds: int | None = None,
    runs: str | Path | None = None,
    figure: Sequence[str] | None = None,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> AblationResult:
    """Make the table of an ablation: train its columns, benchmark them, compare them.

    Run it again to go on where it was stopped. Several processes may work on one folder at once, started by hand or by
    ``accelerate launch``, ``torchrun`` or ``srun``: each takes runs that no other is at work on.

    Args:
        recipe: name of a plugin's ablation, or the file of another.
        budget: name of one of its budgets.
        out: folder of the ablation; ``ablations/RECIPE-BUDGET`` by default.
        seeds: runs of every column; the budget's number by default.
        runs: folder of the training runs, which several ablations may share; ``runs`` in ``out`` by default.
        figure: datasets of the recipe's figure to draw, such as those whose images may be published; all by default.
        progress: called as ``progress(kind, name, done, total, values)``, kind being ``runs``, ``train`` or ``bench``.
        announce: called with a sentence on what is about to be done, the estimate of the time among them.

    Raises:
        InputError: recipe, budget, an entry, a dataset or the folder does not fit; nothing has been trained.
        InterruptedRunError: SIGTERM or Ctrl-C; the state is saved.
    """
    rank, processes, devices = _leave_launcher()
    plan = make_plan(read_recipe(recipe), budget, seeds)
    folder, trained = plan.folders(out, runs)
    work = _Work(plan, folder, trained, progress or (lambda *_: None), announce or (lambda _: None))
    work.check(figure)
    work.claim()
    work.tell_estimate(processes, devices)
    work.train_all()
    if not work.outcome.finished():
        raise TrainingError("Every run failed: " + " ".join(dict.fromkeys(work.failed.values())))
    result = AblationResult(plan, folder, work.trained)
    if rank > 0:
        return result
    with _lock(folder / ".lock", timeout=-1):  # else two would write the same tables at once
        finished: list[str] = []
        while finished != (finished := work.outcome.finished()):  # another process may come to a run's end meanwhile
            found = work.benchmark(finished)
            result.computed += found.computed
        result.findings = work.outcome.find(found, work.failures())
        images = work.outcome.pictures(result.findings.shown, work.exhibits)
        write_tables(result.findings, folder)
        write_forest(result.findings.changes, result.findings.directions, folder / "changes.png")
        drawn = write_figure(result.findings, images, folder / "figure.png")
        write_ablation_page(result.findings, drawn, folder / "ablation.html")
    return result


def _leave_launcher() -> tuple[int, int, float]:
    """Return rank and number of the processes a launcher started, and the devices they have between them.

    This process is independent of the others then: columns are what is shared out, so every process trains alone, on
    the GPU that the launcher meant for it. Without a GPU each has its own cores.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", world)), torch.cuda.device_count()
    devices = world * min(1.0, gpus / here) if gpus else float(world)
    if world > 1:
        for name in LAUNCHED:
            os.environ.pop(name, None)
        if torch.cuda.device_count():
            torch.cuda.set_device(local % torch.cuda.device_count())
    return rank, world, devices


class _Work:
    """One process at work on an ablation's folder."""

    def __init__(self, plan: Plan, out: Path, runs: Path, progress: Progress, announce: Callable[[str], None]) -> None:
        self.plan, self.out, self.runs, self.progress, self.announce = plan, out, runs, progress, announce
        self.outcome = Outcome(plan, out, runs)
        self.trained: list[str] = []
        self.failed: dict[str, str] = {}
        self.exhibits: list[tuple[str, str]] = []

    # --- before anything is trained -----------------------------------------------------------------------------

    def check(self, figure: Sequence[str] | None = None) -> None:
        """Look at everything that could be wrong before the first step."""
        pending = self.pending()
        self._check_starts(self.plan.runs())
        for run in self.plan.runs():
            if self.outcome.is_finished(run):
                self._check_trained(run)
        for name in dict.fromkeys(name for run in pending for name in _training(run).data):
            load_image_set(name)
        found, unavailable = available_metrics(self.plan.metrics, torch.device("cpu"))
        if not found:
            raise InputError("None of the metrics can be computed here: " + " ".join(unavailable.values()))
        for run in pending:
            preflight(run.entry)
            teacher_of(run.entry, torch.device("cpu"), nullcontext)
        sets = {own.name: own for own in load_image_sets(self.plan.data)}
        shown = {exhibit.dataset for exhibit in self.plan.ablation.figure}
        for name in figure or ():
            if name not in shown:
                guess, known = did_you_mean(name, shown), ", ".join(sorted(shown))
                raise UnknownNameError(f"The figure shows nothing of {name!r}.{guess} It has {known}.")
        wanted = sets.keys() if figure is None else sets.keys() & set(figure)
        self.exhibits = [
            (exhibit.dataset, self._image_of(exhibit, sets[exhibit.dataset]))
            for exhibit in self.plan.ablation.figure
            if exhibit.dataset in wanted
        ]

    def _image_of(self, exhibit: Exhibit, images: ImageSet) -> str:
        """Return the name that an image of the figure has in this copy of its dataset."""
        known = [item.name for item in images]
        found = [name for name in exhibit.image if name in known]
        if not found:
            others = dict.fromkeys(e.dataset for e in self.plan.ablation.figure if e.dataset != exhibit.dataset)
            without = "".join(f" --figure {name}" for name in others)
            raise UnknownNameError(
                f"{self.plan.source.path}: figure: {exhibit.dataset} has no image "
                f"{' or '.join(map(repr, exhibit.image))}.{did_you_mean(exhibit.image[0], known)} It has "
                f"{', '.join(known[:5])}{' and others' if len(known) > 5 else ''}."
                + (f" Without images of {exhibit.dataset}:{without}" if without else "")
            )
        return found[0]

    def _check_trained(self, run: Run) -> None:
        """See that finished weights are of the settings they would have now: a default may have changed since.

        Raises:
            InputError: they are not; names what differs.
        """
        _, description = read_checkpoint(self.outcome.weights(run))
        here = {"training": _training(run).model_dump(mode="json"), "composition": full_composition(run.entry)}
        there = {key: description.get(key, {}) for key in here}
        changed = [
            f"{key} (there {shown(left)}, now {shown(right)})"
            for key, left, right in differences(without_own_owner(there), without_own_owner(here))
            if left is not ABSENT and key not in ("training.start_from", "training.teacher")  # in the run's name
        ]
        if changed:
            raise InputError(
                f"{self.runs / run.name} was trained with other settings: {', '.join(changed[:4])}. Delete that "
                "folder to train it anew, or give another --out."
            )

    def _check_starts(self, runs: Sequence[Run]) -> None:
        """See that runs, finished or begun, started from what their first stage has now: it may be trained anew.

        Raises:
            InputError: some did not; names all of them.
        """
        stale: dict[str, list[str]] = {}
        for run in runs:
            if run.parent is not None and self._is_stale(run, self.outcome.weights(run.parent)):
                stale.setdefault(run.parent.name, []).append(run.name)
        if stale:
            names = [name for members in stale.values() for name in members]
            told = "; ".join(
                f"{', '.join(members)} started from weights of {parent} that are no longer there"
                for parent, members in stale.items()
            )
            raise InputError(
                f"In {self.runs}, {told}. Put them back, or delete {', '.join(names)} too, to train "
                f"{'them' if len(names) > 1 else 'it'} anew."
            )

    def _is_stale(self, run: Run, start: Path) -> bool:
        if self.outcome.is_finished(run):
            _, description = read_checkpoint(self.outcome.weights(run))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RecipeWarning)  # that the run is not finished
                try:
                    newest = newest_weights(self.runs / run.name)
                except SrzooError:  # a damaged folder is told where the run is gone on with
                    return False
            if newest is None:
                return False
            _, description = read_checkpoint(*newest)
        started_from = description.get("started_from")
        return not start.is_file() or (isinstance(started_from, str) and file_sha256(start) != started_from)

    def claim(self) -> None:
        """Make the folder, or see that it is this ablation's.

        Raises:
            InputError: it holds another ablation, or cannot be written.
        """
        path = self.out / "ablation.json"
        own = {"recipe": self.plan.source.name, "budget": self.plan.budget_name}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.runs / ".locks").mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps(own) + "\n")
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot use the folder {self.out}: {error}. Give another --out.") from None
        if found != own:
            named = " at budget ".join(str(found.get(key)) for key in own) if isinstance(found, dict) else found
            raise InputError(f"{self.out} holds the ablation {named}; give another --out.")

    def tell_estimate(self, processes: int, devices: float) -> None:
        """Say what is left to train, and how long it will take; a missing backbone is noticed here.

        On a GPU steps are measured launch by launch and trained in recordings, so that is the most it will take.
        """
        pending = self.pending()
        total = self.plan.runs()
        if not pending:
            self.announce(f"{len(total)} runs, all trained.")
            return
        costs = StepCosts(self.out / "steps.json")
        seconds = {run.name: step_seconds(run, terms_of(run), costs.alone(run.entry)) for run in pending}
        left = {run.name: (run.steps - run.steps_done_in(self.runs)) * seconds[run.name] for run in pending}
        longest = max(sum(left.get(part.name, 0.0) for part in lineage(run)) for run in pending)  # one after another
        wanted = duration(max(sum(left.values()) / devices, longest))
        steps = sum(run.steps - run.steps_done_in(self.runs) for run in pending)
        about = "about" if best_device().type == "cpu" else "at most about"
        shared = f" shared by {processes} processes" if processes > 1 else ""
        self.announce(
            f"{len(pending)} of {len(total)} runs to train, {steps:,} steps: {about} {wanted} of steps on "
            f"{device_name(best_device())}{shared}, some seconds more for every run to start, and then the benchmark."
        )

    # --- training ---------------------------------------------------------------------------------------------------

    def pending(self) -> list[Run]:
        """Return the runs that are not finished and have not failed here, nor any that they build on."""
        failed = self.failures()
        return [run for run in self.plan.runs() if run.name not in failed and not self.outcome.is_finished(run)]

    def failures(self) -> dict[str, str]:
        """Return the runs that failed here, and those that build on them, to the reason.

        What another process has finished since did not fail: the fault may have been one that passes.
        """
        found = {}
        for run in self.plan.runs():
            broken = next((r for r in lineage(run) if r.name in self.failed and not self.outcome.is_finished(r)), None)
            if broken is not None and not self.outcome.is_finished(run):
                why = self.failed[broken.name]
                found[run.name] = why if broken is run else f"it starts from a stage that failed: {why}"
        return found

    def train_all(self) -> None:
        """Train until no run is left, sharing them with other processes in this folder."""
        total = len(self.plan.runs())
        while pending := self.pending():
            self.progress("runs", "", total - len(pending), total, {})
            ready = [run for run in pending if run.parent is None or self.outcome.is_finished(run.parent)]
            if not any(self._train_if_free(run) for run in ready):
                time.sleep(PATIENCE)  # others are at work on all of them
            if not self.pending():
                self._await_others()
        self.progress("runs", "", total, total, {})

    def _await_others(self) -> None:
        """Wait for other processes that are at a run which failed here, since they may finish it."""
        left = [run for run in self.plan.runs() if run.name in self.failed and not self.outcome.is_finished(run)]
        if left:
            time.sleep(2 * PATIENCE)  # one that waits for something to do looks for it every so often
        for run in left:
            with _lock(self.runs / ".locks" / run.name, timeout=0) as held:
                free = held
            if not free:
                self.announce(f"{run.name} failed here, and another process is at it: waiting for that.")
                with _lock(self.runs / ".locks" / run.name, timeout=-1):
                    pass

    def _train_if_free(self, run: Run) -> bool:
        """Train a run, unless another process is at it; return whether it was this one."""
        with _lock(self.runs / ".locks" / run.name, timeout=0) as held:
            if not held:
                return False
            if self.outcome.is_finished(run):
                return True
            self._check_starts([run])
            self.trained.append(run.name)
            try:
                train(
                    run.starting_in(self.runs),
                    self.runs / run.name,
                    checkpoint_every=self.plan.budget.checkpoint_every,
                    log_every=max(1, min(50, run.steps // 10)),
                    progress=lambda stage, step, steps, values: (
                        self.progress("train", run.name, step, steps, values) if stage != "decoding" else None
                    ),
                )
            except InterruptedRunError:
                raise
            except TrainingError as error:
                self.failed[run.name] = str(error)
            return True

    # --- afterwards -----------------------------------------------------------------------------------------------

    def benchmark(self, names: Sequence[str]) -> BenchResult:
        """Score finished runs, as far as that is not known."""
        budget = self.plan.budget
        return bench(
            [self.runs / name for name in names],
            self.plan.data,
            self.plan.metrics,
            protocol=budget.protocol,
            out=self.out / "bench",
            pictures=self.exhibits,
            progress=lambda name, dataset, done, total: self.progress("bench", dataset, done, total, {}),
        )


@contextmanager
def _lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold a lock, or yield False if another process does for so long; -1 waits for it."""
    lock = filelock.FileLock(path)
    try:
        acquired(lock, timeout)  # on a disk that knows none, the run's own folder warns
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _training(run: Run) -> Training:
    assert run.entry.training is not None
    return run.entry.training
