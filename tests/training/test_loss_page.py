"""What docs/howto/loss.md shows does what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from corpus import words
from references import masked
from runs import HYBRID, run_spec
from torch import Tensor

from gt.data.tokens import Tokens
from gt.training import reference
from gt.training.cohort import Cohort
from gt.training.objective import InRegions
from gt.training.plan import batches

PAGE = Path(__file__).parents[2] / "docs/howto/loss.md"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The names that the page's code has made, and what it has printed."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    Path("page.py").write_text("".join(blocks))
    return {**runpy.run_path("page.py"), "printed": capsys.readouterr().out}


def test_the_example_trains_and_its_step_is_that_of_the_loss_written_out(shown: dict[str, Any], tmp_path: Path) -> None:
    assert [line.split()[0] for line in shown["printed"].splitlines()] == ["0", "10", "20"]
    weight = 0.3  # so that it is seen
    tokens = masked(Tokens.open(words(tmp_path)), 16)
    constant = {"learning_rate": 0.1, "min_learning_rate_ratio": 1.0, "warmup_ratio": 0.0}
    plain = {"optimizer": {"name": "sgd", "momentum": 0.0}, "clip_norm": None}
    spec = run_spec(HYBRID, steps=1, sequence_length=16, grad_accumulation=2, **constant, **plain)
    model = reference.initial_model(spec, tokens, torch.float64)
    batch, _ = reference.batch_of(spec, tokens, batches(spec, tokens, None), 0)
    targets = batch[:, 1:]
    logits = model(torch.where(batch < 0, ~batch, batch)[:, :-1])[0][targets >= 0]
    nats = F.cross_entropy(logits, targets[targets >= 0])
    objective = nats + weight * logits.exp().sum(-1).log().square().mean()
    gradients = torch.autograd.grad(objective, list(model.parameters()))
    expected = {name: w.detach() - 0.1 * g for (name, w), g in zip(model.named_parameters(), gradients, strict=True)}

    def after(in_regions: bool) -> tuple[dict[str, Tensor], float]:
        cohort = Cohort([spec], tokens, torch.device("cpu"), torch.float64, criterion=shown["ZLoss"](weight))
        if in_regions:
            runs = (cohort.model, cohort.subject.leaves, 1, cohort.training)
            cohort.stepper.objective = InRegions(*runs, shown["ZLoss"](weight), compiled=False)
        cohort.plan.prepare(0)
        cohort.stepper(cohort.book.log)
        return cohort.parameters(0), cohort.book.log[0, 0, 0].item()

    for in_regions in (False, True):
        weights, logged = after(in_regions)
        assert logged == pytest.approx(nats.item(), rel=1e-10)
        for name, w in weights.items():
            torch.testing.assert_close(w.detach(), expected[name], rtol=1e-9, atol=1e-11)
