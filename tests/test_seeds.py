"""Every random stream is a function of the seed and its purpose."""

from __future__ import annotations

import torch

from gt.seeds import Streams, derive, numpy_stream, torch_stream


def test_a_seed_and_a_purpose_always_give_the_same_stream() -> None:
    # The number pins the derivation: changing it would silently change every run ever made.
    assert derive(0, "batches", 3) == int.from_bytes(bytes.fromhex("8f2c85fee1a35e42"), "little")


def test_streams_of_different_purposes_differ() -> None:
    streams = {derive(seed, purpose, n) for seed in range(4) for purpose in ("init", "batches") for n in range(50)}
    assert len(streams) == 400


def test_parts_of_a_purpose_do_not_run_together() -> None:
    assert derive(0, "a", "bc") != derive(0, "ab", "c")
    assert derive(1, "1") != derive(11)


def test_a_parameter_starts_alike_wherever_its_name_is_reached_from() -> None:
    scoped = Streams(7).scope("blocks.0").scope("mixers").generator("weight")
    direct = Streams(7).generator("blocks.0.mixers.weight")
    assert torch.equal(torch.randn(5, generator=scoped), torch.randn(5, generator=direct))


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(3, generator=torch_stream(0, "x"))
    numpy_stream(0, "x").random(3)
    assert torch.equal(before, torch.get_rng_state())
