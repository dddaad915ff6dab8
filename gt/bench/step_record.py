"""One step of a trainer, kernel by kernel, as `gt bench step` keeps it."""

from __future__ import annotations

import gc
from dataclasses import fields

import torch

from gt.bench.candidates import Candidate
from gt.bench.events import Event, Json, with_bytes
from gt.bench.measure import in_a_line
from gt.bench.noise import noise_for
from gt.bench.trainers import Cohorts

REST = [field.name for field in fields(Event)][1:]


def steps(candidates: list[Candidate], device: torch.device) -> list[Json]:
    """Of each candidate the events of one step, as it runs in training; their bytes are those of the same step one by one."""
    rows = []
    for candidate in candidates:
        row: Json = {"name": candidate.name, "stacked": candidate.stacked}
        try:
            own = Cohorts(candidate, noise_for(candidate.spec), device)
            own.take(2)
            found = with_bytes(own.events(), own.events(captured=False))
            row |= {"span_ms": max(event.start + event.us for event in found) / 1e3, **packed(found)}
            del own
            gc.collect()  # a cohort has circles of references
        except Exception as error:
            row["error"] = in_a_line(error)
        rows.append(row)
    return rows


def packed(events: list[Event]) -> Json:
    """Names once, and of each event [its name's number, stream, start, us, bytes]."""
    names = sorted({event.name for event in events})
    number = {name: i for i, name in enumerate(names)}
    return {"names": names, "events": [[number[event.name], *(getattr(event, name) for name in REST)] for event in events]}


def unpacked(row: Json) -> list[Event]:
    """The inverse."""
    return [Event(row["names"][name], *rest) for name, *rest in row["events"]]
