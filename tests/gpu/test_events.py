"""What `gt bench` sees of a step on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gt.bench.candidates import candidates
from gt.bench.events import with_bytes
from gt.bench.noise import noise
from gt.bench.trainers import Cohorts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
STUDY = Path(__file__).parents[2] / "config/studies/v4_char.yaml"


def test_a_graph_has_the_products_of_the_step_one_by_one_and_their_bytes() -> None:
    own = Cohorts(candidates("models", STUDY, quick=True)[1], noise(66), torch.device("cuda"))
    own.take(2)
    graph, single = own.events(), own.events(captured=False)
    assert any(event.kind == "products" and event.bytes for event in single)
    products = [[event.name for event in found if event.kind == "products"] for found in (graph, single)]
    assert sorted(products[0]) == sorted(products[1]) != []
    known = with_bytes(graph, single)
    assert any(event.bytes for event in known if event.kind == "products")
    assert all(event.bytes for event in known if event.name in ("norm_forward_kernel", "norm_backward_kernel"))
