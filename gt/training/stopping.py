"""SIGTERM, which schedulers send some time before they kill: what trains saves first, and then ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

# As a shell has it of a process that the signal has ended.
STOPPED = 128 + signal.SIGTERM


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within, SIGTERM ends nothing by itself; what is given says whether it has come.

    Only a process's main thread can listen, and of several processes that train one run none can stop while the others wait
    for it. There the signal is what it was.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread() or dist.is_initialized():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
