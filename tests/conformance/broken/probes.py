"""Probes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from gt.metrics import Measurement, Metric
from gt.probes.base import Probe
from gt.probes.network import Network


class Embedded(Probe):
    """How large embeddings are."""

    name = "embedded"
    metrics = (Metric("embedding/norm", "norm of the embedding"),)
    breaks: ClassVar[str] = ""
    says: ClassVar[str] = ""

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield Measurement("embedding/norm", {}, network.model.embedding.weight.norm().item())


class Shaking(Embedded):
    """It shakes the network and does not put it back."""

    name = "shaking"
    breaks = "test_a_model_is_left_as_it_was"
    says = "it changes embedding.weight: work on a copy"

    def measure(self, network: Network) -> Iterator[Measurement]:
        yield from super().measure(network)
        with torch.no_grad():
            network.model.embedding.weight.mul_(2)


class Hooked(Embedded):
    """It leaves a hook."""

    name = "hooked"
    breaks = "test_a_model_is_left_as_it_was"
    says = r"it leaves a hook on embedding: use gt\.evals\.subject\.hooked"

    def measure(self, network: Network) -> Iterator[Measurement]:
        network.model.embedding.register_forward_hook(lambda *_: None)
        yield from super().measure(network)
