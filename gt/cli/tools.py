"""Tools: what this machine can do, how fast it is, and whether what it made can be made again."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from gt.cli import complete
from gt.cli.app import TOOLS, app, command
from gt.cli.compute import Device, chosen
from gt.cli.options import FLAG, Count, Number, Records, Tokens, described
from gt.cli.tables import print_findings
from gt.errors import ConfigError, nearest

COMPARISONS = (
    "models, engines, backends, stacks, cohorts, peers, alone, curves, variants, starts, measuring, step, ops, sizes, worlds"
)


@command(TOOLS, "gt doctor")
def doctor(*, json: Annotated[bool, FLAG, described("for machines: a list of findings")] = False) -> int:
    """Say what this machine can do, and what is missing for what.

    Exit code 0 if a study can run on its CPU, 1 if not.
    """
    from gt.doctor import can_run, examine

    findings = examine()
    if json:
        print(dumps([finding._asdict() for finding in findings], indent=1))
    else:
        print_findings(findings)
    return 0 if can_run(findings) else 1


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
    run: Annotated[str, described("the id of a run", completer=complete.records)],
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
    *comparison: Annotated[str, described(COMPARISONS, completer=complete.comparisons)],
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
    from gt.devices import visible

    for name in comparison:
        if name not in NAMES:
            raise ConfigError(f"bench: unknown comparison {name!r}." + nearest(name, NAMES))
    gpus = visible() if device != "cpu" else []  # before one of them is chosen
    where = chosen(device, threads)
    from gt.bench.report import bench

    bench(list(comparison) or ["models"], study, out, where, gpus, 2 if quick else rounds, seconds, quick)


@command(TOOLS, "gt completion --install")
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"] | None, described("by default the one that this is called in")] = None,
    /,
    *,
    install: Annotated[bool, FLAG, described("put it where the shell finds it, and say where that is")] = False,
) -> None:
    """Print the script by which a shell completes gt's commands.

    It completes options, and names of variants, claims, runs and components.
    """
    from cyclopts.completion.detect import ShellDetectionError

    try:
        print(app.install_completion(shell=shell) if install else app.generate_completion(shell=shell))
    except ShellDetectionError:
        raise ConfigError("completion: it cannot be seen which shell this is. Name it: bash, zsh or fish.") from None


@command(TOOLS, "gt reference")
def reference() -> None:
    """Print the help of all commands as a page in Markdown."""
    from gt.cli.reference import reference

    print("\n".join(reference()))


@command(TOOLS, "gt schema --out workflow/schemas")
def schema(*, out: Annotated[Path, described("workflow/schemas")]) -> None:
    """Write the JSON schemas of the configuration files."""
    from gt.schemas import write

    write(out)
