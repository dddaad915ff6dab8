"""What the README tells a reader to type does what it says."""

from __future__ import annotations

import re
import shutil
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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and its configuration, with the README's fusion added as it says."""
    for folder in ("gt", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    imports = (ROOT / "gt/models/fusions/constant.py").read_text().split("class ")[0]
    (tmp_path / "gt/models/fusions/mine.py").write_text(imports + block("python", "class Maximum(Fusion)"))
    with (tmp_path / "config/variants/fusions.yaml").open("a") as file:
        file.write(block("yaml", "MAX:"))
    return tmp_path


def gt(checkout: Path, *arguments: str) -> str:
    result = subprocess.run([sys.executable, "-m", "gt", *arguments], cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_new_fusion_is_one_class_of_under_20_lines_and_one_line_of_config(checkout: Path) -> None:
    code = [line for line in block("python", "class Maximum(Fusion)").splitlines() if line.strip()]
    assert len(code) + len(block("yaml", "MAX:").splitlines()) < 20
    (line,) = [line for line in gt(checkout, "list").splitlines() if line.startswith("maximum ")]
    assert line.split()[1:4] == ["1", "0", "0"] and "y = s max(r, m)" in line
    study = (checkout / "config/studies/smoke.yaml").read_text().replace("  - WS\n", "  - WS\n  - MAX\n")
    (checkout / "config/studies/mine.yaml").write_text(study)
    assert gt(checkout, "plan", "config/studies/mine.yaml", "--out", "plan.json").startswith("mine: 18 cells, 36 runs")
