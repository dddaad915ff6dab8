"""Orthogonalised momentum for the matrices inside of a model, AdamW for all that is around them."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from gt.options import Decay, Options
from gt.training.flat import ALIGNMENT, BLOCK, Group, rows_of
from gt.training.optimizers.adamw import AdamW

Shape = tuple[int, int]


class Muon(AdamW):
    """Momentum whose singular values are brought near to one, for the matrices of hidden layers; AdamW for the rest.

    Muon's are the weights of linear layers in mixers, fusions and feed-forward layers, of two rows and columns at least.
    AdamW's, with a learning rate of its own, are embeddings, positions and head, norms, gains, biases, convolutions, what a
    mixer has as a parameter of its own, and the matrices that it declares `undecayed`. Weight decay is decoupled.

    Matrices of one shape, of all layers and runs, are orthogonalised together. The scale of their gradients counts within the
    momentum alone: clipping and `gradient_scale` hardly change a step. The default scale of a step is that of a matrix under
    AdamW, whose learning rates can be kept; "original", which is torch's default, needs larger ones for wide matrices.

    Formula: m = b m + (1 - b) g, O = NS((1 - b) g + b m), w = w - lr s O - lr d w; NS: X = a X + (b A + c A^2) X, A = X X^T
    Source: Jordan et al., kellerjordan.github.io/posts/muon (2024); match_rms_adamw: Liu et al., arXiv:2502.16982
    """

    name = "muon"
    step_in_one_pass = None  # type: ignore[assignment]  # the kernel knows no matrices

    class Config(Options):
        momentum: Decay = Field(0.95, description="of the running mean of the gradient")
        nesterov: bool = Field(True, description="look ahead: take a mean of the gradient and its running mean")
        ns_steps: Annotated[int, Field(ge=1, le=99)] = Field(5, description="Newton-Schulz iterations")
        ns_coefficients: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
            [3.4445, -4.7750, 2.0315], description="a, b and c of one iteration, a X + (b A + c A^2) X with A = X X^T"
        )
        ns_epsilon: Annotated[float, Field(gt=0, le=1)] = Field(1e-7, description="least norm that a matrix is divided by")
        ns_precision: Literal["bfloat16", "float32"] = Field(
            "bfloat16", description="of the iterations; float32: of the weights"
        )
        scale: Literal["match_rms_adamw", "original"] = Field(
            "match_rms_adamw", description="of a step: 0.2 sqrt(max(rows, columns)), or sqrt(max(1, rows / columns))"
        )
        adamw_learning_rate: Annotated[float, Field(gt=0, le=1000)] = Field(
            1.0, description="of what is AdamW's, times the run's"
        )
        beta1: Decay = Field(0.9, description="AdamW's")
        beta2: Decay = Field(0.95, description="AdamW's")
        epsilon: Annotated[float, Field(gt=0, le=1)] = Field(1e-8, description="AdamW's")

    def build(self) -> None:
        """Of the buffer's rows of ALIGNMENT numbers, each is AdamW's or of a matrix of one shape; `back` puts them in place."""
        flat, named = self.flat, dict[Shape, list[str]]()
        for group in flat.groups:
            for name in group.names:
                if self.is_hidden(group, name):
                    rows, columns = flat.shapes[name]
                    named.setdefault((rows, columns), []).append(name)
        self.matrices = {shape: flat.rows(names) for shape, names in sorted(named.items())}
        n_rows = flat.shape[1] * BLOCK // ALIGNMENT
        is_rest = torch.ones(n_rows, dtype=torch.bool, device=flat.device)
        for index in self.matrices.values():
            is_rest[index] = False
        self.rest = is_rest.nonzero().squeeze(1)
        self.back = torch.cat([self.rest, *self.matrices.values()]).argsort()
        self.block = torch.arange(n_rows, device=flat.device) // (BLOCK // ALIGNMENT)
        self.ratio = torch.where(is_rest.unsqueeze(1), self.options.adamw_learning_rate, 1.0)
        self.decay = self.decay.index_select(1, self.block)
        self.moments(self.in_rows(flat.zeros()).index_select(1, self.rest))
        for shape, names in named.items():
            zeros = torch.zeros(flat.shape[0], len(names), *shape, dtype=flat.dtype, device=flat.device)
            self.state[f"momentum of {shape[0]}x{shape[1]}"] = zeros
        kept = self.of_runs("momentum", torch.float64).unsqueeze(3)
        self.kept, self.new = kept.to(flat.dtype), (1 - kept).to(flat.dtype)

    def is_hidden(self, group: Group, name: str) -> bool:
        """Whether a parameter is a matrix inside of the model, which is Muon's."""
        shape = self.flat.shapes[name]
        return group.matrix and group.part != "embedding" and len(shape) == 2 and min(shape) > 1

    def in_rows(self, buffer: Tensor) -> Tensor:
        """(run, row, ALIGNMENT)."""
        return buffer.view(self.flat.shape[0], -1, ALIGNMENT)

    def rates_of_rows(self, rates: Tensor) -> Tensor:
        """(run, row, 1)."""
        return rates.index_select(1, self.block) * self.ratio

    def update(self, gradient: Tensor, rates: Tensor) -> Tensor:
        gradient, rates = self.in_rows(gradient), self.rates_of_rows(rates)
        updates = [super().update(gradient.index_select(1, self.rest), rates.index_select(1, self.rest))]
        for shape, index in self.matrices.items():
            updates.append(self.of_matrices(shape, gradient.index_select(1, index), rates.index_select(1, index)))
        return torch.cat(updates, dim=1).index_select(1, self.back).view(self.flat.shape)

    def of_matrices(self, shape: Shape, gradient: Tensor, rates: Tensor) -> Tensor:
        """The update of all matrices of a shape. gradient: (run, row, ALIGNMENT); rates: (run, row, 1)."""
        options, (rows, columns) = self.options, shape
        momentum = self.state[f"momentum of {rows}x{columns}"]
        filling = ALIGNMENT * rows_of(shape) - rows * columns
        g = gradient.view(*momentum.shape[:2], -1)[..., : rows * columns].unflatten(2, shape)
        momentum.lerp_(g, self.new)
        x = torch.lerp(g, momentum, self.kept) if options.nesterov else momentum
        x = x if options.ns_precision == "float32" else x.bfloat16()
        x = orthogonalised(x, options.ns_steps, options.ns_coefficients, options.ns_epsilon.unsqueeze(3))
        scale = 0.2 * math.sqrt(max(shape)) if options.scale == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
        return rates * scale * pad(x.to(gradient.dtype).flatten(2), (0, filling)).view_as(gradient)

    def shrink(self, rates: Tensor) -> None:
        self.in_rows(self.weights).mul_(1 - self.rates_of_rows(rates) * self.decay)


def orthogonalised(x: Tensor, steps: int, coefficients: list[float], epsilon: Tensor) -> Tensor:
    """U f(S) V^T of matrices x = U S V^T, (run, matrix, rows, columns), by Newton-Schulz iterations in the precision of x.

    f is near to one where a singular value is not near to zero: with the default coefficients and five steps it is between 0.7
    and 1.2. epsilon: (run, 1, 1, 1).
    """
    a, b, c = coefficients
    is_tall = x.shape[2] > x.shape[3]
    norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    result = (x / norm.clamp(min=epsilon.to(x.dtype))).flatten(0, 1)
    result = result.mT if is_tall else result
    for _ in range(steps):
        gram = torch.bmm(result, result.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        result = torch.baddbmm(result, polynomial, result, beta=a)
    return (result.mT if is_tall else result).reshape(x.shape)
