"""Held-out losses of models that are known."""

from __future__ import annotations

import io
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from subjects import CPU, Known, specification, subject, uniform

from gt.artefacts import read_evaluations, read_manifest
from gt.cli import main
from gt.data import corpora, ngram, tokenizers
from gt.data.tasks import draw
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.evals.evaluation import evaluate
from gt.evals.generation import Sampler, sample
from gt.evals.language import by_position, held_out, words
from gt.probes.probe import probe
from gt.records import read_json, read_sealed, write_json, write_sealed
from gt.spec import RunSpec, TokenizerSpec, corpus_spec
from gt.training.losses import cross_entropies, inputs, mean_loss, token_losses
from gt.verify import verify


def test_a_uniform_model_has_a_loss_of_log_v(text: Path) -> None:
    vocab_size = Tokens.open(text).vocab_size
    measured = held_out(subject(text, specification(), Known(vocab_size, uniform)), "val")
    assert measured["loss"] == pytest.approx(math.log(vocab_size), rel=1e-6)
    assert measured["bits_per_byte"] == pytest.approx(math.log2(vocab_size), rel=1e-6)
    assert measured["perplexity"] == pytest.approx(vocab_size, rel=1e-5)
    assert measured["tokens"] == measured["bytes"]
    assert [entry["context"] for entry in measured["by_position"]] == [1, 2, 4, 8, 16]
    assert all(entry["loss"] == pytest.approx(math.log(vocab_size), rel=1e-6) for entry in measured["by_position"])


