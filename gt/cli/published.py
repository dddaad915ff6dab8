"""What is kept of studies with the code, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gt.cli.app import PUBLISHED, command
from gt.cli.options import PaperFile, PlanFile, PublishedStudies, Records, Templates, described


@command(
    PUBLISHED,
    "gt publish --plan results/studies/smoke/plan.json --runs results/runs --out results/published/smoke",
)
def publish(
    *, plan: PlanFile, runs: Records, out: Annotated[Path, described("results/published/<study>")], templates: Templates = None
) -> None:
    """Keep a study's small records and its report with the code."""
    from gt import shared
    from gt.artefacts import read_plan
    from gt.publish import publish

    publish(read_plan(plan), runs, out, templates or shared.templates())
    print(f"{out / 'report.html'}")


@command(PUBLISHED, "gt rebuild --published results/published/v4_char")
def rebuild(
    *,
    published: PublishedStudies,
    templates: Templates = None,
    paper: Annotated[Path | None, described("config/papers/<name>.yaml: a paper about them, which goes beside them")] = None,
) -> None:
    """Make the reports of published studies again from their records.

    And one about all of them.
    """
    from gt import shared
    from gt.publish import rebuild_all

    rebuild_all(published, templates or shared.templates(), paper)
    for folder in published:
        print(f"{folder / 'report.html'}")


@command(
    PUBLISHED,
    "gt paper --published results/published/stacks --paper config/papers/groundthink.yaml --out results/published/paper",
)
def paper(
    *,
    published: PublishedStudies,
    paper: PaperFile,
    out: Annotated[Path, described("where it goes")],
    templates: Templates = None,
) -> None:
    """Write a paper about published studies.

    Its words are an author's and its numbers are looked up. Where the record belies the words, a draft is written that says so,
    and the exit code is 2.
    """
    from gt import shared
    from gt.publish import publish_paper

    publish_paper(paper, published, out, templates or shared.templates())
    print(f"{out / 'paper.pdf'}")


@command(
    PUBLISHED,
    "gt headline --published results/published/stacks --paper config/papers/groundthink.yaml --readme README.md",
)
def headline(*, published: PublishedStudies, paper: PaperFile, readme: Annotated[Path, described("README.md")]) -> None:
    """Write the top of the README anew from a paper about published studies."""
    from gt.publish import write_headline

    write_headline(published, readme, paper)
    print(readme)
