"""The documentation is built without a warning, and its pages ask nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUIET = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
# What a browser fetches when it shows a page; links that a reader may follow are not among it.
FETCHED = re.compile(r"""(?:<(?:script|img|iframe|source)\b[^>]*\bsrc|<link\b[^>]*\bhref)=["'](https?:[^"']+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
    assert result.returncode == 0, result.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = {page: FETCHED.findall(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}
    assert len(pages) > 20
    assert not {str(page): found for page, found in pages.items() if found}


def test_formulas_are_set_and_not_left_as_text(site: Path) -> None:
    text = (site / "reference/accounting.html").read_text(encoding="utf-8")
    assert "<math" in text
    assert "$$" not in text and "\\frac" not in text


def test_every_component_and_every_key_of_a_specification_has_its_place(site: Path) -> None:
    from gt.catalogue import KINDS, components
    from gt.spec import TrainingSpec

    listed = (site / "reference/components.html").read_text(encoding="utf-8")
    for kind in KINDS:
        for name in components(kind):
            assert f'id="{kind}-{name}"' in listed, f"{kind} {name}"
    keys = (site / "reference/specification.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in keys for name in TrainingSpec.model_fields)
