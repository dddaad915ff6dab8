"""Two architectures can be given as much of the same thing, within 1 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gt.errors import ConfigError
from gt.models.lm import count
from gt.models.matching import match, measure
from gt.spec import ModelSpec
from gt.study import assemble, load_variants, merge, read_yaml, resolve

CONFIG = Path(__file__).parents[2] / "config"
VARIANTS = load_variants(CONFIG / "variants")
SCALES = read_yaml(CONFIG / "scales.yaml")


def at(scale: str, name: str, **model: Any) -> ModelSpec:
    return ModelSpec.model_validate(assemble(SCALES[scale], merge(resolve(VARIANTS, name).model, model)))


@pytest.mark.parametrize(
    ("first", "second"), [("GF-MH", "GPT-2"), ("GPT-2", "GF-MH"), ("RWKV-6", "Mamba-2"), ("GF", "Mamba-2-bare")]
)
@pytest.mark.parametrize("by", ["parameters", "flops"])
def test_a_pair_matches_within_one_percent(first: str, second: str, by: Any) -> None:
    reference = at("8M", first)
    matched, audit = match(reference, at("8M", second), by, context=256)
    target = measure(reference, by, 256)
    assert abs(measure(matched, by, 256) / target - 1) <= 0.01
    assert {"parameters": audit.n_params_non_embedding, "flops": audit.flops_per_token}[by] == measure(matched, by, 256)


def test_states_match_by_width_and_d_state() -> None:
    rwkv, mamba = at("8M", "RWKV-6"), at("8M", "Mamba-2")
    matched, _ = match(rwkv, mamba, "state", context=256)
    assert abs(measure(matched, "state", 256) / measure(rwkv, "state", 256) - 1) <= 0.01


def test_what_cannot_match_is_said() -> None:
    small = at("tiny", "RWKV-6-bare", d_model=32, n_layer=1)
    with pytest.raises(ConfigError, match="within 1%"):
        match(small, at("30M", "Mamba-2-bare"), "parameters", context=64)


@pytest.mark.parametrize("name", ["GF", "RWKV-6", "Mamba-2", "GPT-2"])
@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_builds(scale: str, name: str) -> None:
    audit = count(at(scale, name), 16_000, 1024)
    assert 0 < audit.n_params_non_embedding < audit.n_params
    assert audit.state_size > 0
    # Each parameter of a matrix is multiplied once a token, at least.
    assert audit.flops_per_token > 1.5 * audit.n_params_non_embedding


# Parameters of GF without embeddings; the seeds' tiers are larger than their names once the branches are whole mixers.
LIMITS = {
    "4M": (3e6, 5e6),
    "5M": (4e6, 6e6),
    "8M": (6.5e6, 9.5e6),
    "30M": (24e6, 36e6),
    "1.6B": (1.3e9, 3e9),
    "2.8B": (2.3e9, 5e9),
}


@pytest.mark.parametrize("scale", LIMITS)
def test_a_scale_is_as_large_as_its_name_says(scale: str) -> None:
    low, high = LIMITS[scale]
    assert low <= count(at(scale, "GF"), 16_000, 1024).n_params_non_embedding <= high
