"""Train one run from its specification to its record."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gt.data.batches import Batches, evaluation_windows
from gt.data.tokens import Tokens
from gt.fingerprint import TRAINING_PARTS, fingerprint
from gt.models.lm import LanguageModel, audit
from gt.records import atomic_write, write_json
from gt.seeds import Streams
from gt.spec import RunSpec
from gt.training import checkpoint
from gt.training.auxiliary import BranchDropper, BranchWatch, auxiliary_loss
from gt.training.curves import Curves, GateWatch
from gt.training.optimizer import build_optimizer, learning_rate
from gt.training.provenance import provenance

# What a killed run loses at most. It decides no number, so it is not part of a specification.
CHECKPOINT_SECONDS = 60.0
RECORD = ("spec.json", "manifest.json", "curves.parquet", "model.safetensors")


def train(
    spec: RunSpec,
    data: Path,
    out: Path,
    checkpoints: Path,
    device: torch.device,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    recompute: str = "",
) -> str:
    """Train a run and write its record into `out`. Returns its status, `completed` or `diverged`.

    data: a folder of tokens. checkpoints: a folder of this run's own; a run that was killed goes on from there to the same
    bits, and the folder is removed on success. recompute: letters of mixers whose activations are computed again in the
    backward pass, which saves memory and changes no bit. Raises ConfigError where the data cannot serve the specification.
    """
    trainer = Trainer(spec, Tokens.open(data), device)
    for block in trainer.model.blocks():
        block.recompute = set(recompute)
    started = datetime.now(UTC)
    clock = time.perf_counter()
    resumed = trainer.resume(checkpoints)
    before, first = trainer.progress.seconds, trainer.step
    last_save = clock
    report = Reporter(trainer)
    for row in trainer.steps():
        report(row)
        if time.perf_counter() - last_save >= checkpoint_seconds and not trainer.done:
            trainer.progress = checkpoint.Progress(trainer.step, before + time.perf_counter() - clock, resumed)
            trainer.save(checkpoints)
            last_save = time.perf_counter()
    seconds = time.perf_counter() - clock
    trainer.write_record(out, started, before + seconds, (trainer.step - first) / seconds if seconds else 0.0, resumed)
    checkpoint.remove(checkpoints)
    return trainer.status


class Trainer:
    """One run in progress. `steps()` trains; everything that a step draws is a function of the seed and the step."""

    def __init__(self, spec: RunSpec, tokens: Tokens, device: torch.device) -> None:
        self.spec, self.tokens, self.device = spec, tokens, device
        training = spec.training
        torch.use_deterministic_algorithms(True)
        self.batches = Batches(tokens.train, training.batch_size, training.sequence_length, spec.seed)
        self.windows = evaluation_windows(tokens.val, training.sequence_length, training.evaluation_tokens)
        self.token_bytes = torch.from_numpy(np.asarray(tokens.token_bytes)).to(device)
        self.model = LanguageModel(spec.model, tokens.vocab_size)
        self.model.reset_parameters(Streams(spec.seed))
        self.model.to(device)
        self.optimizer = build_optimizer(self.model, training)
        drop = training.branch_drop
        self.dropper = BranchDropper(drop, self.model, spec.seed, training.steps) if drop is not None else None
        gates = ["gate/mean", *(f"gate/layer_{i}" for i in self.model.fusions())] if self.model.fusions() else []
        scalars = ["train/loss", "train/bits_per_byte", "val/loss", "val/bits_per_byte", "learning_rate", "grad_norm"]
        self.curves = Curves(["step", "tokens", "timestamp", *scalars, *gates])
        self.progress = checkpoint.Progress(0, 0.0, [])
        self.step = 0
        self.status = "completed"

    @property
    def identity(self) -> str:
        """What a checkpoint must be of to be used."""
        return f"{self.spec.sha256} {self.tokens.sha256} {fingerprint(*TRAINING_PARTS)} {torch.__version__}"

    @property
    def done(self) -> bool:
        return self.step >= self.spec.training.steps or self.status == "diverged"

    def resume(self, checkpoints: Path) -> list[int]:
        """Go on from a checkpoint if there is one that fits. Returns the steps at which attempts resumed."""
        found = checkpoint.load(checkpoints, self.identity, self.model, self.optimizer)
        if found is None:
            return []
        if isinstance(found, str):
            print(f"The checkpoint in {checkpoints} cannot be used: {found}. Starting over.", file=sys.stderr)
            return []
        self.curves, self.progress = found
        self.step = self.progress.step
        print(f"Resuming from step {self.step}.", file=sys.stderr)
        return [*self.progress.resumed_from, self.step]

    def save(self, checkpoints: Path) -> None:
        checkpoint.save(checkpoints, self.identity, self.model, self.optimizer, self.curves, self.progress)

    def steps(self) -> Iterator[dict[str, float] | None]:
        """Train to the end, yielding after each step: the row it logged, or None.

        A loss or gradient norm that is not finite ends the run as diverged; its last row says at which step.
        """
        training = self.spec.training
        if self.step == 0:
            self._log({**self.validate()})
        while not self.done:
            rate = learning_rate(training, self.step)
            loss, bits, norm = self._step()
            self.step += 1
            finite = math.isfinite(loss) and math.isfinite(norm)
            self.status = "completed" if finite else "diverged"
            row: dict[str, float] = {}
            if self.step % training.log_every == 0 or self.done:
                row |= {"train/loss": loss, "train/bits_per_byte": bits, "learning_rate": rate, "grad_norm": norm}
            if finite and (self.step % training.evaluate_every == 0 or self.done):
                row |= self.validate()
            yield self._log(row) if row else None

    def _log(self, row: dict[str, float]) -> dict[str, float]:
        training = self.spec.training
        tokens = self.step * training.batch_size * training.sequence_length
        row = {"step": self.step, "tokens": tokens, "timestamp": time.time(), **row}
        self.curves.add(row)
        return row

    def _step(self) -> tuple[float, float, float]:
        """One optimizer step over one batch: its loss (nats/token), bits per byte, and gradient norm before clipping.

        The weights stay as they were if the loss or the norm is not finite.
        """
        training = self.spec.training
        batch = torch.from_numpy(self.batches.batch(self.step)).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        nats = torch.zeros((), device=self.device)
        for i, part in enumerate(batch.chunk(training.grad_accumulation)):
            if self.dropper is not None:
                self.dropper.step, self.dropper.part = self.step, i
            loss, objective = self._objective(part)
            (objective / training.grad_accumulation).backward()
            nats += loss.detach() / training.grad_accumulation
        if self.step == 0:
            for name, parameter in self.model.named_parameters():
                assert parameter.grad is not None, f"parameter {name} receives no gradient"
        self._scale_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm or math.inf)
        loss_value, norm_value = nats.item(), norm.item()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(training, self.step, group["part"])
            self.optimizer.step()
        return loss_value, self._bits_per_byte(loss_value * batch[:, 1:].numel(), batch[:, 1:]), norm_value

    def _objective(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy (nats/token), and what is minimised: the same plus the auxiliary terms."""
        training = self.spec.training
        if training.auxiliary is None:
            loss = token_losses(self.model, batch, training.precision).mean()
            return loss, loss
        with BranchWatch(self.model) as seen:
            loss = token_losses(self.model, batch, training.precision).mean()
        return loss, loss + auxiliary_loss(training.auxiliary, self.model, seen, batch[:, 1:])

    def _scale_gradients(self) -> None:
        for group in self.optimizer.param_groups:
            own = self.spec.training.parts.get(group["part"])
            if own is not None and own.gradient_scale != 1.0:
                for parameter in group["params"]:
                    parameter.grad *= own.gradient_scale

    def _bits_per_byte(self, nats: float, targets: Tensor) -> float:
        return nats / math.log(2) / self.token_bytes[targets].sum().item()

    def _sum_of_losses(self, windows: np.ndarray) -> float:
        batch = torch.from_numpy(windows).to(self.device)
        return token_losses(self.model, batch, self.spec.training.precision).double().sum().item()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and bits per byte on the fixed validation slice, and the mean gates there."""
        self.model.eval()
        total = 0.0
        with GateWatch(self.model) as gates:
            for part in np.array_split(self.windows, max(1, len(self.windows) // self.spec.training.batch_size)):
                total += self._sum_of_losses(part)
        self.model.train()
        targets = torch.from_numpy(self.windows[:, 1:]).to(self.device)
        return {
            "val/loss": total / targets.numel(),
            "val/bits_per_byte": self._bits_per_byte(total, targets),
            **gates.means(),
        }

    def write_record(self, out: Path, started: datetime, seconds: float, steps_per_second: float, resumed: list[int]) -> None:
        """The run's record, the manifest last: where there is a manifest, the record is whole."""
        training = self.spec.training
        write_json(out / "spec.json", self.spec.model_dump(mode="json"))
        self.curves.write(out / "curves.parquet")
        weights = {name: p.detach().cpu().contiguous() for name, p in self.model.named_parameters()}
        with atomic_write(out / "model.safetensors") as temporary:
            save_file(weights, temporary, {"run_id": self.spec.run_id})
        counted = audit(self.model, training.sequence_length)
        tokens_a_step = training.batch_size * training.sequence_length
        manifest = {
            "run_id": self.spec.run_id,
            "status": self.status,
            "steps_completed": self.step,
            "data_sha256": self.tokens.sha256,
            "vocab_size": self.tokens.vocab_size,
            **provenance(self.device),
            "engine": "eager",
            "backend": "chunked-torch",
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "tokens": self.step * tokens_a_step,
            "tokens_per_second": steps_per_second * tokens_a_step,
            "peak_memory_bytes": peak_memory(self.device),
            "energy_joules": None,
            **vars(counted),
            "resumed_from": resumed,
        }
        write_json(out / "manifest.json", manifest)


def token_losses(model: LanguageModel, batch: Tensor, precision: str) -> Tensor:
    """batch: (n, time + 1) tokens -> cross-entropy of each target in nats, (n * time,), float32."""
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logits, _ = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction="none")


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Reporter:
    """A progress bar on a terminal, one line a validation in a log."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.total = trainer.spec.training.steps
        self.bar = (
            tqdm(total=self.total, initial=trainer.step, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None
        )

    def __call__(self, row: dict[str, float] | None) -> None:
        validated = row is not None and "val/bits_per_byte" in row
        if self.bar is not None:
            self.bar.update()
            if row is not None and validated:
                self.bar.set_postfix_str(f"val {row['val/bits_per_byte']:.3f} bits/byte")
            if self.trainer.done:
                self.bar.close()
        elif row is not None and (validated or self.trainer.done):
            end = f"  {self.trainer.status}" if self.trainer.done else ""
            train, val = row.get("train/bits_per_byte", math.nan), row.get("val/bits_per_byte", math.nan)
            line = f"step {self.trainer.step}/{self.total}  train {train:.4f}  val {val:.4f} bits/byte{end}"
            print(line, file=sys.stderr, flush=True)
