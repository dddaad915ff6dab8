"""What this machine can do for a study, and what is missing for what.

Each part of the machine is looked at by a function of its own, which yields what it found. Nothing is fetched or changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

import gt
from gt.catalogue import KINDS, components
from gt.errors import ConfigError
from gt.tracking_store import hidden

# `missing`: no study can run without it. `without`: something is not to be had here.
State = Literal["ok", "without", "missing"]
GIB = 2**30
# Bytes below which even a small study is likely to end with an error.
LEAST_DISK, LEAST_MEMORY = 1 * GIB, 2 * GIB
SECONDS = 10  # in which a program must have answered
MLFLOW_URI = "sqlite:///results/mlflow.db"
# A character of each script that names and sampled texts in a report may be in.
SCRIPTS = {"я": "Cyrillic", "ע": "Hebrew", "ع": "Arabic", "中": "Chinese", "あ": "Japanese", "한": "Korean", "क": "Devanagari"}


class Finding(NamedTuple):
    """Of one thing: its state, what there is, and what it is for or what to do where it is not there."""

    part: str
    name: str
    state: State
    text: str
    remedy: str = ""


def examine() -> list[Finding]:
    """All findings, part by part."""
    return [finding for part in PARTS for finding in part()]


def can_run(findings: list[Finding]) -> bool:
    """Whether a study can run on the CPU of this machine."""
    return all(finding.state != "missing" for finding in findings)


def _software() -> Iterator[Finding]:
    part = "software"
    place = Path(gt.__file__).resolve().parents[1]
    origin = "a checkout" if (place / "pyproject.toml").is_file() else "installed"
    yield Finding(part, "gt", "ok", f"{gt.__version__}, {origin}, {place}")
    yield Finding(part, "Python", "ok", f"{platform.python_version()}, {sys.prefix}")
    yield _package(part, "torch", "torch", "missing", "pip install torch")
    yield _package(part, "Snakemake", "snakemake", "missing", "pip install snakemake")
    yield (typst := _package(part, "typst", "typst", "missing", "pip install typst"))
    if typst.state == "ok":
        yield _fonts(part)


def _machine() -> Iterator[Finding]:
    yield Finding("machine", "CPUs", "ok", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}, {platform.machine()}")
    memory, disk = _memory(), shutil.disk_usage(Path.cwd()).free
    state: State = "ok" if memory >= LEAST_MEMORY else "missing"
    yield Finding("machine", "memory", state, f"{memory / GIB:.1f} GiB available", "close other programs: torch takes 1 GiB")
    state = "ok" if disk >= LEAST_DISK else "missing"
    yield Finding("machine", "disk", state, f"{disk / GIB:.1f} GiB free in {Path.cwd()}", "make room for tokens and records")


def _gpus() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(count):
        about = torch.cuda.get_device_properties(i)
        size = f"{about.total_memory / GIB:.0f} GiB, compute capability {about.major}.{about.minor}"
        yield Finding("GPU", f"GPU {i}", "ok", f"{about.name}, {size}, driver {_driver()}")
    if not count:
        why = f"torch for CUDA {torch.version.cuda} sees none" if torch.version.cuda else "this torch is built for CPUs"
        yield Finding("GPU", "GPU", "without", why, "studies train on the CPU")
    yield _package("GPU", "Triton", "triton", "without", "extra `gpu`: for gt's own kernels; chunked torch code serves instead")
    if find_spec("triton") is not None:
        serves = "they serve" if count else "chunked torch code serves"
        yield Finding("GPU", "gt's kernels", "ok" if count else "without", serves, "they need a GPU")
    compared = "extra `gpu`: `gt bench ops` compares with it"
    yield _package("GPU", "FLA", "flash-linear-attention", "without", compared, module="fla")
    yield _package("GPU", "mamba-ssm", "mamba-ssm", "without", compared, module="mamba_ssm")
    yield _package("GPU", "NVML", "nvidia-ml-py", "without", "extra `gpu`: the energy that runs take", module="pynvml")


def _programs() -> Iterator[Finding]:
    yield _program("git", "records say no commit, and `gt claims check` cannot read the history")
    yield _program("conda", "leave --use-conda out: this environment is used")
    yield _program("sbatch", "Slurm is needed for --executor slurm alone")


def _corpora() -> Iterator[Finding]:
    """Those whose readers say what is at hand, and the folder of local copies."""
    for own in components("corpus").values():
        if "<" in own.name:  # a reader of whatever the study names
            continue
        try:
            at_hand = own.load()().at_hand()
        except Exception:  # of a plug-in that is broken, which is said there
            continue
        if at_hand is not None:
            yield Finding("corpora", own.name, "ok", f"{at_hand / 1e6:,.1f} MB at hand")
        else:
            yield Finding("corpora", own.name, "without", "not at hand", "it is fetched when asked for, or see GT_CORPUS_DIR")
    folder = os.environ.get("GT_CORPUS_DIR")
    remedy = "a folder of local copies, <name>.txt or <name>/<split>.txt"
    if folder is None or not Path(folder).is_dir():
        yield Finding("corpora", "GT_CORPUS_DIR", "without", "not set" if folder is None else f"{folder} is no folder", remedy)
    else:
        names = sorted(path.name for path in Path(folder).iterdir())
        yield Finding("corpora", "GT_CORPUS_DIR", "ok", f"{folder}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}")


def _plug_ins() -> Iterator[Finding]:
    """What distributions and the project's package add, and what of it cannot be used."""
    added: dict[str, Counter[tuple[str, str]]] = {}
    for kind, several in KINDS.items():
        try:
            found = components(kind).values()
        except ConfigError as error:
            yield Finding("plug-ins", several, "missing", str(error), "mend or remove it: nothing can be planned")
            continue
        for own in found:
            if own.origin == "gt":
                continue
            added.setdefault(own.origin, Counter())[kind, several] += 1
            try:
                own.load()
            except Exception as error:
                text = f"{kind} {own.name}: {own.module}: {type(error).__name__}: {error}"
                yield Finding("plug-ins", own.origin, "without", text, "what uses it cannot run")
    for name, counts in added.items():
        listed = (f"{n} {one if n == 1 else several}" for (one, several), n in counts.items())
        yield Finding("plug-ins", name, "ok", ", ".join(listed))
    if not added:
        yield Finding("plug-ins", "plug-ins", "ok", "none: gt's own components alone")


