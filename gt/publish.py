"""Studies that are kept with the code: their small records, from which the report is made again anywhere.

`results/published/<study>/records/` holds what `gt.archive` keeps of the records. Beside it stands what they give: verdicts
as `claims.json`, `report.html` and `report.pdf`; and, which git ignores, `report.md`, `tables/`, `figures/`, and `claims/`,
their figures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

from matplotlib.figure import Figure

from gt.analysis.aggregate import aggregate
from gt.analysis.earlier import Study, archived
from gt.analysis.repeated import repeated
from gt.analysis.verdicts import judge, overview
from gt.archive import KEPT, PLAN, pack, read, read_plans, trained
from gt.artefacts import Plan
from gt.attempts import first_starts
from gt.errors import ConfigError
from gt.progress import progress
from gt.records import MANIFEST, atomic_write, temporary_folder
from gt.report.drawing import save
from gt.report.gallery import draw
from gt.report.headline import ALL, FIGURE, figure, headline, insert
from gt.report.numbers import load
from gt.report.render import render
from gt.study import dumps

CLAIMS = Path("config/claims")
# Paragraphs, in the folder of the published studies, on what deviates from the plan: of the report of all of them.
NOTES = "deviations.txt"
REPORT = ("report.html", "report.md", "report.pdf", "pages", "claims.json", "tables", "figures", "claims")


def publish(plan: Plan, runs: Path, published: Path, templates: Path) -> None:
    """Keep the records of a study, in place of those that are kept, and make its report from them.

    Its plan then says when each run was first begun, by all that is known here and by all that is published beside it.

    ConfigError if no run of the plan has a record, one is damaged, or one that is kept would be lost. What is there stays until
    all that is new is.
    """
    if published.name == ALL:
        raise ConfigError(f"{published}: this is the place of the report of all studies; publish the study under another name.")
    _check_none_is_lost(plan, runs, published / KEPT)
    with temporary_folder(published) as folder:
        study = folder / published.name
        started = first_starts(plan, runs, read_plans(published.parent.glob("*")))
        pack(plan.model_copy(update={"started": started}), runs, study / KEPT)
        _report(study, study, templates, published_in(published.parent))
        _replace((KEPT, *REPORT), study, published)


def _check_none_is_lost(plan: Plan, runs: Path, records: Path) -> None:
    """ConfigError where a run of the plan whose record is kept has none any more."""
    kept = trained(records) if records.exists() else set()
    if lost := [run for run in plan.runs if run in kept and not (runs / run / MANIFEST).exists()]:
        raise ConfigError(
            f"{runs}: {lost[0]} has no record here any more, and {records} keeps one, as of {len(lost)} in all that publishing"
            " would lose. Train them again, or remove what is published first."
        )


def rebuild(published: Path, out: Path, templates: Path) -> None:
    """Make the report of a published study again, into `out`. The same records and code give the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / published.name
        _report(published, study, templates)
        _copy(study, out)


def rebuild_all(published: list[Path], templates: Path) -> None:
    """Make the reports of published studies again, and beside them, in `all/`, one about all of them together."""
    with tempfile.TemporaryDirectory() as folder:
        studies, jobs = [Path(folder) / own.name for own in published], os.cpu_count() or 1
        _neighbours.cache_clear()  # what an earlier call saw may have changed
        # The largest first, so that no process waits for the last of them; a study is one process' work.
        largest = sorted(published, key=lambda own: -sum(file.stat().st_size for file in (own / KEPT).glob("*")))
        again = partial(_again, Path(folder), templates)
        with ProcessPoolExecutor(jobs) if len(published) > 1 and jobs > 1 else nullcontext() as pool:
            for _ in progress((pool.map if pool else map)(again, largest), "reports", "study", len(largest)):
                pass
        if len(studies) > 1:
            parent = published[0].parent
            notes = (parent / NOTES).read_text(encoding="utf-8").strip() if (parent / NOTES).exists() else ""
            render(studies, Path(folder) / ALL, templates, CLAIMS, notes.split("\n\n") if notes else ())
            _copy(Path(folder) / ALL, parent / ALL)


