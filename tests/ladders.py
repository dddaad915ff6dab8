"""A study of four sizes and three budgets whose losses follow a known law, from its YAML file to its tables.

bits per byte = E + A (N / N0)^-a (D / D0)^-b + (an offset of the seed, shared by all cells) + (noise of the run).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import records
import yaml

from gt.analysis.aggregate import aggregate
from gt.artefacts import write
from gt.spec import RunSpec
from gt.study import NOTHING, Decisions, Study, Undecided

CONFIG = Path(__file__).parents[1] / "config"
WIDTHS = (32, 64, 128, 256)
STEPS = (50, 100, 200)
SHARED = np.random.default_rng(7).normal(0, 0.02, 40)


class Law(NamedTuple):
    """E, A and a of one variant, and b, which is of tokens."""

    floor: float
    reducible: float
    exponent: float
    of_tokens: float = 0.2


LAWS = {"GPT-2": Law(1.0, 1.0, 0.3), "GF": Law(1.0, 0.9, 0.3), "HY": Law(1.1, 0.8, 0.4)}
STUDY: dict[str, Any] = {
    "title": "Sizes & budgets",
    "description": "Numbers from a known law.",
    "baseline": "GPT-2",
    "variants": list(LAWS),
    "corpora": ["embedded"],
    "tokenizers": [{"name": "char"}],
    "factors": {"model.d_model": list(WIDTHS)},
    "ladder": {"rungs": "model.d_model", "learning_rate": "1/width"},
    "seeds": 5,
    "also": [{"variants": ["GPT-2"], "factors": {"model.d_model": [64], "training.steps": [STEPS[0], STEPS[2]]}}],
    "model": {
        "n_layer": 2,
        "mixers": {"rwkv6": {"head_size": 16}, "mamba2": {"head_dim": 16}, "attention": {"n_head": 2}},
    },
    "training": {"steps": STEPS[1], "batch_size": 2, "sequence_length": 16},
}


class Chosen(Undecided):
    """Runs that tune have the lowest loss at a rate."""

    def __init__(self, best: Callable[[RunSpec], float]) -> None:
        self.best = best

    def measured(self, spec: RunSpec) -> float | None:
        return abs(float(np.log(spec.training.learning_rate / self.best(spec))))


def read(folder: Path, **changes: Any) -> Study:
    """The study file above, with some of its keys changed."""
    path = folder / "sizes.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return Study(path, CONFIG)


def size(spec: RunSpec) -> int:
    """Parameters without embeddings, as the records have them."""
    return 24 * spec.model.d_model**2


def bits_per_byte(variant: str, spec: RunSpec, laws: dict[str, Law] = LAWS, noise: float = 0.001) -> float:
    """The known answer for one run."""
    law = laws[variant]
    smaller = (size(spec) / (24 * WIDTHS[0] ** 2)) ** -law.exponent * (spec.training.steps / STEPS[1]) ** -law.of_tokens
    place = [spec.seed, spec.model.d_model, spec.training.steps, *variant.encode()]
    return law.floor + law.reducible * smaller + SHARED[spec.seed] + noise * np.random.default_rng(place).normal()


def make(root: Path, laws: dict[str, Law] = LAWS, noise: float = 0.001, decided: Decisions = NOTHING, **changes: Any) -> Path:
    """The study's plan and tables, from records of the runs of all cells. Returns their folder."""
    plan = read(root, **changes).plan(decided)
    folder, runs = root / "study", root / "runs"
    for cell in plan.model_dump(mode="json")["cells"]:
        for seed, run_id in cell["runs"].items():
            spec = plan.runs[run_id]
            if not (runs / run_id).exists():
                records.write_run(runs / run_id, run_id, cell, int(seed), spec.model_dump(mode="json"))
                bits = bits_per_byte(cell["variant"], spec, laws, noise)
                records.edit_val(runs / run_id, bits_per_byte=bits, loss=bits * np.log(2))
                counts = {"n_params_non_embedding": size(spec), "flops_per_token": 2 * size(spec)}
                seconds = {"seconds": 1e-9 * size(spec) * spec.tokens}
                records.edit(runs / run_id / "manifest.json", **counts, **seconds)
                records.edit_usage(runs / run_id, device_seconds=seconds["seconds"])
    write(folder / "plan.json", plan)
    aggregate(plan, runs, folder)
    return folder


RATES = {"scale": "log", "from": 0.001, "to": 0.01, "low": 0.001, "high": 0.1}
# In place of a rule, and without budgets.
TUNED: dict[str, Any] = {
    "ladder": {"rungs": "model.d_model", "learning_rate": "tuned"},
    "tune": {"space": {"training.learning_rate": RATES}, "seeds": [100], "runs": 20},
    "also": [],
}
