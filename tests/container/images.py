"""Images of the Containerfile, built and run by buildah on a Debian that mmdebstrap makes, in a folder of their own.

No registry is asked: the base is replaced by a Debian of the same release. All instructions are those of the file.
"""

from __future__ import annotations

import os
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

from checkouts import ROOT

BASE = "localhost/debian"


class Images:
    """Storage for images, the tools that work in it, and what pip is told on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pip = pip_settings(folder / "pip")
        rootfs = folder / "debian.tar"
        release = re.findall(r"^ARG BASE=\S+/debian:([a-z]+)-slim@", (ROOT / "Containerfile").read_text(), re.MULTILINE)[0]
        call("mmdebstrap", "--variant=minbase", "--quiet", release, str(rootfs))
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(rootfs), "/")
        self.buildah("commit", "--quiet", container, BASE)
        self.buildah("rm", container)
        rootfs.unlink()

    def buildah(self, *arguments: str, code: int = 0) -> str:
        """What a command of buildah says on its standard output, without the last line's end."""
        storage = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return call("buildah", *storage, *arguments, code=code)

    def build(self, target: str, *arguments: str) -> str:
        """Build an image of the Containerfile; returns its name."""
        name = f"localhost/groundthink:{target}"
        options = ["--isolation", "chroot", "--file", str(ROOT / "Containerfile"), "--build-arg", f"BASE={BASE}", *self.pip]
        self.buildah("build", "--quiet", *options, "--target", target, "--tag", name, *arguments, str(ROOT))
        return name

    def container(self, image: str) -> str:
        return self.buildah("from", image)

    def run(self, container: str, *command: str, code: int = 0) -> str:
        """What a command says in a container, as the image's user, in its folder and with its environment."""
        return self.buildah("run", "--isolation", "chroot", container, "--", *command, code=code)


def call(*command: str, code: int = 0) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == code, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.rstrip("\n")


def pip_settings(folder: Path) -> list[str]:
    """Options that let pip in a build know what it is told here: by files of configuration, and the paths that they name."""
    folder.mkdir(parents=True)
    known = ConfigParser(interpolation=None)
    known.read(["/etc/pip.conf", Path.home() / ".config/pip/pip.conf"])
    volumes = [f"{folder / 'pip.conf'}:/etc/pip.conf:ro"]
    for section in known.values():
        for key, value in section.items():
            for scheme, path in re.findall(r"(?<!\S)(file://)?(/\S+)", value):
                own = Path(path).parent if scheme else path  # an index has its files beside it
                volumes.append(f"{own}:/host{own}:ro")
            section[key] = re.sub(r"(?<!\S)(file://)?/", r"\1/host/", value)
    with (folder / "pip.conf").open("w") as file:
        known.write(file)
    # pytorch.org may be out of reach.
    index = ["--build-arg", f"TORCH_INDEX={os.environ['TORCH_INDEX']}"] if "TORCH_INDEX" in os.environ else []
    return [*index, *(word for volume in volumes for word in ("--volume", volume))]
