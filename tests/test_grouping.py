"""Which runs may be stacked and which packs they go in."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import records
import torch
from hypothesis import given
from hypothesis import strategies as st

from gt.catalogue import MODEL_KINDS, Component, components
from gt.grouping import _cuts, cohort_key, packs
from gt.models.lm import LanguageModel
from gt.options import initial_of
from gt.seeds import Streams
from gt.spec import InitSpec, ModelSpec, RunSpec
from gt.study import load_study, merge
from gt.training.flat import parameter_groups

ROOT = Path(__file__).parents[1]
D_MODEL, VOCABULARY = 32, 11
TRAINING: dict[str, Any] = {"steps": 20, "batch_size": 4, "sequence_length": 16}


def model(**changes: Any) -> dict[str, Any]:
    """A hybrid, with changes."""
    sizes = {"r": {"name": "rwkv6", "head_size": 8}, "m": {"name": "mamba2", "head_dim": 8, "d_state": 8}}
    parts = {"layers": "r+m", "mixers": sizes, "fusion": {"name": "gated"}, "feed_forward": {"name": "mlp"}}
    return merge({"d_model": D_MODEL, "n_layer": 2, **parts}, changes)


def run(seed: int = 0, training: dict[str, Any] | None = None, corpus: str = "embedded", **changes: Any) -> RunSpec:
    return RunSpec.model_validate(
        {
            "corpus": {"name": corpus},
            "tokenizer": {"name": "char"},
            "model": model(**changes),
            "training": TRAINING | (training or {}),
            "seed": seed,
        }
    )


def with_component(component: Component, options: dict[str, Any]) -> dict[str, Any]:
    """A model that has a component with some options."""
    small = {"head_size": 8, "head_dim": 8, "d_state": 8, "n_head": 2}
    described = {"name": component.name, **{k: v for k, v in small.items() if k in component.options}, **options}
    if component.kind == "mixer":
        return {**model(), "layers": "q", "mixers": {"q": described}, "fusion": None}
    return {**model(), component.kind: described}


def initial_options() -> Iterator[tuple[Component, str, Any]]:
    """Every option of every component that is said to decide initial values alone, with another value for it."""
    for kind in MODEL_KINDS:
        for component in components(kind).values():
            for option in sorted(initial_of(component.config)):
                type_, default = component.options[option]
                if get_origin(type_) is Literal:
                    yield from ((component, option, value) for value in get_args(type_) if value != default)
                else:
                    yield component, option, (not default) if type_ is bool else default * 0.7


def assert_same_but_for_initial_values(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The same weights give the same outputs, and are in the same groups of the optimizer; but they start otherwise."""
    a, b = (LanguageModel(ModelSpec.model_validate(document), VOCABULARY) for document in (first, second))
    for either in (a, b):
        either.reset_parameters(Streams(0))
    assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)), "the option does nothing"
    with torch.no_grad():
        for parameter in a.parameters():  # away from special values such as zero
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    b.load_state_dict(a.state_dict())
    tokens = torch.randint(VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(2))
    assert torch.equal(a(tokens)[0], b(tokens)[0])
    assert parameter_groups(a) == parameter_groups(b)


@pytest.mark.parametrize(
    ("component", "option", "value"),
    [pytest.param(*case, id=f"{case[0].name}-{case[1]}-{case[2]}") for case in initial_options()],
)
def test_an_initial_option_decides_initial_values_alone(component: Component, option: str, value: Any) -> None:
    assert_same_but_for_initial_values(with_component(component, {}), with_component(component, {option: value}))


@pytest.mark.parametrize("switch", sorted(initial_of(InitSpec)))
def test_an_initial_switch_decides_initial_values_alone(switch: str) -> None:
    value = "tiny" if switch == "embedding" else True
    untied = model(tie_embeddings=False)
    assert_same_but_for_initial_values(untied, {**untied, "init": {switch: value}})


def test_the_start_of_a_residual_gain_decides_initial_values_alone() -> None:
    assert_same_but_for_initial_values(model(residual_gain=0.5), model(residual_gain=0.01))


@pytest.mark.parametrize(
    "other",
    [
        run(seed=7),
        run(training={"learning_rate": 0.1, "warmup_ratio": 0.5, "min_learning_rate_ratio": 0.0}),
        run(training={"weight_decay": 0.0, "weight_decay_policy": "all"}),
        run(training={"optimizer": {"name": "adamw", "beta1": 0.5, "beta2": 0.99, "epsilon": 1e-6}}),
        run(training={"parts": {"fusion": {"learning_rate": 2.0, "frozen_steps": 3, "gradient_scale": 5.0}}}),
        run(fusion={"gate_init": 0.3}),
        run(mixers={"r": {"decay_init": "record"}}),
        run(init={"zero_mixer_output": True}),
    ],
)
def test_these_runs_are_one_cohort(other: RunSpec) -> None:
    assert cohort_key(other) == cohort_key(run())


@pytest.mark.parametrize(
    "other",
    [
        run(corpus="tinyshakespeare"),
        run(training={"steps": 21}),
        run(training={"batch_size": 8}),
        run(training={"optimizer": "lion"}),
        run(training={"optimizer": "muon"}),
        run(training={"clip_norm": None}),
        run(training={"precision": "bfloat16"}),
        run(training={"branch_drop": {"branch": "r"}}),
        run(training={"auxiliary": {"diversity": "record"}}),
        run(d_model=64),
        run(fusion={"name": "weighted"}),
        run(mixers={"m": {"d_state": 16}}),
        run(mixers={"r": {"init": "fla"}}),  # FLA's layer has another epsilon too
        run(mixers={"m": {"initial_state": "learned"}}),
        run(init={"embedding_norm": True}),
        run(residual_gain=0.1),
    ],
)
def test_these_runs_are_two_cohorts(other: RunSpec) -> None:
    assert cohort_key(other) != cohort_key(run())


