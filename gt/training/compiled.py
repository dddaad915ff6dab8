"""Compiled code, kept for as long as the process lives: compiling takes seconds, a function little memory.

What is asked for by an equal key is compiled once, for all layers, models and cohorts of the process. So a key has to hold
everything that the code depends on: `gt.models.regions` says what that is of a region.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

Function = Callable[..., Any]
# Kernels that do not depend on each other are launched as one, as the casts of a layer's weights: an eighth of a small model's
# step. The compiler chooses a kernel's configuration by timing some, which differs from process to process; with
# `deterministic` only that of elementwise kernels, where it decides no bit, and not that of sums, whose order it is.
OPTIONS: dict[str, str | int | bool | Function] = {"combo_kernels": True, "deterministic": True}
_known: dict[Hashable, Function] = {}


def compile_static(function: Function) -> Function:
    """The function for shapes that do not change, with the same bits in every process."""
    return torch.compile(function, dynamic=False, options=OPTIONS)


def shared(key: Hashable, function: Function) -> Function:
    """What was compiled for this key, the function itself if it is the first."""
    if key not in _known:
        _allow_many_regions()
        _known[key] = compile_static(function)
    return _known[key]


def forget() -> None:
    """Compile everything anew from here on."""
    torch._dynamo.reset()
    _known.clear()


def _allow_many_regions() -> None:
    """All regions of all cohorts are one piece of code to the compiler, which by default gives up on it the eighth time.

    The rest would then run uncompiled, and a run's bits depend on how many cohorts were built before it: raise instead.
    """
    import torch._dynamo.config as config

    config.recompile_limit = config.accumulated_recompile_limit = 4096
    config.fail_on_recompile_limit_hit = True
