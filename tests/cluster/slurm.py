"""A Slurm of two nodes on this machine: Debian's daemons in namespaces of their own.

The daemons see an /etc/slurm and a network of loopback alone that nobody else has, and end with the first process of their
namespace, however that ends. It takes root, and Debian's munge, slurmctld, slurmd and slurm-client.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv", "unshare", "nsenter", "ip")
NODES = {"n1": 16821, "n2": 16822}
HOSTS = f"127.0.0.1 localhost {' '.join(NODES)}\n"
# Names must be resolved, which without an address beside loopback's they are not: one that is kept for documentation serves.
ADDRESS = "192.0.2.1/32"
CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={state}/munge.socket,cred_expire=15
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=20
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16821 CPUs=2 RealMemory=32000 Gres=gpu:1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16822 CPUs=2 RealMemory=32000 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
# What the namespaces' first process does; the daemons go into the background.
START = """
set -e
mount --bind {state}/etc /etc/slurm
mount --bind {state}/hosts /etc/hosts
hostname localhost
ip link set lo up
ip address add {address} dev lo
# By force, as others may not enter the folder of its socket; there are none.
munged --force --key-file={state}/munge.key --socket={state}/munge.socket --pid-file={state}/munged.pid \
    --log-file={state}/munged.log --seed-file={state}/munge.seed
slurmctld
slurmd -N n1
slurmd -N n2
exec sleep infinity
"""


class Cluster:
    """A Slurm that runs."""

    def __init__(self, first: int) -> None:
        """first: the process id, outside, of the first process of its namespaces."""
        self.first = first

    def inside(self, *command: str, folder: Path = Path("/")) -> list[str]:
        """A command as it is called in a folder on the cluster's login node."""
        return ["nsenter", f"--target={self.first}", "--mount", "--net", "--uts", "--pid", f"--wd={folder}", *command]

    def call(self, *command: str) -> str:
        """What a command in the cluster prints. CalledProcessError where it fails."""
        return subprocess.run(self.inside(*command), capture_output=True, text=True, check=True).stdout

    def jobs(self) -> dict[str, dict[str, str]]:
        """All jobs that Slurm remembers, by their numbers: what `scontrol show job` says of them."""
        lines = self.call("scontrol", "--oneliner", "show", "job").splitlines()
        found = [dict(part.partition("=")[::2] for part in line.split()) for line in lines if line.startswith("JobId=")]
        return {job["JobId"]: job for job in found}

    @contextmanager
    def without(self, node: str) -> Iterator[None]:
        """While this lasts, a node is as one without power: its daemon is killed, with all that it ran."""
        jobs = [number for number, job in self.jobs().items() if job.get("NodeList") == node]
        own = re.compile(rf"slurmd -N {node}$|slurmstepd: \[({'|'.join(jobs)})\.")
        processes = psutil.Process(self.first).children(recursive=True)
        roots = [process for process in processes if own.match(" ".join(process.as_dict(["cmdline"])["cmdline"] or []))]
        for process in [*roots, *(child for root in roots for child in root.children(recursive=True))]:
            process.kill()
        yield
        self.call("slurmd", "-N", node)


def missing() -> list[str]:
    """What this machine lacks of what a cluster takes."""
    return [name for name in PROGRAMS if shutil.which(name) is None] + (["root"] if os.geteuid() else [])


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a Slurm, which has its state in a folder, and end it with all that it runs."""
    for name in ("etc", "controller", *NODES):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o400)
    (folder / "etc/slurm.conf").write_text(CONFIGURATION.format(state=folder))
    (folder / "etc/gres.conf").write_text("Name=gpu File=/dev/null\n")
    (folder / "hosts").write_text(HOSTS)
    script = START.format(state=folder, address=ADDRESS)
    namespaces = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / "start.log").open("w") as log:
        # It ends with this process too.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "bash", "-c", script]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield _ready(process, folder)
    finally:
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[Any], folder: Path) -> Cluster:
    """The cluster once both its nodes are idle. RuntimeError if that takes half a minute."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(300):
        time.sleep(0.1)
        if process.poll() is not None:
            break
        if not (first := children.read_text().split()):
            continue
        found = Cluster(int(first[0]))
        listed = subprocess.run(
            found.inside("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D"), capture_output=True, text=True
        )
        if listed.stdout.strip() == str(len(NODES)):
            return found
    logs = "\n".join(f"{file.name}: {file.read_text()[-2000:]}" for file in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm does not start:\n{logs}")
