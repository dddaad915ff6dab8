"""The page on speed, from what `gt bench` has left in results/published/bench. What was not measured has no section."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import mkdocs_gen_files

from gt.bench import many_runs
from gt.bench.measure import with_leads
from gt.bench.size_figure import by_size
from gt.bench.step_drawing import picture, tables
from gt.bench.step_record import unpacked
from gt.records import read_json
from gt.report.drawing import STYLE
from gt.report.svg import small

Json = dict[str, Any]
MEASURED = Path(__file__).parents[1] / "results/published/bench"


def page() -> Iterator[str]:
    yield "# Speed\n"
    yield "Every number here is from a file of `results/published/bench/`, which `gt bench` has written with the device, the"
    yield "versions and the commit, and of the stages around training, `benchmarks/scale.py`. [Train on a GPU](../howto/gpu.md)"
    yield "says how to measure it on your machine.\n"
    found = [(file, read_json(file)) for file in sorted(MEASURED.glob("*.json"))]
    for comparison, (title, section) in SECTIONS.items():
        for file, measured in found:
            if rows := measured.get("results", {}).get(comparison):
                yield f"## {title}\n"
                yield from section(rows, file.stem)
                commit = (measured["git_commit"] or "")[:10]
                changed = " and changes to it; `code` there has the sum of each module" if measured["modified"] else ""
                versions = f"torch {measured['versions']['torch']}, commit `{commit}`{changed}"
                yield f"{measured['device']}, {versions}: `{file.name}`.\n"


def peers(rows: list[Json], _: str) -> Iterator[str]:
    """A table of entrants."""
    yield "The same work (batch, sequences, parameters, AdamW, clipping) in turns on one device, and how many times as fast"
    yield "ours is. JAX has the seeds under one `vmap` and the steps in one `scan`; every rival stands in `gt/bench/peers/`.\n"
    yield "| | ms a step | tokens/s | ours / it | of the peak | kernels | busy ms | first step s |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in with_leads(rows):
        if "error" in row:
            yield f"| {row['name']} | {row['error']} | | | | | | |"
            continue
        kernels = row.get("uncaptured_step") or row.get("step") or {}
        values = (
            f"{row['ms_a_step']:.2f}",
            f"{row['tokens_per_second']:,.0f}",
            shown(row.get("ours_over_it"), "{:.2f}"),
            shown(row["model_flops_utilisation"], "{:.1%}"),
            shown(kernels.get("kernels"), "{:,}"),
            shown(kernels.get("busy_ms"), "{:.1f}"),
            f"{row['start_seconds']:.0f}",
        )
        yield f"| {row['name']} | {' | '.join(values)} |"
    yield ""


def sizes(rows: list[Json], name: str) -> Iterator[str]:
    """A figure."""
    with matplotlib.rc_context(STYLE):
        figure = by_size(rows)
        if figure is None:
            return
        source = io.StringIO()
        figure.savefig(source, format="svg", metadata={"Date": None})
    asset(f"{name}.svg", small(source.getvalue()))
    yield "Above the dashed line ours is the faster. From 8 layers of width 128, sequences of 64 tokens and 16 runs, one size"
    yield "at a time is another.\n"
    yield f"![Tokens a second over JAX's, by size](../assets/{name}.svg)\n"


def step(rows: list[Json], name: str) -> Iterator[str]:
    """A picture and two tables for each that was recorded."""
    yield "A bar is a kernel; what lies in several lanes runs at once. Bytes are those that the shapes of products, copies and"
    yield "fused kernels tell; of the recurrences and of a library's other kernels a trace has none.\n"
    for i, row in enumerate(rows):
        if "error" not in row:
            events = unpacked(row)
            asset(f"{name}-{i}.svg", picture(events, f"{row['name']}: one step, {row['span_ms']:.2f} ms"))
            yield f"### {row['name']}\n"
            yield f"![The kernels of a step](../assets/{name}-{i}.svg)\n"
            yield from tables(events)


def worlds(rows: list[Json], _: str) -> Iterator[str]:
    """A table."""
    yield "Packs: each GPU trains its share of the cohorts. Data parallel: the batches of one run are shared.\n"
    yield "| | GPUs | seconds | speed-up | same bits as one | largest difference of a loss |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        if "error" not in row:
            same = {True: "yes", False: "no"}.get(row.get("same_bits"), "")
            difference = shown(row.get("loss_difference"), "{:.1e}")
            numbers = f"{row['processes']} | {row['seconds']:.2f} | {row['speed_up']:.2f}"
            yield f"| {row['name']} | {numbers} | {same} | {difference} |"
    yield ""


def around(rows: list[Json], name: str) -> Iterator[str]:
    """Tables and a figure."""
    yield "What a study takes beside its training, by its number of runs, on a CPU: five seeds of each cell, of four variants"
    yield "of two layers that were trained for 60 steps. One run of each is trained, and the others have records that are made"
    yield "of its own. Each stage is a process, as the workflow calls it.\n"
    with matplotlib.rc_context(STYLE):
        source = io.StringIO()
        many_runs.figure(rows).savefig(source, format="svg", metadata={"Date": None})
    asset(f"{name}.svg", small(source.getvalue()))
    yield f"![Processor seconds and memory of each stage, by number of runs](../assets/{name}.svg)\n"
    yield from many_runs.stages(rows)
    yield ""
    yield from many_runs.files(rows[-1])
    yield ""


def shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def asset(name: str, text: str) -> None:
    with mkdocs_gen_files.open(f"assets/{name}", "w") as file:
        file.write(text)


Section = Callable[[list[Json], str], Iterator[str]]
SECTIONS: dict[str, tuple[str, Section]] = {
    "peers": ("Many runs at once, against what a user would write", peers),
    "alone": ("One run, against what a user would write", peers),
    "sizes": ("By size", sizes),
    "step": ("One step", step),
    "worlds": ("Several GPUs", worlds),
    "many_runs": ("Around training, by the number of runs", around),
}

with mkdocs_gen_files.open("reference/speed.md", "w") as file:
    file.write("\n".join(page()) + "\n")
