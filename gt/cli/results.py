"""What came of studies: tables, verdicts, figures, reports."""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gt.cli import complete
from gt.cli.app import RESULTS, command
from gt.cli.options import MANY, Claims, Count, Note, Out, PlanFile, Records, Studies, StudyResults, Templates, described
from gt.errors import ConfigError, entry

if TYPE_CHECKING:
    from gt.artefacts import Plan
    from gt.study import Study

CLAIMS = Path("config/claims")


@command(RESULTS, "gt aggregate --plan results/studies/smoke/plan.json --runs results/runs --out results/studies/smoke")
def aggregate(*, plan: PlanFile, runs: Records, out: StudyResults, note: Note = None) -> None:
    """Put the records of a study together in tables."""
    from gt import made
    from gt.analysis.aggregate import aggregate
    from gt.artefacts import read_plan

    of = read_plan(plan)
    with made.noted(note, made.of_tables(plan, of, runs), out, *made.TABLES):
        aggregate(of, runs, out)


@command(RESULTS, "gt claims judge --study results/studies/v4_char")
def claims(
    action: Annotated[Literal["list", "judge", "register", "check"], described("what to do", show_default=True)] = "list",
    /,
    *,
    claims: Claims = CLAIMS,
    study: Studies = None,
    note: Note = None,
) -> None:
    """List, judge, register or check the claims.

    list, the default, says their verdicts. judge writes those of a study. register enters what is new or edited before the
    runs, with the time. check holds claims to the studies, and their registrations, of which each holds the sum of the one
    before, to the history of the repository. Both say the number and the hash of the last one.
    """
    if action == "list":
        from gt.analysis.verdicts import overview
        from gt.report.claim_words import table
        from gt.report.replicated import told

        rows = overview(claims, study or _judged(), _published())
        print("\n".join(filter(None, (table(rows), told(rows)))))
    elif action == "judge":
        _judge(claims, study, note)
    else:
        _registrations(claims, enter=action == "register")


@command(RESULTS, "gt look --plan plan.json --runs results/runs --out look.json")
def look(*, plan: PlanFile, runs: Records, out: Out, claims: Claims = CLAIMS) -> None:
    """Say which cells of a study get more seeds.

    Those that a claim reads which the seeds so far do not decide, where the study has looks.
    """
    from gt.analysis.going_on import look

    print(f"{out}: {look(plan, runs, claims, out, _begun(runs.absolute().parent))} cells go on")


@command(RESULTS, "gt why C-P2-01")
def why(
    claim: Annotated[str, described("the id of a claim", completer=complete.claims)],
    /,
    *,
    claims: Claims = CLAIMS,
    study: Studies = None,
) -> None:
    """Say all about one claim.

    The record, what was run, the numbers, the verdict, and what explains it.
    """
    from gt.analysis.verdicts import overview
    from gt.report.claim_words import why
    from gt.report.replicated import of_row

    rows = {row.id: row for row in overview(claims, study or _judged(), _published())}
    row = entry(claim, rows, f"unknown claim {claim!r}.")
    print("\n".join([why(row), *of_row(row)]))


@command(RESULTS, "gt compare GF HY --study results/studies/v4_char")
def compare(
    a: Annotated[str, described("a variant, cell or run of the study")],
    b: Annotated[str, described("what it is compared with")],
    /,
    *,
    study: Annotated[Path, described("results/studies/<study> or results/published/<study>")],
) -> None:
    """Set two variants, cells or runs side by side in every metric.

    They are paired by seed. The study may be a published one.
    """
    from gt.analysis.values import Values
    from gt.report.claim_words import compare

    with tempfile.TemporaryDirectory() as folder:
        place = study
        if (study / "records").is_dir():
            from gt.publish import restore

            place = Path(folder) / study.name
            restore(study, place)
        print(compare(Values(place), a, b))


@command(RESULTS, "gt figures --study results/studies/smoke --jobs 4")
def figures(*, study: StudyResults, jobs: Annotated[Count, described("processes")] = 1, note: Note = None) -> None:
    """Draw a study's figures."""
    from gt import made
    from gt.report.gallery import draw

    with made.noted(note, made.of_figures(study), study, "figures/**/*"):
        draw(study, jobs)


