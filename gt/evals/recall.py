"""How much of a recall task a model that was trained on it can do: the share of its answers that are right.

The test split's episodes, which training never saw; and, as a negative control, the same with what is asked for taken out,
where only guessing is left. Also in longer episodes than the trained ones. (The record's
needle was never in the prompt: flaw F-14.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gt.data.tasks import HELD_OUT, Episodes, draw
from gt.data.tokenizers import load_tokenizer
from gt.evals.subject import Subject
from gt.training.losses import autocast

Json = dict[str, Any]
# Of the trained length: lengths at which episodes with as many items are tested.
LENGTHS = (1, 2, 4)


def recall(subject: Subject) -> Json:
    """Accuracy with its interval in all, without the source (`control`), by items, by distance and by length of the episode.

    `chance`: of a guess among the values. `episodes`: the share of episodes whose every answer is right. `persistence` (of that
    task): 100 times the largest share of the distractors tested that at least half of the facts surely survive. Intervals are
    Wilson's for independent answers; those of one episode share its noise.
    """
    assert subject.spec.corpus.task is not None
    task, name = subject.spec.corpus.task, subject.spec.corpus.name.removeprefix("task:")
    episodes = draw(name, task, "test", HELD_OUT)
    right = _right(subject, episodes)
    answers = episodes.answers
    rows, places = np.nonzero(answers)
    distances = places - episodes.sources[rows, places]
    by_items = [{"items": n, **share(right[episodes.items[rows] == n])} for n in task.items]
    wrong = np.zeros(len(answers), dtype=int)
    np.add.at(wrong, rows, ~right)
    result = {
        "task": name,
        "chance": 1 / task.symbols,
        **share(right),
        "episodes": share(wrong == 0),
        "control": share(_right(subject, episodes.without_sources())),
        "by_items": by_items,
        "by_distance": by_distance(right, distances),
        "by_length": [_at_length(subject, name, multiple) for multiple in LENGTHS],
    }
    if name == "persistence":
        result["persistence"] = 100 * max((r["items"] for r in by_items if r["lower"] >= 0.5), default=0) / max(task.items)
    return result


def share(right: np.ndarray) -> Json:
    """The share of true values, with Wilson's 95 % interval and their number. right: bool (n,), n > 0."""
    from scipy import stats

    k, n = int(right.sum()), len(right)
    interval = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    return {"accuracy": k / n, "lower": float(interval.low), "upper": float(interval.high), "n": n}


def by_distance(right: np.ndarray, distances: np.ndarray) -> list[Json]:
    """The share that is right at distances 1, 2 to 3, 4 to 7 ... where there are any. Both (n,)."""
    octaves = np.frexp(distances)[1]
    return [{"distance": int(2 ** (o - 1)), "to": int(2**o - 1), **share(right[octaves == o])} for o in np.unique(octaves)]


def _at_length(subject: Subject, name: str, multiple: int) -> Json:
    task = subject.spec.corpus.task
    assert task is not None
    longer = task.model_copy(update={"length": multiple * task.length})
    if not subject.fits(longer.length):
        return {"length": longer.length, **dict.fromkeys(("accuracy", "lower", "upper", "n"))}
    return {"length": longer.length, **share(_right(subject, draw(name, longer, "test", HELD_OUT // multiple)))}


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
