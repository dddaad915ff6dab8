"""The model card of an exported run: what it is, how it was trained, how it is loaded, and what is not known of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gt.artefacts import Manifest, evaluation_file, read_evaluation
from gt.asked import HELD_OUT
from gt.records import read_json, read_sealed
from gt.spec import RunSpec

if TYPE_CHECKING:
    from gt.export.folder import Exported

HEAD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [groundthink, ablation]
---
"""
LOAD = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER{trust})
tokenizer = AutoTokenizer.from_pretrained(FOLDER{trust})
tokens = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=100)[0]))
```
"""


def card(run: Path, spec: RunSpec, manifest: Manifest, exported: Exported) -> str:
    """README.md of an exported run."""
    parts = [HEAD, f"# {manifest.run_id}\n", _what(spec, manifest, exported), "## How to load it\n"]
    if exported.architecture is not None and exported.architecture.library == "fla":
        parts.append("`pip install flash-linear-attention`, and `import fla` before:\n")
    if exported.needs:
        parts.append(f"Its code imports {', '.join(exported.needs)} beside torch and transformers.\n")
    parts.append(LOAD.format(trust=", trust_remote_code=True" if exported.architecture is None else ""))
    parts += ["## How it was trained\n", _training(spec, manifest), _studies(run), "## What it can do\n", _measured(run)]
    parts += ["## Licence\n", "**To be filled in** by whoever publishes the weights: the licence of the text matters too.\n"]
    return "\n".join(part for part in parts if part)


def _what(spec: RunSpec, manifest: Manifest, exported: Exported) -> str:
    mixers = " and ".join(mixer.name for mixer in spec.model.mixers.values())
    fusion = f", joined by `{spec.model.fusion.name}`" if spec.model.fusion else ""
    lines = [
        f"A language model of {manifest.n_params:,} parameters ({manifest.n_params_non_embedding:,} without embeddings):"
        f" {spec.model.n_layer} layers of {mixers}{fusion}, width {spec.model.d_model}, {manifest.vocab_size:,} tokens."
        " It was trained for an ablation, to be compared with others of its size, and is good for nothing else.\n"
    ]
    if (equal := exported.architecture) is not None:
        lines.append(f"It is a {equal.name}: the weights are those of `{equal.class_name}` in {equal.library}.\n")
    else:
        lines.append(
            f"It has no equal in transformers ({'; '.join(exported.differences)}), so its code is in this folder, taken out of"
            " GroundThink's. Recurrences run as torch code on any device: right everywhere, and slower on a GPU than the"
            " kernels that it was trained with.\n"
        )
    lines.append("There are no special tokens. Padding stands after the text, if at all: the model reads what is before it.\n")
    return "\n".join(lines)


def _training(spec: RunSpec, manifest: Manifest) -> str:
    training = spec.training
    rows = {
        "text": spec.corpus.id,
        "tokenizer": f"{spec.tokenizer.id}, fitted on the train split",
        "tokens": f"{manifest.tokens:,} in {manifest.steps_completed:,} steps of {training.batch_size} x"
        f" {training.sequence_length}",
        "optimizer": f"{training.optimizer.name}, learning rate {training.learning_rate:g}",
        "precision": training.precision,
        "seed": f"{spec.seed}",
        "status": manifest.status,
        "device": f"{manifest.device or 'unknown'}, {manifest.seconds:,.0f} s",
        "versions": ", ".join(f"{name} {own}" for name, own in manifest.versions.items()),
        "commit of the code": f"{manifest.git_commit or 'unknown'}{', modified' if manifest.modified else ''}",
        "sha256 of the specification": spec.sha256,
        "sha256 of the tokens": manifest.data_sha256 or "unknown",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    start = f"It started from weights of sha256 {training.start}.\n" if training.start else ""
    return f"| | |\n| --- | --- |\n{table}\n\n{start}The whole specification stands in `config.json` under `groundthink`.\n"


def _measured(run: Path) -> str:
    """Bits per byte on held-out text, where they were measured."""
    if not evaluation_file(run, HELD_OUT).exists():
        return "Its loss on held-out text was not measured after the training.\n"
    found = {own.name: own.value for own in read_evaluation(run, HELD_OUT).measurements}
    rows = [
        f"| {split} | {_number(found[name])} | {found.get(f'{split}/bytes') or 0:,.0f} |"
        for split in ("val", "test")
        if (name := f"{split}/bits_per_byte") in found
    ]
    if not rows:
        return "It diverged, and nothing was measured of it.\n"
    lines = {name.removeprefix("ngram/"): value for name, value in found.items() if name.startswith("ngram/")}
    said = ", ".join(f"{name} {value:.3f}" for name, value in lines.items() if value is not None)
    beside = f"\nFor comparison, n-gram models on the same text: {said} bits per byte.\n" if said else ""
    return "| held-out text | bits per byte | bytes |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n" + beside


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _studies(run: Path) -> str:
    """The studies beside a record that ask for it, and how many of their claims were registered before they were run."""
    said = []
    for plan in sorted((run.parent.parent / "studies").glob("*/plan.json")):
        if run.name in read_sealed(plan).get("runs", {}):
            verdicts = read_json(plan.parent / "claims.json") if (plan.parent / "claims.json").exists() else []
            registered = sum(not verdict["exploratory"] for verdict in verdicts)
            judged = (
                f": {registered} of {len(verdicts)} verdicts are of claims registered before their runs" if verdicts else ""
            )
            said.append(f"- `{plan.parent.name}`{judged}")
    return "It was trained for\n\n" + "\n".join(said) + "\n" if said else ""
