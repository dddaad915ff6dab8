"""States of mixers whose every state is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from probed import Constant, small_text, subject
from torch import Tensor, nn

from gt.evals.subject import Subject
from gt.models.mixers.base import State
from gt.probes.sites import sites
from gt.probes.states import before_training, effective_rank, entropy, held_out_texts, mean_cosine, read, states


class Geometric(nn.Module):
    """A mixer whose state is (1, 2) times rate^t, whatever it reads; it writes nothing."""

    axes = ("batch", "channel")

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.used = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        start = torch.tensor([1.0, 2.0]).expand(len(x), 2) if state is None else state.memory
        return 0 * x + self.used, State(start * self.rate ** x.shape[1])

    def state_size(self, context: int) -> int:
        return 2

    def flops_per_token(self, context: int) -> int:
        return 0


class Counting(Geometric):
    """A mixer whose state is how often the first channel was above zero, which the text decides."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        before = torch.zeros(len(x), 1) if state is None else state.memory
        return 0 * x + self.used, State(before + (x[:, :, :1] > 0).sum(1))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_text(tmp_path_factory.mktemp("data"))


def with_mixers(data: Path, mixer: Any) -> Subject:
    looked_at = subject(data, "RWKV-6")
    for block in looked_at.model.blocks():
        block.mixers["r"] = mixer()
    return looked_at


def measured(looked_at: Subject) -> dict[str, Any]:
    result = states(looked_at, looked_at.model, held_out_texts(looked_at))
    return {name: measure["value"] for name, measure in result.items()}


def recorded(looked_at: Subject) -> dict[str, Any]:
    return before_training(looked_at, looked_at.model, held_out_texts(looked_at))[1]


def test_a_state_that_doubles_grows_by_two(data: Path) -> None:
    """It doubles from T to 4 T."""
    length = 16
    rate = 2 ** (1 / (3 * length))
    values = measured(with_mixers(data, lambda: Geometric(rate)))
    assert values["state/growth/r"] == pytest.approx(2, rel=1e-4)
    assert values["state/growth_8x/r"] == pytest.approx(rate ** (3.5 * length), rel=1e-4)
    assert values["state/norm/r/1"] == pytest.approx(5**0.5 * rate**length, rel=1e-4)
    assert values["state/rms/r"] == pytest.approx(2.5**0.5 * rate**length, rel=1e-4)
    assert values["state/change/r"] == pytest.approx(5**0.5 * (rate**length - rate ** (length / 2)), rel=1e-3)


def test_a_state_that_fades_by_a_tenth_keeps_nine(data: Path) -> None:
    values = measured(with_mixers(data, lambda: Geometric(0.9)))
    assert values["state/retention_1/r"] == pytest.approx(0.9, rel=1e-4)
    assert values["state/retention/r"] == pytest.approx(0.9, rel=1e-4)


def test_a_state_that_reads_nothing_is_the_same_for_all_inputs(data: Path) -> None:
    values = measured(with_mixers(data, lambda: Geometric(1.0)))
    assert values["state/input_variance/r"] == 0
    assert values["state/saturation/r"] == 1
    assert values["state/cosine/r"] == pytest.approx(1)
    assert values["state/response/r"] == 0
    assert values["state/variance/r"] == pytest.approx(0.25)  # of the elements 1 and 2


def test_a_state_that_counts_is_read_at_its_stops(data: Path) -> None:
    looked_at = with_mixers(data, lambda: Counting(1.0))
    tokens = held_out_texts(looked_at)[:, :-1]
    looked_at.model.norm = None
    seen = read(looked_at.model, tokens, looked_at)
    block = looked_at.model.blocks()[0]
    first = next(site for site in seen.memories if site.layer == 0)
    with torch.no_grad():
        positive = block.mixer_norm(looked_at.model.embed(tokens))[:, :, 0] > 0
    for stop, memory in seen.memories[first].items():
        assert torch.equal(memory[:, 0], positive[:, : round(stop * looked_at.length)].sum(1).double())


