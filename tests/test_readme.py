"""What the README tells a reader to type does what it says, and what it points to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The code block of the README in which something stands."""
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in b]
    assert len(found) == 1, f"{len(found)} blocks of {language} contain {containing!r}"
    return found[0]


def gt(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gt", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A project, with the README's fusion added as it says."""
    gt(tmp_path, "init", "mylab")
    for name, text in (
        ("mylab/fusions.py", block("python", "class Maximum(Fusion)")),
        ("config/variants/mylab.yaml", block("yaml", "MAX:")),
    ):
        with (tmp_path / "mylab" / name).open("a") as file:
            file.write(f"\n\n{text}")
    return tmp_path / "mylab"


def test_a_new_fusion_is_one_class_of_under_20_lines_and_one_line_of_config(lab: Path) -> None:
    _, _, code = block("python", "class Maximum(Fusion)").partition("class Maximum")
    assert len([line for line in code.splitlines() if line.strip()]) + len(block("yaml", "MAX:").splitlines()) < 20
    (line,) = [line for line in gt(lab, "list", "fusions").splitlines() if line.startswith("maximum ")]
    assert line.split()[1:4] == ["1", "0", "0"] and "y = s max(r, m)" in line
    study = (lab / "config/studies/example.yaml").read_text().replace("[GF, PRODUCT]", "[GF, PRODUCT, MAX]")
    (lab / "config/studies/mine.yaml").write_text(study)
    assert gt(lab, "plan", "config/studies/mine.yaml", "--out", "plan.json").startswith("mine: 3 cells, 9 runs")


def test_its_links_lead_to_something() -> None:
    for page in (ROOT / "README.md", ROOT / "config/README.md"):
        links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
        assert links
        for link in links:
            path, _, place = link.partition("#")
            target = page.parent / path
            assert target.exists(), link
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if place else []
            assert not place or place in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], link
