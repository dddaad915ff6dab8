"""An evaluation with a metric and an axis of its own."""

from collections.abc import Iterator

import torch
from gt.evals.base import Evaluation
from gt.metrics import Axis, Measurement, Metric

from gt.data.batches import whole_windows
from gt.evals.subject import Subject


class Certainty(Evaluation):
    """How often a model is sure of the next token."""

    name = "certainty"
    metrics = (Metric("certainty/above_<share>", "share of tokens with more than <share> on one", axes=(Axis("share"),)),)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        windows = torch.from_numpy(whole_windows(subject.tokens.val, subject.length, 512))
        with torch.no_grad():
            best = subject.model(windows[:, :-1]).softmax(-1).amax(-1)
        for share in (0.25, 0.5):
            yield Measurement("certainty/above_<share>", {"share": share}, (best > share).double().mean().item())
