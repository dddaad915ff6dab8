"""Who has a folder: one call at a time, whatever process, user or host it is of.

A lock of the operating system says so on one host: it is given back when its process ends, however it ends. Hosts that share
a disk may not see each other's locks, and some file systems have none. So whoever holds the folder also stands in the locked
file, with a number that it raises while it lives. Nobody compares clocks or numbers of processes: a holder on another host
whose number stands still for long enough has ended.

Two hosts may find the folder free at once. So whoever takes it writes its own name down, waits, and has it only if that still
stands there (Fischer's algorithm: Lamport, "A fast mutual exclusion algorithm", ACM TOCS 5(1), 1987, section 2).
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import platform
import secrets
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gt.errors import ConfigError

# Seconds between two raises of the number; for which it stands still of a holder that has ended, which is longer than file
# systems keep what they have read; and between writing one's name and reading it, which is longer than a write takes.
BEAT, PATIENCE, SETTLING = 5.0, 45.0, 2.0
# Bytes of the file, so that it is written at once; characters of a holder's description.
LENGTH, LONGEST = 4096, 600
# File systems of one host, where the operating system's lock is enough to tell who was first.
LOCAL = {"apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "reiserfs", "tmpfs", "xfs", "zfs"}
# What `flock` says where there are no locks.
NO_LOCKS = {errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class Holder:
    """Who has a folder, or had it last. token: of this holding alone. beat: 0 of one who has given it back."""

    who: str
    kernel: str
    token: str
    beat: int


NOBODY = Holder("nobody", "", "", 0)


def kernel() -> str:
    """What tells one running kernel, whose processes see each other's locks, from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


class Lock:
    """Of a folder, as its file `.lock` has it. Times are in seconds."""

    def __init__(self, file: Path, beat: float = BEAT, patience: float = PATIENCE, settling: float = SETTLING) -> None:
        self.file, self.beat, self.patience, self.settling = file, beat, patience, settling
        self.name = f"{file.parent}/"
        self.own = Holder(f"process {os.getpid()} on {platform.node()}, in {Path.cwd()}"[:LONGEST], kernel(), "", 0)
        self.ended = threading.Event()

    def last(self) -> Holder:
        """Who has the folder, or had it last. ConfigError where that may not be read."""
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return NOBODY
        except OSError as error:
            raise self._barred(error) from None
        try:
            return Holder(**json.loads(text))
        except (ValueError, TypeError):  # of before there was a number
            return Holder(text.strip(), "", text, 0) if text else NOBODY

    def take(self, planned: str) -> None:
        """Have the folder until this process ends. planned: the token of the last holder when it was looked at.

        ConfigError where another has it, or has had it since then.
        """
        self.opened = self._open()
        try:
            self._win(planned)
        except BaseException:
            os.close(self.opened)
            raise
        self.beating = threading.Thread(target=self._beat, daemon=True)
        self.beating.start()
        atexit.register(self.give_back)

    def give_back(self) -> None:
        """Let others have it."""
        self.ended.set()
        self.beating.join()
        if self.last().token == self.own.token:
            self.own = replace(self.own, beat=0)
            self._write()
        os.close(self.opened)
        atexit.unregister(self.give_back)

    def _open(self) -> int:
        """Whoever may write in the folder may also lock it."""
        try:
            with suppress(FileExistsError):
                created = os.open(self.file, os.O_CREAT | os.O_EXCL, 0o600)
                os.fchmod(created, self.file.parent.stat().st_mode & 0o666)
                os.close(created)
            return os.open(self.file, os.O_RDWR)
        except OSError as error:
            raise self._barred(error) from None

    def _win(self, planned: str) -> None:
        """Stand in the file, alone."""
        is_locked, last = self._lock(), self.last()
        if last.beat and not (is_locked and last.kernel == self.own.kernel):
            last = self._watch(last)
        if last.token != planned:
            raise ConfigError(f"{self.name} was in use when this was planned. Run the same command again.")
        self.own = replace(self.own, token=secrets.token_hex(8), beat=1)
        self._write()
        if not is_local(self.file.parent):
            time.sleep(self.settling)
        if (other := self.last()).token != self.own.token:
            raise self._in_use(other)

    def _lock(self) -> bool:
        """Whether there are locks here; if so, this process has it."""
        try:
            fcntl.flock(self.opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._in_use(self.last()) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        return True

    def _watch(self, last: Holder) -> Holder:
        """The last holder once it has ended; ConfigError where it lives."""
        wait = f"waiting for a sign of it, {self.patience:g} s at most"
        print(f"{self.name} was last used by {last.who}; {wait}.", file=sys.stderr)
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            time.sleep(self.beat / 5)
            if (now := self.last()) != last:
                if now.beat:
                    raise self._in_use(now)
                return now
        print(f"{self.name}: there was none: it has ended.", file=sys.stderr)
        return last

    def _beat(self) -> None:
        """Raise the number, and end this process where another has taken the folder: it was asleep too long."""
        while not self.ended.wait(self.beat):
            with suppress(OSError, ConfigError):  # a disk that is away may come back
                if (other := self.last()).token not in (self.own.token, NOBODY.token):
                    print(f"{self.name} was taken by {other.who}, which had no sign of this call. Ending.", file=sys.stderr)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self.own = replace(self.own, beat=self.own.beat + 1)
                self._write()

    def _write(self) -> None:
        """In place and at once, and to the disk that others read."""
        os.pwrite(self.opened, f"{json.dumps(asdict(self.own)):<{LENGTH - 1}}\n".encode(), 0)
        os.fsync(self.opened)

    def _barred(self, error: OSError) -> ConfigError:
        folder = self.file.parent
        return ConfigError(
            f"{self.file}: cannot be read and written ({error.strerror}). Users who share a folder need a group that may"
            f" write in it, also in what each of them adds: chgrp -R GROUP {folder} && chmod -R g+rwX {folder} &&"
            f" find {folder} -type d -exec chmod g+s {{}} +, and umask 002 before each call."
        )

    def _in_use(self, other: Holder) -> ConfigError:
        return ConfigError(f"{self.name} is in use by {other.who}. Wait until it has ended.")


def is_local(folder: Path) -> bool:
    """Whether a folder is known to be on a file system of this host alone."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return False
    device = folder.absolute().resolve().stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    return any(fields[2] == number and fields[fields.index("-") + 1] in LOCAL for fields in mounts)