@command(RESULTS, "gt report --study results/studies/smoke")
def report(
    *,
    study: Annotated[list[Path], MANY, described("results/studies/<study> ...")],
    templates: Templates = None,
    out: Annotated[Path | None, described("where it goes; by default the folder of the one study")] = None,
    claims: Claims = CLAIMS,
    note: Note = None,
) -> None:
    """Write the tables and the report of a study, or of several."""
    from gt import made, shared
    from gt.report.render import render

    if len(study) > 1 and out is None:
        raise ConfigError("--out: a report of several studies needs a folder.")
    out, templates = out or study[0], templates or shared.templates()
    with made.noted(note, made.of_report(study[0], claims, templates), out, *made.PAPER):
        render(study, out, templates, claims)
    print(f"{out / 'report.html'}")


@command(RESULTS, "gt summary --study results/studies/smoke")
def summary(*, study: StudyResults) -> None:
    """Say in a few lines what a study found."""
    from gt.report.render import summary

    print(summary(study))


@command(RESULTS, "gt track --plan results/studies/smoke/plan.json --runs results/runs --uri sqlite:///results/mlflow.db")
def track(
    *,
    plan: PlanFile,
    runs: Records,
    uri: Annotated[str, described("of the MLflow store or server")],
    out: Annotated[Path | None, described("where the counts go, as JSON; by default they are printed")] = None,
    note: Note = None,
) -> None:
    """Bring MLflow up to date with the run records.

    Doing it twice adds nothing.
    """
    from gt import made
    from gt.artefacts import read_plan
    from gt.records import write_json
    from gt.tracking import sync

    folder, *written = (out.parent, out.name) if out else (runs,)
    of = read_plan(plan)
    with made.noted(note, made.of_tracking(plan, of, runs, uri), folder, *written):
        counts = sync(of, runs, uri)
        if out:
            write_json(out, counts)
        else:
            print(json.dumps(counts))


def _judged() -> list[Path]:
    """All folders with verdicts that there are: of a study that was not run here, the published one."""
    places = (Path("results/published"), Path("results/studies"))
    return list({file.parent.name: file.parent for place in places for file in sorted(place.glob("*/claims.json"))}.values())


def _published() -> list[Path]:
    """Studies that are published here, whose claims may have been replicated."""
    return sorted(Path("results/published").glob("*"))


def _judge(claims: Path, studies: list[Path] | None, note: Path | None) -> None:
    """Write the verdicts of the studies that are named, or of all that there are."""
    from gt import made
    from gt.analysis.verdicts import judge

    for study in studies or sorted(file.parent for file in Path("results/studies").glob("*/runs.parquet")):
        with made.noted(note, made.of_verdicts(study, claims), study, *made.VERDICTS):
            print(f"{study / 'claims.json'}: {len(judge(study, claims, _begun(study.absolute().parents[1])))} verdicts")


def _begun(results: Path) -> datetime.datetime | None:
    """When the first run of all began, as far as attempts and published records say it."""
    from gt import attempts
    from gt.archive import begun

    starts = (attempts.earliest(results / attempts.FOLDER), begun((results / "published").glob("*")))
    return min((time for time in starts if time is not None), default=None)


def _registrations(claims: Path, enter: bool) -> None:
    """Check the claims, and enter them, or hold what is entered to the history."""
    from gt.analysis.claims import check, load_arms, load_claims
    from gt.analysis.registration import chain, check_history, register, unconfirmed, unregistered
    from gt.study import load_study

    known = load_claims(claims)
    studies = {file.stem: load_study(file) for file in sorted((claims.parent / "studies").glob("*.yaml"))}
    plans = {name: study.plan() for name, study in studies.items()}
    check(known, load_arms(claims), plans)
    if enter:
        new = unregistered(claims, known)
        for name in dict.fromkeys(str(known[claim].study) for claim in new):
            _gate(studies[name], plans[name], claims, new)
        entered = register(claims, known)
        print(f"{len(entered)} of {len(known)} claims entered{': ' if entered else ''}{', '.join(entered)}")
    entries = chain(claims)
    if not enter:
        check_history(claims)
        if late := unconfirmed(claims):
            raise ConfigError("\n".join(late))
    for head in entries[-1:]:
        print(f"registration {head.number}: {head.hash}")


def _gate(study: Study, plan: Plan, claims: Path, new: list[str]) -> None:
    """ConfigError where one of these claims is not worth registering; a warning where the study says `gate: warn`."""
    from gt.analysis import gate_words
    from gt.analysis.gates import outlook

    faulty = [gate for gate in outlook(study, plan, claims, (), 0).faulty if gate.claim in new]
    if not faulty:
        return
    if study.file.gate == "warn":
        print(gate_words.refusal(plan.study, faulty, "registered all the same, as its `gate: warn` says"), file=sys.stderr)
        return
    what = "not registered, and nothing else is; `gate: warn` in the study registers them all the same"
    raise ConfigError(gate_words.refusal(plan.study, faulty, what))
