"""Environments smaller than that of the tests, a conda that makes one, an apptainer that runs in one."""

from __future__ import annotations

import importlib.metadata
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

CONDA = """\
#!{python} -IS
# As much of conda as Snakemake calls. An environment is one that sees the packages of the tests, and says who used it.
import json, sys, venv
from pathlib import Path

match sys.argv[1:]:
    case ["info", "--json"]:
        print(json.dumps({{"conda_prefix": {prefix!r}, "platform": "linux-64"}}))
    case ["--version"]:
        print("conda 26.7.1")
    case ["config", *_]:
        print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
    case ["env", "create", *_, "--prefix", folder]:
        venv.create(folder, system_site_packages=True, symlinks=True)
        (site,) = Path(folder).glob("lib/python3*/site-packages")
        (site / "tests.pth").write_text({packages!r})
        # A line of a .pth file is run, by some Pythons twice. A sitecustomize may be there already, as Debian's Python has one.
        (site / "used.pth").write_text(
            "import sys; hasattr(sys, 'used') or (setattr(sys, 'used', True),"
            " open(sys.prefix + '/used', 'a').write(' '.join(sys.orig_argv) + '\\\\n'))\\n"
        )
"""

APPTAINER = """\
#!{python} -IS
# As much of apptainer as Snakemake calls. An image is a file that names the folder of its Python. What runs in it sees the
# folders of this machine, bound or not, so each call is kept.
import json, os, sys
from pathlib import Path

match sys.argv[1:]:
    case ["--version"]:
        print("apptainer version 1.3.4")
    case ["exec", "--home", home, *options, image, shell, "-c", command]:
        with open({calls!r}, "a") as file:
            file.write(json.dumps({{"home": home, "options": options, "command": command}}) + "\\n")
        path = Path(image).read_text() + ":/usr/bin:/bin"
        os.execvpe(shell, [shell, "-c", command], {{**os.environ, "PATH": path, "HOME": home}})
"""


def apptainer(folder: Path) -> Path:
    """An `apptainer` in `folder/bin`, which is returned; `folder/calls` has a line of JSON for each command it has run."""
    bin = folder / "bin"
    bin.mkdir(parents=True)
    (bin / "apptainer").write_text(APPTAINER.format(python=sys.executable, calls=str(folder / "calls")))
    (bin / "apptainer").chmod(0o755)
    return bin


def conda(folder: Path) -> Path:
    """A `conda` in `folder/bin`, which is returned, with the `activate` beside it."""
    bin = folder / "bin"
    bin.mkdir(parents=True)
    packages = str(Path(importlib.metadata.distribution("snakemake").locate_file("")))
    (bin / "conda").write_text(CONDA.format(python=sys.executable, prefix=str(folder), packages=packages))
    (bin / "conda").chmod(0o755)
    (bin / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    return bin


def environment(folder: Path, requirements: Iterable[str]) -> Path:
    """The Python of an environment that has these distributions and what they require, and nothing else."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for distribution in required(requirements):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(distribution.locate_file(name)))
    return folder / "bin/python"


def required(requirements: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """The distributions that satisfy some requirements, with all that they require in turn."""
    found: dict[tuple[str, str], importlib.metadata.Distribution] = {}
    waiting = [(text, "") for text in requirements]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in found:
                distribution = importlib.metadata.distribution(requirement.name)
                found[requirement.name, wanted] = distribution
                waiting += [(inner, wanted) for inner in distribution.requires or ()]
    return list(found.values())