# A fusion whose option is called as that of another, where it decides initial values, and decides what is computed.
CLASH = """
from gt.models.fusions.base import Fused, Fusion
from gt.options import Options


class Fixed(Fusion):
    name = "fixed"

    class Config(Options):
        gate_init: float = 0.5

    def forward(self, r, m, x, state=None):
        return Fused(self.config.gate_init * r + (1 - self.config.gate_init) * m, None)
"""


def test_an_option_of_a_plugin_decides_nothing_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/__init__.py").write_text("")
    (tmp_path / "lab/fusions.py").write_text(CLASH)
    (tmp_path / "pyproject.toml").write_text('[tool.groundthink]\npackage = "lab"\n')
    fixed = [{**model(), "fusion": {"name": "fixed", "gate_init": gate}} for gate in (0.3, 0.7)]
    gated = [{**model(), "fusion": {"name": "gated", "gate_init": gate}} for gate in (0.3, 0.7)]
    document = run().model_dump(mode="json")
    code = (
        "import json, sys; from gt.grouping import cohort_key; from gt.spec import RunSpec;"
        "print([len({cohort_key(RunSpec.model_validate(own)) for own in pair}) for pair in json.load(sys.stdin)])"
    )
    pairs = json.dumps([[{**document, "model": own} for own in pair] for pair in (fixed, gated)])
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, input=pairs, capture_output=True, text=True)
    assert (result.stderr, result.stdout.strip()) == ("", "[2, 1]")


def test_runs_of_muon_differ_in_its_numbers_and_not_in_what_it_computes() -> None:
    def key(**options: Any) -> str:
        return cohort_key(run(training={"optimizer": {"name": "muon", **options}}))

    assert key() == key(momentum=0.5, beta1=0.1, beta2=0.5, epsilon=0.1, ns_epsilon=0.1, adamw_learning_rate=3.0)
    others = [{"nesterov": False}, {"ns_steps": 3}, {"ns_coefficients": [2.0, -1.5, 0.5]}, {"scale": "original"}]
    assert len({key(), key(ns_precision="float32"), *(key(**own) for own in others)}) == 6


@pytest.mark.parametrize("study", ["v4_char", "tokenization"])
@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_packs_are_a_partition_on_one_text_each_and_no_larger_than_asked(study: str, size: int) -> None:
    plan = load_study(ROOT / f"config/studies/{study}.yaml").plan()
    made = packs([plan, plan], size)
    assert sorted(run_id for runs in made.values() for run_id in runs) == sorted(plan.runs)
    assert max(map(len, made.values())) <= size
    for runs in made.values():
        assert len({(plan.runs[r].corpus, plan.runs[r].tokenizer) for r in runs}) == 1
    assert made == packs([plan], size)


@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
def test_packs_that_are_dealt_out_are_alike_and_keep_all_places_busy(at_once: int) -> None:
    plan = load_study(ROOT / "config/studies/v4_char.yaml").plan()
    made = packs([plan], 32, at_once, together=False)
    assert sorted(run_id for runs in made.values() for run_id in runs) == sorted(plan.runs)
    assert len(made) == {1: 3, 2: 4, 3: 3, 64: 64}[at_once]  # 90 runs on one text, and none runs alone at the end
    sizes = {len(runs) for runs in made.values()}
    assert max(sizes) - min(sizes) <= 1
    # Of each architecture, which decides how long a run takes, all packs have as many as can be.
    keys = [[cohort_key(plan.runs[run_id]) for run_id in runs] for runs in made.values()]
    for key in {key for own in keys for key in own}:
        counts = [own.count(key) for own in keys]
        assert max(counts) - min(counts) <= 1


def test_a_cohort_is_not_cut_where_packs_stay_nearly_even() -> None:
    assert _cuts([5] * 18, 6, 16) == [0, 15, 30, 45, 60, 75, 90]
    assert _cuts([10] * 20, 6, 64) == [0, 30, 70, 100, 130, 170, 200]
    assert _cuts([10, 10], 4, 5) == [0, 5, 10, 15, 20]  # too large for one pack
    assert _cuts([9, 11], 2, 10) == [0, 10, 20]  # the second would be


@given(groups=st.lists(st.integers(1, 40), min_size=1, max_size=30), size=st.integers(1, 50), at_once=st.integers(1, 8))
def test_packs_are_never_empty_nor_too_large(groups: list[int], size: int, at_once: int) -> None:
    total = sum(groups)
    n = min(total, at_once * -(-total // (at_once * size)))
    cuts = _cuts(groups, n, size)
    lengths = [b - a for a, b in itertools.pairwise(cuts)]
    assert (cuts[0], cuts[-1], len(lengths)) == (0, total, n)
    assert 1 <= min(lengths) <= max(lengths) <= size


def test_there_is_no_pack_without_a_run() -> None:
    plan = records.of_runs([run(seed=seed) for seed in range(3)])
    assert sorted(map(len, packs([plan], 32, at_once=16, together=False).values())) == [1, 1, 1]


def test_runs_of_one_cohort_stand_together() -> None:
    specs = [
        run(seed=seed, **changes) for seed in range(3) for changes in ({}, {"d_model": 64}, {"fusion": {"gate_init": 0.3}})
    ]
    plan = records.of_runs(specs)
    (members,) = packs([plan], 100).values()
    keys = [cohort_key(plan.runs[run_id]) for run_id in members]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [6, 3]
    assert keys == sorted(keys, key=keys.index)
