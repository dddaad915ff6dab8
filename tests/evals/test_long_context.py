"""What more context gives, to models of which it is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from subjects import Known, along, lookup, measure, specification, subject, uniform, values

from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.evals.long_context import held_to, slope, useful_window
from gt.evals.subject import Subject

PERIOD = 40


def periodic(text: Path, model: object) -> Subject:
    """A text of 40 tokens, each once, over and over: what came after a token is known after 40 more."""
    here = subject(text, specification(length=64), model)
    order = np.random.default_rng(0).permutation(PERIOD).astype("<u2")
    return dataclasses.replace(here, tokens=dataclasses.replace(here.tokens, val=np.tile(order, 60)))


def test_a_model_that_looks_back_gains_from_the_first_window_that_holds_what_it_looks_for(text: Path) -> None:
    measured = measure("long_context", periodic(text, Known(PERIOD, lookup(1))))
    losses = {context: loss or 0.0 for context, loss in along(measured, "context/loss").items()}
    assert list(losses) == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert all(losses[c] == pytest.approx(math.log(PERIOD)) for c in (8, 16, 32))
    assert all(losses[c] < 1e-6 for c in (64, 128, 256, 512, 1024))
    assert values(measured)["context/useful_window"] == 64
    assert values(measured)["context/held_to"] == 16
    # The perplexity is 40 where nothing is known, and 1 at the trained length and beyond.
    assert along(measured, "context/perplexity_ratio")[8] == pytest.approx(PERIOD)
    assert along(measured, "context/perplexity_ratio")[512] == pytest.approx(1)


def test_of_more_targets_the_errors_are_smaller_and_longer_windows_may_be_left_out(text: Path) -> None:
    here = subject(text, specification(length=64))
    rich = dataclasses.replace(here, tokens=dataclasses.replace(here.tokens, val=np.tile(here.tokens.val, 3)))
    few, many = (measure({"name": "long_context", "targets": n, "longest": 1}, rich) for n in (256, 2048))
    assert list(along(few, "context/loss")) == list(along(many, "context/loss")) == [8, 16, 32, 64]
    errors = [along(found, "context/gain_se")[64] or 0.0 for found in (few, many)]
    assert errors[0] > 2 * errors[1] > 0
    assert values(many)["context/held_to"] == 1


def test_a_context_in_random_order_gives_it_nothing(text: Path) -> None:
    measured = measure("long_context", periodic(text, Known(PERIOD, lookup(1))))
    plain, shuffled = along(measured, "context/loss"), along(measured, "context/shuffled_loss")
    assert shuffled[8] == plain[8]
    # What it then believes is nearly always wrong.
    assert all((shuffled[c] or 0) > (plain[8] or 0) for c in (64, 256, 1024))


def test_a_model_that_ignores_its_context_has_no_window(text: Path) -> None:
    here = subject(text, specification(length=64), Known(Tokens.open(text).vocab_size, uniform))
    measured = measure("long_context", here)
    assert set(along(measured, "context/gain").values()) == {0.0}
    assert values(measured)["context/useful_window"] is None
    assert values(measured)["context/held_to"] == 16


def test_a_window_is_where_nearly_all_of_the_gain_is_had() -> None:
    noise = torch.linspace(-0.1, 0.1, 50, dtype=torch.float64)
    losses = {8: 3 + noise, 16: 2 + noise, 32: 1.04 + noise, 64: 1.0 - noise, 128: 1.5 + noise}
    assert useful_window(losses) == 32
    assert useful_window({8: 3 + noise, 16: 3 - noise}) is None
    assert useful_window({8: 1 + noise, 16: 2 + noise}) is None


def test_a_perplexity_is_held_up_to_the_first_context_where_it_is_not() -> None:
    just, more = math.log(1.049), math.log(1.051)
    assert held_to({32: 9.0, 64: 1.0, 128: 1.0 + just, 256: 1.0 + more, 512: 1.0}, 64) == 2
    assert held_to({64: 1.0, 128: 0.5, 256: 0.4}, 64) == 4
    assert held_to({8: 1.0}, 64) is None
    assert held_to({64: 1.0, 128: math.nan, 256: 1.0}, 64) == 1


def test_a_model_that_breaks_down_has_no_losses_there_and_holds_no_further(text: Path) -> None:
    def broken(tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
        known = lookup(1)(tokens, vocab_size)
        return known if tokens.shape[1] <= 256 else known + torch.nan

    measured = measure("long_context", periodic(text, Known(PERIOD, broken)))
    assert [loss is None for loss in along(measured, "context/loss").values()] == [False] * 6 + [True] * 2
    assert values(measured)["context/useful_window"] == 64
    assert values(measured)["context/held_to"] == 4


def test_the_slope_is_that_of_a_line_through_the_losses_over_octaves() -> None:
    assert slope({8: 2.0, 16: 1.5, 64: 0.5}) == pytest.approx(-0.5)
    assert slope({8: 2.0}) is None


def test_learned_positions_end_at_their_table(text: Path) -> None:
    table = subject(text, specification("a", length=16, positions="learned", max_positions=32))
    free = subject(text, specification("a", length=16))
    ended, going = (list(along(measure("long_context", here), "context/loss")) for here in (table, free))
    assert ended == going[:5] and len(going) == 8


def test_a_window_of_the_trained_length_is_read_as_in_training(text: Path) -> None:
    """The last loss of each window is that of the whole forward pass over it."""
    here = subject(text, specification(length=16))
    windows = torch.from_numpy(np.asarray(here.tokens.val[: 17 * 5]).astype(np.int64)).view(5, 17)
    with torch.inference_mode():
        logits, _ = here.model(windows[:, :-1])
    expected = torch.nn.functional.cross_entropy(logits[:, -3:].flatten(0, 1), windows[:, -3:].flatten(), reduction="none")
    torch.testing.assert_close(here.last_losses(windows, 3).flatten().float(), expected, rtol=1e-5, atol=1e-6)


def test_a_text_that_is_too_short_is_refused(text: Path) -> None:
    here = subject(text, specification(length=64))
    short = dataclasses.replace(here, tokens=dataclasses.replace(here.tokens, val=here.tokens.val[:12]))
    with pytest.raises(ConfigError, match="val split has 12 tokens"):
        measure("long_context", short)
