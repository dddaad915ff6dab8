"""Records that this version of gt did not write, or that say two things: none of them is overwritten."""

from __future__ import annotations

import pytest
from checkouts import Checkout

from gt.records import read_json, write_sealed


@pytest.mark.parametrize("file", ["manifest.json", "probes.json", "evaluations/held_out.json"])
def test_a_record_of_a_later_version_is_refused_by_name_and_left_alone(checkout: Checkout, file: str) -> None:
    path = min(checkout.folder.glob("results/runs/*")) / file
    write_sealed(path, {**read_json(path), "schema_version": 4, "new": "unknown here"})
    before = {own: own.read_bytes() for own in path.parent.rglob("*") if own.is_file()}
    result = checkout.snakemake()
    assert result.returncode == 2
    assert f"{path.relative_to(checkout.folder)}: is of schema 4, and this version of gt reads those up to 3." in result.stderr
    assert "Traceback" not in result.stderr
    assert {own: own.read_bytes() for own in path.parent.rglob("*") if own.is_file()} == before


def test_a_manifest_that_contradicts_its_specification_is_moved_aside_and_made_again(checkout: Checkout) -> None:
    record = min(checkout.folder.glob("results/runs/*"))
    manifest = read_json(record / "manifest.json")
    write_sealed(record / "manifest.json", {**manifest, "steps_completed": 5})
    result = checkout.snakemake("--until", "train")
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"results/runs/{record.name}: damaged (manifest.json); moved to results/damaged" in result.stderr
    (aside,) = checkout.folder.glob(f"results/damaged/{record.name}.*")
    assert read_json(aside / "manifest.json")["steps_completed"] == 5
    assert read_json(record / "manifest.json")["steps_completed"] == manifest["steps_completed"]
