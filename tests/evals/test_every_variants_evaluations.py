"""Every evaluation works on whatever a shipped variant has: what does not apply is not there, never an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from subjects import measure, specification, subject
from variants import covering, tiny

from gt.evals import cost, generation, long_context, needle, quantisation
from gt.evals.generation import generate, greedy
from gt.spec import ModelSpec, RunSpec

FURTHER = ("long_context", "needle", "generation", "cost", "quantisation")


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_context, "TARGETS", {"cpu": 4})
    monkeypatch.setattr(quantisation, "TARGETS", {"cpu": 64})
    monkeypatch.setattr(needle, "TRIALS", 2)
    monkeypatch.setattr(needle, "DEPTHS", (0.5,))
    monkeypatch.setattr(cost, "MULTIPLES", (1,))
    monkeypatch.setattr(cost, "ROUNDS", 1)
    monkeypatch.setattr(generation, "MULTIPLES", (1, 2))


@pytest.mark.parametrize("name", covering())
def test_every_evaluation_works(name: str, text: Path) -> None:
    model = ModelSpec.model_validate(tiny(name))
    spec = RunSpec.model_validate({**specification(length=16).model_dump(), "model": model.model_dump()})
    here = subject(text, spec)
    for name in FURTHER:
        assert all(own.value is None or abs(own.value) < 1e9 for own in measure(name, here)), name
    prompt = torch.tensor([[5, 9, 2]])
    text_by_step = torch.cat([token for token, _ in generate(here.model, prompt, 6, greedy, "float32")], dim=1)
    whole = prompt
    with torch.inference_mode():
        for _ in range(6):
            whole = torch.cat([whole, greedy(here.model(whole)[0][:, -1])], dim=1)
    assert text_by_step.tolist() == whole[:, 3:].tolist()
