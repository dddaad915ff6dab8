#!/usr/bin/env bash
# Triton's interpreter (TRITON_INTERPRET=1): tl.dot of bfloat16 tensors multiplies their bit patterns as integers.
#
# The interpreter is how one tries a kernel without a GPU. It keeps a bfloat16 tensor as numpy's uint16 and unpacks it where it
# loads, stores and casts to and from float32, but not in tl.dot, which hands the integers to numpy.matmul: the product of ones
# comes out as 16256 * 16256 a term. A boolean that is cast to bfloat16 is lost: True becomes 0. And a cast of float32 to bfloat16
# cuts off what a GPU rounds to nearest: 1.999 becomes 1.9921875 in place of 2. Nothing is said. Cast factors to float32 before the product where the kernel is interpreted, and to float32 before bfloat16.
#
# Seen with triton 3.9.0, torch 2.13.0 and numpy 2.4.6 on a CPU, Python 3.11:
#   the dot of ones, over 16 terms: 4228120576.0, should be 16.0
#   True as bfloat16: 0.0, should be 1.0
#   1.999 as bfloat16: 1.9921875, torch has 2.0
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet triton==3.9.0 torch==2.13.0 numpy==2.4.6
cat > "$folder/kernel.py" <<'PYTHON'
import sys

import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x, product, flag, cut):
    i, j = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    ones = tl.load(x + i * 16 + j)
    tl.store(product + i * 16 + j, tl.dot(ones, ones))
    tl.store(flag + i * 16 + j, (i < 16).to(tl.bfloat16).to(tl.float32))
    tl.store(cut + i * 16 + j, (ones.to(tl.float32) * 1.999).to(tl.bfloat16).to(tl.float32))


x = torch.ones(16, 16, dtype=torch.bfloat16)
product, flag, cut = (torch.zeros(16, 16) for _ in range(3))
kernel[(1,)](x, product, flag, cut)
found = product[0, 0].item(), flag[0, 0].item(), cut[0, 0].item()
print(f"the dot of ones, over 16 terms: {found[0]}, should be 16.0")
print(f"True as bfloat16: {found[1]}, should be 1.0")
print(f"1.999 as bfloat16: {found[2]}, torch has {torch.tensor(1.999).bfloat16().item()}")
sys.exit(found != (16 * 16256.0 * 16256.0, 0.0, 1.9921875))
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py"
