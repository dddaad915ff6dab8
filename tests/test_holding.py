"""A folder is held by one call at a time, wherever the calls are, and by nobody who has ended."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gt import holding
from gt.errors import ConfigError
from gt.holding import Lock, is_local

# Takes a lock and says so; gives it back once there is something to read. With `apart` it is of another kernel whose locks
# nobody here sees, and with `still` its number is never raised.
HOLDER = """
import errno, fcntl, sys
from pathlib import Path
from gt import holding
file, *how = sys.argv[1:]
if "apart" in how:
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
    holding.kernel = lambda: "another"
lock = holding.Lock(Path(file), beat=1000 if "still" in how else 0.05, patience=1, settling=0.01)
lock.take(lock.last().token)
print("held", flush=True)
sys.stdin.read(1)
"""
BEAT, PATIENCE = 0.05, 1.0


@contextmanager
def holder(file: Path, *how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds it."""
    command = [sys.executable, "-c", HOLDER, str(file), *how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n", process.communicate()[1]
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")


def take(file: Path) -> Lock:
    lock = Lock(file, BEAT, PATIENCE, settling=0.01)
    lock.take(lock.last().token)
    return lock


@pytest.mark.parametrize("how", [(), ("apart",)])
def test_what_is_held_here_or_on_another_host_is_refused_in_words_until_it_is_given_back(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    file = tmp_path / ".lock"
    with holder(file, *how) as process:
        with pytest.raises(ConfigError, match=rf"^{tmp_path}/ is in use by process {process.pid} on .*, in /.*\. Wait until"):
            take(file)
        end(process)
    began = time.monotonic()
    take(file).give_back()
    assert time.monotonic() - began < PATIENCE


def test_of_a_holder_on_this_host_that_was_killed_nobody_waits(tmp_path: Path) -> None:
    with holder(tmp_path / ".lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    take(tmp_path / ".lock").give_back()
    assert time.monotonic() - began < PATIENCE


def test_a_holder_on_another_host_has_ended_once_its_number_stands_still_and_no_sooner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path / ".lock", "apart", "still") as process:
        began = time.monotonic()
        take(tmp_path / ".lock").give_back()
        assert time.monotonic() - began >= PATIENCE
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{tmp_path}/ was last used by process {process.pid} on ")
    assert said[1:] == [f"{tmp_path}/: there was none: it has ended."]


def test_a_call_that_was_asleep_while_another_took_the_folder_ends_and_says_so(tmp_path: Path) -> None:
    with holder(tmp_path / ".lock", "apart") as process:
        process.send_signal(signal.SIGSTOP)
        mine = take(tmp_path / ".lock")
        process.send_signal(signal.SIGCONT)
        assert process.wait() == -signal.SIGTERM
        assert process.stderr is not None
        assert f"{tmp_path}/ was taken by {mine.own.who}, which had no sign of this call." in process.stderr.read()
    mine.give_back()


def test_what_was_planned_before_another_had_the_folder_is_refused(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".lock", BEAT, PATIENCE)
    planned = lock.last().token
    take(tmp_path / ".lock").give_back()
    with pytest.raises(ConfigError, match="was in use when this was planned. Run the same command again"):
        lock.take(planned)


def test_of_those_who_find_it_free_at_once_one_has_it_though_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(holding, "LOCAL", set())
    together, had = threading.Barrier(8), list[Lock]()

    def contend() -> None:
        lock = Lock(tmp_path / ".lock", BEAT, PATIENCE, settling=1.0)
        together.wait()
        try:
            lock.take("")
        except ConfigError:
            return
        had.append(lock)

    contenders = [threading.Thread(target=contend) for _ in range(8)]
    for own in contenders:
        own.start()
    for own in contenders:
        own.join()
    (lock,) = had
    assert lock.last().token == lock.own.token
    lock.give_back()


def test_the_words_of_an_earlier_version_are_understood(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.write_text("process 1 on elsewhere, in /another/checkout")
    with open(file) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="in use by process 1 on elsewhere, in /another/checkout."):
            take(file)
    lock = take(file)
    assert lock.last() == replace(lock.own, beat=lock.last().beat)
    lock.give_back()


def test_who_may_write_in_the_folder_may_take_the_lock_of_another_user(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    take(shared / ".lock").give_back()
    assert (shared / ".lock").stat().st_mode & 0o777 == 0o664


def test_a_folder_that_cannot_be_locked_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ConfigError, match=r"\.lock: cannot be read and written \(.*\)\. Users .*chgrp -R GROUP .* umask"):
        take(tmp_path / ".lock")


def test_a_disk_that_hosts_share_is_not_local() -> None:
    assert not is_local(Path("/proc"))
