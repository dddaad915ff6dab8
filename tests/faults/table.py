"""The table by kind: as JSON, as Markdown, and between two marks of the README."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gt.paper.headline import insert
from gt.records import atomic_write, read_json

START, END = "<!-- faults: written by make reliability -->\n", "<!-- end of the faults -->"


def summary(log: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of the trials in which something was disturbed, by kind."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in log:
        if line["faults"]:
            kinds.setdefault(line["kind"], []).append(line)
    rows = [
        {
            "kind": kind,
            "trials": len(lines),
            "faults": sum(len(line["faults"]) for line in lines),
            "calls": max(line["calls_after"] for line in lines),
            "lost": sum(line["outcome"] == "lost" for line in lines),
            "lost_trials": [f"{line['seed']}:{line['trial']}" for line in lines if line["outcome"] == "lost"],
        }
        for kind, lines in sorted(kinds.items())
    ]
    totals = {name: sum(row[name] for row in rows) for name in ("trials", "faults", "lost")}
    return {"seeds": sorted({line["seed"] for line in log}), **totals, "kinds": rows}


def markdown(result: dict[str, Any]) -> str:
    lines = ["| disturbance | trials | faults | calls needed, at most | lost |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row['kind']} | {row['trials']} | {row['faults']} | {row['calls']} | {row['lost']} |" for row in result["kinds"]
    ]
    calls = max((row["calls"] for row in result["kinds"]), default=0)
    lines.append(f"| **all** | {result['trials']} | {result['faults']} | {calls} | {result['lost']} |")
    return "\n".join(lines) + "\n"


def main(source: Path, readme: Path) -> None:
    """Write the table of a faults.json into the README."""
    text = insert(readme.read_text(encoding="utf-8"), markdown(read_json(source)), START, END)
    with atomic_write(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
