"""What a probe is: something that is measured inside a trained network, and written into `probes.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from gt.metrics import Measurement, Metric

if TYPE_CHECKING:
    from gt.probes.network import Network


class Probe:
    """One thing that is measured inside a network.

    A class with a `name`, a docstring, the `metrics` that it measures, and `measure`. All probes that are found run, on every
    trained network, and where a metric is also one of the `initial` network on that too: a new probe, or an edit of one, has
    every run probed again, which needs no training. Keep one within a twentieth of the time that training took. `metrics` is
    read and executed apart from its module (`gt.catalogue`). plain: as of an evaluation (`gt.evals.base`).
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    plain: ClassVar[bool] = True

    def measure(self, network: Network) -> Iterator[Measurement]:
        """All measurements of a network, and with the axis `layer` of its layers; of what it does not have, none."""
        raise NotImplementedError
