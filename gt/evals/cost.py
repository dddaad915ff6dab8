"""What a model costs to train and to run at growing lengths and batches: tokens/s and peak memory.

One pass without an optimizer, without compiled regions and without graphs: the model's own arithmetic, the same for all. How
fast runs are trained stands in their manifests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import Axis, Measurement, Metric
from gt.models.lm import audit
from gt.training.losses import mean_loss, token_losses

MULTIPLES = (1, 4, 16)
BATCHES = (1, 8)
ROUNDS = 3
AXES = (Axis("batch", r"\d+"), Axis("length", r"\d+"))


class Cost(Evaluation):
    """Speed, memory, state and FLOPs of a forward and of a training pass, by length and batch."""

    name = "cost"
    metrics = (
        Metric(
            "cost/flops_per_token/batch_<batch>",
            "forward FLOPs per token in batches of <batch>",
            "FLOPs",
            AXES,
            "lower",
            "forward, in windows of so many tokens",
        ),
        Metric(
            "cost/state_size/batch_<batch>",
            "floats carried from token to token in batches of <batch>",
            "floats",
            AXES,
            "lower",
            "carried after a window of so many tokens",
        ),
        Metric(
            "cost/forward_tokens_per_second/batch_<batch>",
            "forward tokens per second in batches of <batch>",
            "tokens/s",
            AXES,
            "higher",
            "of a forward pass",
        ),
        Metric(
            "cost/forward_peak_bytes/batch_<batch>",
            "peak memory of a forward pass in bytes in batches of <batch>",
            "bytes",
            AXES,
            "lower",
            "peak GPU memory of a forward pass",
        ),
        Metric(
            "cost/training_tokens_per_second/batch_<batch>",
            "training tokens per second in batches of <batch>",
            "tokens/s",
            AXES,
            "higher",
            "forward and backward",
        ),
        Metric(
            "cost/training_peak_bytes/batch_<batch>",
            "peak memory of a training step in bytes in batches of <batch>",
            "bytes",
            AXES,
            "lower",
            "peak GPU memory of forward and backward",
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """For lengths T, 4 T, 16 T and batches of 1 and 8: tokens/s and, on a GPU, peak bytes of a forward pass and of a
        training pass (forward and backward); and the counted FLOPs/token (forward) and floats of state at that length.

        Speeds are the best of three passes after one that is not counted. Nothing beyond the positions of a model.
        """
        for length in (multiple * subject.length for multiple in MULTIPLES):
            if subject.fits(length) and len(subject.tokens.train) > length:
                for batch in BATCHES:
                    yield from _in_batches(subject, length, batch)


def _in_batches(subject: Subject, length: int, batch: int) -> Iterator[Measurement]:
    counted, place = audit(subject.model, length), {"batch": batch, "length": length}
    yield Measurement("cost/flops_per_token/batch_<batch>", {**place}, counted.flops_per_token)
    yield Measurement("cost/state_size/batch_<batch>", {**place}, counted.state_size)
    tokens = torch.from_numpy(subject.tokens.train[: length + 1].astype("int64")).expand(batch, -1).to(subject.device)
    for name, one_pass in (("forward", _forward), ("training", _training)):
        seconds, peak = _best(subject, one_pass, tokens)
        yield Measurement(f"cost/{name}_tokens_per_second/batch_<batch>", {**place}, batch * length / seconds)
        if peak is not None:
            yield Measurement(f"cost/{name}_peak_bytes/batch_<batch>", {**place}, peak)


def _forward(subject: Subject, tokens: torch.Tensor) -> None:
    with torch.inference_mode():
        token_losses(subject.model, tokens, subject.spec.training.precision)


def _training(subject: Subject, tokens: torch.Tensor) -> None:
    loss = mean_loss(token_losses(subject.model, tokens, subject.spec.training.precision), tokens[:, 1:])
    torch.autograd.grad(loss, [p for p in subject.model.parameters() if p.requires_grad], allow_unused=True)


def _best(
    subject: Subject, one_pass: Callable[[Subject, torch.Tensor], None], tokens: torch.Tensor
) -> tuple[float, int | None]:
    """The shortest time (s), and the peak of memory beyond what was there."""
    on_gpu = subject.device.type == "cuda"
    times = []
    for _ in range(1 + ROUNDS):
        if on_gpu:
            torch.cuda.synchronize(subject.device)
            before = torch.cuda.memory_allocated(subject.device)
            torch.cuda.reset_peak_memory_stats(subject.device)
        start = time.perf_counter()
        one_pass(subject, tokens)
        if on_gpu:
            torch.cuda.synchronize(subject.device)
        times.append(time.perf_counter() - start)
    return min(times[1:]), torch.cuda.max_memory_allocated(subject.device) - before if on_gpu else None
