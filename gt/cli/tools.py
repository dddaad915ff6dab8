"""Tools: what this machine can do, how fast it is, and whether what it made can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gt.cli.app import TOOLS, command
from gt.cli.compute import Device, chosen
from gt.cli.options import FLAG, Count, Number, Records, Tokens, described
from gt.errors import ConfigError, nearest

COMPARISONS = "models, engines, backends, stacks, cohorts, familiar, curves, variants, starts, measuring, ops"


@command(TOOLS, "gt doctor")
def doctor() -> None:
    """Say what this machine has, and what is missing for what."""
    import importlib.util
    import os
    import platform
    import shutil

    from gt import __version__

    print(f"gt {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"torch {torch.__version__}: {', '.join(gpus) if gpus else 'no GPU; runs train on the CPU'}")
    for package in ("fla", "triton", "mamba_ssm"):
        print(f"{package}: {'there' if importlib.util.find_spec(package) else 'not installed (extra: gpu)'}")
    conda = shutil.which("conda")
    print(f"conda: {conda or 'not installed; leave --use-conda out, this environment is used'}")


@command(TOOLS, "gt verify results/runs/<run_id> --data results/data/shakespeare/char")
def verify(
    run: Annotated[Path, described("results/runs/<run_id>")],
    /,
    *,
    data: Tokens,
    device: Device = "auto",
    threads: Annotated[Count | None, described("CPU threads; by default those of the record")] = None,
) -> int:
    """Train the run of a record again and compare.

    To the last bit, or to rounding where the arithmetic is another.
    """
    from gt.artefacts import read_manifest

    where = chosen(device, threads or read_manifest(run).threads or 1)
    from gt.verify import verify

    outcome = verify(run, data, where)
    print(f"{run.name}: {outcome.text}")
    return 0 if outcome.same else 1


@command(TOOLS, "gt why-rerun <run_id> --plan results/studies/smoke/plan.json")
def why_rerun(
    run: Annotated[str, described("the id of a run")],
    /,
    *,
    runs: Records = Path("results/runs"),
    plan: Annotated[Path | None, described("plan.json of a study that asks for the run")] = None,
) -> None:
    """Say what of a run would be made again, and why.

    Which part of the code changed, or what is missing or damaged.
    """
    from gt.artefacts import read_plan
    from gt.why_rerun import why_rerun

    print(why_rerun(run, runs, read_plan(plan) if plan else None))


@command(TOOLS, "gt bench models stacks --out bench.json")
def bench(
    *comparison: Annotated[str, described(COMPARISONS)],
    out: Annotated[Path, described("JSON with every number")],
    study: Annotated[Path, described("whose sizes are measured")] = Path("config/studies/v4_char.yaml"),
    rounds: Annotated[Count, described("turns of each candidate; medians are over them")] = 7,
    seconds: Annotated[Number, described("in which the candidates of a comparison are started")] = 1e9,
    quick: Annotated[bool, FLAG, described("small models and two rounds, to see that it works")] = False,
    device: Device = "auto",
    threads: Annotated[Count, described("CPU threads")] = 1,
) -> None:
    """Measure how fast training is, candidates side by side.

    Medians over rounds.
    """
    from gt.bench.candidates import NAMES

    for name in comparison:
        if name not in NAMES:
            raise ConfigError(f"bench: unknown comparison {name!r}." + nearest(name, NAMES))
    where = chosen(device, threads)
    from gt.bench.report import bench

    bench(list(comparison) or ["models"], study, out, where, 2 if quick else rounds, seconds, quick)


@command(TOOLS, "gt schema --out workflow/schemas")
def schema(*, out: Annotated[Path, described("workflow/schemas")]) -> None:
    """Write the JSON schemas of the configuration files."""
    from gt.schemas import write

    write(out)
