"""What the runs on a device have of it adds up to what the device did, and what cannot be known is said so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gt.artefacts import Usage, now
from gt.metering import UNSEEN, Event, Meter, Share, are_strangers, shares, total, usage

SHARED = "shared with other processes"


def line(clock: float, process: str, on: dict[str, dict[str, int]], **changes: Any) -> Event:
    """A line of the log of a device that draws 100 W."""
    about = {"time": now(), "clock": clock, "process": process, "on": on, "joules": 100 * clock, "strangers": False}
    return Event.model_validate(about | changes)


STEP = st.tuples(
    st.integers(1, 4),  # seconds since the line before
    st.sampled_from("pqrs"),  # a process
    st.sampled_from(["enter", "leave", "mark", "die"]),
    st.integers(1, 5),  # runs
    st.integers(0, 900),  # joules
)


@given(st.lists(STEP, max_size=60))
def test_the_shares_of_all_runs_are_the_time_in_which_the_device_was_in_use_and_what_it_drew(steps: list[Any]) -> None:
    """The sums are kept here run by run, in fractions, as the history is made."""
    on: dict[str, dict[str, int]] = {}
    events = [line(0.0, "p", {}, joules=0.0)]
    expected: dict[str, list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    in_use, drawn, clock, joules, waiting = 0, 0, 0, 0, 0
    lives = dict.fromkeys("pqrs", 0)
    for i, (seconds, place, kind, runs, more) in enumerate(steps):
        waiting += seconds
        process = f"{place}{lives[place]}"
        if kind == "die":  # which nobody notes, and the next there is another
            on.pop(process, None)
            lives[place] += 1
            continue
        clock, joules, seconds, waiting = clock + waiting, joules + more, waiting, 0
        single = [name for names in on.values() for name, n in names.items() for _ in range(n)]
        for name in single:
            expected[name][0] += Fraction(seconds, len(single))
            expected[name][1] += Fraction(more, len(single))
        in_use, drawn = in_use + seconds * bool(single), drawn + more * bool(single)
        own = on.setdefault(process, {})
        if kind == "enter":
            own[f"{process}-{i}"] = runs
        elif kind == "leave" and own:
            own.pop(next(iter(own)))
        events.append(line(clock, process, {p: dict(names) for p, names in on.items()}, joules=float(joules)))
    found = shares(events)
    assert sum(share.seconds for share in found.values()) == pytest.approx(in_use)
    assert sum(share.joules for share in found.values()) == pytest.approx(drawn)
    for name, (seconds, joules) in expected.items():
        assert found[name].seconds == pytest.approx(float(seconds))
        assert found[name].joules == pytest.approx(float(joules))


def test_a_stack_counts_as_its_runs_and_a_measurement_as_one() -> None:
    events = [
        line(0.0, "p", {"p": {"stack": 5}}),
        line(12.0, "q", {"p": {"stack": 5}, "q": {"evaluate": 1}}),
        line(24.0, "q", {"p": {"stack": 5}, "q": {}}),
        line(36.0, "p", {"p": {}, "q": {}}),
    ]
    found = shares(events)
    assert (found["stack"].seconds, found["evaluate"].seconds) == (12.0 + 10.0 + 12.0, 2.0)
    of_one = usage(found["stack"], 5, 1000)
    assert of_one == Usage(device_seconds=34.0 / 5, energy_joules=3400.0 / 5, peak_memory_bytes=200)


def test_a_process_that_was_killed_was_there_until_it_was_last_seen() -> None:
    both, one = {"p": {"a": 1}, "q": {"b": 1}}, {"p": {"a": 1}}
    found = shares([line(0.0, "q", both), line(4.0, "p", both), line(9.0, "p", one), line(10.0, "p", one)])
    assert (found["a"].seconds, found["b"].seconds) == (2.0 + 5.0 + 1.0, 2.0)
    assert found["a"].unknown == {}


def test_a_time_in_which_it_is_not_known_when_another_ended_is_nobodys() -> None:
    both, one = {"p": {"a": 1}, "q": {"b": 1}}, {"p": {"a": 1}}
    found = shares([line(0.0, "q", both), line(4.0, "p", both), line(5.0 + UNSEEN, "p", one)])
    assert set(found["a"].unknown) == {"device_seconds", "energy_joules"}
    assert "another process ended" in found["a"].unknown["device_seconds"]
    assert found["b"].unknown == {}


@pytest.mark.parametrize(
    ("lines", "unknown"),
    [
        ([{}, {}], {}),
        ([{}, {"strangers": True}], {"device_seconds": SHARED, "energy_joules": SHARED}),
        ([{"strangers": True}, {}], {"device_seconds": SHARED, "energy_joules": SHARED}),
        ([{}, {"joules": None}], {"energy_joules": "no energy counter"}),
        ([{}, {"joules": -1.0}], {"energy_joules": "the energy counter was set back"}),
        (
            [{}, {"strangers": None, "joules": None}],
            {"device_seconds": "other processes on the device cannot be seen", "energy_joules": "no energy counter"},
        ),
    ],
)
def test_what_is_shared_or_cannot_be_read_is_null_and_says_why(lines: list[dict[str, Any]], unknown: dict[str, str]) -> None:
    on = {"p": {"a": 1}}
    found = shares(line(float(i), "p", on, **changes) for i, changes in enumerate(lines))
    of_run = usage(found["a"], 1, 10)
    assert of_run.unknown == unknown
    assert (of_run.device_seconds is None, of_run.energy_joules is None) == ("device_seconds" in unknown, bool(unknown))
    # What was not known of a part is not known of the whole.
    later = shares([*(line(float(i), "p", on, **c) for i, c in enumerate(lines)), line(9.0, "p", on), line(10.0, "p", on)])
    assert usage(later["a"], 1, 10).unknown == unknown


@pytest.mark.parametrize(
    ("listed", "ours", "at_work", "answer"),
    [
        ([1, 2], {1, 2}, True, False),
        ([1], {1, 2}, True, False),  # one has no context yet
        ([1, 9], {1, 2}, True, True),
        ([], {1}, False, False),
        ([], {1}, True, None),  # one of ours is there and is not shown
        (None, {1}, False, None),
        ([70, 71], {1, 2}, True, False),  # other numbers than ours, as many
        ([70, 71, 72], {1, 2}, True, True),
    ],
)
def test_strangers_are_told_by_their_numbers_or_by_how_many_there_are(
    listed: list[int] | None, ours: set[int], at_work: bool, answer: bool | None
) -> None:
    assert are_strangers(listed, ours, at_work) is answer


def test_attempts_add_up_and_of_memory_the_most_counts() -> None:
    first = Usage(device_seconds=10.0, energy_joules=None, peak_memory_bytes=7, unknown={"energy_joules": "why"})
    second = Usage(device_seconds=2.0, energy_joules=3.0, peak_memory_bytes=5)
    assert total([first, second]) == Usage(
        device_seconds=12.0, energy_joules=None, peak_memory_bytes=7, unknown={"energy_joules": "why"}
    )
    assert total([Usage.nothing("first"), Usage.nothing("second")]) == Usage.nothing("first")


def test_on_a_cpu_the_process_is_the_device_and_has_no_energy_counter() -> None:
    meter, begin = Meter(), time.monotonic()
    meter.enter("a", 3)
    time.sleep(0.05)
    meter.enter("b")
    time.sleep(0.05)
    first, second = meter.leave("a"), meter.leave("b")
    elapsed = time.monotonic() - begin
    assert 0.1 <= first.seconds + second.seconds <= elapsed
    assert first.seconds >= 0.05 + 0.75 * 0.05
    assert second.seconds >= 0.25 * 0.05
    assert usage(first, 3, 1).unknown == {"energy_joules": "no energy counter"}


class Card:
    """A device that draws 100 W, and on which those processes compute that are said to."""

    uuid = "card"

    def __init__(self, *strangers: int) -> None:
        self.strangers = strangers

    def joules(self) -> float:
        return 100 * time.monotonic()

    def processes(self) -> list[int]:
        return [os.getpid(), *self.strangers]


ANOTHER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_metering import Card
from gt.metering import Meter
meter = Meter(Card(), Path({folder!r}))
meter.enter("another", 3)
print("entered", flush=True)
sys.stdin.readline()
meter.leave("another")
"""


