"""Runs of which two published studies keep trainings of their own: they are one number of one seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import records
from scipy import stats

from gt.analysis.claims import Place
from gt.analysis.statistics import pooled
from gt.analysis.values import Values
from gt.analysis.verdicts import judge_study
from gt.archive import pack
from gt.publish import restore
from gt.records import MANIFEST

SEEDS = 4
# By seed: what rounding added to a second training of GF's runs, in bits per byte.
ROUNDING = (0.02, -0.01, 0.03, 0.005)
CELLS = {"GPT-2": 0.0, "GF": -0.12, "RWKV-6": -0.08}
TWICE = ("first", "second", "copy")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of the same runs: the second trained GF's again, and the copy has the second's."""
    root = tmp_path_factory.mktemp("twice")
    study = records.plan(seeds=SEEDS, variants=CELLS, tokenizers=("char",))
    records.write_runs(study, root / "first")
    shutil.copytree(root / "first", root / "second")
    for seed, run in study["cells"][1]["runs"].items():
        records.edit(root / "second" / run / MANIFEST, started="2026-10-01T12:00:00Z", finished="2026-10-01T12:01:00Z")
        records.edit(root / "second" / run / MANIFEST, seconds=1000.0)
        records.shift(root / "second" / run, ROUNDING[int(seed)])
    for name in TWICE:
        pack(records.planned({**study, "study": name}), root / TWICE[name != "first"], root / "published" / name / "records")
    return root / "published"


@pytest.fixture(scope="module")
def tables(published: Path) -> dict[str, Path]:
    for name in TWICE:
        restore(published / name, published.parent / "tables" / name)
    return {name: published.parent / "tables" / name for name in TWICE}


def differences(rounding: float) -> list[float]:
    """GF less GPT-2 by seed, with a share of what rounding added."""
    a, b = ([records.bits_per_byte(name, "char", seed) for seed in range(SEEDS)] for name in ("GF", "GPT-2"))
    return [x - y + rounding * more for x, y, more in zip(a, b, ROUNDING, strict=True)]


@pytest.mark.parametrize("name", TWICE)
def test_a_contrast_is_of_the_mean_over_trainings_and_of_as_many_pairs_as_seeds(tables: dict[str, Path], name: str) -> None:
    row = pd.read_parquet(tables[name] / "contrasts.parquet").set_index("variant").loc["GF"]
    known = differences(0.5)
    assert (row["n"], row["planned"]) == (SEEDS, SEEDS)
    assert row["difference"] == pytest.approx(np.mean(known))
    assert row["p"] == pytest.approx(stats.ttest_1samp(known, 0.0).pvalue)


def test_a_cell_that_was_trained_once_is_as_it_was(tables: dict[str, Path]) -> None:
    rows = [pd.read_parquet(tables[name] / "contrasts.parquet").set_index("variant").loc["RWKV-6"] for name in TWICE]
    own = [records.bits_per_byte("RWKV-6", "char", s) - records.bits_per_byte("GPT-2", "char", s) for s in range(SEEDS)]
    assert [row["difference"] for row in rows] == pytest.approx([np.mean(own)] * 3)


def test_a_verdict_is_of_the_mean_over_trainings(tables: dict[str, Path], tmp_path: Path) -> None:
    predicate = {"test": "compare", "metric": "val/bits_per_byte", "a": "GF", "b": "GPT-2", "is": "lower"}
    claim: dict[str, Any] = {"title": "t", "sentence": "s", "source": "x", "seeds": SEEDS, "predicate": [predicate]}
    curve = {**claim, "predicate": [{**predicate, "metric": "train/loss"}]}
    claims = {f"{name}{i}": {**own, "study": name} for name in TWICE for i, own in enumerate((claim, curve))}
    (tmp_path / "claims.yaml").write_text(json.dumps(claims))
    for name in TWICE:
        judged, of_curves = judge_study(tables[name], tmp_path)
        assert of_curves.repeated == []
        assert judged.repeated == ["GF"]
        assert judged.tests[0].n == SEEDS
        assert list(judged.tests[0].by_seed.values()) == pytest.approx(differences(0.5))
        assert judged.p == pytest.approx(stats.ttest_1samp(differences(0.5), 0.0).pvalue)


def test_tables_of_runs_and_what_a_device_has_part_in_are_the_study_s_own(tables: dict[str, Path]) -> None:
    for name, more, seconds in (("first", 0.0, None), ("second", 1.0, 1000.0)):
        values = Values(tables[name])
        cell = next(cell for cell in values.plan.cells if cell.variant == "GF")
        runs = pd.DataFrame(values.completed(cell.id))
        expected = [records.bits_per_byte("GF", "char", seed) + more * ROUNDING[seed] for seed in range(SEEDS)]
        assert runs["val/bits_per_byte"].tolist() == pytest.approx(expected)
        taken = list(values.of(Place("", cell, "seconds", None)).values())
        assert taken == runs["seconds"].tolist()
        assert seconds is None or taken == [seconds] * SEEDS


def test_a_study_beside_no_other_is_judged_by_its_own(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "second", tmp_path / "published/second")
    restore(tmp_path / "published/second", tmp_path / "alone")
    row = pd.read_parquet(tmp_path / "alone/contrasts.parquet").set_index("variant").loc["GF"]
    assert row["difference"] == pytest.approx(np.mean(differences(1.0)))
    assert not (tmp_path / "alone/repeated.parquet").exists()


def test_two_trainings_of_five_seeds_are_five_observations() -> None:
    """Under no effect, with rounding as large as the seeds: pooled, pairs err in .05 of cases, and as ten seeds in more."""
    studies, rng = 4000, np.random.default_rng(0)
    seeds, rounding = rng.normal(0, 1, (studies, 1, 5)), rng.normal(0, 1, (studies, 2, 5))
    trained = seeds + rounding
    means = [list(pooled(dict(enumerate(own)), enumerate(other)).values()) for own, other in trained]
    wrong, as_seeds = (
        (stats.ttest_1samp(values, 0.0, axis=1).pvalue < 0.05).sum() for values in (means, trained.reshape(studies, 10))
    )
    low, high = stats.binom.interval(0.999, studies, 0.05)
    assert low <= wrong <= high < as_seeds


def test_a_seed_without_a_value_of_its_own_has_none() -> None:
    assert pooled({0: 1.0, 1: 2.0}, [(0, 2.0), (0, 6.0), (3, 9.0)]) == {0: 3.0, 1: 2.0}
