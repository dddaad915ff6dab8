"""A study file becomes cells and runs, or one message that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gt.errors import ConfigError
from gt.schemas import schemas, text
from gt.spec import RunSpec
from gt.study import Study, load_study, merge

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

    def make(**changes: Any) -> dict[str, Any]:
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
        return Study(path, ROOT / "config/variants").plan()

    return make


def with_model(variant: str, **model: Any) -> dict[str, Any]:
    """The change that gives one variant other model settings."""
    return {"variants": ["GPT-2", {"variant": variant, "model": model}]}


def specs(plan: dict[str, Any], cell: str) -> list[RunSpec]:
    runs = next(c for c in plan["cells"] if c["id"] == cell)["runs"]
    return [RunSpec.model_validate(plan["runs"][run_id]) for run_id in runs.values()]


def test_a_study_is_the_product_of_its_variants_tokenizers_factors_and_seeds(plan: Any) -> None:
    result = plan(
        tokenizers=[{"name": "char"}, {"name": "bpe", "vocab_size": 300}],
        factors={"training.learning_rate": [0.001, 0.003, 0.01]},
        seeds=[4, 7],
    )
    assert len(result["cells"]) == 2 * 2 * 3
    assert len(result["runs"]) == 2 * 2 * 3 * 2
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
    cells = {c["id"]: sorted(c["runs"]) for c in result["cells"]}
    assert cells == {
        "GPT-2.embedded.char": ["0", "1"],
        "WS.embedded.char": ["9"],
        "GPT-2.embedded.bpe512": ["0", "1"],
        "GF.embedded.bpe512": ["0", "1"],
    }


def test_two_studies_share_the_runs_that_are_the_same(plan: Any) -> None:
    first, second = plan(), plan(title="another", baseline="GF", variants=["GF"], seeds=3)
    assert set(first["runs"]) & set(second["runs"]) == {s.run_id for s in specs(first, "GF.embedded.char")}


def test_identity_ignores_settings_written_out_at_their_default(plan: Any) -> None:
    explicit = {**MINIMAL["training"], "clip_norm": 1.0, "beta2": 0.95}
    assert set(plan()["runs"]) == set(plan(training=explicit)["runs"])


def test_a_user_s_own_text_is_identified_by_its_content(plan: Any, tmp_path: Path) -> None:
    for name, words in (("a.txt", "one two " * 40), ("b.txt", "three four " * 40)):
        (tmp_path / name).write_text(words)
    first, second = (plan(corpora=[f"file:{tmp_path / name}"]) for name in ("a.txt", "b.txt"))
    assert not set(first["runs"]) & set(second["runs"])
    (tmp_path / "a.txt").write_text("three four " * 40)
    changed = plan(corpora=[f"file:{tmp_path / 'a.txt'}"])
    assert not set(first["runs"]) & set(changed["runs"])
    assert str(tmp_path) not in str(changed["runs"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["GFF", "GPT-2"]}, r"unknown variant 'GFF'\. Did you mean 'GF'\?.* and \d+ others"),
        ({"corpora": ["shakespeare"]}, r"unknown corpus 'shakespeare'\. Did you mean 'tinyshakespeare'\?"),
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
        ({"tokenizers": [{"name": "sentencepiece"}]}, r"sentencepiece.*'char' or 'bpe'"),
        ({"seeds": []}, r"seeds"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\] must be at least one, each once"),
        ({"exclude": [{"variant": "GF"}, {"variant": "GPT-2"}]}, r"exclude leaves no cell"),
        ({"exclude": [{"varant": "GF"}]}, r"unknown key 'varant'\. Did you mean 'variant'\?"),
        ({"variants": [{"variant": "GPT-2", "label": "../../etc"}]}, r"label"),
        (with_model("GF", fusion={"name": "gatedd"}), r"'gatedd'\. Did you mean 'gated'"),
        (with_model("GF", layers="r+x"), r"layers names 'x', which mixers does not define"),
        ({"factors": {"training.stepz": [1]}}, r"training\.stepz: unknown key"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_key_value_and_what_is_allowed(plan: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(**changes)
    assert "s.yaml" in str(caught.value)


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
        Study(path, ROOT / "config/variants")


def test_an_unknown_study_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"there is no study 'smok'\. Did you mean 'smoke'\?"):
        load_study(ROOT / "config/studies/smok.yaml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_shipped_study_plans(path: Path) -> None:
    result = load_study(path).plan()
    assert result["cells"]
    assert all(run_id == RunSpec.model_validate(spec).run_id for run_id, spec in result["runs"].items())


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_the_readme_says_how_large_a_study_is(path: Path) -> None:
    plan = load_study(path).plan()
    sizes = f"| {len(plan['cells'])} | {len(plan['runs'])} | {plan['tokens']:,} |"
    lines = (ROOT / "config/README.md").read_text().splitlines()
    assert any(line.startswith(f"| `{path.stem}` |") and line.endswith(sizes) for line in lines), sizes


def test_the_shipped_schemas_are_those_of_the_models() -> None:
    for name, schema in schemas().items():
        assert (ROOT / "workflow/schemas" / name).read_text() == text(schema), "run `gt schema --out workflow/schemas`"


def test_merging_replaces_a_component_of_another_name_whole() -> None:
    base = {"fusion": {"name": "gated", "gate_init": 0.3}, "n_layer": 2}
    assert merge(base, {"fusion": {"name": "gains"}}) == {"fusion": {"name": "gains"}, "n_layer": 2}
    assert merge(base, {"fusion": {"gate_init": 0.7}})["fusion"] == {"name": "gated", "gate_init": 0.7}
