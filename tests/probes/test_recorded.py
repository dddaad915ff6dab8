"""What the earlier repository measured in place of states and gradients (`gt_upstream.probes`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from probed import Constant, small_text, subject, values

from gt.evals.subject import Subject
from gt.probes.network import Network
from gt.probes.texts import held_out_texts
from gt_upstream.probes import Recorded, gradient_ratio, of_states


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


def recorded(looked_at: Subject) -> dict[str, float]:
    found = values(of_states(looked_at, held_out_texts(looked_at).shape[1] - 1))
    return {name: own or 0.0 for name, own in found.items()}


def test_the_record_s_forms(data: Path) -> None:
    looked_at = subject(data, "GF")
    found = recorded(looked_at)
    r, m = found["record/state_norm/r"], found["record/state_norm/m"]
    assert found["record/state_norm_share"] == pytest.approx(m / (r + m), rel=1e-4)


def test_the_record_s_mamba_state_is_an_output_and_does_not_grow(data: Path) -> None:
    """Its D1 reads an output of constant size (flaw F-08): here, of a mixer that says the same at every position."""
    looked_at = subject(data, "GF")
    for block in looked_at.model.blocks():
        block.mixers["m"] = Constant(32)
    found = recorded(looked_at)
    assert found["record/state_growth/m"] == pytest.approx(1)
    assert found["record/input_variance/m"] == pytest.approx(0, abs=1e-12)


def test_the_record_s_form_is_drawn_from_the_seed(data: Path) -> None:
    looked_at = subject(data, "GF")
    first, again = (gradient_ratio(looked_at, torch.Size([4, 17])) for _ in range(2))
    assert first == again
    assert (first.value or 0) > 0


def test_a_network_of_one_branch_has_no_states_to_compare(data: Path) -> None:
    assert set(values(Recorded().measure(Network(subject(data, "RWKV-6"), data)))) == {"record/gradient_ratio"}
