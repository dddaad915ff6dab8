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
from typing import Any

from torch import Tensor

from gt.ops.kernels import serves, tiles

# Elements of a head's state up to which the chunked kernels keep to their registers.
LARGEST_IN_CHUNKS = {"wkv6": 64 * 64, "ssd": 128 * 64, "selective": 0}

_forced: list[str] = []
# An operation, and the keys and values of the state of one of its heads.
Asked = tuple[str, int, int]
_listeners: list[set[Asked]] = []


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


Recurrence = Callable[..., tuple[Tensor, Tensor]]


def implementation(op: str, name: str) -> Recurrence:
    """The function of a backend. ImportError where its package is missing; KeyError for one that has no such operation."""
    return IMPLEMENTATIONS[op][name]()


def _wkv6_chunked() -> Recurrence:
    from gt.ops.wkv6 import wkv6_chunked

    return wkv6_chunked


def _wkv6_chunks() -> Recurrence:
    from gt.ops.kernels.wkv6 import wkv6_chunks

    return wkv6_chunks


def _wkv6_positions() -> Recurrence:
    from gt.ops.recurrence import wkv6_positions

    return wkv6_positions


def _wkv6_fla() -> Recurrence:
    from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6

    def fla(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # as FLA's layer chooses
        op = fused_recurrent_rwkv6 if r.shape[1] <= 64 else chunk_rwkv6
        result: Any = op(r, k, v, log_w.to(r.dtype), u, scale=1.0, initial_state=state, output_final_state=True)
        return result[0], result[1]

    return fla


def _ssd_chunked() -> Recurrence:
    from gt.ops.ssd import ssd_chunked

    return ssd_chunked


def _ssd_chunks() -> Recurrence:
    from gt.ops.kernels.ssd import ssd_chunks

    return ssd_chunks


def _ssd_positions() -> Recurrence:
    from gt.ops.recurrence import ssd_positions

    return ssd_positions


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


def _ssd_mamba_ssm() -> Recurrence:
    with without_mamba1():
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    def mamba_ssm(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None) -> Any:
        return mamba_chunk_scan_combined(
            x, dt, A, B, C, chunk_size=64, D=D, initial_states=state, return_final_states=True
        )  # fmt: skip

    return mamba_ssm


def _selective_chunked() -> Recurrence:
    from gt.ops.selective import selective_chunked

    return selective_chunked


def _selective_positions() -> Recurrence:
    from gt.ops.recurrence import selective_positions

    return selective_positions


# `chunked` is torch code for any device, `chunks` and `positions` are Triton kernels of ours, the others are for comparison.
IMPLEMENTATIONS: dict[str, dict[str, Callable[[], Recurrence]]] = {
    "wkv6": {"chunked": _wkv6_chunked, "chunks": _wkv6_chunks, "positions": _wkv6_positions, "fla": _wkv6_fla},
    "ssd": {"chunked": _ssd_chunked, "chunks": _ssd_chunks, "positions": _ssd_positions, "mamba_ssm": _ssd_mamba_ssm},
    "selective": {"chunked": _selective_chunked, "positions": _selective_positions},
}
