"""Episodes of the recall tasks: what is asked for can be found in the episode, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gt.data import corpora, ngram, tasks, tokenizers
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.records import read_json
from gt.spec import CorpusSpec, TaskSpec, TokenizerSpec, corpus_spec

NAMES = sorted(tasks.TASKS)


def spec(name: str, length: int = 40, symbols: int = 8, **changes: object) -> CorpusSpec:
    task = {"length": length, "items": [1, 4], "symbols": symbols, "episodes": 600, **changes}
    return corpus_spec(f"task:{name}", task=task)


def drawn(name: str, n: int = 1500) -> tasks.Episodes:
    task = spec(name).task
    assert task is not None
    return tasks.draw(name, task, "val", n)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_repeats_the_token_at_its_source(name: str) -> None:
    episodes = drawn(name)
    rows, places = np.nonzero(episodes.answers)
    sources = episodes.sources[rows, places]
    assert (sources < places).all()
    assert (episodes.tokens[rows, places] == episodes.tokens[rows, sources]).all()
    assert episodes.answers.any(1).all()
    assert (np.bincount(episodes.items)[[1, 4]] == 750).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_any_value_equally_often(name: str) -> None:
    """A constant guess is right by chance alone: each of 8 values within five standard errors of 1/8."""
    episodes = drawn(name)
    counts = np.bincount(episodes.tokens[episodes.answers] - tasks.KEYS - 8, minlength=8)
    n = counts.sum()
    assert len(counts) == 8
    assert np.abs(counts / n - 1 / 8).max() < 5 * np.sqrt(7 / 64 / n)


@pytest.mark.parametrize("name", ["mqar", "induction", "needle", "correction"])
def test_the_key_before_an_answer_says_where_to_look(name: str) -> None:
    """The last place where the same key stood before, and only that, has the answer after it."""
    episodes = drawn(name, 300)
    for tokens, sources in zip(episodes.tokens, episodes.sources, strict=True):
        first = [t for t in np.flatnonzero(sources >= 0) if sources[t - 1] < 0]
        for t in first:
            places = np.flatnonzero(tokens[: t - 1] == tokens[t - 1])
            if name == "correction" and len(places) == 2:
                assert tokens[places[0] + 1] != tokens[places[1] + 1]
            else:
                assert len(places) == 1
            assert sources[t] == places[-1] + 1


def test_half_of_the_corrections_are_asked_for() -> None:
    episodes = drawn("correction")
    several = episodes.items == 4
    asked = episodes.sources[several].max(1)
    assert np.mean(asked >= 8) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_control_has_nothing_to_find(name: str) -> None:
    episodes = drawn(name, 200)
    control = episodes.without_sources()
    rows, places = np.nonzero(episodes.answers)
    assert (control.tokens[rows, episodes.sources[rows, places]] == tasks.FILLER).all()
    assert (control.tokens[rows, places] == episodes.tokens[rows, places]).all()


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_the_same_each_time_and_share_no_order(name: str) -> None:
    task = spec(name).task
    assert task is not None
    a, b, other = (tasks.draw(name, task, split, 100) for split in ("train", "train", "test"))
    assert np.array_equal(a.tokens, b.tokens)
    assert not np.array_equal(a.tokens, other.tokens)


def test_a_corpus_of_episodes_is_one_token_a_character_with_its_answers_marked(tmp_path: Path) -> None:
    corpora.prepare(spec("mqar"), tmp_path)
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path / "char")
    ngram.prepare(tmp_path / "char")
    tokens = Tokens.open(tmp_path / "char")
    assert len(tokens.train) == 600 * 40
    assert len(tokens.val) == tasks.HELD_OUT * 40
    task = spec("mqar").task
    assert task is not None
    episodes = tasks.draw("mqar", task, "val", tasks.HELD_OUT)
    assert np.array_equal(tokens.answers["val"], episodes.answers.ravel())
    marked = tokens.marked("val")
    assert np.array_equal(marked >= 0, tokens.answers["val"])
    assert np.array_equal(np.where(marked < 0, ~marked, marked), tokens.val)
    # Values are drawn evenly and independently: their entropy is all that counting tokens can reach.
    lines = read_json(tmp_path / "char/ngram.json")
    assert lines["trigram"]["loss"] > np.log(8) - 0.05


def test_answers_that_were_changed_are_noticed(tmp_path: Path) -> None:
    corpora.prepare(spec("mqar"), tmp_path)
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path / "char")
    file = tmp_path / "char/val.answers.bin"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="tokenize again"):
        Tokens.open(tmp_path / "char")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (spec("mqar", length=15), "4 items need a length of 16, not 15"),
        (spec("needle", symbols=3), "4 items need as many symbols, not 3"),
    ],
)
def test_what_does_not_fit_into_an_episode_is_refused(corpus: CorpusSpec, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        corpora.prepare(corpus, tmp_path)


def test_an_unknown_task_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown corpus 'task:mqra'\. Did you mean 'task:mqar'\?"):
        corpora.prepare(spec("mqra"), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_least_room_is_enough_and_used(name: str) -> None:
    room = tasks.TASKS[name].room(3)
    tokens, sources = tasks.TASKS[name].draw(np.random.default_rng(0), 20, room, 3, 8)
    assert tokens.shape == (20, room)
    assert (sources >= 0).any(1).all()


@pytest.mark.parametrize(
    "corpus",
    [
        {"name": "task:mqar"},
        {"name": "task:mqar", "documents": "apart", "task": {"length": 16, "items": [1]}},
        {"name": "embedded", "task": {"length": 16, "items": [1]}},
        {"name": "task:mqar", "max_bytes": 10, "task": {"length": 16, "items": [1]}},
    ],
)
def test_a_task_needs_its_options_and_nothing_else_has_them(corpus: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        corpus_spec(**corpus)


def test_a_corpus_id_tells_tasks_apart() -> None:
    ids = {spec("mqar").id, spec("mqar", length=80).id, spec("mqar", items=[2]).id, spec("needle").id}
    assert len(ids) == 4
    assert TaskSpec(length=8, items=[1]).symbols == 64
