"""A pack: runs that are trained in one process, evaluated and probed. What is finished of them is kept.

Nothing here imports torch before there is something to do.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gt import stage
from gt.artefacts import Plan, read_run
from gt.errors import entry
from gt.wanted import wanted

if TYPE_CHECKING:
    from gt.training.loop import Settings


class Pack:
    """Runs of some plans on one folder of tokens, and what has become of them.

    became: by run, `kept`, `completed`, `diverged` or `failed`. seconds: how long all of them took, by stage.
    """

    def __init__(self, plans: list[Plan], runs: list[str], data: Path, records: Path, staged: Path) -> None:
        """Sets aside in `staged` what is finished of them in `records`. ConfigError for a run that no plan has."""
        known = {run: run for plan in plans for run in plan.runs}
        for run in runs:
            entry(run, known, f"the plan of {' or '.join(plan.study for plan in plans)} has no {run!r} among its runs.")
        self.data = data
        every = wanted(plans)
        self.wanted = {run: every[run] for run in runs}
        self.specs = {run: own.looks[0] for run, own in self.wanted.items()}
        self.chosen = {run: tuple(own for plan in plans if (own := plan.choice(run))) for run in runs}
        self.staged = {run: staged / run for run in runs}
        self.became: dict[str, str] = {}
        self.seconds = dict.fromkeys(("train", "evaluate", "probe"), 0.0)
        self.unmeasured: list[str] = []
        for run, spec in self.specs.items():
            if not stage.outdated(records / run, self.wanted[run], data):
                self.became[run] = "kept"
            elif stage.set_aside(records / run, self.staged[run], spec, data):
                self.became[run] = "kept"
                if stage.outdated(self.staged[run], self.wanted[run], data):
                    self.unmeasured.append(run)

    @property
    def todo(self) -> bool:
        """Whether there is something to train, evaluate or probe."""
        return bool(self.unmeasured) or len(self.became) < len(self.specs)

    def evaluations(self, run: str) -> list[str]:
        """The names of all evaluations that are asked for of a run that is trained."""
        return self.wanted[run].evaluations(read_run(self.staged[run])[0])

    def work(self, settings: Settings, checkpoints: Path, jobs: int, threads: int) -> None:
        """Train what is not trained and measure what is not measured, in so many processes. What fails says why and stops no
        other.
        """
        from gt.measuring import measuring
        from gt.training.loop import Job
        from gt.training.packs import train_pack

        with measuring(min(jobs, len(self.specs)), settings.device, threads, settings.devices) as hand:

            def measured(run: str) -> Callable[[], dict[str, float]]:
                return hand(self.staged[run], self.data, settings.device, self.evaluations(run), self.wanted[run].probed)

            results = {run: measured(run) for run in sorted(self.unmeasured)}
            start = time.perf_counter()
            members = [Job(spec, self.data, self.staged[run], self.chosen[run]) for run, spec in self.specs.items()]
            for job, status in train_pack(members, set(self.became), checkpoints, settings):
                run = job.spec.run_id
                self.became[run] = status
                print(f"{run}: {status}", flush=True)
                if status != "failed":
                    results[run] = measured(run)
            self.seconds["train"] = time.perf_counter() - start
            for result in results.values():
                try:
                    for part, took in result().items():
                        self.seconds[part] += took
                except Exception:
                    traceback.print_exc()
        print(", ".join(f"{part} {took:.1f} s" for part, took in self.seconds.items()))
