"""What many runs take, as the page on speed shows it."""

from __future__ import annotations

from typing import Any

import pytest

from gt.bench.many_runs import figure, files, stages


def measured(runs: int) -> dict[str, Any]:
    """A stage that takes ten times as long for ten times the runs, and one that takes a hundred times as long."""
    taken = {"straight": (runs / 100, 4e4 * runs), "square": (runs**2 / 1e4, 1e8)}
    there = {"runs": (8 * runs + 1, 1000 * runs, runs), ".lock": (1, 9, 0)}
    return {
        "runs": runs,
        "stages": {name: {"seconds": own[0], "cpu_seconds": own[0], "peak_bytes": own[1]} for name, own in taken.items()},
        "files": {name: dict(zip(("inodes", "bytes", "largest"), own, strict=True)) for name, own in there.items()},
    }


ROWS = [measured(100), measured(1000)]


def test_the_power_with_which_a_stage_grows_is_that_of_its_last_two_sizes() -> None:
    header, _, *lines = stages(ROWS)
    assert header.startswith("| stage | 100 runs | 1,000 runs |")
    assert lines == [
        "| straight | 1.0 s, 4 MB | 10.0 s, 40 MB | 1.00 | 1.00 |",
        "| square | 1.0 s, 100 MB | 100.0 s, 100 MB | 2.00 | 0.00 |",
    ]
    assert list(stages(ROWS[:1]))[-1] == "| square | 1.0 s, 100 MB |  |  |"


def test_files_are_counted_by_run_and_what_no_run_adds_to_is_left_out() -> None:
    assert list(files(ROWS[1]))[2:] == ["| `runs` | 8.00 | 1,000 | 1,000 |"]


def test_the_figure_has_a_line_for_each_stage_of_what_was_measured() -> None:
    time, memory = figure(ROWS).axes
    assert [line.get_label() for line in time.lines] == ["straight", "square"]
    assert list(time.lines[1].get_ydata()) == pytest.approx([1, 100])
    assert list(memory.lines[0].get_ydata()) == pytest.approx([4, 40])
    assert (time.get_xscale(), time.get_yscale()) == ("log", "log")
