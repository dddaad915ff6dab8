"""Finished records are kept in a store, and a checkout that has none goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path

from checkouts import Checkout

AFTER_RUNS = {"aggregate": 1, "claims": 1, "figures": 1, "report": 1, "track": 1}


def test_an_empty_folder_plans_what_the_store_lacks(checkout: Checkout, tmp_path: Path) -> None:
    store = tmp_path / "mounted/lab"
    store.parent.mkdir()
    empty = checkout.copy(tmp_path / "empty")
    shutil.rmtree(empty.folder / "results")

    trained = checkout.finished_at()
    result = checkout.snakemake(store=store)
    assert result.returncode == 0, result.stderr[-3000:]
    assert checkout.finished_at() == trained
    objects = sorted(store.iterdir())
    assert [file.stem for file in objects] == sorted(trained)

    objects[0].unlink()
    assert checkout.planned(store=store) == {"store": 1}

    with objects[1].open("r+b") as file:
        file.truncate(5000)
    result = empty.snakemake("-n", store=store)
    assert f"{objects[1]}: holds no record of {objects[1].stem}" in result.stderr
    assert set(empty.finished_at()) == {file.stem for file in objects[2:]}
    again = {"train": 2, "evaluate": 2, "probe": 2, "store": 2, "corpus": 1, "tokenize": 1}
    assert empty.planned(store=store, pack_size=1) == {**again, **AFTER_RUNS}


def test_a_store_whose_folder_is_not_mounted_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    result = checkout.snakemake("-n", store=tmp_path / "mounted/lab")
    assert result.returncode == 2
    assert f"config: store: {tmp_path}/mounted/lab: there is no {tmp_path}/mounted." in result.stderr
    assert "Traceback" not in result.stderr
