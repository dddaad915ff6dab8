"""A stage before the first step: each branch is trained in a model of its own, and its mixers begin where that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gt.spec import RunSpec

if TYPE_CHECKING:
    from gt.training.cohort import Cohort


class Pretraining:
    """The branches of some runs, one after the other, each a cohort of the branch alone.

    A run that is killed meanwhile goes on in its branch: checkpoints hold the branch's state, and what the branches before it
    became is in the weights already. A branch that diverges gives the last weights that were finite.
    """

    def __init__(self, specs: list[RunSpec], begin: Callable[[list[RunSpec]], Cohort], places: dict[str, Tensor]) -> None:
        """begin: makes a cohort of a branch's runs. places: the weights of all runs by name, (run, *shape)."""
        self.of_runs, self.begin, self.places = [spec.pretraining() for spec in specs], begin, places
        self.letters = list(self.of_runs[0])  # whose turn is still to come; the first's is now
        self.branch: Cohort | None = None

    @property
    def done(self) -> bool:
        """All branches are trained, or there is none."""
        return not self.letters

    def now(self) -> Cohort:
        """The branch whose turn it is."""
        if self.branch is None:
            self.branch = self.begin([branches[self.letters[0]] for branches in self.of_runs])
        return self.branch

    def advance(self) -> None:
        """Train the branch whose turn it is to its next stop."""
        self.now().advance()

    def collect(self) -> None:
        """Wait for it; where it is done, take over what it became."""
        branch = self.now()
        branch.collect()
        if branch.done:
            self._take_over(branch)
            branch.engine.release()
            self.branch, self.letters = None, self.letters[1:]

    @torch.no_grad()
    def _take_over(self, branch: Cohort) -> None:
        for name in (name for name in self.places if f".mixers.{self.letters[0]}." in name):
            in_stack = "body." + name[name.index("blocks.") :]  # where a tower's layers are called as a stack's
            for run, place in enumerate(self.places[name]):
                # by way of the host, which waits: the branch is on a stream of its own, and its memory is given back next
                place.copy_(branch.parameters(run)[in_stack].cpu())
