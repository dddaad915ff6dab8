"""Recall tasks."""

from __future__ import annotations

from collections.abc import Iterator

from gt.data.reader import Document, Reader
from gt.episodes import TaskSpec
from gt.options import Options


class Task(Reader):
    """Generated episodes of a recall task (`gt/data/tasks.py` has them): a character a token, losses on the answers alone."""

    name = "task:<name>"
    source = "gt/data/tasks.py"
    licence = "none"

    class Config(Options):
        task: TaskSpec

    def documents(self) -> Iterator[Document]:
        from gt.data import tasks

        task = self.config.task
        tasks.check(f"task:{self.argument}", task)
        for split, n in {"train": task.episodes, "val": tasks.HELD_OUT, "test": tasks.HELD_OUT}.items():
            episodes = tasks.draw(self.argument, task, split, n)
            answers = episodes.answers.astype("u1").tobytes()
            yield Document(episodes.text(task.symbols), split, ends=False, answers=answers)