def test_the_record_s_rwkv_forgets_at_its_fixed_rate(data: Path) -> None:
    """Its decay is exp(-exp(-5)) in every channel, so a state keeps 0.99328 of itself a token, whatever it reads."""
    looked_at = subject(data, "GF-cuda")
    for block in looked_at.model.blocks():
        block.mixers["r"].mixer.time_decay.data.fill_(-5.0)
    values = measured(looked_at)
    kept = float(torch.tensor(-5.0).exp().neg().exp())
    assert values["state/retention/r"] == pytest.approx(kept, rel=1e-4)
    assert values["state/retention_1/r"] == pytest.approx(kept, rel=1e-4)


def test_linear_attention_forgets_nothing(data: Path) -> None:
    assert measured(subject(data, "Linear"))["state/retention/l"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("variant", ["GF", "GF-cuda", "GF-time-mix", "SWKV", "GRU", "Towers", "GPT-2"])
def test_reading_in_pieces_gives_what_the_whole_gives(variant: str, data: Path) -> None:
    looked_at = subject(data, variant)
    tokens = held_out_texts(looked_at)[:, :-1]
    seen = read(looked_at.model, tokens, looked_at)
    with torch.no_grad():
        logits, _ = looked_at.model(tokens)
    for stop, at in seen.logits.items():
        torch.testing.assert_close(at, logits[:, round(stop * looked_at.length) - 1], atol=2e-4, rtol=1e-3)
    audited = measured(looked_at)
    assert audited["state/size_ratio"] == 1
    assert (audited["state/repeat_difference"] or 0) < 1e-5


def test_attention_has_no_state_but_an_early_token_reaches_its_output(data: Path) -> None:
    values = measured(subject(data, "GPT-2"))
    assert not [name for name in values if name.startswith("state/norm")]
    assert values["response/logits"] > 0


def test_effective_rank_of_matrices_with_known_singular_values() -> None:
    assert effective_rank(torch.eye(5, dtype=torch.float64)) == pytest.approx(5)
    assert effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0])).double()) == pytest.approx(2)
    assert effective_rank(torch.ones(2, 4, 7, dtype=torch.float64)) == pytest.approx(1)
    # squares 9 and 1: (9 + 1)^2 / (81 + 1)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0])).double()) == pytest.approx(100 / 82)
    assert effective_rank(torch.zeros(3, 3, dtype=torch.float64)) == 0


def test_entropy_and_cosine_of_known_states() -> None:
    assert entropy(torch.ones(2, 3, 4, dtype=torch.float64)) == pytest.approx(1)
    assert entropy(torch.eye(1, 8, dtype=torch.float64)) == 0
    assert entropy(torch.tensor([[1.0, -1.0, 0.0, 0.0]]).double()) == pytest.approx(0.5)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]).double()) == pytest.approx(-1 / 3)


def test_the_record_s_forms(data: Path) -> None:
    looked_at = subject(data, "GF")
    values = {name: measure["value"] for name, measure in recorded(looked_at).items()}
    r, m = values["record/state_norm/r"], values["record/state_norm/m"]
    assert values["record/state_norm_share"] == pytest.approx(m / (r + m), rel=1e-4)
    assert recorded(subject(data, "RWKV-6")) == {}


def test_one_reading_gives_both_the_initial_measures_and_the_record_s(data: Path) -> None:
    looked_at = subject(data, "GF")
    both = before_training(looked_at, looked_at.model, held_out_texts(looked_at))[0]
    alone = states(looked_at, looked_at.model, held_out_texts(looked_at))
    assert both.keys() == alone.keys()
    for name in ("state/rms/r", "state/retention/m", "response/logits", "long_range/perplexity_ratio"):
        assert both[name]["value"] == pytest.approx(alone[name]["value"], rel=1e-3)


def test_the_record_s_mamba_state_is_an_output_and_does_not_grow(data: Path) -> None:
    """Its D1 reads an output of constant size (flaw F-08): here, of a mixer that says the same at every position."""
    looked_at = subject(data, "GF")
    for block in looked_at.model.blocks():
        block.mixers["m"] = Constant(32)
    values = {name: measure["value"] for name, measure in recorded(looked_at).items()}
    assert values["record/state_growth/m"] == pytest.approx(1)
    assert values["record/input_variance/m"] == pytest.approx(0, abs=1e-12)


def test_places_are_in_the_order_of_the_layers(data: Path) -> None:
    assert [(s.branch, s.layer) for s in sites(subject(data, "GF").model)] == [("r", 0), ("m", 0), ("r", 1), ("m", 1)]
