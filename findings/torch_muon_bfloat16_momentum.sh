#!/usr/bin/env bash
# torch.optim.Muon: with bfloat16 weights and nesterov=False, each step overwrites the momentum with its own direction.
#
# A step orthogonalises the momentum, or a new tensor that looks ahead of it. Before the Newton-Schulz iteration it casts what it
# is given to bfloat16 and divides the result by its norm in place. Of a tensor that is bfloat16 already the cast is no copy, so
# without nesterov it is the momentum itself that is divided: from then on its norm is one, whatever the gradients were. Large
# gradients then replace what was there, and small ones hardly turn it. Nothing is said.
#
# With float32 weights, or with nesterov=True (the default), the momentum is what it should be.
#
# Seen with torch 2.13.0 on a CPU, Python 3.11. The norm of the momentum after two steps with gradients of norm 100 and momentum
# 0.9, which should be 19:
#   nesterov=True  float32: 19.0, bfloat16: 19.0
#   nesterov=False float32: 19.0, bfloat16: 1.0
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch


def norm(nesterov, dtype):
    weight = torch.nn.Parameter(torch.zeros(10, 10, dtype=dtype))
    optimizer = torch.optim.Muon([weight], lr=0.01, weight_decay=0.0, momentum=0.9, nesterov=nesterov)
    for _ in range(2):
        weight.grad = torch.full((10, 10), 10.0, dtype=dtype)
        optimizer.step()
    return round(optimizer.state[weight]["momentum_buffer"].float().norm().item(), 1)


found = {}
for nesterov in (True, False):
    values = {name: norm(nesterov, getattr(torch, name)) for name in ("float32", "bfloat16")}
    print(f"nesterov={nesterov}".ljust(14), ", ".join(f"{name}: {value}" for name, value in values.items()))
    found[nesterov] = [*values.values()]
sys.exit(found != {True: [19.0, 19.0], False: [19.0, 1.0]})
PYTHON