def _again(folder: Path, templates: Path, published: Path) -> None:
    """One of several: what a process does."""
    study = folder / published.name
    _report(published, study, templates, _neighbours(published.parent), jobs=1)
    _copy(study, published)


def write_headline(published: list[Path], readme: Path) -> None:
    """Write the headline of the README and its figure anew from the records of the published studies."""
    with tempfile.TemporaryDirectory() as folder:
        studies, beside = [Path(folder) / own.name for own in published], neighbours(published)
        for own, study in progress(list(zip(published, studies, strict=True)), "studies", "study"):
            restore(own, study, beside[own.parent])
        drawn, text = headlined(studies, published[0].parent)
    if drawn is not None:
        save(drawn, readme.parent / FIGURE, "png")
    with atomic_write(readme) as temporary:
        temporary.write_text(insert(readme.read_text(encoding="utf-8"), text), encoding="utf-8")


def headlined(studies: Sequence[Path], published: Path) -> tuple[Figure | None, str]:
    """The figure and the text of the headline. studies: restored ones. published: where they stand, seen from the README."""
    rows, results = overview(CLAIMS, studies), [load(study) for study in studies]
    return figure(results, rows), headline(results, rows, published.as_posix())


def restore(published: Path, study: Path, beside: Mapping[str, Study] | None = None) -> None:
    """A study's tables and verdicts, from the records that are kept; runs of which others keep further trainings are pooled.

    beside: the studies that are published with it (`published_in`), where they have been read already, or stand elsewhere.
    Itself it takes the place of one of its name.
    """
    known = published_in(published.parent) if beside is None else beside
    others = [own for name, own in known.items() if name != published.name]
    kept = read(published / KEPT)
    plan = kept.plan
    with atomic_write(study / PLAN) as temporary:
        temporary.write_text(dumps(plan), encoding="utf-8")
    aggregate(plan, kept, study, repeated(plan, kept, [own for own in others if own.plan.study != plan.study]))
    starts = (time for own in (plan, *(other.plan for other in others)) for time in own.started.values())
    judge(study, CLAIMS, min(starts, default=None))


def published_in(folder: Path) -> dict[str, Study]:
    """The studies that are published in a folder, by the names of theirs. ConfigError where one is damaged."""
    return {file.parents[1].name: archived(file.parent) for file in sorted(folder.glob(f"*/{KEPT}/{PLAN}.xz"))}


# Read once by a process that makes one study's report after another.
_neighbours = cache(published_in)


def neighbours(published: Iterable[Path]) -> dict[Path, dict[str, Study]]:
    """What stands beside each of these, by their folder: read once, since each study asks for all others."""
    return {parent: published_in(parent) for parent in {own.parent for own in published}}


def _report(
    published: Path, study: Path, templates: Path, beside: Mapping[str, Study] | None = None, jobs: int | None = None
) -> None:
    """jobs: processes that draw, by default as many as this machine has."""
    restore(published, study, beside)
    draw(study, jobs or os.cpu_count() or 1, png=False)
    render([study], study, templates, CLAIMS)


def _copy(study: Path, out: Path) -> None:
    """What a reader sees, in place of what is there."""
    with temporary_folder(out) as folder:
        for name in REPORT:
            if (study / name).is_dir():
                shutil.copytree(study / name, folder / name)
            elif (study / name).exists():
                shutil.copyfile(study / name, folder / name)
        _replace(REPORT, folder, out)


def _replace(names: Sequence[str], new: Path, out: Path) -> None:
    """Move those of these files and folders that are new into `out`, in place of what is there, which on failure is back."""
    out.mkdir(exist_ok=True)
    # No temporary name: what stands there after a kill is all that there is of it.
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".old"))
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in ((out, old), (new, out)):
            for name in names:
                if (source / name).exists():
                    os.rename(source / name, target / name)
                    moved.append((source / name, target / name))
    except BaseException:
        for before, now in reversed(moved):
            os.rename(now, before)
        old.rmdir()
        raise
    shutil.rmtree(old)
