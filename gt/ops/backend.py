"""What computes a recurrence: Triton kernels of ours on a GPU, chunked torch code elsewhere.

The choice is a function of the operation, the device and the shape, never of a measurement at run time: another kernel sums
in another order, and a run's bits must not depend on how busy a machine was. What was measured to make the choice is
`gt bench ops`. `asked` says which operations a pass calls, for the manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor

from gt.ops.kernels import serves, tiles

Recurrence = Callable[..., tuple[Tensor, Tensor]]

# By operation, and by name, what imports the function of a backend: `chunked` is torch code for any device, `chunks` and
# `positions` are Triton kernels of ours, the others are for comparison.
IMPLEMENTATIONS: dict[str, dict[str, Callable[[], Recurrence]]] = {}
# Elements of a head's state up to which the chunked kernels keep to their registers.
LARGEST_IN_CHUNKS: dict[str, int] = {}

_forced: list[str] = []
# An operation, and the keys and values of the state of one of its heads.
Asked = tuple[str, int, int]
_listeners: list[set[Asked]] = []


def register(op: str, largest_in_chunks: int = 0, **implementations: Callable[[], Recurrence]) -> str:
    """Enter an operation, and return its name. Each does so in its own module: what runs one does not use the others' code."""
    IMPLEMENTATIONS[op], LARGEST_IN_CHUNKS[op] = implementations, largest_in_chunks
    return op


def select(op: str, device_type: str, double: bool, keys: int, values: int) -> str:
    """The name of a backend of IMPLEMENTATIONS, which is imported now, not while a compiler looks on. See `choice`."""
    for listener in _listeners:
        listener.add((op, keys, values))
    name = choice(op, device_type, double, keys, values)
    implementation(op, name)
    return name


# What `torch.compiler.assume_constant_result` does; calling it would load the compiler, which takes a second.
select._dynamo_marked_constant = True  # type: ignore[attr-defined]


def choice(op: str, device_type: str, double: bool, keys: int, values: int) -> str:
    """The name of a backend of IMPLEMENTATIONS, or what `use` says. keys, values: of the state of one head.

    Chunks on a GPU's matrix units were quicker than positions in its registers where both were measured, but want powers of
    two, one decay a key or a head, and a state that fits.
    """
    if (name := forced()) is not None:
        return name
    if device_type != "cuda" or double or not _has_triton():
        return "chunked"
    if all(n in (16, 32, 64, 128) for n in (keys, values)) and keys * values <= LARGEST_IN_CHUNKS[op]:
        return "chunks"
    return "positions" if serves(keys, values) else "chunked"


def fused(device_type: str, double: bool) -> bool:
    """Whether what stands between recurrences and products is computed by kernels of ours, each in one pass: `use("chunked")`
    has all of it in torch code.
    """
    return device_type == "cuda" and not double and forced() != "chunked" and _has_triton()


fused._dynamo_marked_constant = True  # type: ignore[attr-defined]


def forced() -> str | None:
    """What `use` says."""
    return _forced[-1] if _forced else None


@contextmanager
def asked() -> Iterator[set[Asked]]:
    """What is asked of `select` meanwhile. Compiled code asks once, when it is made, whoever shares it later."""
    listener: set[Asked] = set()
    _listeners.append(listener)
    try:
        yield listener
    finally:
        _listeners.pop()  # contexts end in the order of their nesting


def serving(operations: set[Asked], device_type: str) -> dict[str, str]:
    """Operation and state -> what computes them on a device, in float32 or less."""
    served = {}
    for op, keys, values in sorted(operations):
        name = choice(op, device_type, False, keys, values)
        served[f"{op} {keys}x{values}"] = f"{name}: {tiles(keys, values)}" if name == "positions" else name
    return served


@contextmanager
def use(name: str) -> Iterator[None]:
    """Have all recurrences computed by one backend, which must serve them: a name of IMPLEMENTATIONS."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def implementation(op: str, name: str) -> Recurrence:
    """The function of a backend. ImportError where its package is missing; KeyError for one that has no such operation, or
    where the operation's module is not imported.
    """
    return IMPLEMENTATIONS[op][name]()


@contextmanager
def without_mamba1() -> Iterator[None]:
    """Let `mamba_ssm` be imported: its pure-Python wheel asks for a compiled module that only Mamba-1 uses."""
    name = "selective_scan_cuda"
    if name in sys.modules or find_spec(name):
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]
