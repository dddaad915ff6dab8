"""Registrations are a chain that only grows, and that neither an editor nor git can change without it being seen."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gt.analysis import registration
from gt.analysis.claims import Claim, load_claims
from gt.cli import main
from gt.errors import ConfigError

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
BEFORE, AFTER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)


def claim(**changes: Any) -> Claim:
    predicate = {"test": "compare", "metric": "val/loss", "a": "GF", "b": "HY", "is": "lower"}
    document = {"title": "t", "sentence": "s", "source": "x", "study": "study", "predicate": [predicate]}
    return Claim.model_validate({**document, **changes})


THREE = {"C-1": claim(seeds=1), "C-2": claim(seeds=2), "C-3": claim(seeds=3)}


def lines(folder: Path) -> list[Json]:
    return [json.loads(line) for line in (folder / "registered.jsonl").read_text().splitlines()]


def write(folder: Path, entries: list[Json]) -> None:
    text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)
    (folder / "registered.jsonl").write_text(text)


def sum_of(entry: Json) -> str:
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str = "register") -> None:
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def test_the_shipped_claims_are_registered_as_they_stand() -> None:
    entries = registration.read(ROOT / "config/claims")
    claims = {name: own for name, own in load_claims(ROOT / "config/claims").items() if own.not_testable is None}
    assert {name: entry.sha256 for name, entry in entries.items()} == {name: own.sha256 for name, own in claims.items()}, (
        "run `gt claims register`: what is edited after its runs is not what was planned"
    )


def test_the_shipped_chain_has_both_entries_of_each_claim_that_was_edited() -> None:
    """19 claims were entered at 17:32 and again, edited, two hours later."""
    entries = registration.history(ROOT / "config/claims")
    edited = {name: [entry.time for entry in own] for name, own in entries.items() if len(own) > 1}
    assert len(edited) == 19
    assert {times[0] for times in edited.values()} == {"2026-11-25T17:32:12+00:00"}
    again = [times[1] for times in edited.values()]
    assert (again.count("2026-11-25T19:33:41+00:00"), again.count("2026-11-25T19:38:06+00:00")) == (12, 7)


def test_each_entry_has_the_sum_of_itself_and_of_the_one_before(tmp_path: Path) -> None:
    registration.register(tmp_path, THREE)
    entries = lines(tmp_path)
    assert [entry["claim"] for entry in entries] == list(THREE)
    assert [entry["number"] for entry in entries] == [1, 2, 3]
    assert [entry["hash"] for entry in entries] == [sum_of(entry) for entry in entries]
    assert [entry["previous"] for entry in entries] == ["0" * 64, entries[0]["hash"], entries[1]["hash"]]
    assert [entry["sha256"] for entry in entries] == [own.sha256 for own in THREE.values()]


def test_a_claim_is_entered_once_and_again_when_it_is_edited(tmp_path: Path) -> None:
    assert registration.register(tmp_path, THREE) == list(THREE)
    first = (tmp_path / "registered.jsonl").read_bytes()
    assert registration.register(tmp_path, THREE) == []
    assert (tmp_path / "registered.jsonl").read_bytes() == first
    assert registration.register(tmp_path, {**THREE, "C-2": claim(seeds=4), "N": claim_without_test()}) == ["C-2"]
    assert (tmp_path / "registered.jsonl").read_bytes().startswith(first)
    assert [entry.sha256 for entry in registration.history(tmp_path)["C-2"]] == [THREE["C-2"].sha256, claim(seeds=4).sha256]
    assert registration.read(tmp_path)["C-2"].number == 4


def claim_without_test() -> Claim:
    return Claim.model_validate({"title": "t", "sentence": "s", "source": "x", "not_testable": "no code of it is left"})


def test_a_claim_that_is_gone_keeps_its_entries(tmp_path: Path) -> None:
    registration.register(tmp_path, THREE)
    assert registration.register(tmp_path, {}) == []
    assert list(registration.read(tmp_path)) == list(THREE)


def edited(entries: list[Json]) -> list[Json]:
    return [entries[0], {**entries[1], "sha256": "a" * 64}, entries[2]]


def edited_with_its_hash(entries: list[Json]) -> list[Json]:
    second = {**entries[1], "time": "2020-01-01T00:00:00+00:00"}
    return [entries[0], {**second, "hash": sum_of(second)}, entries[2]]


def edited_and_linked_again(entries: list[Json]) -> list[Json]:
    second = {**entries[1], "time": "2020-01-01T00:00:00+00:00"}
    second["hash"] = sum_of(second)
    third = {**entries[2], "previous": second["hash"]}
    return [entries[0], second, {**third, "hash": sum_of(third)}]


def removed(entries: list[Json]) -> list[Json]:
    return [entries[0], entries[2]]


def reordered(entries: list[Json]) -> list[Json]:
    return [entries[1], entries[0], entries[2]]


def forked(entries: list[Json]) -> list[Json]:
    """Two entries that follow the same one, as a merge of two branches has them."""
    other = {**entries[2], "claim": "C-4"}
    return [*entries, {**other, "hash": sum_of(other)}]


def forked_and_counted_on(entries: list[Json]) -> list[Json]:
    other = {**entries[2], "claim": "C-4", "number": 4}
    return [*entries, {**other, "hash": sum_of(other)}]


@pytest.mark.parametrize(
    ("tampered", "words"),
    [
        (edited, "line 2: C-2: hash: "),
        (edited_with_its_hash, "line 2: C-2: time: 2020-01-01T00:00:00+00:00 is before"),
        (edited_and_linked_again, "line 2: C-2: time: 2020-01-01T00:00:00+00:00 is before"),
        (removed, "line 2: C-3: number: 3 must be 2"),
        (reordered, "line 1: C-2: number: 2 must be 1"),
        (forked, "line 4: C-4: number: 3 must be 4"),
        (forked_and_counted_on, "line 4: C-4: previous: "),
    ],
)
def test_a_chain_that_was_tampered_with_is_refused_by_its_line_and_claim_and_stays_as_it_is(
    tmp_path: Path, tampered: Callable[[list[Json]], list[Json]], words: str
) -> None:
    registration.register(tmp_path, THREE)
    write(tmp_path, tampered(lines(tmp_path)))
    found = (tmp_path / "registered.jsonl").read_bytes()
    for refused in (lambda: registration.read(tmp_path), lambda: registration.register(tmp_path, {"C-9": claim()})):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert str(caught.value).startswith(f"{tmp_path}/registered.jsonl, {words}")
    assert (tmp_path / "registered.jsonl").read_bytes() == found


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (lambda text: text[:-1], "line 4: is cut short"),
        (lambda text: text[:-20], "line 4: is cut short"),
        (lambda text: text.replace("}\n", "\n", 2), "line 1: not valid JSON"),
        (lambda text: text.replace('"sha256"', '"sha265"', 1), "line 1: sha265: unknown key"),
        (lambda text: "[]\n" + text, "line 1: \\[\\]: must be a mapping"),
        (lambda text: text.replace('"number":1,', '"number":1,"number":1,'), "line 1: not valid JSON"),
    ],
)
def test_a_damaged_chain_is_refused_by_its_line(tmp_path: Path, damaged: Callable[[str], str], words: str) -> None:
    registration.register(tmp_path, {**THREE, "C-4": claim(seeds=4)})
    path = tmp_path / "registered.jsonl"
    path.write_text(damaged(path.read_text()))
    with pytest.raises(ConfigError, match=f"registered.jsonl, {words}"):
        registration.read(tmp_path)


def test_the_clock_cannot_be_set_back(tmp_path: Path) -> None:
    registration.register(tmp_path, THREE)
    ahead = lines(tmp_path)
    for entry, previous in zip(ahead, [None, *ahead], strict=False):
        entry["time"] = "2999-01-01T00:00:00+00:00"
        entry["previous"] = previous["hash"] if previous else entry["previous"]
        entry["hash"] = sum_of(entry)
    write(tmp_path, ahead)
    with pytest.raises(ConfigError, match="the last entry is of 2999-01-01T00:00:00\\+00:00, and the clock says"):
        registration.register(tmp_path, {"C-9": claim()})
    assert lines(tmp_path) == ahead


def test_the_history_bears_out_when_a_claim_was_registered(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    registration.register(tmp_path, {"C-1": claim()})
    assert registration.unconfirmed(tmp_path) == [
        f"{tmp_path}/registered.jsonl, line 1: C-1: its registration is not committed"
    ]
    commit(tmp_path)
    assert registration.unconfirmed(tmp_path) == []


def test_a_time_that_is_set_back_does_not_agree_with_its_commit(tmp_path: Path) -> None:
    registration.register(tmp_path, {"C-1": claim()})
    (entry,) = lines(tmp_path)
    entry["time"] = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="seconds")
    write(tmp_path, [{**entry, "hash": sum_of(entry)}])
    commit(tmp_path)
    registration.check_history(tmp_path)
    (said,) = registration.unconfirmed(tmp_path)
    assert said.startswith(f"{tmp_path}/registered.jsonl, line 1: C-1: registered at {entry['time']}, committed on ")


def test_a_chain_that_was_written_anew_is_whole_and_not_what_was_committed(tmp_path: Path) -> None:
    registration.register(tmp_path, THREE)
    commit(tmp_path)
    (tmp_path / "registered.jsonl").rename(tmp_path / "elsewhere")
    for refused in (lambda: registration.check_history(tmp_path), lambda: registration.register(tmp_path, THREE)):
        with pytest.raises(ConfigError, match="registered.jsonl, line 1: C-1: what was committed on .* is gone"):
            refused()
    assert not (tmp_path / "registered.jsonl").exists()
    (tmp_path / "registered.jsonl").write_text((tmp_path / "elsewhere").read_text())
    registration.check_history(tmp_path)


def test_neither_can_the_end_of_a_committed_chain_be_taken_off_nor_its_last_entry_replaced(tmp_path: Path) -> None:
    registration.register(tmp_path, THREE)
    commit(tmp_path)
    entries = lines(tmp_path)
    write(tmp_path, entries[:2])
    assert len(registration.chain(tmp_path)) == 2
    with pytest.raises(ConfigError, match="line 3: C-3: what was committed on .* is gone"):
        registration.check_history(tmp_path)
    other = {**entries[2], "claim": "C-4"}
    write(tmp_path, [*entries[:2], {**other, "hash": sum_of(other)}])
    assert len(registration.chain(tmp_path)) == 3
    with pytest.raises(ConfigError, match="line 3: C-3: what was committed on .* was replaced"):
        registration.check_history(tmp_path)


def mapping(folder: Path, **entries: tuple[Claim, str]) -> None:
    """The file of before there was a chain: the latest entry of each claim."""
    document = {name: {"sha256": own.sha256, "time": time, "commit": None} for name, (own, time) in entries.items()}
    (folder / "registered.json").write_text(json.dumps(document, indent=2))


def test_a_mapping_becomes_a_chain_with_what_edits_had_replaced(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first, second = (time.isoformat(timespec="seconds") for time in (now - timedelta(minutes=20), now - timedelta(minutes=10)))
    one, two, gone = claim(seeds=1), claim(seeds=2), claim(seeds=3)
    mapping(tmp_path, C=(one, first), B=(one, first), gone=(gone, first))
    commit(tmp_path)
    mapping(tmp_path, C=(two, second), B=(one, first))
    commit(tmp_path)
    assert {name: entry.sha256 for name, entry in registration.read(tmp_path).items()}["C"] == two.sha256
    assert registration.register(tmp_path, {"C": two, "B": one, "D": one}) == ["D"]
    found = [(entry["claim"], entry["time"], entry["sha256"]) for entry in lines(tmp_path)]
    assert found[:4] == [
        ("B", first, one.sha256),
        ("C", first, one.sha256),
        ("gone", first, gone.sha256),
        ("C", second, two.sha256),
    ]
    assert not (tmp_path / "registered.json").exists()
    commit(tmp_path)
    # The commits of the mapping bear out the times of what was in it.
    assert registration.unconfirmed(tmp_path) == []
    registration.check_history(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "must be a mapping"),
        ('{"C": 1}', "C: 1: must be a mapping"),
        ('{"C": {"sha256": "x"}}', "C.time: this key is required"),
    ],
)
def test_a_damaged_mapping_is_refused_by_its_file_and_stays(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "registered.json").write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        registration.register(tmp_path, THREE)
    assert str(caught.value).startswith(f"{tmp_path}/registered.json: ")
    assert [path.name for path in tmp_path.iterdir()] == ["registered.json"]


def test_a_claim_must_be_older_than_the_first_run_that_it_reads(tmp_path: Path) -> None:
    registration.register(tmp_path, {"C-1": claim()})
    entries = registration.history(tmp_path)["C-1"]
    assert registration.late(claim(), entries, []) is None
    assert registration.late(claim(), entries, [AFTER]) is None
    said = (
        f"registered on {entries[0].entered:%Y-%m-%d %H:%M}, after the first run that it reads had started (2020-01-01 00:00)"
    )
    assert registration.late(claim(), entries, [AFTER, BEFORE]) == said
    assert str(registration.late(claim(alpha=0.1), entries, [AFTER])).startswith("edited since it was registered on ")
    registration.register(tmp_path, {"C-1": claim(alpha=0.1)})
    again = registration.late(claim(alpha=0.1), registration.history(tmp_path)["C-1"], [BEFORE])
    assert again == f"edited and {said}".replace("registered on", "registered again on")


def test_an_edit_must_be_older_than_the_first_of_all_runs_and_a_new_claim_than_its_own(tmp_path: Path) -> None:
    registration.register(tmp_path, {"C-1": claim()})
    assert registration.late(claim(), registration.history(tmp_path)["C-1"], [AFTER], BEFORE) is None
    registration.register(tmp_path, {"C-1": claim(alpha=0.1)})
    entries = registration.history(tmp_path)["C-1"]
    assert registration.late(claim(alpha=0.1), entries, [AFTER], AFTER) is None
    assert registration.late(claim(alpha=0.1), entries, [], BEFORE) is None
    said = str(registration.late(claim(alpha=0.1), entries, [AFTER], BEFORE))
    assert said.startswith("edited and registered again on ")
    assert said.endswith(", before the first run that it reads and after others had started (2020-01-01 00:00)")


def test_check_says_the_head_and_refuses_a_broken_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "claims").mkdir()
    assert main(["claims", "register", "--claims", "claims"]) == 0
    assert capsys.readouterr().out == "0 of 0 claims entered\n"
    registration.register(tmp_path / "claims", THREE)
    commit(tmp_path)
    assert main(["claims", "check", "--claims", "claims"]) == 0
    assert capsys.readouterr().out == f"registration 3: {lines(tmp_path / 'claims')[-1]['hash']}\n"
    write(tmp_path / "claims", edited(lines(tmp_path / "claims")))
    assert main(["claims", "check", "--claims", "claims"]) == main(["claims", "register", "--claims", "claims"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("gt: claims/registered.jsonl, line 2: C-2: hash: ") for line in said)
