"""How much of a recall task a model that was trained on it can do: the share of its answers that are right.

The test split's episodes, which training never saw; and, as a negative control, the same with what is asked for taken out,
where only guessing is left. Also in longer episodes than the trained ones. (The record's
needle was never in the prompt: flaw F-14.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from gt.data.tasks import HELD_OUT, Episodes, draw
from gt.data.tokenizers import load_tokenizer
from gt.evals.base import Evaluation
from gt.evals.subject import Subject
from gt.metrics import Axis, Measurement, Metric, Value
from gt.training.losses import autocast

# Of the trained length: lengths at which episodes with as many items are tested.
LENGTHS = (1, 2, 4)


TASK = Axis("task", "[a-z]+")
ITEMS, DISTANCE, LENGTH = (Axis(name, r"\d+") for name in ("items", "distance", "length"))


class Recall(Evaluation):
    """How many answers of a recall task's unseen episodes are right."""

    name = "recall"
    on = "tasks"
    metrics = (
        Metric(
            "recall/<task>/accuracy",
            "accuracy on the recall task `<task>`",
            axes=(TASK,),
            better="higher",
            definition="share of right answers on unseen episodes of the recall task that the model was trained on",
            source="C-D-04",
        ),
        Metric(
            "recall/<task>/by_items",
            "accuracy on the recall task `<task>` by number of items",
            axes=(TASK, ITEMS),
            better="higher",
            definition="the same, of episodes with so many items (at)",
            source="C-D-04",
        ),
        Metric(
            "recall/<task>/by_distance",
            "accuracy on the recall task `<task>` by distance",
            axes=(TASK, DISTANCE),
            better="higher",
            definition="the same, of answers so far from their source, in octaves",
        ),
        Metric(
            "recall/<task>/by_length",
            "accuracy on the recall task `<task>` by length",
            axes=(TASK, LENGTH),
            better="higher",
            definition="the same, in episodes of so many tokens",
        ),
        Metric(
            "recall/<task>/episodes",
            "share of episodes of the recall task `<task>` without a mistake",
            axes=(TASK,),
            better="higher",
            definition="share of episodes whose every answer is right",
        ),
        Metric(
            "recall/<task>/control",
            "accuracy on the recall task `<task>` without what is asked for",
            axes=(TASK,),
            definition="recall/<task>/accuracy without what is asked for in the episode",
            source="upstream flaw F-14",
        ),
        Metric(
            "recall/<task>/chance",
            "accuracy of a guess on the recall task `<task>`",
            axes=(TASK,),
            definition="of a guess among the values",
        ),
        Metric(
            "recall/<task>/persistence",
            "persistence score on the recall task `<task>`",
            axes=(TASK,),
            better="higher",
            definition="SPS: 100 x share of the distractors that half of the facts survive",
            source="V5_GATING.md (SPS)",
        ),
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Accuracy with its interval in all, without the source (`control`), by items, by distance and by length of episode.

        `chance`: of a guess among the values. `episodes`: the share of episodes whose every answer is right. `persistence` (of
        that task): 100 times the largest share of the distractors tested that at least half of the facts surely survive.
        Intervals are Wilson's for independent answers; those of one episode share its noise.
        """
        assert subject.spec.corpus.task is not None
        task, name = subject.spec.corpus.task, subject.spec.corpus.name.removeprefix("task:")
        episodes = draw(name, task, "test", HELD_OUT)
        right = _right(subject, episodes)
        rows, places = np.nonzero(episodes.answers)
        by_items = [share("recall/<task>/by_items", right[episodes.items[rows] == n], task=name, items=n) for n in task.items]
        wrong = np.zeros(len(episodes.answers), dtype=int)
        np.add.at(wrong, rows, ~right)
        yield share("recall/<task>/accuracy", right, task=name)
        yield share("recall/<task>/episodes", wrong == 0, task=name)
        yield share("recall/<task>/control", _right(subject, episodes.without_sources()), task=name)
        yield Measurement("recall/<task>/chance", {"task": name}, 1 / task.symbols)
        if name == "persistence":
            kept = [int(own.axes["items"]) for own in by_items if own.lower is not None and own.lower >= 0.5]
            yield Measurement("recall/<task>/persistence", {"task": name}, 100 * max(kept, default=0) / max(task.items))
        yield from by_items
        yield from by_distance(right, places - episodes.sources[rows, places], task=name)
        for multiple in LENGTHS:
            yield from _at_length(subject, name, multiple)


def share(metric: str, right: np.ndarray, **axes: Value) -> Measurement:
    """The share of true values, with Wilson's 95 % interval and their number. right: bool (n,), n > 0."""
    from scipy import stats

    k, n = int(right.sum()), len(right)
    interval = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    return Measurement(metric, axes, k / n, float(interval.low), float(interval.high), n)


def by_distance(right: np.ndarray, distances: np.ndarray, task: str) -> Iterator[Measurement]:
    """The share that is right at distances 1, 2 to 3, 4 to 7 ... where there are any. Both (n,)."""
    octaves = np.frexp(distances)[1]
    for octave in np.unique(octaves):
        yield share("recall/<task>/by_distance", right[octaves == octave], task=task, distance=int(2 ** (octave - 1)))


def _at_length(subject: Subject, name: str, multiple: int) -> Iterator[Measurement]:
    task = subject.spec.corpus.task
    assert task is not None
    longer = task.model_copy(update={"length": multiple * task.length})
    if subject.fits(longer.length):
        right = _right(subject, draw(name, longer, "test", HELD_OUT // multiple))
        yield share("recall/<task>/by_length", right, task=name, length=longer.length)


@torch.inference_mode()
def _right(subject: Subject, episodes: Episodes) -> np.ndarray:
    """Whether each answer, episode by episode, is what the model finds most likely: (answers,)."""
    assert subject.spec.corpus.task is not None
    text = episodes.text(subject.spec.corpus.task.symbols)
    tokens = torch.from_numpy(load_tokenizer(subject.data).encode(text)).view(episodes.tokens.shape)
    answers = torch.from_numpy(episodes.answers)
    right = []
    size = subject.at_once(tokens.shape[1])
    for batch, asked in zip(tokens.split(size), answers.split(size), strict=True):
        here, asked = batch.to(subject.device), asked.to(subject.device)[:, 1:]
        with autocast(subject.device, subject.spec.training.precision):
            x, _ = subject.model.body(subject.model.embed(here[:, :-1]))
            guesses = subject.model.read_out(x[asked].unsqueeze(0)).argmax(-1)[0]
        right.append(guesses == here[:, 1:][asked])
    return torch.cat(right).cpu().numpy()
