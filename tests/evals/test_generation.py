"""Generation: step by step what the whole sequence gives, from a seed, in the memory that a model says it needs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import CPU, specification, subject

from gt.cli import main
from gt.data.tokenizers import load_tokenizer
from gt.errors import ConfigError
from gt.evals.cost import cost
from gt.evals.generation import Sampler, generate, generation, greedy, sample, state_bytes
from gt.models.lm import audit


def tokens_of(here: Any, prompt: torch.Tensor, length: int, choose: Any = greedy) -> list[list[int]]:
    pieces = [token for token, _ in generate(here.model, prompt, length, choose, "float32")]
    return torch.cat(pieces, dim=1).tolist()


@pytest.mark.parametrize("layers", ["r", "m", "a", "r+m"])
def test_greedy_text_is_that_of_reading_everything_again_for_each_token(text: Path, layers: str) -> None:
    here = subject(text, specification(layers))
    prompt = torch.tensor([[5, 9, 2], [7, 1, 1]])
    whole = prompt
    with torch.inference_mode():
        for _ in range(20):
            whole = torch.cat([whole, greedy(here.model(whole)[0][:, -1])], dim=1)
    assert tokens_of(here, prompt, 20) == whole[:, 3:].tolist()


def test_a_seed_gives_its_text_each_time(text: Path) -> None:
    here = subject(text, specification())
    prompt = torch.tensor([[5]])
    first, again, other = (tokens_of(here, prompt, 40, Sampler(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_draws_follow_the_probabilities_at_a_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    n = 20_000
    for temperature in (0.5, 1.0, 2.0):
        drawn = Sampler(temperature, seed=3)(logits.expand(n, -1)).flatten()
        p = (logits.double() / temperature).softmax(0)
        error = torch.bincount(drawn, minlength=4) / n - p
        assert (error.abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_only_the_most_likely_are_drawn_if_so_asked() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).expand(500, -1)
    assert set(Sampler(top_k=2)(logits).flatten().tolist()) == {1, 2}
    assert set(Sampler(top_k=1)(logits).flatten().tolist()) == {2}
    assert set(Sampler(temperature=0)(logits).flatten().tolist()) == {2}
    assert set(Sampler(top_k=9)(logits).flatten().tolist()) == {0, 1, 2, 3}


def test_a_recurrent_state_stays_as_large_as_it_is_and_a_cache_grows(text: Path) -> None:
    sizes: dict[str, list[int]] = {}
    for layers in ("r", "m", "a"):
        here = subject(text, specification(layers))
        sizes[layers] = [state_bytes(s) for _, s in generate(here.model, torch.tensor([[5]]), 12, greedy, "float32")]
        # What the audit counts in floats.
        assert sizes[layers][-1] == 4 * audit(here.model, 12).state_size
    assert len(set(sizes["r"])) == len(set(sizes["m"])) == 1
    assert [b - a for a, b in zip(sizes["a"], sizes["a"][1:], strict=False)] == [2 * 2 * 16 * 4] * 11


def test_generation_is_measured_where_a_model_has_positions(text: Path) -> None:
    rows = generation(subject(text, specification("a", length=16, positions="learned", max_positions=64)))["lengths"]
    assert [row["length"] for row in rows] == [16, 64, 256]
    assert [row["state_bytes"] for row in rows] == [2 * 2 * 16 * 4 * 16, 2 * 2 * 16 * 4 * 64, None]


def test_a_text_longer_than_the_positions_is_refused(text: Path) -> None:
    here = subject(text, specification("a", positions="learned", max_positions=16))
    assert len(tokens_of(here, torch.tensor([[5]]), 16)[0]) == 16
    with pytest.raises(ConfigError, match="positions for 16 tokens"):
        tokens_of(here, torch.tensor([[5]]), 17)


def test_costs_are_counted_and_measured_at_every_length_and_batch(text: Path) -> None:
    here = subject(text, specification("a", length=16, positions="learned", max_positions=64))
    cells = cost(here)["cells"]
    assert [(cell["length"], cell["batch"]) for cell in cells] == [(n, b) for n in (16, 64, 256) for b in (1, 8)]
    assert [cell["flops_per_token"] for cell in cells[:4:2]] == [audit(here.model, n).flops_per_token for n in (16, 64)]
    assert all(cell["training_tokens_per_second"] > 0 for cell in cells[:4])
    assert all(cell["training_tokens_per_second"] is None for cell in cells[4:])


def test_a_sample_is_the_prompt_and_so_many_tokens(record: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(record), "--data", str(text), "--prompt", "In the", "--length", "30", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("In the")
    assert len(printed.out) == 36
    assert "30 tokens" in printed.err
    out = io.StringIO()
    sample(record, text, CPU, "In the", 30, Sampler(), out)
    assert out.getvalue() == printed.out


def test_characters_that_are_cut_are_shown_when_they_are_whole(
    record: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(text)
    assert tokenizer.decode([0]) == "\ufffd"
    out = io.StringIO()
    chosen = iter([0, 5, 0, 0])
    sample(record, text, CPU, "A", 4, lambda logits: torch.full((1, 1), next(chosen)), out)
    assert out.getvalue() == "A" + tokenizer.decode([0, 5, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "漢"], "1 of its characters do not occur"),
        (["--top-k", "0"], "--top-k: 0 is not allowed. Allowed: whole numbers from 1."),
        (["--temperature", "-1"], "--temperature: -1 is not allowed. Allowed: numbers from 0."),
        (["--temperature", "nan"], "--temperature: nan is not allowed"),
        (["--temperature", "inf"], "--temperature: inf is not allowed"),
        (["--length", "0"], "--length: 0 is not allowed"),
        (["--length", "-1"], "--length: -1 is not allowed"),
        (["--seed", "-1"], "--seed: -1 is not allowed"),
        (["--seed", "1.5"], "--seed: 1.5 is not allowed"),
    ],
)
def test_what_cannot_be_sampled_is_one_message(
    record: Path, text: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(record), "--data", str(text), "--device", "cpu", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--out", "bench.json", "--rounds", "0"],
        ["bench", "--out", "bench.json", "--seconds", "nan"],
        ["figures", "--study", "study", "--jobs", "0"],
        ["list", "--context", "0"],
        ["match", "GPT-2", "GF", "--context", "-1"],
        ["probe", "--run", "run", "--data", "data", "--threads", "0"],
        [
            "train",
            "--run",
            "a",
            "--plan",
            "b",
            "--data",
            "c",
            "--out",
            "d",
            "--checkpoints",
            "e",
            "--attempts",
            "f",
            "--checkpoint-seconds",
            "-1",
        ],
    ],
)
def test_numbers_that_an_option_cannot_have_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    option, value = arguments[-2:]
    assert capsys.readouterr().err.startswith(f"gt: {option}: {value} is not allowed. Allowed: ")


def test_the_coldest_of_temperatures_gives_the_most_likely_token() -> None:
    logits = torch.tensor([[-3.0, 2.0, 1.0]])
    assert Sampler(temperature=5e-324)(logits).item() == Sampler(temperature=0)(logits).item() == 1


def test_a_record_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "no-such-run"]) == 2
    assert "no-such-run: there is no such record" in capsys.readouterr().err
