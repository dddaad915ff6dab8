"""Which GPU a job uses, where there are several: the first on which nobody else trains.

Every GPU has places, each a file that a job keeps locked while it lives; the operating system gives the lock back when the
job ends, however it ends. A second place on a GPU is taken only when all GPUs have their first taken, so jobs share one
only if there are more jobs than GPUs. The files are the machine's, not a checkout's: jobs of several users see each other.
Nobody waits for a lock, so who holds them all can make others share a GPU, and no more.

Nothing here imports torch: the choice is made before CUDA looks at what is visible.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

PLACES = Path("/tmp/groundthink-gpus")
OPEN = 0o1777  # all may add files, and remove their own
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The locks that this process holds, until it ends.
_held: list[int] = []


def visible() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: what it lists, or else all of the machine."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        ids = [entry.strip() for entry in listed.split(",")]
        # CUDA stops reading at the first entry that is no device
        return list(itertools.takewhile(lambda entry: entry not in ("", "-1"), ids))
    if shutil.which("nvidia-smi"):
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        n = sum(line.startswith("GPU ") for line in listing.splitlines())
    else:  # a container may have the devices alone
        n = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return [str(i) for i in range(n)]


def claim(places: Path = PLACES) -> str | None:
    """Choose a GPU for this process until it ends, make it the only visible one, and return its name. None: there is none.

    A single GPU in CUDA_VISIBLE_DEVICES is taken as it is: a scheduler has chosen it. Of a longer list, or of all GPUs of
    the machine (numbered as nvidia-smi does), the first with the fewest jobs is taken.
    """
    ids = visible()
    if len(ids) > 1:
        if VISIBLE not in os.environ:
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        places = _folder(places)
        ids = [next(name for place in itertools.count() for name in ids if _take(places / f"{name.replace('/', '_')}.{place}"))]
        os.environ[VISIBLE] = ids[0]
    return ids[0] if ids else None


def _folder(places: Path) -> Path:
    """The folder of all users, made where there is none; one of this user's own where it is not one that all may add to."""
    mask = os.umask(0)
    try:
        with suppress(FileExistsError):
            places.mkdir(mode=OPEN)
    finally:
        os.umask(mask)
    if places.lstat().st_mode == stat.S_IFDIR | OPEN:
        return places
    own = places.with_name(f"{places.name}-{os.getuid()}")
    own.mkdir(mode=0o700, exist_ok=True)
    return own


def _take(place: Path) -> bool:
    """Lock a place if it is free; opening it for reading is enough, also where the file is another user's."""
    with suppress(FileExistsError):
        place.touch(exist_ok=False)
        place.chmod(0o644)
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # another user's, who lets nobody else open it
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.append(file)
    return True
