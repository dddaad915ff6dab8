"""What an import into an MLflow server over PostgreSQL takes, by the number of runs.

    PYTHONPATH=tests:. python benchmarks/tracking.py FOLDER 100 300 1000

Makes the records of so many runs, five seeds a cell, each with as many points in its curves as an import keeps. Then, over an
empty database, `gt track` is a process, as the workflow calls it, and so it is once more, when there is nothing to do. Prints
a table. It takes the extra `postgres` and Debian's PostgreSQL.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import records
from server.daemons import PASSWORD, postgres, server

from gt.records import CURVES, MANIFEST, SPEC, WEIGHTS, file_sums
from gt.tracking import POINTS_PER_CURVE

Json = dict[str, Any]
SEEDS = 5


def make(results: Path, runs: int) -> None:
    """The plan and the records of a study."""
    cells = []
    for i in range(runs // SEEDS):
        about = {"id": f"GF.rate_{i}", "variant": "GF", "corpus": "embedded", "tokenizer": "char"}
        training = {"steps": POINTS_PER_CURVE, "batch_size": 16, "sequence_length": 64, "learning_rate": 0.001 * (i + 1)}
        cells.append(({**about, "factors": {}}, {"training": training}, range(SEEDS)))
    plan = records.assembled("many", cells) | {"evaluations": ["generation"]}
    records.write(results / "studies/many/plan.json", plan)
    for cell in plan["cells"]:
        for seed, run in cell["runs"].items():
            folder = results / "runs" / run
            records.write_run(folder, run, cell, int(seed), plan["runs"][run])
            pq.write_table(curves(int(seed)), folder / CURVES)
            records.edit(folder / MANIFEST, files=file_sums(folder, (SPEC, CURVES, WEIGHTS)))


def curves(seed: int) -> pa.Table:
    """Of a run that is logged at each step and evaluated at each twentieth."""
    random = np.random.default_rng(seed)
    step = np.arange(POINTS_PER_CURVE)
    evaluated = np.where(step % 20 == 0, 1.0, np.nan)
    logged = {name: random.random(len(step)) for name in ("train/loss", "learning_rate", "grad_norm")}
    seldom = {name: evaluated * random.random(len(step)) for name in ("val/loss", "val/bits_per_byte", "gate/mean")}
    return pa.table({"step": step, "tokens": 1024 * step, "timestamp": records.START + step / 10.0, **logged, **seldom})


def measure(folder: Path, uri: str, daemons: list[psutil.Process]) -> Json:
    """Seconds; processor seconds of the import and both servers; peak bytes of the import and, shared ones once, of these."""
    arguments = ["track", "--plan", "results/studies/many/plan.json", "--runs", "results/runs", "--uri", uri]
    command = [sys.executable, "-m", "gt", *arguments]
    path = f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    before, began, of_servers = cpu_seconds(daemons), time.monotonic(), 0
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": path})
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        with suppress(psutil.NoSuchProcess):  # one of PostgreSQL's that has just ended
            of_servers = max(of_servers, sum(own.memory_full_info().pss for own in family(daemons)))
        time.sleep(0.5)
    seconds = time.monotonic() - began
    if ended[1]:
        raise SystemExit(f"{folder}: the import failed.")
    return {
        "seconds": seconds,
        "own": ended[2].ru_utime + ended[2].ru_stime,
        "servers": cpu_seconds(daemons) - before,
        "bytes": ended[2].ru_maxrss * 1024,
        "servers_bytes": of_servers,
    }


def family(daemons: list[psutil.Process]) -> list[psutil.Process]:
    return [*daemons, *(child for own in daemons for child in own.children(recursive=True))]


def cpu_seconds(daemons: list[psutil.Process]) -> float:
    """Of the processes that there are and of those that they have waited for."""
    return sum(sum(own.cpu_times()[:2]) for own in family(daemons)) + sum(sum(own.cpu_times()[2:4]) for own in daemons)


def main(folder: Path, sizes: list[int]) -> None:
    os.environ["PGPASSWORD"] = PASSWORD
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    print("| runs | import | processor: gt, servers | memory: gt, servers | grows as runs to the power of | again |")
    print("| --- | --- | --- | --- | --- | --- |")
    last: tuple[int, float] | None = None
    with postgres() as database:
        for runs in sizes:
            own = folder / str(runs)
            make(own / "results", runs)
            with server(own, database.new()) as running:
                assert running.process is not None
                daemons = [psutil.Process(database.process.pid), psutil.Process(running.process.pid)]
                first, again = (measure(own, running.uri, daemons) for _ in range(2))
            power = f"{math.log(first['seconds'] / last[1]) / math.log(runs / last[0]):.2f}" if last else ""
            last = runs, first["seconds"]
            memory = f"{first['bytes'] / 1e6:,.0f} MB, {first['servers_bytes'] / 1e6:,.0f} MB"
            processor = f"{first['own']:,.0f} s, {first['servers']:,.0f} s"
            seconds, later = (f"{own['seconds']:,.0f} s" for own in (first, again))
            print(f"| {runs:,} | {seconds} | {processor} | {memory} | {power} | {later} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), [int(size) for size in sys.argv[2:]])
