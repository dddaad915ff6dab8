"""All that a cohort must keep to go on as if it had never stopped: tensors, and what can be written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gt.training.curves import Curves

if TYPE_CHECKING:
    from gt.training.cohort import Cohort

Tensors = dict[str, Tensor]
BRANCH = "branch/"


def taken(cohort: Cohort) -> tuple[Tensors, dict[str, Any]]:
    """Of a cohort that is collected; while its branches are trained alone, with the same of the branch whose turn it is."""
    book, before = cohort.book, cohort.pretraining
    branch, about_branch = taken(before.branch) if before.branch is not None else ({}, None)
    tensors = {f"state/{name}": value for name, value in cohort.state().items()}
    tensors |= {f"curves/{run}": curves.tensor() for run, curves in enumerate(book.curves)}
    tensors |= {BRANCH + name: value for name, value in branch.items()}
    steps = {"step": cohort.step, "collected": cohort.collected, "status": book.status, "ended_at": book.ended_at}
    return tensors, {**steps, "letters": before.letters, "branch": about_branch}


@torch.no_grad()
def restore(cohort: Cohort, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Let a cohort of the same identity, which has not begun, go on from there."""
    for name, value in cohort.state().items():
        value.copy_(tensors[f"state/{name}"])
    book, before = cohort.book, cohort.pretraining
    book.curves = [Curves(own.columns, tensors[f"curves/{run}"]) for run, own in enumerate(book.curves)]
    book.status, book.ended_at = about["status"], about["ended_at"]
    cohort.step, cohort.collected, before.letters = about["step"], about["collected"], about["letters"]
    if about["branch"] is not None:
        branch = {name.removeprefix(BRANCH): value for name, value in tensors.items() if name.startswith(BRANCH)}
        restore(before.now(), branch, about["branch"])
