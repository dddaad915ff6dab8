"""Rounded states and decays: how they are rounded, and that nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from subjects import specification, subject

from gt.evals import quantisation as q
from gt.models.mixers.mamba2 import Mamba2
from gt.models.mixers.rwkv6 import RWKV6


def windows(here: object, n: int = 4) -> torch.Tensor:
    val = torch.from_numpy(here.tokens.val[: 17 * n].astype("int64"))  # type: ignore[attr-defined]
    return val.view(n, 17)


@given(st.lists(st.floats(-1e6, 1e6, width=32).filter(lambda v: v == 0 or abs(v) > 1e-30), min_size=2, max_size=30))
def test_eight_bits_are_255_even_steps_to_the_largest(values: list[float]) -> None:
    x = torch.tensor([values])
    step = x.abs().max() / 127
    rounded = q.int8(x)
    assert ((rounded - x).abs() <= step * 0.5001).all()
    assert rounded.abs().max() == pytest.approx(x.abs().max().item(), rel=1e-6)
    if step > 0:
        assert (rounded / step).round().abs().max() <= 127


def test_a_difference_beyond_all_floats_has_an_infinite_ratio() -> None:
    found = q._row("decay/int8", torch.full((3,), 1000.0), torch.ones(3))
    assert (found["difference"], found["perplexity_ratio"]) == (999.0, math.inf)


def test_each_sequence_has_a_scale_of_its_own() -> None:
    x = torch.tensor([[127.0, 1.4], [1.27, 0.014]])
    torch.testing.assert_close(q.int8(x), torch.tensor([[127.0, 1.0], [1.27, 0.01]]))


def test_a_decay_is_rounded_as_the_number_between_0_and_1_that_it_is() -> None:
    w = torch.tensor([0.9999, 0.5, 0.001, 0.0], dtype=torch.float64)
    rounded = q.DECAYS["decay/int8"](w.log().neg().log())
    torch.testing.assert_close(rounded.exp().neg().exp(), torch.tensor([255, 128, 0, 0], dtype=torch.float64) / 255)
    same = q._of_decay(lambda x: x)(w.log().neg().log())
    torch.testing.assert_close(same.exp().neg().exp(), w, rtol=1e-12, atol=0)


def test_without_rounding_nothing_changes(text: Path) -> None:
    here = subject(text, specification())
    mixers = [m for m in here.model.modules() if isinstance(m, (RWKV6, Mamba2))]
    plain = q._whole(here, windows(here))
    with q.rounded_states([mixers], lambda x: x):
        torch.testing.assert_close(q._token_by_token(here, windows(here)), plain, rtol=1e-5, atol=1e-6)
    with q.rounded_decays([m for m in mixers if isinstance(m, RWKV6)], lambda x: x):
        torch.testing.assert_close(q._whole(here, windows(here)), plain, rtol=0, atol=0)


def test_a_state_that_is_rounded_to_nothing_is_no_state(text: Path) -> None:
    """The loss is then that of reading each token with the memory taken out of the state by hand."""
    here = subject(text, specification("m"))
    batch = windows(here)
    mixers = [m for m in here.model.modules() if isinstance(m, Mamba2)]
    with q.rounded_states([mixers], torch.zeros_like):
        rounded = q._token_by_token(here, batch)
    losses, state = [], None
    with torch.inference_mode():
        for t in range(16):
            logits, state = here.model(batch[:, t : t + 1], state)
            emptied = [layer["m"]._replace(memory=torch.zeros_like(layer["m"].memory)) for layer in state["body"]]
            state["body"] = [{**layer, "m": own} for layer, own in zip(state["body"], emptied, strict=True)]
            losses.append(torch.nn.functional.cross_entropy(logits[:, 0], batch[:, t + 1], reduction="none"))
    torch.testing.assert_close(rounded, torch.stack(losses, 1).double().mean(1), rtol=1e-6, atol=1e-7)
    assert (rounded - q._whole(here, batch)).abs().max() > 1e-4


def test_hooks_are_gone_afterwards(text: Path) -> None:
    here = subject(text, specification())
    before = q._whole(here, windows(here))
    measured = q.quantisation(here)
    assert torch.equal(q._whole(here, windows(here)), before)
    assert [case["case"] for case in measured["cases"]] == [
        "state/mamba2/int8", "state/rwkv6/int8", "decay/fp16", "decay/int8", "log_decay/fp16", "log_decay/int8",
    ]  # fmt: skip


def test_half_precision_is_nearer_than_eight_bits() -> None:
    w = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half, eight = (
        (q.DECAYS[name](w.log().neg().log()).exp().neg().exp() - w).abs().max() for name in ("decay/fp16", "decay/int8")
    )
    assert half <= 2**-12 + 1e-12
    assert 2**-10 < eight <= 0.5 / 255 + 1e-12


def test_attention_has_nothing_to_round(text: Path) -> None:
    assert q.quantisation(subject(text, specification("a")))["cases"] == []
