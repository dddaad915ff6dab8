"""Runs of one architecture and shape, trained side by side: usually one, on a GPU often many.

Everything that a step reads stands on the device before the step begins: the tokens, where each batch starts, the learning
rates, the coins of a dropped branch. Everything that it says goes into a log there. So a step can be replayed as one CUDA
graph, and the host looks at the log only where a curve is due. The weights of all runs are one tensor (run, size); with
more than one run the model is mapped over its rows by `torch.func.vmap`, so that one launch serves all of them.

Rows never meet: the loss, the norm that gradients are clipped to, and the update are a run's own. A run whose loss or
gradient is not finite keeps its last weights while its neighbours go on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gt.catalogue import component
from gt.data.batches import check_length, evaluation_windows, targets_of_slice
from gt.data.tokens import Tokens
from gt.errors import ConfigError
from gt.fingerprint import code_of_training, digest
from gt.models.lm import LanguageModel
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training import engine
from gt.training.auxiliary import BranchDropper, BranchWatch, auxiliary_loss
from gt.training.carried import Carried
from gt.training.curves import Curves, GateWatch, mean_gate
from gt.training.distributed import World
from gt.training.flat import Flat
from gt.training.losses import losses_and_state, token_losses
from gt.training.optimizers.base import Optimizer
from gt.training.plan import HORIZON, StepPlan
from gt.training.regions import Applied, Regions, compile_static, divisible, mapped
from gt.training.schedule import learning_rate

# cuBLAS has one way of adding up products only if its workspace is fixed; it reads this when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

FOLLOWED = ("grad_norm", "update_ratio", "grad_cosine")  # one curve a part of the model
ALONE = World()
# Tokens at once in a validation, fewer where the logits of so many would be more than MAX_LOGITS numbers.
VALIDATED_AT_ONCE, MAX_LOGITS = 8192, 2**26


class Cohort:
    """Some runs in progress. `advance` trains to the next stop and `collect` reads what came of it.

    specs: runs that `gt.grouping` lets be stacked. tokens: what all are trained on. engine_name and compiled: how the steps
    are run, by default as compiled graphs on a GPU and operation by operation elsewhere. recompute: letters of mixers whose
    activations are computed again in the backward pass, which saves memory and changes no bit. world: the processes that share
    each batch. start: the weights that all begin with, of runs that say so, in place of drawn ones.
    """

    def __init__(
        self,
        specs: list[RunSpec],
        tokens: Tokens,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        engine_name: engine.Name | None = None,
        compiled: bool | None = None,
        recompute: str = "",
        world: World = ALONE,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.use_deterministic_algorithms(True)
        # which would be a kernel for each new tensor, and nothing reads those
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.specs, self.tokens, self.device, self.dtype = specs, tokens, device, dtype
        self.training, self.world, self.recompute = specs[0].training, world, recompute
        self.engine = engine.Engine(device, engine_name)
        self.compiled = device.type == "cuda" if compiled is None else compiled
        assert (start is None) == (self.training.start is None), "a run's specification says whether its weights are drawn"
        self.start = start
        with self.engine.stream():
            self._build()
        self.curves = [Curves(["step", "tokens", "timestamp", *self._scalars()]) for _ in specs]
        self.status = ["completed"] * len(specs)
        self.ended_at: list[int | None] = [None] * len(specs)
        self.step = 0  # that the device was told to take
        self.collected = -1  # the last step whose results the host has; -1 before the first validation

    def _build(self) -> None:
        """Everything that stands on the device."""
        specs, tokens, device = self.specs, self.tokens, self.device
        check_length("val", len(tokens.val), self.training.sequence_length)  # what looks inside needs whole windows of it
        self.model = LanguageModel(specs[0].model, tokens.vocab_size).to(device=device, dtype=self.dtype)
        for block in self.model.blocks():
            block.recompute = set(self.recompute)
        self.flat = Flat(self.model, len(specs), device, self.dtype)
        self.weights, self.last_gradient = self.flat.zeros(), self.flat.zeros()
        self._initialise()
        self.views = self._leaves()
        optimizer: type[Optimizer] = component("optimizer", self.training.optimizer.name).load()
        self.optimizer = optimizer(self.flat, self.weights, [spec.training for spec in specs])
        self.alive = torch.ones(len(specs), dtype=torch.bool, device=device)
        drop = self.training.branch_drop
        self.dropper = BranchDropper(drop, self.model) if drop is not None else None
        self.plan = StepPlan(specs, tokens, self.flat.groups, self.dropper, device)
        self.gradient_scales = self.flat.by_block(self.plan.gradient_scales(device))
        self.token_bytes = torch.from_numpy(np.asarray(tokens.token_bytes)).to(device)
        self.gated = list(self.model.fusions())
        self.columns = [
            "train/loss",
            "bytes",
            "grad_norm",
            *(f"{what}/{part}" for what in FOLLOWED for part in self.flat.parts),
        ]
        self.log = torch.zeros(HORIZON, len(specs), len(self.columns), dtype=self.dtype, device=device)
        self.validation = torch.zeros(len(specs), 1 + len(self.gated), dtype=torch.float64, device=device)
        self.piece = torch.zeros(1, dtype=torch.int64, device=device)
        if self.training.auxiliary is not None and self.world.size > 1:
            raise ConfigError("training.auxiliary: these terms look at a whole batch, so such a run trains in one process.")
        if self.training.carry_state and self.world.size > 1:
            raise ConfigError("training.carry_state: a checkpoint has the states of one process, so such a run trains in one.")
        text, precision = self.plan.now()[0][0, :, :3], self.training.precision
        self.carried = Carried(self.model, text, precision, len(specs)) if self.training.carry_state else None
        plain = self.training.auxiliary is None and self.dropper is None and self.carried is None
        self.compiled = self.compiled and plain and divisible(self.model)
        self.regions = Regions(self.model, self.views, self.training.precision, compiled=True) if self.compiled else None
        self.update = compile_static(self._update) if self.compiled else self._update
        part = tokens.slice("val", self.training.evaluation_tokens)
        place = (part, self.training.sequence_length, tokens.borders("val"))
        windows, of_slice = evaluation_windows(tokens.marked("val"), *place), targets_of_slice(*place)
        self.validation_targets, self.validation_bytes = int((windows[:, 1:] >= 0).sum()), part.n_bytes
        self.pieces, self.shares = self._in_pieces(torch.from_numpy(windows), torch.from_numpy(of_slice))

    def _in_pieces(self, windows: Tensor, of_slice: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (n, time + 1) in pieces that are measured at once, (piece, rows, time + 1), and each position's share in a
        mean over those of the slice's targets, (piece, rows, time). of_slice: (n, time) bool, which they are. Rows that fill up
        the last piece have no target that counts, and no share.

        Compiled code is made for one shape: there a piece is as large as a piece of a batch.
        """
        n, time = len(windows), self.training.sequence_length
        if self.compiled:
            piece = self.plan.now()[0].chunk(self.training.grad_accumulation, dim=1)[0]
            rows = self.world.share(piece, dim=1).shape[1]
        else:
            rows = -(-n // -(-n // max(1, min(VALIDATED_AT_ONCE, MAX_LOGITS // self.tokens.vocab_size) // time)))
        filling = -n % rows
        windows = torch.cat([windows, windows.new_full((filling, time + 1), ~0)])
        shares = torch.cat([of_slice, of_slice.new_zeros(filling, time)]).double() / of_slice.sum()
        return windows.view(-1, rows, time + 1).to(self.device), shares.view(-1, rows, time).to(self.device)

    def _scalars(self) -> list[str]:
        gates = ["gate/mean", *(f"gate/layer_{i}" for i in self.gated)] if self.gated else []
        means = ["train/loss", "train/bits_per_byte", "val/loss", "val/bits_per_byte", "learning_rate"]
        return [*means, *self.columns[2:], *gates]

    @property
    def identity(self) -> str:
        """What a checkpoint must be of to be used."""
        runs = " ".join(spec.sha256 for spec in self.specs)
        place = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        code = digest(code_of_training(self.specs[0]))  # runs that are stacked have the same components
        return f"{runs} {self.tokens.sha256} {code} {torch.__version__} {place} {self.compiled}"

    @property
    def done(self) -> bool:
        """All runs are trained, or diverged, and the host knows it."""
        return self.collected >= self.training.steps or None not in self.ended_at

    @torch.no_grad()
    def _initialise(self) -> None:
        """Each run's initial weights, from its own seed, or those that it is to start from."""
        places = self.flat.views(self.weights)
        if self.start is not None:
            for name, place in places.items():
                place.copy_(self.start[name].expand_as(place))
            return
        for run, spec in enumerate(self.specs):
            model = LanguageModel(spec.model, self.tokens.vocab_size)
            model.reset_parameters(Streams(spec.seed))
            for name, parameter in model.named_parameters():
                places[name][run].copy_(parameter)

    def _pretrain(self) -> None:
        """Train each branch in a model of its own, if the runs ask for it, and begin with its mixers' weights.

        No checkpoint is made meanwhile: a run that is killed here starts over. A branch that diverges gives the last weights
        that were finite.
        """
        places = self.flat.views(self.weights)
        of_runs = [spec.pretraining() for spec in self.specs]
        for letter in of_runs[0]:
            specs = [branches[letter] for branches in of_runs]
            alone = Cohort(
                specs, self.tokens, self.device, self.dtype, self.engine.name, self.compiled, self.recompute, self.world
            )
            while not alone.done:
                alone.advance()
                alone.collect()
            for run in range(len(specs)):
                weights = {name: weight.cpu() for name, weight in alone.parameters(run).items()}
                for name in (name for name in places if f".mixers.{letter}." in name):
                    in_stack = "body." + name[name.index("blocks.") :]  # where a tower's layers are called as a stack's
                    places[name][run].copy_(weights[in_stack])

    def _leaves(self) -> dict[str, Tensor]:
        """Each parameter as a leaf on the flat buffer, (run, *shape); of a single run, as the model's own parameter."""
        places = self.flat.views(self.weights)
        if len(self.specs) > 1:
            return {name: place.detach().requires_grad_() for name, place in places.items()}
        leaves: dict[str, Tensor] = {name: nn.Parameter(place.detach()[0]) for name, place in places.items()}
        for name, leaf in leaves.items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.model.get_submodule(owner), attribute, leaf)
        return leaves

    def parameters(self, run: int) -> dict[str, Tensor]:
        """The weights of one run by name, in the model's order."""
        places = self.flat.views(self.weights)
        return {name: places[name][run] for name, _ in self.model.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint must keep, and that a rehearsal of the step must leave as it was."""
        moments = {f"optimizer/{name}": value for name, value in self.optimizer.state.items()}
        carried = {f"carried/{i}": tensor for i, tensor in enumerate(self.carried.tensors if self.carried else ())}
        return {"weights": self.weights, "last_gradient": self.last_gradient, "alive": self.alive, **moments, **carried}

    def advance(self, limit: int | None = None) -> None:
        """Train to the next stop, or to step `limit` if that comes first. Returns before the device has done it."""
        with self.engine.stream():
            if self.collected < 0 and self.step == 0:
                self._pretrain()
                self._validate()
                return
            stop = min(self._next_stop(), limit or self.training.steps)
            while self.step < stop:
                self.plan.prepare(self.step)
                kind = f"step of {self.plan.length} tokens{', going on' if self.plan.goes_on else ''}"
                self.engine(kind, self._step, [*self.state().values(), self.plan.cursor, self.log])
                self.step += 1
            if self._validates(self.step):
                self._validate()

    def _next_stop(self) -> int:
        """Where a validation is due, or the log is full; and step by step run, also where a curve is due, to show progress."""
        training = self.training
        every = [training.evaluate_every, HORIZON] + ([training.log_every] if self.engine.name == "eager" else [])
        return min(training.steps, *((self.step // n + 1) * n for n in every))

    def _validates(self, step: int) -> bool:
        return step % self.training.evaluate_every == 0 or step == self.training.steps

    def collect(self) -> list[dict[str, float]]:
        """Wait for the device, and add what it logged since the last time to the curves. Returns the first run's rows."""
        with self.engine.stream():
            log, validation = self.log.cpu(), self.validation.cpu()
        now = time.time()
        rows = []
        for step in range(self.collected + 1, self.step + 1):
            for run in range(len(self.specs)):
                if self.ended_at[run] is None and (row := self._row(run, step, log, validation)):
                    self.curves[run].add({"timestamp": now, **row})
                    rows += [row] if run == 0 else []
        self.collected = self.step
        return rows

    def _row(self, run: int, step: int, log: Tensor, validation: Tensor) -> dict[str, float]:
        """What the curves of a run get at a step; nothing where none is due."""
        training = self.training
        row: dict[str, float] = {}
        finite = True
        if step > 0:
            values = dict(zip(self.columns, log[(step - 1) % HORIZON, run].tolist(), strict=True))
            bytes_a_target = values.pop("bytes")
            finite = math.isfinite(values["train/loss"]) and math.isfinite(values["grad_norm"])
            if not finite:
                self.status[run], self.ended_at[run] = "diverged", step
            if step % training.log_every == 0 or step == training.steps or not finite:
                bits = values["train/loss"] / math.log(2) / bytes_a_target
                rate = learning_rate(self.specs[run].training, step - 1)
                row |= {**values, "train/bits_per_byte": bits, "learning_rate": rate}
        if finite and self._validates(step):
            nats, *gates = validation[run].tolist()
            row |= {
                "val/loss": nats / self.validation_targets,
                "val/bits_per_byte": nats / math.log(2) / self.validation_bytes,
                **({"gate/mean": sum(gates) / len(gates)} if gates else {}),
                **{f"gate/layer_{layer}": gate for layer, gate in zip(self.gated, gates, strict=True)},
            }
        return {"step": step, "tokens": training.tokens(step), **row} if row else {}

    def _step(self) -> None:
        """One optimizer step of every run. Reads and writes tensors on the device alone."""
        batch, coins, rates = self.plan.now()
        targets = batch[:, :, 1:].flatten(1)
        counted = targets >= 0
        n_targets = counted.sum(1)
        gradient = nats = torch.empty(0)
        n_pieces = self.training.grad_accumulation
        coins_of_pieces = coins.chunk(n_pieces, dim=-1) if coins.shape[-1] > 1 else [coins] * n_pieces
        for i, (piece, own_coins) in enumerate(zip(batch.chunk(n_pieces, dim=1), coins_of_pieces, strict=True)):
            own_coins = self.world.share(own_coins, dim=2) if own_coins.shape[-1] > 1 else own_coins
            loss, objective, state = self._losses(self.world.share(piece, dim=1), own_coins, n_targets)
            own, loss = self._gradient(objective.sum()), loss.detach()
            gradient, nats = (own, loss) if i == 0 else (gradient + own, nats + loss)
        if self.carried is not None:
            self.carried.keep(state)
        gradient, nats = self.world.sum(gradient), self.world.sum(nats)
        bytes_a_target = (self.token_bytes[targets] * counted).sum(1) / n_targets
        self.plan.note(self.log, self.update(gradient, rates, nats, bytes_a_target))

    def _losses(self, piece: Tensor, coins: Tensor, n_targets: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Of each run what a piece adds to the mean cross-entropy of a batch with n_targets (run,) that count (nats/token), to
        what is minimised (the same plus the auxiliary terms), and, where states are carried, those at the end.
        """
        if self.regions is not None:
            stacked = len(self.specs) > 1
            loss = self.regions(piece, n_targets) if stacked else self.regions(piece[0], n_targets[0]).unsqueeze(0)
            return loss, loss, ()
        before = self.carried.tensors if self.carried is not None and self.plan.goes_on else ()
        loss, objective, *state = self._map(self._objective, (piece, coins, n_targets, *before))
        return loss, objective, tuple(state)

    def _objective(self, piece: Tensor, coins: Tensor, n_targets: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """The same of one run."""
        if self.dropper is not None:
            self.dropper.coins = coins
        state = self.carried.state(before) if self.carried is not None else None
        with BranchWatch(self.model) as seen:
            losses, state = losses_and_state(self.model, piece, self.training.precision, state)
        loss = objective = losses.sum() / n_targets
        if self.training.auxiliary is not None:
            objective = loss + auxiliary_loss(self.training.auxiliary, self.model, seen, piece[:, 1:])
        return loss, objective, *(self.carried.parts(state) if self.carried is not None else ())

    def _gradient(self, objective: Tensor) -> Tensor:
        """As a flat buffer. AssertionError for a parameter that the objective does not depend on."""
        pieces = torch.autograd.grad(objective, list(self.views.values()), allow_unused=True)
        for name, piece in zip(self.views, pieces, strict=True):
            assert piece is not None, f"parameter {name} receives no gradient"
        return self.flat.joined(list(pieces))

    @torch.no_grad()
    def _update(self, gradient: Tensor, rates: Tensor, nats: Tensor, bytes_a_target: Tensor) -> Tensor:
        """Clip and take the optimizer's step, in the runs that are alive. Returns the log's row: (run, column)."""
        gradient = gradient * self.gradient_scales
        norms = self._norms(gradient)
        norm = norms.square().sum(1).sqrt()
        weight_norms = self._norms(self.weights)
        update = self._clip_and_step(gradient, norm, rates, nats)
        similar = self.flat.by_part(gradient * self.last_gradient)
        cosines = similar / (norms * self._norms(self.last_gradient)).clamp(min=1e-30)
        self.last_gradient.copy_(gradient)
        row = [nats, bytes_a_target, norm, norms, self._norms(update) / weight_norms.clamp(min=1e-30), cosines]
        return torch.cat([x.to(self.dtype).view(len(self.specs), -1) for x in row], dim=1)

    def _clip_and_step(self, gradient: Tensor, norm: Tensor, rates: Tensor, nats: Tensor) -> Tensor:
        """The update of the runs that are alive, whose gradients have these norms (run,). Returns what was subtracted."""
        clip = self.training.clip_norm
        clipped = gradient if clip is None else gradient * (clip / (norm + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
        self.alive &= nats.isfinite() & norm.isfinite()
        clipped, rates = torch.where(self.alive.view(-1, 1, 1), clipped, 0.0), torch.where(self.alive.view(-1, 1), rates, 0.0)
        return self.optimizer.step(clipped, rates)

    def _norms(self, buffer: Tensor) -> Tensor:
        """The norm of each part of the model: (run, part)."""
        return self.flat.by_part(buffer.square()).sqrt()

    def _validate(self) -> None:
        """Measure the losses and the mean gates of every run on the validation slice."""
        self.validation.zero_()
        self.piece.zero_()
        for _ in self.pieces:
            self.engine("validate", self._measure, [self.validation, self.piece])

    def _measure(self) -> None:
        """Add what a piece of the slice has to it, (run, nats and gates), and go on to the next."""
        windows, shares = (table.index_select(0, self.piece)[0] for table in (self.pieces, self.shares))
        if self.regions is not None:
            nats, gates = self._of_regions(windows, shares)
        else:
            nats, gates = self._map(self._losses_and_gates, (windows, shares), shared=True)
        self.validation.add_(torch.cat([nats.unsqueeze(1), gates], dim=1))
        self.piece.add_(1)

    def _of_regions(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """By the code that was compiled for training, as which it runs: with gradients that nobody asks for."""
        assert self.regions is not None
        runs = len(self.specs)
        one = torch.ones((runs,) if runs > 1 else (), dtype=torch.int64, device=self.device)
        nats = self.regions(windows.repeat(runs, 1, 1) if runs > 1 else windows, one).detach().view(runs).double()
        mean, nothing = torch.func.vmap(mean_gate, in_dims=(0, None)), nats.new_full((runs,), math.nan)
        gates = [gate if runs > 1 or gate is None else gate.unsqueeze(0) for gate in self.regions.gates()]
        means = [nothing if gate is None else mean(gate, shares) for gate in gates]
        return nats, torch.stack(means, dim=1) if means else nats.new_zeros(runs, 0)

    @torch.no_grad()
    def _losses_and_gates(self, windows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        self.model.eval()
        with GateWatch(self.model, shares) as gates:
            losses = token_losses(self.model, windows, self.training.precision)
        self.model.train()
        return losses.double().sum(), gates.means(losses)

    def _map(self, function: Callable[..., Any], inputs: tuple[Tensor, ...], shared: bool = False) -> tuple[Tensor, ...]:
        """function(*inputs of one run), with the model at the weights of that run; results get a leading dimension of runs.

        shared: the inputs are the same for all runs, and have no such dimension.
        """
        if len(self.specs) == 1:
            return tuple(y.unsqueeze(0) for y in function(*(inputs if shared else (x[0] for x in inputs))))
        applied = Applied(self.model, lambda _, *own: function(*own))
        results: tuple[Tensor, ...] = mapped(applied, shared)({f"subject.{name}": v for name, v in self.views.items()}, *inputs)
        return results
