"""A study file becomes cells and runs, or one message that says what is wrong with it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gt.artefacts import Plan
from gt.errors import ConfigError
from gt.records import atomic_write
from gt.schemas import schemas, text
from gt.spec import RunSpec
from gt.study import Study, checked_plan, load_scales, load_study, load_variants, merge, names_asked_for

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "config/studies").glob("*.yaml"))

MINIMAL: dict[str, Any] = {
    "title": "t",
    "baseline": "GPT-2",
    "variants": ["GPT-2", "GF"],
    "corpora": ["embedded"],
    "tokenizers": [{"name": "char"}],
    "seeds": 2,
    "model": {
        "d_model": 32,
        "n_layer": 2,
        "mixers": {"rwkv6": {"head_size": 16}, "mamba2": {"head_dim": 16}, "attention": {"n_head": 2}},
    },
    "training": {"steps": 10, "batch_size": 2, "sequence_length": 16},
}


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """A function: the minimal study with some changes -> its plan."""

    def make(**changes: Any) -> Plan:
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
        return Study(path, ROOT / "config").plan()

    return make


def with_model(variant: str, **model: Any) -> dict[str, Any]:
    """The change that gives one variant other model settings."""
    return {"variants": ["GPT-2", {"variant": variant, "model": model}]}


def specs(plan: Plan, cell: str) -> list[RunSpec]:
    runs = next(c for c in plan.cells if c.id == cell).runs
    return [plan.runs[run_id] for run_id in runs.values()]


def test_a_study_is_the_product_of_its_variants_tokenizers_factors_and_seeds(plan: Any) -> None:
    result = plan(
        tokenizers=[{"name": "char"}, {"name": "bpe", "vocab_size": 300}],
        factors={"training.learning_rate": [0.001, 0.003, 0.01]},
        seeds=[4, 7],
    )
    assert len(result.cells) == 2 * 2 * 3
    assert len(result.runs) == 2 * 2 * 3 * 2
    (low, _) = specs(result, "GF.embedded.bpe300.learning_rate=0.001")
    assert (low.training.learning_rate, low.tokenizer.vocab_size, low.seed) == (0.001, 300, 4)


def test_runs_differ_in_what_was_asked_for_and_in_nothing_else(plan: Any) -> None:
    gf, mh = (specs(plan(variants=["GF", "GF-MH", "GPT-2"]), f"{v}.embedded.char")[0] for v in ("GF", "GF-MH"))
    changed = mh.model.fusion.model_copy(update={"gate_init": 0.5})
    assert gf == mh.model_copy(update={"model": mh.model.model_copy(update={"fusion": changed})})
    assert gf.run_id != mh.run_id


def test_exclusions_and_extra_blocks(plan: Any) -> None:
    result = plan(
        exclude=[{"variant": "GF", "tokenizer": "char"}],
        also=[{"variants": ["WS"], "seeds": [9]}, {"tokenizers": [{"name": "bpe", "vocab_size": 512}]}],
    )
    cells = {c.id: sorted(c.runs) for c in result.cells}
    assert cells == {
        "GPT-2.embedded.char": [0, 1],
        "WS.embedded.char": [9],
        "GPT-2.embedded.bpe512": [0, 1],
        "GF.embedded.bpe512": [0, 1],
    }


def test_two_studies_share_the_runs_that_are_the_same(plan: Any) -> None:
    first, second = plan(), plan(title="another", baseline="GF", variants=["GF"], seeds=3)
    assert set(first.runs) & set(second.runs) == {s.run_id for s in specs(first, "GF.embedded.char")}


def test_identity_ignores_settings_written_out_at_their_default(plan: Any) -> None:
    explicit = {**MINIMAL["training"], "clip_norm": 1.0, "optimizer": {"name": "adamw", "beta2": 0.95}}
    assert set(plan().runs) == set(plan(training=explicit).runs)


def test_a_user_s_own_text_is_identified_by_its_content(plan: Any, tmp_path: Path) -> None:
    for name, words in (("a.txt", "one two " * 40), ("b.txt", "three four " * 40)):
        (tmp_path / name).write_text(words)
    first, second = (plan(corpora=[f"file:{tmp_path / name}"]) for name in ("a.txt", "b.txt"))
    assert not set(first.runs) & set(second.runs)
    (tmp_path / "a.txt").write_text("three four " * 40)
    changed = plan(corpora=[f"file:{tmp_path / 'a.txt'}"])
    assert not set(first.runs) & set(changed.runs)
    assert str(tmp_path) not in str(changed.runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluations": ["nedle"]}, r"s.yaml, line \d+: evaluations.0: unknown evaluation 'nedle'. Did you mean 'needle'"),
        ({"evaluations": ["needle", {"name": "needle"}]}, "evaluations.1: 'needle' stands there twice"),
        ({"evaluations": [{"name": "needle", "depth": 1}]}, "evaluations.0: needle: depth: unknown key 'depth'"),
        ({"evaluations": ["validation"]}, "evaluations.0: validation: bytes"),
        ({"variants": ["GFF", "GPT-2"]}, r"unknown variant 'GFF'\. Did you mean 'GF'\?.* and \d+ others"),
        ({"corpora": ["shakespeare"]}, r"unknown name 'shakespeare'\. Did you mean 'tinyshakespeare'\?.* file:<path>"),
        ({"varients": ["GF"]}, r"varients: unknown key"),
        ({"baseline": "GPT2"}, r"baseline: no cell is called 'GPT2'\. Did you mean 'GPT-2'\?"),
        ({"training": {**MINIMAL["training"], "steps": 0}}, r"training\.steps: 0: input should be greater than 0"),
        ({"training": {**MINIMAL["training"], "steps": -5}}, r"training\.steps: -5"),
        ({"training": {**MINIMAL["training"], "steps": "many"}}, r"training\.steps: \"many\""),
        ({"training": {**MINIMAL["training"], "learning_rate": 1e9}}, r"training\.learning_rate: 1000000000\.0"),
        ({"training": {**MINIMAL["training"], "learning_rate": float("nan")}}, r"training\.learning_rate"),
        ({"training": {**MINIMAL["training"], "momentum": 0.9}}, r"training\.momentum: unknown key"),
        ({"training": {**MINIMAL["training"], "grad_accumulation": 3}}, r"grad_accumulation 3 does not divide batch_size 2"),
        ({"tokenizers": [{"name": "bpe"}]}, r"vocab_size belongs to bpe"),
        ({"tokenizers": [{"name": "sentencepiece"}]}, r"sentencepiece.*'bpe', 'file' or 'hub'"),
        ({"seeds": []}, r"seeds"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\] must be at least one, each once"),
        ({"exclude": [{"variant": "GF"}, {"variant": "GPT-2"}]}, r"exclude leaves no cell"),
        ({"exclude": [{"varant": "GF"}]}, r"unknown key 'varant'\. Did you mean 'variant'\?"),
        ({"exclude": [{"variant": "GPT2"}]}, r"exclude\.0\.variant: no cell has 'GPT2'\. Did you mean 'GPT-2'\?"),
        ({"exclude": [{"training.steps": 10}]}, r"exclude\.0\.training\.steps: unknown key 'training.steps'"),
        (
            {"factors": {"training.steps": [10, 20]}, "exclude": [{"training.steps": 30}]},
            r"no cell has 30\. Did you mean 20\? Allowed: 10, 20\.",
        ),
        (
            {
                "also": [{"corpora": ["tinyshakespeare"], "variants": ["GF"]}],
                "exclude": [{"variant": "GPT-2", "corpus": "tinyshakespeare"}],
            },
            r"exclude\.0: .*: no cell has all of these at once",
        ),
        ({"model": {**MINIMAL["model"], "mixers": {"rwkv_6": {}}}}, r"mixers\.rwkv_6: unknown key .* Did you mean 'rwkv6'\?"),
        ({"model": {**MINIMAL["model"], "mixers": {"rwkv6": {"head_sise": 8}}}}, r"'head_sise'\. Did you mean 'head_size'\?"),
        ({"model": {**MINIMAL["model"], "mixers": [1]}}, r"model\.mixers: \[1\]: must be a mapping"),
        ({"model": {**MINIMAL["model"], "fusion": {"gate_int": 1}}}, r"model\.fusion\.gate_int: unknown key.* 'gate_init'\?"),
        ({"training": {**MINIMAL["training"], "parts": {"fushion": {}}}}, r"unknown key 'fushion'\. Did you mean 'fusion'\?"),
        (with_model("GF", mixers={"rwkv6": {"head_size": 8}}), r"'rwkv6'\. Allowed: one letter, a to z"),
        ({"variants": [7]}, r"variants\.0: 7: must be text or a mapping of keys to values\. In quotes it is text"),
        ({"variants": ["a b"]}, r'variants\.0: "a b" is not allowed\. Allowed: a name of letters, digits'),
        ({"seeds": "0b_"}, r'seeds: "0b_": must be a whole number or a list or a mapping'),
        ({"title": 3}, r"title: 3: must be text\. In quotes it is text"),
        ({"dollars_per_hour": float("inf")}, r"dollars_per_hour: Infinity: input should be a finite number"),
        ({"corpora": [{"name": "embedded", "sha256": "0" * 64}]}, r"unknown key 'sha256'\. Allowed: .*max_bytes"),
        ({"corpora": ["file:my {x}.txt"]}, r"corpora\.0: 'my \{x\}\.txt': braces and line breaks are not allowed"),
        ({"corpora": ["file:nowhere.txt"]}, r"corpora\.0: file:nowhere\.txt: nowhere\.txt"),
        ({"variants": [{"variant": "GPT-2", "label": "../../etc"}]}, r"label"),
        (with_model("GF", fusion={"name": "gatedd"}), r"'gatedd'\. Did you mean 'gated'"),
        (with_model("GF", layers="r+x"), r"layers names 'x', which mixers does not define"),
        ({"factors": {"training.stepz": [1]}}, r"training\.stepz: unknown key"),
        ({"training": {"beta1": 0.5}}, r"training\.beta1: .* It is an option of adamw or lion or muon: optimizer"),
        ({"factors": {"training.momentum": [0.5]}}, r"of muon or sgd: optimizer: \{name: muon, momentum: \.\.\.\}"),
        ({"training": {"optimizer": "adam"}}, r"training\.optimizer: unknown name 'adam'\. Did you mean 'adamw'"),
        ({"training": {"optimizer": {"name": "lion", "epsilon": 0.1}}}, r"optimizer\.epsilon: unknown key .*beta2, name"),
        ({"training": {"optimizer": {"name": "muon", "momentum": 1.0}}}, r"optimizer\.momentum: 1\.0: .* less than 1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_key_value_and_what_is_allowed(plan: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(**changes)
    assert "s.yaml" in str(caught.value)


def test_an_optimizer_is_a_name_or_a_mapping_and_merged_as_either(plan: Any) -> None:
    training, path = MINIMAL["training"], "training.optimizer.beta2"
    for own in ("lion", {"name": "lion"}):
        result = plan(variants=["GPT-2"], training={**training, "optimizer": own}, factors={path: [0.95, 0.99]}, seeds=1)
        assert [spec.training.optimizer.beta2 for spec in result.runs.values()] == [0.95, 0.99]
    mine = {"variant": "GPT-2", "training": {"optimizer": "lion"}, "label": "mine"}
    for own, beta2 in (({"name": "lion", "beta2": 0.5}, 0.5), ({"name": "adamw", "beta2": 0.5}, 0.95)):
        result = plan(variants=["GPT-2", mine], training={**training, "optimizer": own})
        assert {spec.training.optimizer.beta2 for spec in specs(result, "mine.embedded.char")} == {beta2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title: a\ntitle: b\n", r"line 2: the key 'title' stands here twice"),
        ("- a\n", r"must be a mapping"),
        ("title: [\n", r"line \d"),
        (
            "x: !!python/object/apply:os.system ['true']\n",
            r"line 1: the tag !!python/object/apply:os.system is not for a configuration",
        ),
    ],
)
def test_yaml_is_read_strictly_and_safely(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        Study(path, ROOT / "config")


def test_an_exclusion_may_be_about_the_factors_of_one_block(plan: Any) -> None:
    result = plan(
        factors={"training.steps": [10, 20]},
        exclude=[{"training.steps": 20, "variant": "GF"}],
        also=[{"factors": {}, "variants": ["WS"]}],
    )
    assert [cell.id.split(".")[0] + str(list(cell.factors.values())) for cell in result.cells] == [
        *("GPT-2[10]", "GPT-2[20]", "GF[10]", "WS[]"),
    ]


def test_a_sum_that_is_not_the_text_s_is_refused_with_both(plan: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two " * 40)
    corpus = {"name": f"file:{tmp_path / 'a.txt'}", "sha256": hashlib.sha256(b"one two " * 40).hexdigest()}
    assert plan(corpora=[corpus]).runs
    with pytest.raises(ConfigError, match=f"sha256: that of .*a.txt is {corpus['sha256']}, not {'0' * 64}"):
        plan(corpora=[{**corpus, "sha256": "0" * 64}])


def test_documents_of_a_file_are_identified_by_what_they_say_and_not_by_how_they_are_packed(plan: Any, tmp_path: Path) -> None:
    text = "".join(f'{{"body": "document {i}"}}\n' for i in range(60)).encode()
    for folder, name, content in (("a", "d.jsonl", text), ("b", "d.jsonl.gz", gzip.compress(text))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    first, second = (
        plan(corpora=[{"name": f"file:{tmp_path / name}", "field": "body"}]) for name in ("a/d.jsonl", "b/d.jsonl.gz")
    )
    assert first.runs.keys() == second.runs.keys()
    apart = plan(corpora=[{"name": f"file:{tmp_path / 'a/d.jsonl'}", "field": "body", "documents": "apart"}])
    assert not first.runs.keys() & apart.runs.keys()
    with pytest.raises(ConfigError, match=r"corpora\.0: file:.*line 1: field: there is no 'text'\. Allowed: body"):
        plan(corpora=[f"file:{tmp_path / 'a/d.jsonl'}"])
    with pytest.raises(ConfigError, match=r"unknown key 'feild'\. Did you mean 'field'\?"):
        plan(corpora=[{"name": f"file:{tmp_path / 'a/d.jsonl'}", "feild": "body"}])


def test_a_tokenizer_s_file_is_identified_by_its_sum(plan: Any, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text('{"model": {"type": "BPE"}}')
    first, second = (plan(tokenizers=[{"name": "file", "path": str(tmp_path / name)}]) for name in ("a.json", "b.json"))
    assert first.runs.keys() == second.runs.keys()
    assert str(tmp_path) not in str(first.runs)
    (tokenizer,) = first.tokenizers
    assert first.tokenizer_files == {tokenizer: str(tmp_path / "a.json")}
    with pytest.raises(ConfigError, match=r"tokenizers\.0: path:.*no\.json: no such file"):
        plan(tokenizers=[{"name": "file", "path": str(tmp_path / "no.json")}])


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"name": "file"}, "path is needed"),
        ({"name": "hub", "repo": "a/b"}, "revision, the commit that is read"),
        ({"name": "hub", "repo": "a", "revision": "0" * 40}, "an owner and a name"),
        ({"name": "hub", "repo": "a/b", "revision": "main"}, "the 40 hex digits of a commit"),
        ({"name": "char", "path": "x.json"}, "path belongs to file"),
    ],
)
def test_a_tokenizer_is_told_what_it_lacks(plan: Any, tokenizer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tokenizers=[tokenizer])


def test_a_text_s_path_may_name_the_home_and_variables(plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one two " * 40)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEXTS", str(tmp_path))
    runs = [
        set(plan(corpora=[f"file:{path}"]).runs) for path in (tmp_path / "a.txt", "~/a.txt", "$HOME/a.txt", "${TEXTS}/a.txt")
    ]
    assert runs[1:] == runs[:1] * 3


def test_however_long_a_name_is_its_files_can_be_written(plan: Any, tmp_path: Path) -> None:
    text = tmp_path / f"{'a' * 215}.txt"
    text.write_text("one two " * 40)
    tasks = {"name": "task:mqar", "task": {"length": 4096, "items": list(range(1, 61))}}
    many = {
        "layers": " ".join("bcdefghijklmnopq"),
        "n_layer": 16,
        "mixers": {
            "a": None,
            **{letter: {"name": "selective_wkv_reference"} for letter in "bcdefghijklmnopq"},
        },
    }
    result = plan(
        variants=["GPT-2", {"variant": "GPT-2", "label": "many", "model": many}],
        corpora=[f"file:{text}", tasks],
        training={**MINIMAL["training"], "sequence_length": 4096},
    )
    assert len(result.runs) == 8
    for name in [*result.runs, *result.corpora]:
        with atomic_write(tmp_path / "out" / f"{name}.jsonl") as temporary:
            temporary.write_text("")


def test_a_setting_that_no_run_reads_is_said(plan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    training = {**MINIMAL["training"], "learning_rate": 0.5}
    path.write_text(
        yaml.safe_dump({**MINIMAL, "variants": ["GPT-2"], "training": training, "factors": {"training.learning_rate": [0.1]}})
    )
    study = Study(path, ROOT / "config")
    study.plan()
    assert [line.split(": ")[1] for line in study.unread] == [
        *("model.mixers.mamba2.head_dim", "model.mixers.rwkv6.head_size", "training.learning_rate"),
    ]
    line = path.read_text().splitlines().index("  learning_rate: 0.5") + 1
    assert study.unread[-1].startswith(f"{path}, line {line}: ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"branch_drop": {"branch": "a"}}, "training.branch_drop.branch"),
        ({"parts": {"mixers.s": {"learning_rate": 0.5}}}, "training.parts.mixers.s.learning_rate"),
        ({"auxiliary": {"diversity_weight": 0.5}}, "training.auxiliary.diversity_weight"),
    ],
)
def test_a_setting_that_the_others_leave_without_effect_is_said(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "training": {**MINIMAL["training"], **changes}}))
    study = Study(path, ROOT / "config")
    study.plan()
    assert [line.split(": ")[1] for line in study.unread] == [key]


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_setting_of_a_shipped_study_reaches_a_run(path: Path) -> None:
    study = load_study(path)
    study.plan()
    assert study.unread == []


@pytest.mark.parametrize("name", ["2026_07", "007", "1.10", "1e3", "on"])
def test_a_study_whose_name_is_read_as_a_number_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.yaml").touch()
    (tmp_path / "other.yaml").touch()
    for value in (yaml.safe_load(name), name, [name], f"other, {name}"):
        assert names_asked_for(value, tmp_path)[-1] == name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "7 is no name but a int, and in .* 007 and 7 are all read as it"),
        (8, "8 is no name but a int, and in .* no file's name is read as it"),
        ("my study", "'my study' is not a name. Allowed: a file of .* without spaces; several as a list, or with commas"),
        ("../outside", "'../outside' is not a name"),
        ("a,,b", "'' is not a name"),
        ({"a": 1}, "is no name but a dict"),
    ],
)
def test_what_is_no_study_s_name_is_refused_with_how_one_is_written(tmp_path: Path, value: Any, message: str) -> None:
    for name in ("7", "007"):
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(ConfigError, match=message):
        names_asked_for(value, tmp_path)


def test_a_file_whose_name_cannot_be_a_folder_s_is_refused(tmp_path: Path) -> None:
    for name in ("my study", "a" * 81, "{x}"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(MINIMAL))
        with pytest.raises(ConfigError, match="is not a study's name. Allowed: a name of letters"):
            Study(path, ROOT / "config")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("8M:\n", "scales.yaml, line 1: 8M: null: must be a mapping"),
        ("8M: {mixers: {rwkv_6: {}}}\n", "line 1: 8M.mixers.rwkv_6: unknown key 'rwkv_6'. Did you mean 'rwkv6'?"),
        ("8M:\n  d_modl: 8\n", "line 2: 8M.d_modl: unknown key 'd_modl'. Did you mean 'd_model'?"),
    ],
)
def test_a_scale_that_no_model_could_have_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "scales.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_scales(tmp_path / "scales.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "A: {title: t, source: s, model: {layerz: r}}\n",
            "line 1: A.model.layerz: unknown key 'layerz'. Did you mean 'layers'?",
        ),
        ("A: {title: t, source: s, model: {mixers: [1]}}\n", "line 1: A.model.mixers: [1]: must be a mapping"),
        ("A: {title: t, source: s, model: {fusion: {name: gatedd}}}\n", "unknown name 'gatedd'. Did you mean 'gated'?"),
        (
            "A: {title: t, source: s, training: {step: 1}}\n",
            "line 1: A.training.step: unknown key 'step'. Did you mean 'steps'?",
        ),
        (
            "A: {title: t, source: s, based_on: B}\nBB: {title: t, source: s}\n",
            "line 1: A.based_on: unknown variant 'B'. Did you",
        ),
        ("A b: {title: t, source: s}\n", "line 1: 'A b' is not allowed. Allowed: a name of letters"),
        ("A:\n", "line 1: A: null: must be a mapping"),
    ],
)
def test_a_variant_that_no_study_uses_is_checked_as_well(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "v.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_variants(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/v.yaml, line 1")


def test_a_model_that_cannot_be_built_is_refused_by_the_line_that_is_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(MINIMAL).replace("n_head: 2", "n_head: 5"))
    line = path.read_text().splitlines().index("      n_head: 5") + 1
    (tmp_path / "variants").symlink_to(ROOT / "config/variants")
    (tmp_path / "scales.yaml").write_text("{}")
    (tmp_path / "studies").mkdir()
    path = path.rename(tmp_path / "studies/s.yaml")
    with pytest.raises(ConfigError, match=rf"s.yaml, line {line} \(variant GPT-2\): attention.n_head: 5"):
        checked_plan(path, tmp_path / "plan.json")


def test_an_unknown_study_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"there is no study 'smok'\. Did you mean 'smoke'\?"):
        load_study(ROOT / "config/studies/smok.yaml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_shipped_study_plans(path: Path) -> None:
    result = load_study(path).plan()
    assert result.cells
    assert all(run_id == spec.run_id for run_id, spec in result.runs.items())


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_the_documentation_says_how_large_a_study_is(path: Path) -> None:
    plan = load_study(path).plan()
    sizes = f"| {len(plan.cells)} | {len(plan.runs)} | {plan.tokens:,} |"
    lines = (ROOT / "docs/reference/study.md").read_text().splitlines()
    assert any(line.startswith(f"| `{path.stem}` |") and line.endswith(sizes) for line in lines), sizes


def test_the_shipped_schemas_are_those_of_the_models() -> None:
    for name, schema in schemas().items():
        assert (ROOT / "workflow/schemas" / name).read_text() == text(schema), "run `gt schema --out workflow/schemas`"


def test_merging_replaces_a_component_of_another_name_whole() -> None:
    base = {"fusion": {"name": "gated", "gate_init": 0.3}, "n_layer": 2}
    assert merge(base, {"fusion": {"name": "gains"}}) == {"fusion": {"name": "gains"}, "n_layer": 2}
    assert merge(base, {"fusion": {"gate_init": 0.7}})["fusion"] == {"name": "gated", "gate_init": 0.7}
