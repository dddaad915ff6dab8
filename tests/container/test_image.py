"""The image of the Containerfile is built, and makes a report, in it and for jobs that Snakemake sends into it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from checkouts import Checkout
from container.images import Images
from environments import environment

pytestmark = pytest.mark.container

# As much of apptainer as Snakemake calls, for an image that is a folder, as apptainer's own may be: what runs in it sees the
# folders that are bound, and no others, and its PATH is the image's.
APPTAINER = """\
#!{python} -IS
import os, sys

match sys.argv[1:]:
    case ["--version"]:
        print("apptainer version 1.3.4")
    case ["exec", "--home", home, *options, image, shell, "-c", command]:
        binds = [home, *(after for option, after in zip(options, options[1:]) if option == "--bind")]
        bound = [word for own in binds for word in ("--bind", own, own)]
        # Where a folder is to be bound, one is made in the image, which is a container's copy.
        root = ["--bind", image, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", *bound, "--chdir", os.getcwd()]
        variables = ["--setenv", "PATH", {path!r}, "--setenv", "HOME", home]
        os.execvp("bwrap", ["bwrap", *root, *variables, shell, "-c", command])
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    missing = [tool for tool in ("buildah", "mmdebstrap", "bwrap") if shutil.which(tool) is None]
    assert not missing, f"apt-get install buildah mmdebstrap bubblewrap: there is no {', '.join(missing)}."
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def image(images: Images) -> str:
    return images.build("cpu")


def test_a_project_makes_its_report_in_the_image(images: Images, image: str) -> None:
    container = images.container(image)
    assert images.run(container, "id", "--user") == "1000"
    images.run(container, "gt", "init", "lab")
    images.run(container, "sh", "-c", "cd lab && snakemake --cores 2")
    root = Path(images.buildah("mount", container))
    report = root / "study/lab/results/studies/example/report.html"
    assert report.stat().st_uid == 1000
    assert "verdict" in report.read_text().lower()
    assert (report.parent / "report.pdf").exists()
    images.buildah("rm", container)


def test_jobs_of_a_checkout_run_in_the_image(images: Images, image: str, tmp_path: Path) -> None:
    container = images.container(image)
    root = images.buildah("mount", container)
    path = images.run(container, "printenv", "PATH")
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "apptainer").write_text(APPTAINER.format(python=sys.executable, path=path))
    (bin / "apptainer").chmod(0o755)
    checkout = Checkout(tmp_path / "c")
    checkout.study(variants=["GPT-2"], seeds=1, evaluations=[])
    (tmp_path / "scratch").mkdir()
    (checkout.folder / "results").symlink_to(tmp_path / "scratch")
    alone = environment(tmp_path / "alone", ["snakemake"])
    variables = {"PATH": f"{bin}:/usr/bin:/bin"}
    result = checkout.snakemake("--sdm", "apptainer", python=alone, variables=variables, container=root)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "scratch/studies/tiny/report.pdf").exists()
    images.buildah("rm", container)


def test_the_image_for_gpus_has_what_triton_compiles_with(images: Images) -> None:
    # Whether its torch has CUDA is the index's to say: one for CPUs may be all there is.
    container = images.container(images.build("cuda"))
    images.run(container, "python", "-c", "import pynvml, torch")
    program = "echo 'int main(void) { return 0; }' | gcc -include Python.h -I/usr/include/python3.11 -x c - -o /tmp/a && /tmp/a"
    images.run(container, "sh", "-c", program)
    images.buildah("rm", container)
