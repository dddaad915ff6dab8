"""What it takes to evaluate and to probe a trained run, beside what its training took."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from gt.asked import HELD_OUT
from gt.bench.candidates import Candidate
from gt.bench.measure import in_a_line
from gt.data import ngram, tokenizers
from gt.data.corpora import prepare
from gt.measuring import measure
from gt.records import read_json
from gt.spec import TokenizerSpec, corpus_spec
from gt.training.loop import Job, Settings, train

FURTHER = ("long_context", "quantisation")  # as v4_char asks for
TURNS = 2  # the first has what later runs of a process find compiled


def measuring(candidates: list[Candidate], device: torch.device) -> list[dict[str, Any]]:
    """For each candidate, trained on the embedded text: seconds of training, of `gt evaluate` with long contexts and
    quantisation, and of `gt probe`, alone on the device, in the second of two turns; and the probes' share of the training.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepare(corpus_spec("embedded"), Path(folder) / "corpus", None)
        tokenizers.prepare(Path(folder) / "corpus", TokenizerSpec(name="char"), data)
        ngram.prepare(data)
        for candidate in candidates:
            row: dict[str, Any] = {"name": candidate.name, "steps": candidate.spec.training.steps}
            try:
                for turn in range(TURNS):
                    run = Path(folder) / f"{candidate.name}-{turn}"
                    train(Job(candidate.spec, data, run), Path(folder) / "checkpoints", Settings(device, float("inf")))
                    row["training_seconds"] = read_json(run / "manifest.json")["seconds"]
                    took = measure(run, data, device, (HELD_OUT, *FURTHER), probed=True)
                    row |= {f"{part}_seconds": seconds for part, seconds in took.items()}
                row["probe_share"] = row["probe_seconds"] / row["training_seconds"]
            except Exception as error:
                row["error"] = in_a_line(error)
            rows.append(row)
    return rows
