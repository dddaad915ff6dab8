"""A study's ladder, from its file to what it says of the rung that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import ladders as sizes
import numpy as np
import pytest
from ladders import LAWS, WIDTHS, Law

from gt.analysis.ladder import SIZES, Ladder, ladders
from gt.analysis.values import Values

NO_BUDGETS: dict[str, Any] = {"also": []}


def made(root: Path, **options: Any) -> Ladder:
    (found,) = ladders(Values(sizes.make(root, **{"seeds": 3, **NO_BUDGETS, **options})))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study that has its largest rung in the middle."""
    return sizes.make(tmp_path_factory.mktemp("sizes"), seeds=3, factors={"model.d_model": [128, 32, 256, 64]}, **NO_BUDGETS)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    """Of runs with next to no noise. GF is the better one up to the last rung but one, then HY, as their laws say."""
    laws = {**LAWS, "HY": Law(1.05, 0.98, 0.45), "GF": Law(1.1, 0.75, 0.3)}
    return made(tmp_path_factory.mktemp("exact"), laws=laws, noise=1e-8, seeds=2)


def test_arms_have_their_rungs_by_size_however_they_are_written(folder: Path) -> None:
    (found,) = ladders(Values(folder))
    assert found.rungs == ["32", "64", "128", "256"]
    assert [arm.name for arm in found.arms] == ["GPT-2", "GF", "HY"]
    arm = found.arms[0]
    assert arm.sizes["parameters"].tolist() == [24 * width**2 for width in WIDTHS]
    tokens = sizes.STEPS[1] * 2 * 16
    assert arm.sizes["compute"].tolist() == [3 * 2 * 24 * width**2 * tokens for width in WIDTHS]
    assert arm.rates == pytest.approx([3e-4 * 128 / width for width in WIDTHS])  # the first that is written has the study's
    assert (found.seeds, found.lost, found.short, arm.losses.shape) == ([0, 1, 2], [], [], (3, 4))


def test_laws_with_next_to_no_noise_foretell_the_held_out_rung_and_each_difference(exact: Ladder) -> None:
    for over in SIZES:
        assert exact.predicted[over][0] == pytest.approx(exact.losses[0, :, -1], abs=1e-6)
    for pair in exact.pairs():
        assert pair.predicted.value == pytest.approx(pair.measured.value, abs=1e-6)
        assert pair.decided


def test_the_baselines_are_the_difference_of_the_rung_before_and_its_sign(exact: Ladder) -> None:
    before, there = exact.losses[0, :, -2], exact.losses[0, :, -1]
    assert [pair.carried for pair in exact.pairs()] == [before[i] - before[j] for i, j in combinations(range(3), 2)]
    right = [(before[i] < before[j]) == (there[i] < there[j]) for i, j in combinations(range(3), 2)]
    found = exact.decisions()
    assert found is not None
    assert (found.pairs, found.laws.value, found.rank.value) == (3, 1.0, np.mean(right))
    assert found.rank.value == pytest.approx(2 / 3)
    assert (found.decided, found.laws_decided, found.rank_decided) == (3, 1.0, found.rank.value)


def test_arms_that_are_alike_tie_and_no_difference_of_theirs_is_seen(exact: Ladder) -> None:
    found = replace(exact, arms=[exact.arms[0], replace(exact.arms[0], name="twin")]).decisions()
    assert found is not None
    assert (found.laws.value, found.rank.value, found.decided, found.laws_decided) == (0.5, 0.5, 0, None)


def test_one_seed_gives_values_without_bands_and_one_arm_no_decisions(exact: Ladder) -> None:
    one = replace(exact, seeds=[0], arms=[replace(arm, losses=arm.losses[:1]) for arm in exact.arms])
    assert [(pair.predicted.lower, pair.measured.lower, pair.decided) for pair in one.pairs()] == [(None, None, False)] * 3
    assert replace(one, arms=one.arms[:1]).decisions() is None


def test_a_seed_that_an_arm_lost_at_a_rung_counts_nowhere_and_an_arm_without_a_rung_is_named(folder: Path) -> None:
    values = Values(folder)
    runs = values.tables["runs"]
    runs.loc[(runs["cell"] == "GF.embedded.char.d_model=64") & (runs["seed"] == 1), "status"] = "diverged"
    runs.loc[runs["cell"] == "HY.embedded.char.d_model=256", "status"] = "failed"
    (found,) = ladders(values)
    assert (found.seeds, found.lost, found.short) == ([0, 2], [1], ["HY"])
    assert [arm.name for arm in found.arms] == ["GPT-2", "GF"]


def test_rates_that_are_tuned_are_those_of_each_rung_and_one_at_an_edge_is_named(tmp_path: Path) -> None:
    best = {32: 0.01, 64: 0.003162, 128: 0.003162, 256: 0.0001}
    decided = sizes.Chosen(lambda spec: best[spec.model.d_model])
    folder = sizes.make(tmp_path, decided=decided, seeds=1, variants=["GPT-2"], **sizes.TUNED)
    (found,) = ladders(Values(folder))
    assert [arm.rates for arm in found.arms] == [[0.01, 0.003162, 0.003162, 0.001]]
    assert [arm.at_ends for arm in found.arms] == [["256"]]
