"""Kernels of what stands between products and recurrences, against the formula in float64: values and gradients, for runs whose
weights differ.

With TRITON_INTERPRET=1 and Triton installed they also run on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernels import BFLOAT16, DEVICE, FLOAT32, MARKS, in_a_buffer, noise, relative
from torch import Tensor

pytestmark = MARKS
RUNS = 2

Op = Callable[..., Tensor]


def with_gradients(op: Op, inputs: list[Tensor], activations: int) -> list[Tensor]:
    """The result of all runs, and the gradients of a random functional of it. activations: of the inputs the first, so many;
    the others are weights.
    """
    given = [x.clone() if i < activations else in_a_buffer(x) for i, x in enumerate(inputs)]
    leaves = [x.requires_grad_() for x in given if x.is_floating_point()]
    y = torch.func.vmap(op)(*given)
    return [y, *torch.autograd.grad((y * noise(*y.shape, seed=99).to(y)).sum(), leaves)]


def assert_same(kernel: Op, formula: Op, inputs: list[Tensor], activations: int) -> None:
    """In float32, and where the first inputs, so many, are bfloat16: what is rounded already, the formula gets rounded too."""
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.bfloat16, BFLOAT16)):
        given = [x.to(dtype) if i < activations else x for i, x in enumerate(inputs)]
        exact = with_gradients(formula, [x.double() for x in given], activations)
        errors = [relative(a, b) for a, b in zip(with_gradients(kernel, given, activations), exact, strict=True)]
        assert max(errors) <= tolerance, errors


def standard(x: Tensor, groups: int, eps: float, centred: bool) -> Tensor:
    own = x.unflatten(-1, (groups, -1))
    own = own - own.mean(-1, keepdim=True) if centred else own
    return (own / (own.square().mean(-1, keepdim=True) + eps).sqrt()).flatten(-2)


@pytest.mark.parametrize(("channels", "time"), [(24, 7), (32, 40), (192, 5)])
@pytest.mark.parametrize("centred", [False, True])
def test_a_norm(channels: int, time: int, centred: bool) -> None:
    from gt.ops.kernels.norm import norm_forward

    def kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        own = bias.unsqueeze(0) if centred else None
        y: Tensor = norm_forward(x, None, weight.unsqueeze(0), own, 1, 1e-5, centred, "", x.dtype)
        return y if centred else y + 0 * bias

    def formula(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return standard(x, 1, 1e-5, centred) * weight + (bias if centred else 0 * bias)

    inputs = [noise(RUNS, 3, time, channels, seed=0), *(noise(RUNS, channels, seed=i) for i in (1, 2))]
    assert_same(kernel, formula, inputs, activations=1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_a_norm_of_a_sum(centred: bool, last: bool) -> None:
    """Of a stream in float32, whatever is added. last: nothing else reads the sum."""
    from gt.ops.kernels.norm import norm_of_sum_forward

    def joined(total: Tensor, y: Tensor) -> Tensor:
        return y if last else torch.cat([total.to(y.dtype), y])

    def kernel(added: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        own = bias.unsqueeze(0) if centred else None
        both = joined(*norm_of_sum_forward(x, added, weight.unsqueeze(0), own, 1e-5, centred, torch.float32))
        return both if centred else both + 0 * bias

    def formula(added: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return joined(x + added, standard(x + added, 1, 1e-5, centred) * weight + (bias if centred else 0 * bias))

    streams = [noise(RUNS, 3, 7, 24, seed=i) for i in (0, 1)]
    assert_same(kernel, formula, [*streams, *(noise(RUNS, 24, seed=i) for i in (2, 3))], activations=1)


@pytest.mark.parametrize(("groups", "centred", "place"), [(4, True, "last"), (1, False, "first"), (2, False, "first")])
def test_a_gated_norm_of_groups_whose_gate_is_a_part_of_a_wider_tensor(groups: int, centred: bool, place: str) -> None:
    from gt.ops.kernels.norm import norm_forward

    def kernel(x: Tensor, wide: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        gate = wide[..., 8:40]
        y: Tensor = norm_forward(x, gate, weight.unsqueeze(0), bias.unsqueeze(0), groups, 1e-5, centred, place, x.dtype)
        return y

    def formula(x: Tensor, wide: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        gate = F.silu(wide[..., 8:40])
        if place == "first":
            return standard(x * gate, groups, 1e-5, centred) * weight + bias
        return (standard(x, groups, 1e-5, centred) * weight + bias) * gate

    inputs = [noise(RUNS, 3, 9, 32, seed=0), noise(RUNS, 3, 9, 48, seed=1), *(noise(RUNS, 32, seed=i) for i in (2, 3))]
    assert_same(kernel, formula, inputs, activations=2)


def shifted(x: Tensor, z: Tensor, bias: Tensor) -> Tensor:
    """(mix, batch, time, channel)."""
    delta = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1) - x
    return x + delta * (z + bias[:, None, None])


@pytest.mark.parametrize(("channels", "time"), [(24, 7), (32, 40)])
def test_token_shifts(channels: int, time: int) -> None:
    """Five mixes, of which the second comes last."""
    from gt.ops.kernels.shift import shift_forward

    inputs = [
        noise(RUNS, 2, time, channels, seed=0),
        noise(RUNS, 5, 2, time, channels, seed=1),
        noise(RUNS, 5, channels, seed=2),
    ]
    assert_same(
        lambda x, z, bias: torch.cat([y.view(-1, *x.shape) for y in shift_forward(x, z, bias.unsqueeze(0), 1)]),
        lambda x, z, bias: shifted(x, z, bias)[[0, 2, 3, 4, 1]],
        inputs,
        activations=2,
    )


def test_a_token_shift_that_depends_on_no_data() -> None:
    from gt.ops.kernels.shift import shift_forward

    assert_same(
        lambda x, bias: shift_forward(x, None, bias[None, None], 0)[1],
        lambda x, bias: shifted(x, torch.zeros_like(x)[None], bias[None])[0],
        [noise(RUNS, 2, 19, 24, seed=0), noise(RUNS, 24, seed=1)],
        activations=1,
    )


@pytest.mark.parametrize(("channels", "time"), [(24, 7), (136, 40), (20, 2)])
def test_a_short_convolution_of_a_part_of_a_wider_tensor(channels: int, time: int) -> None:
    from gt.ops.kernels.conv import conv_forward

    def formula(wide: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        padded = F.pad(wide[..., 8 : 8 + channels], (0, 0, 3, 0))
        return F.silu(bias + sum(weight[:, i] * padded[:, i : i + time] for i in range(4)))

    assert_same(
        lambda wide, weight, bias: conv_forward(
            wide[..., 8 : 8 + channels], weight.unsqueeze(0), bias.unsqueeze(0), wide.dtype
        ),
        formula,
        [noise(RUNS, 3, time, channels + 16, seed=0), noise(RUNS, channels, 4, seed=1), noise(RUNS, channels, seed=2)],
        activations=1,
    )


def test_a_bias() -> None:
    from gt.ops.kernels.bias import bias_forward

    inputs = [noise(RUNS, 3, 17, 200, seed=0), noise(RUNS, 200, seed=1)]
    assert_same(lambda x, bias: bias_forward(x, bias.unsqueeze(0)), lambda x, bias: x + bias, inputs, activations=1)


@pytest.mark.parametrize("vocabulary", [66, 1024, 2500])
def test_the_cross_entropy_of_targets_some_of_which_do_not_count(vocabulary: int) -> None:
    from gt.ops.kernels.cross_entropy import cross_entropy_forward

    drawn = torch.randint(vocabulary, (RUNS, 3, 7), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    targets = torch.where(noise(*drawn.shape, seed=1) > 1, ~drawn, drawn)

    def formula(logits: Tensor, targets: Tensor) -> Tensor:
        probability = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return torch.where(targets >= 0, -probability, 0.0)

    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.bfloat16, BFLOAT16)):
        logits = (5 * noise(RUNS, 3, 7, vocabulary, seed=2)).to(dtype)
        found = with_gradients(lambda *given: cross_entropy_forward(*given)[0], [logits, targets], 2)
        exact = with_gradients(formula, [logits.double(), targets], 2)
        assert max(relative(a, b) for a, b in zip(found, exact, strict=True)) <= tolerance


@pytest.mark.parametrize(("vocabulary", "channels", "time"), [(66, 24, 7), (130, 72, 50)])
def test_an_embedding_of_a_small_vocabulary(vocabulary: int, channels: int, time: int) -> None:
    from gt.ops.kernels.embedding import embedding_forward

    tokens = torch.randint(vocabulary, (RUNS, 3, time), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found, expected = (
        with_gradients(op, [tokens, table], 1)
        for op, table in (
            (lambda t, table: embedding_forward(t, table.unsqueeze(0)), noise(RUNS, vocabulary, channels, seed=1)),
            (lambda t, table: F.embedding(t, table), noise(RUNS, vocabulary, channels, seed=1).double()),
        )
    )
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) <= FLOAT32


@pytest.mark.parametrize("followed", [False, True])
def test_a_gate_between_two_branches(followed: bool) -> None:
    """followed: something else reads the gate."""
    from gt.ops.kernels.gate import gate_forward

    def joined(y: Tensor, gate: Tensor) -> Tensor:
        return torch.cat([y, gate.to(y.dtype)], dim=-1) if followed else y

    def formula(r: Tensor, m: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        gate = torch.sigmoid(torch.cat([r, m], dim=-1) @ weight.T + bias)
        return joined(gate * r + (1 - gate) * m, gate)

    branches = [noise(RUNS, 3, 7, 24, seed=i) for i in (0, 1)]
    weights = [0.3 * noise(RUNS, 1, 48, seed=2), noise(RUNS, 1, seed=3)]
    assert_same(lambda *given: joined(*gate_forward(*given)), formula, [*branches, *weights], activations=2)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize(("channels", "time"), [(24, 7), (768, 20)])
def test_gelu_of_a_sum_with_a_bias(channels: int, time: int, tanh: bool, biased: bool) -> None:
    from gt.ops.kernels.gelu import gelu_forward

    inputs = [noise(RUNS, 3, time, channels, seed=0), *([noise(RUNS, channels, seed=1)] if biased else [])]
    assert_same(
        lambda x, *bias: gelu_forward(x, bias[0].unsqueeze(0) if biased else None, tanh),
        lambda x, *bias: F.gelu(x + (bias[0] if biased else 0), approximate="tanh" if tanh else "none"),
        inputs,
        activations=1,
    )


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("size", "time"), [(16, 5), (48, 64), (24, 33)])
def test_attention_of_short_sequences(size: int, time: int, biased: bool) -> None:
    """Of bfloat16 activations, which alone it serves."""
    from gt.ops.kernels.attention import attention_forward

    heads = 2

    def kernel(qkv: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = attention_forward(qkv, bias.unsqueeze(0) if biased else None, heads)
        return y if biased else y + 0 * bias[: y.shape[-1]].to(y.dtype)

    def formula(qkv: Tensor, bias: Tensor) -> Tensor:
        exact = qkv + (bias if biased else 0 * bias)
        rounded = exact + (exact.bfloat16() - exact).detach()  # the sum is an activation
        q, k, v = rounded.unflatten(-1, (3, heads, size)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / size**0.5).masked_fill(
            torch.ones(time, time, dtype=torch.bool, device=q.device).triu(1), float("-inf")
        )
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    inputs = [noise(RUNS, 3, time, 3 * heads * size, seed=0).bfloat16(), 0.3 * noise(RUNS, 3 * heads * size, seed=1)]
    exact = with_gradients(formula, [x.double() for x in inputs], 1)
    errors = [relative(a, b) for a, b in zip(with_gradients(kernel, inputs, 1), exact, strict=True)]
    assert max(errors) <= BFLOAT16, errors


@pytest.mark.parametrize("kernel", ["norm", "norm_of_sum", "conv", "attention"])
def test_positions_of_a_longer_sequence_are_read_where_they_lie(kernel: str) -> None:
    """Rows that are not equally far apart, as evaluations read out the last positions alone."""
    from gt.ops.kernels.attention import attention_forward
    from gt.ops.kernels.conv import conv_forward
    from gt.ops.kernels.norm import norm_forward, norm_of_sum_forward

    weight, bias, taps = noise(1, 96, seed=1), noise(1, 96, seed=2), noise(1, 96, 4, seed=3)
    ops: dict[str, Op] = {
        "norm": lambda x: norm_forward(x, x, weight, bias, 1, 1e-5, True, "last", x.dtype),
        "norm_of_sum": lambda x: torch.stack(norm_of_sum_forward(x, x, weight, bias, 1e-5, True, x.dtype)),
        "conv": lambda x: conv_forward(x, taps, bias, x.dtype),
        "attention": lambda x: attention_forward(x, bias.to(x), 2),
    }
    longer = noise(3, 20, 96, seed=0).bfloat16()
    some = [longer.clone().requires_grad_() for _ in range(2)]
    results = [ops[kernel](some[0][:, -7:]), ops[kernel](some[1][:, -7:].contiguous())]
    for y in results:
        y.backward(noise(*y.shape, seed=9).to(y))
    assert torch.equal(*results)
    assert torch.equal(*(x.grad for x in some if x.grad is not None))


def test_the_same_call_gives_the_same_bits_alone_and_stacked() -> None:
    from gt.ops.kernels.norm import norm_forward

    inputs = [noise(RUNS, 3, 40, 32, seed=0), *(noise(RUNS, 32, seed=i) for i in (1, 2))]

    def kernel(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = norm_forward(x, None, weight.unsqueeze(0), bias.unsqueeze(0), 1, 1e-5, True, "", x.dtype)
        return y

    together = with_gradients(kernel, inputs, 1)
    leaves = [x[1].clone().requires_grad_() for x in inputs]
    y = kernel(*leaves)
    alone = [y, *torch.autograd.grad((y * noise(*together[0].shape, seed=99)[1]).sum(), leaves)]
    assert all(torch.equal(a[1], b) for a, b in zip(together, alone, strict=True))


def test_a_step_of_adamw() -> None:
    from gt.ops.kernels.adamw import adamw_, squares

    shape = (RUNS, 3, 1024)
    weights, momentum, gradient, last = (noise(*shape, seed=i) for i in range(4))
    variance = noise(*shape, seed=4).square()
    factor, rate, decay = (noise(*shape[:2], seed=i).sigmoid() for i in (5, 6, 7))
    betas, steps = torch.tensor([[0.9, 0.95], [0.8, 0.99]], device=DEVICE), 7
    corrections = [1 - betas[:, :1] ** steps, (1 - betas[:, 1:] ** steps).sqrt()]
    of_run = torch.cat([betas, *corrections, torch.full((RUNS, 1), 1e-8, device=DEVICE)], dim=1)
    w, m, g, before, v, f, lr, d, own = (
        x.double() for x in (weights, momentum, gradient, last, variance, factor, rate, decay, of_run)
    )
    beta1, beta2, first, second, epsilon = own.unsqueeze(-1).unsqueeze(-1).unbind(1)
    clipped = g * f.unsqueeze(-1)
    m, v = beta1 * m + (1 - beta1) * clipped, beta2 * v + (1 - beta2) * clipped.square()
    update = lr.unsqueeze(-1) * (m / first) / (v.sqrt() / second + epsilon)
    sums = [w.square(), update.square(), before.square(), g * before]
    assert relative(squares(gradient), g.square().sum(2)) <= FLOAT32
    copy = torch.empty_like(weights, dtype=torch.bfloat16)
    found = adamw_(weights, momentum, variance, last, gradient, factor, rate, decay, of_run, copy)
    assert relative(copy, weights) <= BFLOAT16
    expected = [w - lr.unsqueeze(-1) * d.unsqueeze(-1) * w - update, m, v, g, torch.stack([x.sum(2) for x in sums], dim=2)]
    for a, b in zip([weights, momentum, variance, last, found], expected, strict=True):
        assert relative(a, b) <= FLOAT32
