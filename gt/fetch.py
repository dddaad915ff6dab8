"""Bring what a pack has made of a run to its record: `python -m gt.fetch STAGED RECORD FILE...`.

Snakemake removes the outputs of a job before it starts and when it fails. A pack trains many runs in one job, so what it has
finished stands in `results/staged/<run_id>/`, where Snakemake does not look, and the jobs of the runs themselves bring it to
`results/runs/`. The files are hard links of each other: that is quick, and takes no space.

Each run has three such jobs, which do nothing else. So next to nothing is imported here, and which files a pack has made for
certain is found out beforehand, by the workflow (`gt.stage`).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from gt.records import FAILURE, MANIFEST, RECORD, measurements, temporary_name


def fetch(staged: Path, record: Path, *names: str) -> bool:
    """Have these files with the record, and give up those that were measured, with the last of them the whole folder.

    Without a name there is nothing to be had: all that is staged is given up, and it returns False.
    """
    if not names:
        shutil.rmtree(staged, ignore_errors=True)
        return False
    if MANIFEST in names:  # what is of another training will be no more
        for earlier in (FAILURE, *measurements(record)):
            (record / earlier).unlink(missing_ok=True)
    bring(staged, record, *names)
    for name in set(names) - set(RECORD):
        (staged / name).unlink(missing_ok=True)
    if not measurements(staged):
        shutil.rmtree(staged, ignore_errors=True)
    return True


def bring(source: Path, target: Path, *names: str) -> None:
    """Have files in another folder too, each whole or not at all, in this order."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target / name)
        try:
            os.link(source / name, temporary)
        except OSError:  # not all file systems have links
            shutil.copy2(source / name, temporary)
        os.replace(temporary, target / name)
        temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing


if __name__ == "__main__":
    staged, record, *names = sys.argv[1:]
    if not fetch(Path(staged), Path(record), *names):
        sys.exit(1)
    print(f"{record}: made in a pack")
