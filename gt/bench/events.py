"""What a step runs on a device: kernels and copies, on which stream, when, for how long, and over how many bytes.

On a CPU, which has no kernels, operations stand in for them, so that all that is made of it can be tried there.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Json = dict[str, Any]
KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
# Bytes of a number, by how a trace calls its type.
SIZES = {"double": 8, "long int": 8, "float": 4, "int": 4, "c10::BFloat16": 2, "c10::Half": 2, "unsigned char": 1, "bool": 1}
# Operations of a CPU that compute nothing.
IDLE = re.compile(
    r"view|as_strided|resolve_|empty|detach|expand|reshape|select|slice|transpose|permute|squeeze|alias|autograd|::t$"
)
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
# What a kernel is, by its name; the first that fits counts.
KINDS = (
    ("recurrences", r"wkv|ssd|recurrence|selective|scan_fwd|scan_bwd|chunk_"),
    ("attention", r"flash|fmha|sdpa|attention|softmax_.*dropout"),
    ("optimizer", r"adam|lion|muon|clip|multi_tensor|lerp.*(sqrt|pow)|foreach"),
    ("norms", r"norm|rsqrt|var_mean|native_layer"),
    ("between", r"^(shift|conv|gate|gelu|bias|sums|embedding|cross_entropy)_(forward|backward)?_?kernel"),
    ("products", r"gemm|nvjet|xmma|cutlass|cublas|splitk|mm\b|matmul|linear|dot"),
    ("copies", r"memcpy|memset|copy_|Memcpy|Memset|cat\b"),
)
OTHER = "other"


@dataclass(frozen=True)
class Event:
    """A kernel or copy. start, us: microseconds. bytes: read and written, where that is known."""

    name: str
    stream: str
    start: float
    us: float
    bytes: int | None = None

    @property
    def kind(self) -> str:
        """One of KINDS, or OTHER."""
        return next((kind for kind, pattern in KINDS if re.search(pattern, self.name)), OTHER)


def recorded(take: Callable[[], None], device: torch.device, shapes: bool = False) -> list[Event]:
    """What a call runs, from its start. shapes: also ask what launches each kernel, which takes the host time."""
    activities = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    if shapes or not activities:
        activities.append(ProfilerActivity.CPU)
    with profile(activities=activities, record_shapes=ProfilerActivity.CPU in activities) as found:
        take()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        found.export_chrome_trace(str(file))
        return events(json.loads(file.read_text(encoding="utf-8", errors="replace"))["traceEvents"])


def events(trace: list[Json]) -> list[Event]:
    """Those of a trace as torch writes it: its kernels, or, where it has none, the operations that call no others."""
    spans = sorted((entry for entry in trace if entry.get("ph") == "X"), key=lambda entry: (entry["ts"], -entry["dur"]))
    operations = [entry for entry in spans if entry.get("cat") == "cpu_op" and not IDLE.search(entry["name"])]
    by_id = {entry["args"].get("External id"): entry for entry in operations}
    launched = [entry for entry in spans if entry.get("cat") in KERNELS]
    found, seen = [], set[Any]()
    for entry in launched or _innermost(operations):
        arguments = entry["args"]
        caller = by_id.get(arguments.get("External id")) if launched else entry
        size = arguments.get("bytes")
        if size is None and caller is not None and id(caller) not in seen:  # the first kernel of an operation has its bytes
            seen.add(id(caller))
            size = _bytes(caller)
        stream = str(arguments.get("stream", f"thread {entry['tid']}"))
        found.append(Event(entry["name"], stream, entry["ts"], entry["dur"], size))
    begin = min((event.start for event in found), default=0.0)
    return [replace(event, start=round(event.start - begin, 3), us=round(event.us, 3)) for event in found]  # nanoseconds


def _innermost(operations: list[Json]) -> Iterator[Json]:
    """Operations, sorted by their start, within which no other of their thread lies."""
    last: dict[Any, Json] = {}
    for entry in operations:
        before = last.get(entry["tid"])
        if before is not None and entry["ts"] >= before["ts"] + before["dur"]:
            yield before
        last[entry["tid"]] = entry
    yield from last.values()


def _bytes(operation: Json) -> int | None:
    """What an operation reads and writes, from the shapes that a trace has: of one of inductor's, all that its kernel is given;
    of a product, factors and result; of a copy, both sides. None for others, whose results a trace does not have.
    """
    dims, types = operation["args"].get("Input Dims"), operation["args"].get("Input type")
    if not dims or not types:
        return None
    name = operation["name"].removeprefix("aten::")
    tensors = [(shape, kind) for shape, kind in zip(dims, types, strict=True) if shape and kind in SIZES]
    given = [(shape, SIZES[kind]) for shape, kind in tensors if all(isinstance(n, int) for n in shape)]
    total = sum(math.prod(shape) * size for shape, size in given)
    if name in PRODUCTS and len(given) >= 2:
        (left, size), (right, _) = given[-2:]
        return total + math.prod(left[:-1]) * right[-1] * size
    return total if given and (name.startswith("triton_") or name == "copy_") else None


@contextmanager
def launches() -> Iterator[list[tuple[str, int]]]:
    """What Triton kernels of ours are launched meanwhile: of each its name, and the bytes of all tensors that it is given. A
    trace has none of them. Inductor launches its kernels by itself.
    """
    from triton.runtime.jit import JITFunction

    found: list[tuple[str, int]] = []
    run = JITFunction.run

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        size = sum(x.numel() * x.element_size() for x in arguments if isinstance(x, torch.Tensor))
        found.append((self.fn.__name__, size))
        return run(self, *arguments, **options)

    JITFunction.run = noted
    try:
        yield found
    finally:
        JITFunction.run = run


def with_launches(events: list[Event], launched: list[tuple[str, int]]) -> list[Event]:
    """Events with the bytes of the launches of the same name, in their order."""
    return with_bytes(events, [Event(name, "", 0.0, 0.0, size) for name, size in launched])


def with_bytes(timed: list[Event], known: list[Event]) -> list[Event]:
    """Events of a graph, which knows no shapes, with the bytes of the same kernels where they are launched one by one."""
    sizes: dict[str, list[int | None]] = defaultdict(list)
    for event in known:
        sizes[event.name].append(event.bytes)
    waiting = {name: iter(own) for name, own in sizes.items()}
    return [replace(event, bytes=event.bytes or next(waiting.get(event.name, iter(())), None)) for event in timed]


def summary(found: list[Event], steps: int = 1) -> Json:
    """How many kernels and copies a step has, how long they take together, and which take longest, of so many steps' events."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in found:
        by_name[event.name].append(event.us / steps)
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:15]
    return {
        "kernels": round(len(found) / steps),
        "busy_ms": sum(map(sum, by_name.values())) / 1e3,
        "longest": [{"name": name, "calls": round(len(us) / steps), "us": sum(us)} for name, us in longest],
    }
