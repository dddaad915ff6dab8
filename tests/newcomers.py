"""Someone who installs a wheel of this tree: a new environment, an empty home, an empty folder, and no repository."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Newcomer:
    """Someone who calls the commands of a new environment, in a folder of theirs."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.home, self.environment = folder / "empty", folder / "home", folder / "environment"
        for own in (self.folder, self.home):
            own.mkdir()
        venv.create(self.environment, with_pip=False, symlinks=True)
        self.python = self.environment / "bin/python"
        install = ["--python", str(self.python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
        # Without PYTHONPATH, where what is there already might be found.
        subprocess.run([sys.executable, "-m", "pip", *install], env={"PATH": "/usr/bin:/bin"}, check=True)
        # What the wheel depends on is that of the tests' own environment. A package that is installed there as editable is not.
        (site,) = self.environment.glob("lib/python3*/site-packages")
        (site / "dependencies.pth").write_text(str(importlib.metadata.distribution("snakemake").locate_file("")))

    def __call__(self, *command: str, cwd: str = "", code: int = 0, **variables: str) -> str:
        """What a command says, which must end with this code."""
        path = f"{self.environment / 'bin'}:/usr/bin:/bin"
        variables = {"HOME": str(self.home), "PATH": path, "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8", **variables}
        program = [self.environment / "bin/gt"] if command[0] == "gt" else [self.python, "-m", command[0]]
        done = subprocess.run(
            [*program, *command[1:]],
            cwd=self.folder / cwd,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == code, done.stdout[-5000:]
        return done.stdout


def wheel(folder: Path) -> Path:
    """A wheel of what git has or would have of this tree, made in a folder without the network."""
    sources, out = folder / "sources", folder / "wheel"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and not name.startswith(("results/", "tests/", "docs/")) and (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, sources / name)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(sources)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (wheel,) = out.iterdir()
    return wheel
