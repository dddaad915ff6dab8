"""Every shipped variant takes a step: its loss and gradient are finite, and each of its parameters has a part in it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from corpus import words
from runs import run_spec
from variants import VARIANTS, tiny

from gt.data.tokens import Tokens
from gt.study import resolve
from gt.training.cohort import Cohort


def test_every_variant_takes_a_step(tmp_path: Path) -> None:
    tokens = Tokens.open(words(tmp_path))
    for name in VARIANTS:
        short = {"steps": 60, "batch_size": 2, "sequence_length": 32}
        spec = run_spec(tiny(name), **{**short, **resolve(VARIANTS, name).training, "pretrain_steps": 0, "curriculum": []})
        cohort = Cohort([spec], tokens, torch.device("cpu"))
        before = cohort.weights.clone()
        cohort.plan.prepare(0)
        cohort.stepper(cohort.book.log)
        loss, _, norm = cohort.book.log[0, 0, :3].tolist()
        assert math.isfinite(loss) and math.isfinite(norm) and norm > 0, name
        assert not torch.equal(cohort.weights, before), name