def _tracking() -> Iterator[Finding]:
    found = _package("tracking", "MLflow", "mlflow", "missing", "pip install mlflow")
    uri = MLFLOW_URI
    if (config := Path("config/config.yaml")).is_file():
        uri = (yaml.safe_load(config.read_bytes()) or {}).get("mlflow_uri", uri)
    yield found._replace(text=f"{found.text}, {hidden(str(uri))}") if found.state == "ok" else found


PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _software,
    _machine,
    _gpus,
    _programs,
    _corpora,
    _plug_ins,
    _tracking,
)


def _package(part: str, name: str, distribution: str, otherwise: State, remedy: str, module: str | None = None) -> Finding:
    """Whether a package can be imported, as far as can be told without importing it."""
    if find_spec(module or distribution) is None:
        return Finding(part, name, otherwise, "not installed", remedy)
    try:
        return Finding(part, name, "ok", version(distribution))
    except PackageNotFoundError:
        return Finding(part, name, "ok", "of an unknown version")


def _program(name: str, remedy: str) -> Finding:
    """Whether a program is on the PATH, and what it says of its version."""
    if (path := shutil.which(name)) is None:
        return Finding("programs", name, "without", "not on the PATH", remedy)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("programs", name, "without", f"{path} does not run ({type(error).__name__})", remedy)
    return Finding("programs", name, "ok", f"{said.split()[-1] if said.split() else 'of an unknown version'}, {path}")


def _fonts(part: str) -> Finding:
    """The scripts, of some, that no font for PDFs has here."""
    import typst

    from gt.report.fonts import FONTS, absent

    boxes = absent(SCRIPTS, typst.Fonts(include_system_fonts=True, font_paths=[FONTS]))
    there = ", ".join(script for character, script in SCRIPTS.items() if character not in boxes)
    if not boxes:
        return Finding(part, "fonts", "ok", there)
    lacking = ", ".join(SCRIPTS[character] for character in boxes)
    return Finding(part, "fonts", "without", f"none for {lacking}", "a PDF has boxes there: install Noto's fonts")


def _memory() -> int:
    """Bytes that can still be had: of the machine, or of the group of processes that a container or a scheduler confines."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        available = min(available, int(most) - int(used.read_text()))
    return available


def _driver() -> str:
    """The version of NVIDIA's driver, of which torch says nothing."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, check=False, timeout=SECONDS).stdout
    return said.partition("\n")[0].strip() or "unknown"
