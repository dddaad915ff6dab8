"""Records that a store keeps: a machine that has none takes what is whole and of the run that was asked for."""

from __future__ import annotations

import shutil
import tarfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
import records

from gt.errors import ConfigError
from gt.records import RECORD, measurements
from gt.store import Store, contents, is_kept, main

PLAN = records.plan(seeds=1, variants={"GPT-2": 0.0, "GF": 0.0}, tokenizers=("char",))
RUN, OTHER = PLAN["runs"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of a machine that has two records, and an attempt at the first that was killed."""
    records.write_runs(PLAN, tmp_path / "here/runs", troubled=False)
    records.write_probes(tmp_path / "here/runs" / RUN, {})
    records.write_attempt(tmp_path / "here/runs", RUN, datetime(2026, 1, 1, tzinfo=UTC))
    return tmp_path / "here"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def of_run(results: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(results).items() if f"/{RUN}/" in name}


def test_another_machine_has_the_record_and_the_attempts_at_it(results: Path, store: Store, tmp_path: Path) -> None:
    assert store.runs() == set()
    store.put(results, RUN)
    assert store.runs() == {RUN}
    store.get(tmp_path / "there", RUN)
    assert files(tmp_path / "there") == of_run(results)
    assert len(of_run(results)) >= len(RECORD) + 3


def test_an_object_is_the_same_for_the_same_files(results: Path, store: Store, tmp_path: Path) -> None:
    store.put(results, RUN)
    before = (tmp_path / f"store/{RUN}.tar").read_bytes()
    shutil.copytree(results, tmp_path / "copy", copy_function=shutil.copyfile)
    store.put(tmp_path / "copy", RUN)
    assert files(tmp_path / "store") == {f"{RUN}.tar": before}


def test_what_two_machines_measured_of_the_same_weights_is_joined(results: Path, store: Store, tmp_path: Path) -> None:
    there = tmp_path / "there"
    store.put(results, RUN)
    store.get(there, RUN)
    shutil.copy(results / f"runs/{RUN}/evaluations/held_out.json", there / f"runs/{RUN}/evaluations/further.json")
    store.put(there, RUN)
    killed = records.write_attempt(results / "runs", RUN, datetime(2026, 1, 2, tzinfo=UTC))
    store.put(results, RUN)
    assert "evaluations/further.json" in measurements(results / "runs" / RUN)
    store.get(tmp_path / "third", RUN)
    assert files(tmp_path / "third") == of_run(results)
    assert f"attempts/{RUN}/{killed.id}.json" in files(tmp_path / "third")


def test_of_another_training_only_the_attempts_stay(results: Path, store: Store, tmp_path: Path) -> None:
    store.put(results, RUN)
    there = tmp_path / "there"
    shutil.copytree(results, there)
    shutil.rmtree(there / "attempts")
    shutil.rmtree(there / "runs" / RUN)
    shutil.copy(results / f"runs/{RUN}/evaluations/held_out.json", results / f"runs/{RUN}/evaluations/further.json")
    store.put(results, RUN)
    own = PLAN["cells"][0]
    records.write_run(there / "runs" / RUN, RUN, own, 1, PLAN["runs"][RUN])  # other numbers under the same name
    store.put(there, RUN)
    assert "evaluations/further.json" not in measurements(there / "runs" / RUN)
    assert list((there / "attempts" / RUN).iterdir())
    store.get(tmp_path / "third", RUN)
    assert files(tmp_path / "third") == of_run(there)


def test_a_note_holds_until_the_record_changes(results: Path, tmp_path: Path) -> None:
    note = tmp_path / "notes" / RUN
    assert not is_kept(results, RUN, note)
    assert main(str(tmp_path / "store"), str(results), RUN, str(note)) is None
    assert is_kept(results, RUN, note)
    shutil.copy(results / f"runs/{RUN}/probes.json", results / f"runs/{RUN}/evaluations/further.json")
    assert not is_kept(results, RUN, note)
    assert contents(results, RUN) != contents(results, OTHER)


def test_a_damaged_record_is_not_kept(results: Path, store: Store, tmp_path: Path) -> None:
    with (results / f"runs/{RUN}/curves.parquet").open("ab") as file:
        file.write(b"more")
    said = main(str(tmp_path / "store"), str(results), RUN, str(tmp_path / "note"))
    assert str(said).endswith("damaged: curves.parquet.")
    assert store.runs() == set()
    assert not (tmp_path / "note").exists()


def rewritten(file: Path, **changes: bytes | None) -> None:
    """Change files of an object; None takes one out. Names that it does not have are added."""
    with tarfile.open(file) as tar:
        held = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    with tarfile.open(file, "w") as tar:
        for name, content in {**held, **changes}.items():
            if content is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (f"runs/{RUN}/curves.parquet", b"other", "damaged: curves.parquet"),
        (f"runs/{RUN}/curves.parquet", None, "damaged: curves.parquet"),
        (f"runs/{RUN}/manifest.json", None, "manifest.json: no such file"),
        (f"runs/{RUN}/manifest.json", b"{}", "manifest.json"),
        (f"runs/{RUN}/probes.json", b'{"sha256": "0"}', "damaged: probes.json"),
        (f"runs/{RUN}/../{OTHER}/manifest.json", b"{}", "it has"),
        ("../outside.json", b"{}", "it has"),
        ("/tmp/outside.json", b"{}", "it has"),
        (f"runs/{RUN}/failure.json", b"{}", "it has"),
        (f"attempts/{RUN}/20260101T000000Z-0123456789abcdef.json", b"{}", "attempts"),
        (f"attempts/{RUN}/more.json", b"{}", "it has"),
    ],
)
def test_what_is_no_whole_record_of_the_run_is_refused_and_nothing_is_written(
    results: Path, store: Store, tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    store.put(results, RUN)
    rewritten(tmp_path / f"store/{RUN}.tar", **{name: content})
    with pytest.raises(ConfigError, match=why) as refused:
        store.get(tmp_path / "there", RUN)
    assert f"store/{RUN}.tar" in str(refused.value)
    assert files(tmp_path / "there") == {}
    assert not (tmp_path / "outside.json").exists()


def test_the_record_of_another_run_and_links_are_refused(results: Path, store: Store, tmp_path: Path) -> None:
    store.put(results, OTHER)
    shutil.copy(tmp_path / f"store/{OTHER}.tar", tmp_path / f"store/{RUN}.tar")
    with pytest.raises(ConfigError, match="it has"):
        store.get(tmp_path / "there", RUN)
    with tarfile.open(tmp_path / f"store/{RUN}.tar", "w") as tar:
        link = tarfile.TarInfo(f"runs/{RUN}/spec.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ConfigError, match="it has"):
        store.get(tmp_path / "there", RUN)
    assert files(tmp_path / "there") == {}


def test_a_record_that_is_cut_off_is_replaced_by_the_next_that_is_whole(results: Path, store: Store, tmp_path: Path) -> None:
    store.put(results, RUN)
    file = tmp_path / f"store/{RUN}.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=RUN):
        store.get(tmp_path / "there", RUN)
    store.put(results, RUN)
    assert file.read_bytes() == whole


def test_an_address_that_nothing_serves_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"config: store: nowhere://x: .*nowhere"):
        Store("nowhere://x")
