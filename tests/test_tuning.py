"""Tuning: grids grow until the best point is inside, the same for every arm, and seeds that choose do not judge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gt.artefacts import Plan
from gt.errors import ConfigError
from gt.spec import RunSpec
from gt.study import Study, Undecided, dumps, trial_cells
from gt.tuning import Outcome, Range, outcome_of, search

ROOT = Path(__file__).parents[1]
RATE, SCALE = "training.learning_rate", "training.parts.mixers.m.learning_rate"
RATES = {"scale": "log", "from": 0.001, "to": 0.01, "low": 0.0001, "high": 0.1}
STUDY: dict[str, Any] = {
    "title": "Tuned",
    "baseline": "GPT-2",
    "variants": ["GPT-2", "GF"],
    "corpora": ["embedded"],
    "tokenizers": [{"name": "char"}],
    "seeds": 2,
    "tune": {"space": {RATE: RATES}, "seeds": [100, 101], "runs": 20},
    "model": {
        "d_model": 32,
        "n_layer": 2,
        "mixers": {"rwkv6": {"head_size": 16}, "mamba2": {"head_dim": 16}, "attention": {"n_head": 2}},
    },
    "training": {"steps": 10, "batch_size": 2, "sequence_length": 16},
}
Loss = Callable[[RunSpec], float | None]


class Known(Undecided):
    """The losses of runs that tune are known."""

    def __init__(self, losses: Loss) -> None:
        self.losses = losses

    def measured(self, spec: RunSpec) -> float | None:
        return self.losses(spec)


def planned(folder: Path, losses: Loss = lambda spec: None, **changes: Any) -> Plan:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return Study(path, ROOT / "config").plan(Known(losses))


def best_at(rate: float) -> Loss:
    """Losses that are lowest at a rate, on a log scale."""
    return lambda spec: (math.log10(spec.training.learning_rate) - math.log10(rate)) ** 2 + spec.seed / 1e6


def ladder(points: int = 3) -> Range:
    """The values 0, 1 ... on a linear scale, with room for two more on both sides."""
    bounds = {"low": -2.0, "high": points + 1.0}
    return Range.model_validate({"scale": "linear", "from": 0.0, "to": points - 1.0, "points": points, **bounds})


def test_a_range_is_evenly_spaced_and_goes_on_in_the_same_steps() -> None:
    rates = Range.model_validate(RATES)
    assert [rates.value(place) for place in range(-2, 5)] == [0.0001, 0.0003162, 0.001, 0.003162, 0.01, 0.03162, 0.1]
    assert [rates.allows(place) for place in (-3, -2, 4, 5)] == [False, True, True, False]
    assert [ladder().value(place) for place in (-1, 0, 1, 3)] == [-1.0, 0.0, 1.0, 3.0]


@given(best=st.integers(-2, 4))
def test_the_grid_grows_towards_an_edge_until_the_best_has_two_worse_neighbours(best: int) -> None:
    asked: list[int] = []

    def outcome(point: tuple[int, ...]) -> Outcome:
        if point[0] not in asked:
            asked.append(point[0])
        return 0, abs(point[0] - best)

    found = search({"x": ladder()}, 100, outcome)
    assert found.choice == (best,)
    if best in (-2, 4):  # the bounds
        assert f"is best at {best}" in found.ended["x"]
    else:
        assert not found.ended
        assert {(best - 1,), (best + 1,)} <= found.points.keys()
    # Nothing is asked for beyond the neighbour of the best, and each round adds to those before.
    assert sorted(asked) == list(range(min(0, max(best - 1, -2)), max(2, min(best + 1, 4)) + 1))
    assert list(found.points.values()) == sorted(found.points.values())


def test_of_equal_points_the_smaller_is_chosen_and_one_that_lost_a_run_comes_last() -> None:
    assert search({"x": ladder(4)}, 9, lambda point: (0, [1.0, 0.0, 0.0, 1.0][point[0]])).choice == (1,)
    assert search({"x": ladder(4)}, 9, lambda point: (int(point[0] == 1), [1.0, -1.0, 0.0, 1.0][point[0]])).choice == (2,)


def test_nothing_is_chosen_while_a_run_is_missing() -> None:
    found = search({"x": ladder()}, 9, lambda point: None if point == (1,) else (0, 0.0))
    assert found.choice is None
    assert set(found.points) == {(0,), (1,), (2,)}


def test_a_grid_that_may_not_grow_says_so() -> None:
    found = search({"x": ladder()}, 3, lambda point: (0, float(point[0])))
    assert found.choice == (0,)
    assert "which `runs` does not allow" in found.ended["x"]


def test_several_settings_grow_each_by_itself() -> None:
    found = search({"x": ladder(), "y": ladder()}, 100, lambda point: (0, float((point[0] - 3) ** 2 + (point[1] - 1) ** 2)))
    assert (found.choice, found.ended) == ((3, 1), {})
    assert set(found.points) == set(itertools.product(range(5), range(3)))


def test_a_loss_that_is_not_there_is_no_loss_and_a_diverged_run_is_the_worst() -> None:
    assert outcome_of([1.0, None]) is None
    assert outcome_of([1.0, 3.0]) == (0, 2.0)
    assert outcome_of([1.0, math.inf]) == (1, 1.0)
    assert outcome_of([math.inf, math.inf]) == (2, math.inf)


def test_a_plan_asks_for_the_first_grid_and_for_no_cell_that_is_not_tuned_yet(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert plan.tuning
    assert [len(tuning.points) for tuning in plan.tunings] == [3, 3]
    assert set(plan.waves) == set(plan.trials) and len(plan.trials) == 2 * 3 * 2
    assert plan.spec(plan.cells[0]).training.learning_rate == 0.003162
    assert Plan.model_validate_json(dumps(plan)) == plan


def test_each_cell_takes_what_its_own_tuning_chose(tmp_path: Path) -> None:
    measured = {"attention": best_at(0.0012), "rwkv6": best_at(0.03)}
    plan = planned(tmp_path, lambda spec: measured["attention" if "a" in spec.model.mixers else "rwkv6"](spec))
    assert not plan.tuning
    assert [plan.spec(cell).training.learning_rate for cell in plan.cells] == [0.001, 0.03162]
    first, second = plan.tunings
    assert [(tuning.choice, tuning.ended) for tuning in (first, second)] == [({RATE: 0.001}, {}), ({RATE: 0.03162}, {})]
    assert [point.values[RATE] for point in second.points] == [0.001, 0.003162, 0.01, 0.03162, 0.1]
    assert [point.round for point in second.points] == [0, 0, 0, 1, 2]
    # Cells that have what tunings of other values asked for are later than these: packs of them are others.
    assert {plan.waves[run] for cell in plan.cells for run in cell.runs.values()} == {("s",)}
    assert {plan.waves[run] for run in plan.trials} == {("s", 0), ("s", 1), ("s", 2)}
    cells = {cell.id: cell for _, _, cell in trial_cells(plan)}
    assert cells["GF.embedded.char.tuning.learning_rate=0.1"].factors == {RATE: 0.1}


def test_what_a_cell_has_not_is_not_tuned(tmp_path: Path) -> None:
    space = {RATE: RATES, SCALE: {"scale": "log", "from": 0.5, "to": 2.0, "low": 0.5, "high": 2.0}}
    plan = planned(tmp_path, tune={"space": space, "seeds": [100], "runs": 20})
    assert [list(tuning.scales) for tuning in plan.tunings] == [[RATE], [RATE, SCALE]]
    middle = plan.spec(plan.cells[1]).training
    assert middle.parts["mixers.m"].learning_rate == 1.0


def test_a_block_may_be_left_as_it_is(tmp_path: Path) -> None:
    also = [{"variants": [{"variant": "GF", "label": "GF-untuned"}], "tuned": False, "seeds": [0, 100]}]
    plan = planned(tmp_path, best_at(0.003), also=also)
    untuned = next(cell for cell in plan.cells if cell.variant == "GF-untuned")
    assert untuned.id not in {tuning.cell for tuning in plan.tunings}
    assert plan.spec(untuned).training.learning_rate == 3e-4
    assert plan.waves[untuned.runs[0]] == ()


def over(path: str, seeds: tuple[int, ...] = (9,), **changes: Any) -> dict[str, Any]:
    """A tuning of one setting, whose range has some changes; None takes a key away."""
    own = {key: value for key, value in {**RATES, **changes}.items() if value is not None}
    return {"tune": {"space": {path: own}, "seeds": list(seeds), "runs": 5}}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a tuning seed that judges": ({"seeds": [0, 101]}, "seed 101 judges as well, and would judge what it has chosen. Write: "),
    "a space without a scale": (over(RATE, scale=None), "Write: scale: log, or scale: linear"),
    "bounds within": (over(RATE, low=0.002), "low 0.002 and high 0.1 must enclose"),
    "a log scale from zero": (over(RATE, low=0.0), "must be above 0 where scale is log"),
    "too few runs": (over(RATE, (9, 10)), "runs 5 are fewer than the first grid takes, 6"),
    "no such setting": (over("training.learning_rat"), "learning_rate"),
    "the seed": (over("seed"), "the seed is no factor"),
    "what looks": (over("training.log_every"), "only looks at a run"),
    "also a factor": ({"factors": {RATE: [0.1, 0.2]}}, "tune chooses training.learning_rate"),
    "nothing to leave out": ({"tune": None, "tuned": False}, "nothing is tuned in this study"),
    "nothing of it": (over(SCALE), "GPT-2 has nothing of it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    changes, words = BAD[case]
    with pytest.raises(ConfigError) as error:
        planned(tmp_path, **changes)
    assert words in str(error.value)
    assert "s.yaml, line" in str(error.value)