def test_the_loss_is_that_of_windows_end_to_end(text: Path) -> None:
    here = subject(text, specification(length=64))
    # "Now this is the history of ...", of which "Now" is the lead.
    part = here.tokens.slice("val", 131_072)
    assert (part.first, part.n_bytes) == (3, part.end - 3)
    val = torch.from_numpy(np.asarray(here.tokens.val[2 : part.end]).astype(np.int64))
    whole = len(val) // 64 * 64
    with torch.inference_mode():
        logits = torch.cat([here.model(read)[0].flatten(0, 1) for read in (val[:whole].view(-1, 64), val[None, whole:-1])])
    expected = torch.nn.functional.cross_entropy(logits.double(), val[1:])
    assert held_out(here, "val")["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_positions_are_counted_in_octaves_of_context() -> None:
    losses = np.tile(np.arange(1.0, 7.0), (2, 1))
    counted = np.ones((2, 6), dtype=bool)
    counted[1, 5] = False
    assert by_position(losses * counted, counted) == [
        {"context": 1, "to": 1, "loss": 1.0},
        {"context": 2, "to": 3, "loss": 2.5},
        {"context": 4, "to": 6, "loss": pytest.approx((4 + 4 + 5 + 5 + 6) / 5)},
    ]


def test_words_are_those_of_word_level_models() -> None:
    """The first lines of WikiText-2's validation split: 5 words and 4 ends of lines."""
    assert words(" \n = Homarus gammarus = \n \n the\n") == 4 + 1 + 4


def test_word_perplexity_spreads_the_nats_over_the_words(text: Path) -> None:
    spec = specification()
    renamed = spec.model_copy(update={"corpus": corpus_spec("wikitext-2")})
    vocab_size = Tokens.open(text).vocab_size
    measured = held_out(subject(text, renamed, Known(vocab_size, uniform)), "val")
    characters = (text.parent / "val.txt").read_bytes()[measured["from_byte"] :][: measured["bytes"]].decode()
    assert measured["words"] == len(characters.split()) + characters.count("\n")
    assert math.log(measured["word_perplexity"]) * measured["words"] == pytest.approx(measured["tokens"] * math.log(vocab_size))
    assert "words" not in held_out(subject(text, spec, Known(vocab_size, uniform)), "val")


def test_a_target_that_does_not_count_is_read_but_costs_nothing() -> None:
    batch = torch.tensor([[3, ~4, 5, ~6]])
    assert inputs(batch).tolist() == [[3, 4, 5]]
    logits = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    losses = cross_entropies(logits, batch[:, 1:])
    assert losses[0] == losses[2] == 0
    assert losses[1] == pytest.approx(-logits[0, 1].log_softmax(-1)[5].item())
    assert mean_loss(losses, batch[:, 1:]) == losses[1]


def test_the_loss_of_a_task_is_over_its_answers(tmp_path: Path) -> None:
    corpus = corpus_spec("task:mqar", task={"length": 16, "items": [2], "symbols": 4, "episodes": 200})
    corpora.prepare(corpus, tmp_path)
    tokenizers.prepare(tmp_path, TokenizerSpec(name="char"), tmp_path / "char")
    ngram.prepare(tmp_path / "char")
    spec = RunSpec.model_validate({**specification().model_dump(), "corpus": corpus.model_dump()})
    vocab_size = Tokens.open(tmp_path / "char").vocab_size
    measured = held_out(subject(tmp_path / "char", spec, Known(vocab_size, uniform)), "val")
    assert corpus.task is not None
    assert measured["tokens"] == draw("mqar", corpus.task, "val", 2000).answers.sum()
    assert measured["loss"] == pytest.approx(math.log(vocab_size), rel=1e-6)


def test_a_record_has_the_evaluations_that_were_asked_for(record: Path, text: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(record, tmp_path / "run"))
    evaluate(other, text, CPU, ["held_out"])
    assert set(read_evaluations(other)) == {"held_out"}
    evaluate(other, text, CPU, ["quantisation", "generation"])
    found = read_evaluations(other)
    assert set(found) == {"held_out", "quantisation", "generation"}
    assert found["held_out"].value is not None and set(found["held_out"].value) == {"splits", "ngram"}
    assert set(found["held_out"].value["splits"]) == {"val", "test"}
    weights = read_manifest(other).files["model.safetensors"].sha256
    assert {own.weights for own in found.values()} == {weights}
    assert {own.run_id for own in found.values()} == {read_manifest(other).run_id}


def test_what_cannot_be_evaluated_is_refused_by_name(record: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown evaluation 'long-context'. Did you mean 'long_context'"):
        evaluate(record, text, CPU, ["long-context"])
    other = shutil.copytree(record, tmp_path / "run")
    (other / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="This record has no weights"):
        evaluate(other, text, CPU, ["held_out"])
    shutil.copy(record / "model.safetensors", other)
    manifest = read_sealed(other / "manifest.json")
    write_sealed(other / "manifest.json", {**manifest, "code": {**manifest["code"], "gt.models.lm": "0" * 16}})
    with pytest.raises(ConfigError, match="another version of the model .gt.models.lm changed"):
        evaluate(other, text, CPU, ["held_out"])
    write_sealed(other / "manifest.json", {**manifest, "data_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="trained on other data"):
        evaluate(other, text, CPU, ["held_out"])


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "manifest.json", "curves.parquet"])
def test_a_damaged_record_is_not_measured(record: Path, text: Path, tmp_path: Path, name: str) -> None:
    other = Path(shutil.copytree(record, tmp_path / "run"))
    content = bytearray((other / name).read_bytes())
    place = content.rindex(b"1") if name.endswith(".json") else len(content) // 2
    content[place] ^= 1  # 1 becomes 0
    (other / name).write_bytes(content)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    measured = [
        lambda: evaluate(other, text, CPU, ["held_out"]),
        lambda: probe(other, text, CPU),
        lambda: sample(other, text, CPU, "A", 1, Sampler(), io.StringIO()),
        lambda: verify(other, text, CPU),
    ]
    for measure in measured[1::2] if name == "curves.parquet" else measured:  # the others do not read the curves
        with pytest.raises(ConfigError, match=rf"{re.escape(name)}: damaged: .*sha256"):
            measure()
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_a_specification_that_is_none_is_one_message(
    record: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(record, tmp_path / "run"))
    write_json(other / "spec.json", {**read_json(other / "spec.json"), "seed": "0"})
    write_json(other / "manifest.json", {**read_sealed(other / "manifest.json"), "files": {}})  # as before there were sums
    for command in (["sample", str(other)], ["evaluate", "--run", str(other)], ["verify", str(other)]):
        assert main([*command, "--data", str(text), "--device", "cpu"]) == 2
        assert f"{other}/spec.json: seed: " in capsys.readouterr().err


def test_losses_and_their_mean_agree_with_torch(text: Path) -> None:
    here = subject(text, specification())
    batch = torch.from_numpy(np.asarray(here.tokens.val[:34]).astype(np.int64)).view(2, 17)
    logits, _ = here.model(batch[:, :-1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    mean = mean_loss(token_losses(here.model, batch, "float32"), batch[:, 1:])
    assert mean.item() == pytest.approx(expected.item(), rel=1e-6)