@pytest.fixture
def another(tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Starts a process that has three runs on the card, until it gets a line."""

    def start() -> subprocess.Popen[str]:
        script = ANOTHER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        return process

    return start


def events_of(folder: Path) -> list[Event]:
    (file,) = folder.glob("*-card.jsonl")
    return [Event.model_validate_json(text) for text in file.read_text().splitlines()]


def test_processes_know_of_each_other_by_the_log_of_the_device(
    tmp_path: Path, another: Callable[[], subprocess.Popen[str]]
) -> None:
    meter = Meter(Card(), tmp_path)
    meter.enter("own")
    process = another()
    time.sleep(0.2)
    assert process.stdin is not None
    process.communicate("\n", timeout=60)
    own = meter.leave("own")
    events = events_of(tmp_path)
    by_log = shares(events)
    assert by_log["another"].seconds == pytest.approx(3 / 4 * together(events), rel=1e-9)
    assert own.seconds == pytest.approx(by_log["own"].seconds)
    # From the first to the last, one was there.
    entered = next(event for event in events if event.on[event.process])
    assert own.seconds + by_log["another"].seconds == pytest.approx(events[-1].clock - entered.clock)
    assert own.joules + by_log["another"].joules == pytest.approx(100 * (events[-1].clock - entered.clock))


def together(events: list[Event]) -> float:
    """Seconds in which both have something on the card."""
    both = [event.clock for event in events if sum(map(bool, event.on.values())) == 2]
    return next(event.clock for event in events if event.clock > both[-1]) - both[0]


def test_a_process_that_is_killed_leaves_the_device_to_the_others(
    tmp_path: Path, another: Callable[[], subprocess.Popen[str]]
) -> None:
    meter = Meter(Card(), tmp_path)
    meter.enter("own")
    process = another()
    meter.mark()  # it is seen, though it has said nothing
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and a zombie as long as nobody waits for it
    meter.mark()
    own = meter.leave("own")
    process.wait()
    found = shares(events_of(tmp_path))
    assert found["another"].seconds > 0
    assert list(events_of(tmp_path)[-1].on) == [meter.process]
    assert own.unknown == {}
    assert own.seconds + found["another"].seconds == pytest.approx(sum(share.seconds for share in found.values()))


def test_a_process_that_is_in_no_log_is_a_stranger(tmp_path: Path) -> None:
    meter = Meter(Card(1), tmp_path)
    meter.enter("own")
    assert meter.leave("own").unknown == dict.fromkeys(("device_seconds", "energy_joules"), SHARED)


@pytest.mark.parametrize("damage", ["cut", "removed", "foreign"])
def test_a_log_that_was_damaged_meanwhile_says_nothing_of_that_time_and_goes_on(tmp_path: Path, damage: str) -> None:
    meter = Meter(Card(), tmp_path)
    meter.enter("own")
    meter.mark()
    (file,) = tmp_path.iterdir()
    if damage == "cut":
        os.truncate(file, file.stat().st_size - 5)
    elif damage == "removed":
        file.unlink()
    else:
        with open(file, "a") as log:
            log.write("of somebody else")
    meter.mark()
    assert meter.leave("own").unknown == dict.fromkeys(("device_seconds", "energy_joules"), "the device's log was damaged")
    meter.enter("next")
    assert meter.leave("next").unknown == {}
    assert Event.model_validate_json(file.read_text().splitlines()[-1]).on == {meter.process: {}}


def test_a_log_that_ends_in_the_middle_of_a_line_can_be_begun_on(tmp_path: Path) -> None:
    Meter(Card(), tmp_path)
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 5)
    meter = Meter(Card(), tmp_path)
    meter.enter("own")
    assert meter.leave("own").unknown == {}


def test_of_nothing_the_first_reason_counts() -> None:
    share = Share()
    share.lose("first", "energy_joules")
    share.lose("second")
    assert share.unknown == {"energy_joules": "first", "device_seconds": "second"}
