"""Whether lm_eval measures of an exported run what `gt evaluate` measures: bits per byte on the same held-out text.

lm_eval reads a text in windows that end to end predict each token once, as we do. Two things are otherwise. The first token is
predicted from a prefix token, by default BOS or EOS, of which our tokenizers have none: here it is the token that stands before
the slice. And the last window, which a text seldom fills, begins earlier, so that its tokens have a longer context. A third
number, ours on their windows, says how much of a difference is that.

Needs lm_eval (extra `lm-eval`). Run from the repository root: python benchmarks/lm_eval_agreement.py RUN TOKENS
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from gt.data.slices import EVALUATION_BYTES
from gt.data.tokenizers import load_tokenizer
from gt.evals.language import held_out
from gt.evals.subject import Subject
from gt.export.folder import export
from gt.training.losses import token_losses

TASK = """\
task: held_out
dataset_path: json
dataset_kwargs: {{data_files: {{test: {text}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""


def agreement(run: Path, data: Path) -> dict[str, float | int]:
    """Bits per byte of a run on the held-out slice of val, as three parties count them."""
    subject = Subject.load(run, data, torch.device("cpu"))
    part = subject.tokens.slice("val", EVALUATION_BYTES)
    tokens = np.asarray(subject.tokens.val[part.first - 1 : part.end], dtype=np.int64)
    text = load_tokenizer(data).decode(tokens[1:])
    if len(text.encode()) != part.n_bytes:
        raise SystemExit("the slice has characters that the tokenizer does not know: lm_eval cannot be given the text itself")
    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "model", Path(folder) / "held_out.jsonl"
        export(run, data, "transformers", out)
        file.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
        (Path(folder) / "held_out.yaml").write_text(TASK.format(text=file))
        theirs = lm_eval_bits(out, Path(folder), subject.length, int(tokens[0]))
    ours = held_out(subject, "val")["bits_per_byte"]
    last = (bits_of_last(subject, tokens, True) - bits_of_last(subject, tokens, False)) / part.n_bytes
    return {
        "tokens": len(tokens) - 1,
        "bytes": part.n_bytes,
        "length": subject.length,
        "lm_eval": theirs,
        "gt": ours,
        "gt, last window as theirs": ours + last,
    }


def lm_eval_bits(model: Path, tasks: Path, length: int, prefix: int) -> float:
    """Bits per byte as lm_eval has them."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    arguments = {"pretrained": str(model), "trust_remote_code": True, "dtype": "float32", "max_length": length}
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={**arguments, "prefix_token_id": prefix},
        tasks=["held_out"],
        task_manager=TaskManager(include_path=str(tasks)),
        batch_size=32,
        bootstrap_iters=0,
        device="cpu",
    )
    return float(found["results"]["held_out"]["bits_per_byte,none"])


def bits_of_last(subject: Subject, tokens: np.ndarray, early: bool) -> float:
    """Bits of the targets in the last window of a text, which begins where the one before ended, or early enough to be full."""
    length, n = subject.length, (len(tokens) - 2) % subject.length + 1
    window = torch.from_numpy(tokens[-(length if early else n) - 1 :])[None]
    with torch.no_grad():
        return float(token_losses(subject.model, window, "float32").double()[-n:].sum()) / math.log(2)


if __name__ == "__main__":
    print(json.dumps(agreement(Path(sys.argv[1]), Path(sys.argv[2])), indent=2))
