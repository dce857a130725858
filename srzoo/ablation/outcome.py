"""What an ablation's folder holds: which runs are finished, and what their scores say."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..benchmark import BenchResult
from ..errors import labelled
from ..inference import best_device, device_name
from ..merged import merge
from ..picture_paths import REFERENCE
from ..registry import get_registry
from ..specs import MetricSpec
from ..statistics import select
from ..weights import read_checkpoint
from .estimate import StepCosts
from .plan import Plan, Run, lineage
from .results import Findings, Value, averaged, earlier_stages, find_changes, score, what_changed


@dataclass(frozen=True)
class Outcome:
    """What became of a plan.

    Attributes:
        out: folder of the ablation, with the benchmark's in it.
        runs: folder of the training runs.
    """

    plan: Plan
    out: Path
    runs: Path

    def is_finished(self, run: Run) -> bool:
        """Whether a run has come to its end."""
        return self.weights(run).is_file()

    def weights(self, run: Run) -> Path:
        """Return a run's weight file."""
        return run.weights_in(self.runs)

    def members(self) -> dict[str, list[str]]:
        """Return each column's label, and each earlier stage's, to its runs, one for each seed, if any is finished."""
        return {
            label: [run.name for run in runs]
            for label, runs in self._groups().items()
            if any(map(self.is_finished, runs))
        }

    def _groups(self) -> dict[str, tuple[Run, ...]]:
        return {planned.label: planned.runs for planned in self.plan.trained} | earlier_stages(self.plan)

    def finished(self) -> list[str]:
        """Return the names of all runs that are finished, each once."""
        return list(dict.fromkeys(r.name for runs in self._groups().values() for r in runs if self.is_finished(r)))

    def shown(self, found: BenchResult) -> dict[str, Run]:
        """Return each label's first run that has scores: its outputs, costs and time are what is shown."""
        candidates = {
            label: [run for run in runs if self.is_finished(run) and run.name not in found.failed]
            for label, runs in self._groups().items()
        }
        return {label: runs[0] for label, runs in candidates.items() if runs}

    def pictures(
        self, runs: Mapping[str, Run], exhibits: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], dict[str, Path]]:
        """Return each exhibit, a ``(dataset, image)``, to label to the file of what its run made of it."""
        merged = merge([self.out / "bench"], self.plan.budget.protocol)
        shown: dict[tuple[str, str], dict[str, Path]] = {}
        for place in exhibits:
            files = merged.pictures.get(place[0], {}).get(place[1], {})
            for planned in self.plan.columns:
                run = runs.get(planned.label)
                key = REFERENCE if planned.entry is None else run.name if run is not None else ""
                if key in files:
                    shown.setdefault(place, {})[planned.label] = files[key]
        return shown

    def find(self, found: BenchResult, failed: Mapping[str, str]) -> Findings:
        """Return what the scores say; ``failed`` has the runs that could not be trained, and why."""
        members = self.members()
        shown = self.shown(found)
        rows = [row for row in found.rows if row.entry not in found.failed]
        means = averaged(rows, members)
        values: dict[tuple[str, str, str], Value] = {}
        for board in found.leaderboards:
            for metric in found.directions:
                own, single = select(means, board.dataset, metric), select(rows, board.dataset, metric)
                for label, names in members.items():
                    if any(row.entry == label for row in own):
                        values[label, board.dataset, metric] = score(single, label, names, own)
        groups = earlier_stages(self.plan)
        pairs = [(p.label, other.label, what_changed(self.plan, p)) for p in self.plan.trained
                 if (other := self.plan.against(p)) is not None]  # fmt: skip
        starts = [
            (planned.label, label, f"{planned.runs[0].stage} after {runs[0].stage}")
            for label, runs in groups.items()
            for planned in self.plan.trained
            if planned.runs[0].parent in runs
        ]
        components = [get_registry().get("metric", metric) for metric in self.plan.metrics]
        tolerances = {c.name: c.spec.tolerance for c in components if isinstance(c.spec, MetricSpec)}
        costs = {label: found.costs[run.name][0] for label, run in shown.items() if run.name in found.costs}
        trained = {planned.label: shown[planned.label] for planned in self.plan.trained if planned.label in shown}
        notes = [labelled(name, reason) for name, reason in found.unavailable.items()]
        of_columns = {run.name for planned in self.plan.trained for run in planned.runs}  # told as failures
        notes += [f"{n} failed in the benchmark: {why}" for n, why in found.failed.items() if n not in of_columns]
        return Findings(
            self.plan,
            {board.dataset: board.images for board in found.leaderboards},
            found.directions,
            values,
            find_changes(self.plan, rows, members, pairs, found.directions, tolerances),
            find_changes(self.plan, rows, members, starts, found.directions, tolerances),
            costs,
            StepCosts(self.out / "steps.json").in_turn({label: run.entry for label, run in trained.items()}),
            {
                label: sum(_logged_seconds(self.runs / part.name) for part in lineage(run))
                for label, run in trained.items()
            },
            shown,
            self._devices(trained.values()),
            self._failures(found, failed),
            device_name(best_device()),
            notes,
        )

    def _devices(self, runs: Iterable[Run]) -> list[str]:
        """Return what runs and the stages they started from were trained on, as far as their weight files say."""
        parts = {part.name: part for run in runs for part in lineage(run)}
        said = (read_checkpoint(self.weights(part))[1].get("device") for part in parts.values())
        return list(dict.fromkeys(device for device in said if isinstance(device, str)))

    def _failures(self, found: BenchResult, failed: Mapping[str, str]) -> dict[tuple[str, int], str]:
        reasons = {**{name: f"in the benchmark: {why}" for name, why in found.failed.items()}, **failed}
        return {
            (planned.label, seed): reasons[run.name]
            for planned in self.plan.trained
            for seed, run in enumerate(planned.runs)
            if run.name in reasons
        }


def _logged_seconds(folder: Path) -> float:
    """Return how long a run trained, by its log."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    found = 0.0
    for line in lines:
        try:
            found = max(found, float(json.loads(line).get("seconds", 0.0)))
        except (ValueError, AttributeError, TypeError):
            continue
    return found
