"""A study's report, or that of several together: tables, `report.html`, `report.md` and `report.pdf`; of several, `pages/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gt.analysis.claims import load_arms, load_claims
from gt.analysis.gates import foreseen
from gt.analysis.verdicts import overview
from gt.progress import progress
from gt.report import checklist, text
from gt.report.census import census
from gt.report.claim_figures import draw_claims
from gt.report.decisions import decides
from gt.report.document import abridged
from gt.report.formats import write
from gt.report.inside import inside_tables
from gt.report.looks import draw_looks
from gt.report.numbers import load
from gt.report.paper import paper
from gt.report.study_tables import study_tables
from gt.report.supplement import supplement


def render(folders: Sequence[Path], out: Path, templates: Path, claims: Path, notes: Sequence[str] = ()) -> None:
    """Write the report of the studies in these folders, which have been aggregated, judged and drawn, into `out`.

    One study's is about the claims that it judges, that of several about all claims. notes: paragraphs on what deviates from
    the plan. ConfigError names a template that is missing, is not a template, or asks for an unknown name, or a study that was
    not aggregated.
    """
    studies = [load(folder) for folder in progress(folders, "studies", "study")]
    rows = overview(claims, folders)
    if len(studies) == 1:
        rows = [row for row in rows if row.judgement or row.arms]
    arms = {name: arm.title for name, arm in load_arms(claims).items()}
    pictures = draw_claims(rows, out / "claims")
    for own in studies:
        pictures |= draw_looks([row for row in rows if row.claim.study == own.study], own.plan, out / "claims")
    known = load_claims(claims)
    gates = [gate for own in studies if decides(own.plan) for gate in foreseen(known, own.plan)]
    if len(studies) == 1:
        document = paper(studies[0], rows, pictures, arms, gates)
    else:
        document = supplement(studies, rows, pictures, arms, notes, gates)
    tables = document.tables()
    if len(studies) == 1:  # and some that are for programs alone
        tables += [*study_tables(studies[0]).values(), *inside_tables(studies[0]).values()]
    for table in {table.name: table for table in tables}.values():
        table.write(out / "tables")
    write(abridged(document), out, templates)


def summary(study_dir: Path) -> str:
    """What a study found, in a few lines, and where its report is."""
    results = load(study_dir)
    counted = census([results])
    lines = [f"{results.study}: {counted.completion}"]
    for panel in results.panels:
        if panel.measured:
            best = panel.best
            shown = text.plus_minus(best["mean"], best["lower"], best["upper"])
            seeds = text.out_of(best["n"], best["planned"], "seed")
            lines.append(f"  {panel.title}: lowest {best['label']}, {shown} bits/byte ({seeds})")
        else:
            lines.append(f"  {panel.title}: no run has completed")
    lines.append(f"  {counted.decided} of {text.plural(counted.contrasts, 'contrast')} with {results.baseline} decided")
    absent = [row["cell"] for row in results.cell_rows_in_order if not row["completed"]]
    if absent:
        lines.append(f"  without a completed run: {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}")
    if warnings := checklist.warnings([results]):
        lines.append(f"  {text.plural(len(warnings), 'warning')}: see the top of the report")
    return "\n".join([*lines, f"  report: {study_dir / 'report.html'}"])
