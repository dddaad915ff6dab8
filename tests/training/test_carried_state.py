"""Truncated backpropagation through time: each step begins with the states that the last one ended with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import words
from pydantic import ValidationError
from runs import HYBRID, assert_same, column, go_on, resumed, run_spec, trained
from variants import VARIANTS, tiny

from gt.data.batches import Tracks
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.models.lm import LanguageModel, check
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training.carried import Carried
from gt.training.cohort import Cohort
from gt.training.losses import token_losses

CARRY = {"batch_order": "tracks", "carry_state": True}
# Nothing moves: each step's loss is one of the initial weights.
STILL = {
    "parts": {part: {"learning_rate": 0.0} for part in ("mixers.r", "mixers.m", "fusion", "feed_forward", "embedding", "norm")}
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """A text so short that each of 4 tracks has 4 windows: 12 steps are three epochs."""
    tokens = Tokens.open(words(tmp_path_factory.mktemp("data")))
    return replace(tokens, train=tokens.train[:600])


def initial(spec: RunSpec, vocab_size: int) -> LanguageModel:
    model = LanguageModel(spec.model, vocab_size)
    model.reset_parameters(Streams(spec.seed))
    return model.double()


def tracks(data: Tokens, spec: RunSpec) -> Tracks:
    training = spec.training
    return Tracks(data.train, training.batch_size, training.sequence_length, spec.seed)


@pytest.mark.parametrize("fusion", ["gated", "gru"])
def test_the_loss_of_a_step_is_that_of_one_pass_over_all_of_the_track_so_far(data: Tokens, fusion: str) -> None:
    spec = run_spec({**HYBRID, "fusion": {"name": fusion}, "feed_forward": {"name": "channel_mix"}}, **STILL, **CARRY)
    batches = tracks(data, spec)
    assert batches.steps_per_epoch == 4
    cohort = trained([spec], data)
    model = initial(spec, data.vocab_size)
    expected = []
    for epoch in range(3):
        steps = [torch.from_numpy(batches.batch(4 * epoch + i)) for i in range(4)]
        whole = torch.cat([steps[0], *(step[:, 1:] for step in steps[1:])], dim=1)
        with torch.no_grad():
            losses = token_losses(model, whole, "float32").view(4, 4, 32)
        expected += losses.mean((0, 2)).tolist()
    assert column(cohort, "train/loss")[1:] == pytest.approx(expected, rel=1e-10)


def test_the_same_order_without_carrying_is_a_pass_a_window(data: Tokens) -> None:
    spec = run_spec(**STILL, batch_order="tracks")
    batches, cohort = tracks(data, spec), trained([spec], data)
    model = initial(spec, data.vocab_size)
    with torch.no_grad():
        expected = [token_losses(model, torch.from_numpy(batches.batch(i)), "float32").mean().item() for i in range(12)]
    assert column(cohort, "train/loss")[1:] == pytest.approx(expected, rel=1e-10)
    carrying = column(trained([run_spec(**STILL, **CARRY)], data), "train/loss")[1:]
    same = [a == pytest.approx(b, rel=1e-10) for a, b in zip(carrying, expected, strict=True)]
    assert same == [True, False, False, False] * 3  # it is the text before that makes the difference


@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_run_that_stops_goes_on_to_the_same_bits(data: Tokens, tmp_path: Path, stop: int) -> None:
    spec = run_spec(**CARRY)
    assert_same(resumed([spec], data, stop, tmp_path), 0, trained([spec], data))


def carries(name: str) -> bool:
    try:
        check(run_spec(tiny(name), **CARRY))
    except ConfigError:
        return False
    return True


def test_every_variant_whose_state_has_one_size_goes_on_from_it() -> None:
    tokens = torch.randint(11, (2, 14), generator=torch.Generator().manual_seed(0))
    carrying = [name for name in VARIANTS if carries(name)]
    assert len(carrying) > 80
    for name in carrying:
        model = initial(run_spec(tiny(name)), 11)
        carried = Carried(model, tokens[:, :3], "float32", runs=1)
        with torch.no_grad():
            whole, _ = model(tokens)
            first, state = model(tokens[:, :5])
            carried.keep(tuple(part.unsqueeze(0) for part in carried.parts(state)))
            rest, _ = model(tokens[:, 5:], carried.state(tuple(part[0] for part in carried.tensors)))
        torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"layers": "a", "mixers": {"a": {"name": "attention", "n_head": 2}}}, "the state of attention grows"),
        ({"layers": "m", "mixers": {"m": HYBRID["mixers"]["m"]}, "positions": "learned"}, "learned positions end"),
        (
            {"layers": "r", "mixers": {"r": {"name": "rwkv6", "head_size": 8, "initial_state": "learned"}}},
            "rwkv6.initial_state is learned",
        ),
    ],
)
def test_a_model_that_cannot_carry_a_state_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(run_spec({"d_model": 16, "n_layer": 2, **model}, **CARRY))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"carry_state": True}, "needs batch_order tracks"),
        ({**CARRY, "grad_accumulation": 2}, "needs grad_accumulation 1"),
        ({**CARRY, "curriculum": [{"steps": 1, "sequence_length": 8}]}, "not with a curriculum"),
    ],
)
def test_a_training_that_cannot_carry_a_state_is_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        run_spec(**training)


def test_a_text_that_is_too_short_for_the_tracks_is_refused(data: Tokens) -> None:
    with pytest.raises(ConfigError, match="too few for 512 tracks"):
        trained([run_spec(batch_size=512, **CARRY)], data)


def test_bfloat16_states_stay_on_the_way(data: Tokens) -> None:
    spec = run_spec(**CARRY, precision="bfloat16")
    cohort = go_on(Cohort([spec], data, torch.device("cpu")))
    assert cohort.objective.carried is not None
    assert all(tensor.isfinite().all() for tensor in cohort.objective.carried.tensors)
    assert column(cohort, "train/loss")[-1] < column(cohort, "train/loss")[1]
