"""What records at hand say of cells that have not run, against numbers that are made up and counted again by numpy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records

from gt.analysis.earlier import Earlier, Read
from gt.archive import KEPT, pack
from gt.artefacts import Cell, Plan, evaluation_file, write
from gt.records import CURVES, MANIFEST

SEEDS = range(5)


def planned(name: str, sizes: dict[str, int], seeds: range = SEEDS, **changes: object) -> Plan:
    """A plan of variants, each of so many layers and with a learning rate of its own, by its letter."""
    cells = []
    for variant, n_layer in sizes.items():
        training = {"steps": 250, "batch_size": 16, "sequence_length": 64, "learning_rate": ord(variant) / 1e5}
        cell = {"id": f"{variant}.embedded.char", "variant": variant, "corpus": "embedded", "tokenizer": "char", "factors": {}}
        cells.append((cell, {"model": {**records.ALONE, "n_layer": n_layer}, "training": training, **changes}, seeds))
    return records.planned(records.assembled(name, cells))


def remember(results: Path, plan: Plan, value: Callable[[Cell, int], float], **known: object) -> None:
    """The records of a plan, as its runs would have left them under `results/`: their losses alone."""
    write(results / "studies" / plan.study / "plan.json", plan)
    for cell in plan.cells:
        for seed, run in cell.runs.items():
            folder = results / "runs" / run
            write(folder / MANIFEST, records.manifest(plan.runs[run], **known))
            held_out = [records.of("<split>/loss", value(cell, seed), split="val")]
            write(evaluation_file(folder, "held_out"), records.evaluation("held_out", run, held_out))


def noise(plan: Plan, seed: int = 0) -> dict[tuple[str, int], float]:
    rng = np.random.default_rng(seed)
    return {(cell.id, s): float(rng.normal(2, 0.05)) for cell in plan.cells for s in cell.runs}


def reads(plan: Plan, *variants: str, metric: str = "val/loss") -> list[Read]:
    specs = {cell.variant: plan.spec(cell) for cell in plan.cells}
    return [Read(specs[variant], metric) for variant in variants]


def differences(values: dict[tuple[str, int], float], a: str, b: str) -> np.ndarray:
    return np.array([values[f"{a}.embedded.char", s] - values[f"{b}.embedded.char", s] for s in SEEDS])


def test_the_same_cells_speak_first_whatever_their_seeds(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2, "C": 3})
    values = noise(plan)
    remember(tmp_path, plan, lambda cell, seed: values[cell.id, seed])
    asked = planned("new", {"A": 1, "B": 2}, range(50, 60))
    found = Earlier(tmp_path).spread(*reads(asked, "A", "B"), False)
    assert found is not None
    assert (found.step, found.seeds, found.study) == ("same cells", 5, "old")
    assert found.sd == pytest.approx(np.std(differences(values, "A", "B"), ddof=1))


def test_ratios_and_single_cells_have_spreads_of_their_own(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2})
    values = noise(plan)
    remember(tmp_path, plan, lambda cell, seed: values[cell.id, seed])
    (a, b), own = reads(plan, "A", "B"), Earlier(tmp_path)
    logs = [math.log(values["A.embedded.char", s] / values["B.embedded.char", s]) for s in SEEDS]
    ratio, single = own.spread(a, b, True), own.spread(a, None, False)
    assert ratio is not None
    assert single is not None
    assert ratio.sd == pytest.approx(np.std(logs, ddof=1))
    assert single.sd == pytest.approx(np.std([values["A.embedded.char", s] for s in SEEDS], ddof=1))


def test_published_records_say_the_same_as_those_of_a_project(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2})
    values = noise(plan)
    remember(tmp_path / "here", plan, lambda cell, seed: values[cell.id, seed])
    pack(plan, tmp_path / "here/runs", tmp_path / "there/published/old" / KEPT)
    here, there = (Earlier(tmp_path / name).spread(*reads(plan, "A", "B"), False) for name in ("here", "there"))
    assert here is not None
    assert here == there


def test_without_the_same_cells_the_closest_on_the_same_text_are_pooled(tmp_path: Path) -> None:
    near, far = planned("near", {"A": 4, "B": 5, "C": 5, "D": 5}), planned("far", {"A": 30, "B": 40})
    values = noise(near)
    remember(tmp_path, near, lambda cell, seed: values[cell.id, seed])
    remember(tmp_path, far, lambda cell, seed: 100.0 * seed + len(cell.variant))
    asked = planned("new", {"X": 6, "Y": 6})
    found = Earlier(tmp_path).spread(*reads(asked, "X", "Y"), False)
    assert found is not None
    # B, C and D are closer to six layers than A, and than what is far.
    variances = [np.var(differences(values, *pair), ddof=1) for pair in itertools.combinations("BCD", 2)]
    assert (found.step, found.study) == ("same text", "near")
    assert found.sd == pytest.approx(math.sqrt(np.mean(variances)))


def test_another_text_speaks_last_and_another_metric_never(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2})
    values = noise(plan)
    remember(tmp_path, plan, lambda cell, seed: values[cell.id, seed])
    asked = planned("new", {"A": 1, "B": 2}, tokenizer={"name": "bpe", "vocab_size": 512})
    found = Earlier(tmp_path).spread(*reads(asked, "A", "B"), False)
    assert found is not None
    assert found.step == "same metric"
    assert Earlier(tmp_path).spread(*reads(plan, "A", "B", metric="test/loss"), False) is None


def test_runs_that_diverged_have_no_part_in_it(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2})
    remember(tmp_path, plan, lambda cell, seed: 2.0 + seed, status="diverged")
    assert Earlier(tmp_path).spread(*reads(plan, "A", "B"), False) is None


def test_a_damaged_record_is_said_and_the_others_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, damaged = planned("old", {"A": 1, "B": 2}), planned("damaged", {"A": 7, "B": 8})
    values = noise(old)
    remember(tmp_path, old, lambda cell, seed: values[cell.id, seed])
    remember(tmp_path, damaged, lambda cell, seed: 1.0)
    (tmp_path / "runs" / next(iter(damaged.runs)) / MANIFEST).write_text("{}")
    found = Earlier(tmp_path, study="damaged").spread(*reads(planned("new", {"A": 7, "B": 9}), "A", "B"), False)
    assert found is not None
    assert found.study == "old"
    assert "damaged: its records are not all readable" in capsys.readouterr().err


def test_a_curve_is_read_at_its_end_or_at_a_step_and_a_damaged_one_not_at_all(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1, "B": 2})
    remember(tmp_path, plan, lambda cell, seed: 2.0)
    ends = np.random.default_rng(0).normal(1, 0.1, 5)
    for seed, run in plan.cells[0].runs.items():
        points = {"step": [1, 2], "tokens": [10, 20], "timestamp": [0.0, 1.0], "train/loss": [2.0 * seed, float(ends[seed])]}
        pq.write_table(pa.table(points), tmp_path / "runs" / run / CURVES)
    for run in plan.cells[1].runs.values():
        (tmp_path / "runs" / run / CURVES).write_text("no curves")
    (a, b), own = reads(plan, "A", "B", metric="train/loss"), Earlier(tmp_path)
    last, first = own.spread(a, None, False), own.spread(replace(a, at=1.0), None, False)
    assert last is not None
    assert first is not None
    assert last.sd == pytest.approx(np.std(ends, ddof=1))
    assert first.sd == pytest.approx(np.std([0, 2, 4, 6, 8], ddof=1))
    damaged = own.spread(b, None, False)
    assert damaged is not None
    assert damaged.step == "same text"


def test_the_share_of_a_device_is_what_a_run_took_and_else_its_time_over_its_company(tmp_path: Path) -> None:
    plan = planned("old", {"A": 1})
    remember(tmp_path, plan, lambda cell, seed: 2.0, seconds=60.0, stacked=5, cohorts=2)
    (_, own), *_ = Earlier(tmp_path).trained
    tokens = next(iter(plan.runs.values())).tokens
    assert own.seconds * tokens == pytest.approx(6.0)
