"""How many parameters each part of a network has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gt.metrics import PART, Measurement, Metric
from gt.probes.base import Probe
from gt.training.flat import part

if TYPE_CHECKING:
    from gt.probes.network import Network


class Parameters(Probe):
    """The parameters of the parts of a network."""

    name = "parameters"
    metrics = (
        Metric(
            "parameters/<part>",
            "number of parameters of <part>",
            axes=(PART,),
            definition="parameters of a part of the model",
        ),
    )

    def measure(self, network: Network) -> Iterator[Measurement]:
        counts: Counter[str] = Counter()
        for name, parameter in network.model.named_parameters():
            counts[part(name)] += parameter.numel()
        for name, count in counts.items():
            yield Measurement("parameters/<part>", {"part": name}, count)
