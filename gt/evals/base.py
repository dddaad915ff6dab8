"""What an evaluation is: something that is measured of a trained model, a file of its run's record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gt.metrics import Measurement, Metric
from gt.options import Options

if TYPE_CHECKING:
    from gt.evals.subject import Subject


class Evaluation:
    """One thing that is measured of a trained model, with its options.

    A class with a `name`, a docstring, the `metrics` that it measures, a nested `Config`, and `measure`. on: the corpora that
    it says something of; of a run on others it has no measurements. `metrics` is read and executed apart from its module
    (`gt.catalogue`), so that what reads numbers need not import what measures them. plain: of another package than gt, its
    metrics are in a table of the report and in MLflow as they are; False where something else shows them.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    on: ClassVar[Literal["texts", "tasks", "both"]] = "both"
    plain: ClassVar[bool] = True

    class Config(Options):
        """Without options."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """All measurements of a model; of what it cannot do, none."""
        raise NotImplementedError
