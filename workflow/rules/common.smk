# What the rules need to know: the studies' plans, and where a run finds its parts.

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.sourcecache import LocalSourceFile


def stop(message):
    """Say what is wrong, and end with the exit code of bad input."""
    print(message, file=sys.stderr)
    sys.exit(2)


# This file's folder, not `workflow.basedir`: a workflow that has this one as a module is elsewhere.
RULES = workflow.current_basedir
if not isinstance(RULES, LocalSourceFile):
    stop(
        "GroundThink's rules run the code beside them: install groundthink, or clone the repository, and let `snakefile:` be"
        " the path of its workflow/Snakefile."
    )
# A checkout, or the installed package.
ROOT = Path(RULES).resolve().parents[1]
INSTALLED = (ROOT / "__init__.py").exists()
if not INSTALLED:
    # This checkout's `gt`, whatever is installed: the fingerprints must be of the code that the jobs run.
    sys.path.insert(0, str(ROOT))


def stop_without(package):
    """Planning happens in Snakemake's own environment, which with --use-conda or --sdm apptainer is not that of the jobs."""
    whole = "groundthink" if INSTALLED else f"-e {shlex.quote(str(ROOT))}"
    stop(
        f"There is no {package} in {sys.prefix}, where Snakemake runs. For it and for the jobs: pip install {whole}. With"
        " --use-conda or --sdm apptainer jobs have an environment of their own, and planning needs no more than: pip install"
        " pydantic pyyaml numpy"
    )


try:
    from gt import devices, preflight, stage, store
    from gt.analysis import registration
    from gt.analysis.claims import check_planned, load_arms, load_claims
    from gt.documents import read_yaml
    from gt.errors import ConfigError, nearest
    from gt.grouping import packs
    from gt.records import atomic_write
    from gt.artefacts import read_run
    from gt.decided import Decided
    from gt.shared import linked, templates
    from gt.wanted import wanted
    from gt.study import checked_plan, dumps, load_study, names_asked_for, study_file
except ModuleNotFoundError as error:
    stop_without(error.name)

# What a configuration can set, and what a setting is that it leaves out; `study` has to be there.
SETTINGS = {
    "study": None,
    "device": "auto",
    "pack_size": "auto",
    "jobs_per_gpu": 1,
    "measuring_jobs": 1,
    "checkpoint_seconds": 60,
    "mlflow_uri": "sqlite:///results/mlflow.db",
    "container": "groundthink.sif",
    "store": "none",
}
COUNTS = {
    "pack_size": "runs one job trains",
    "jobs_per_gpu": "jobs share a GPU",
    "measuring_jobs": "processes measure what a pack has trained",
}
# Where jobs have an environment of their own, Snakemake's may be a small one.
SEPARATE = {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}
COMPLETE = find_spec("torch") is not None
DEVICES = ["auto", "cpu", "cuda"]
RUNS, DATA = Path("results/runs"), Path("results/data")
LARGEST_PACK = 32  # unless a configuration says so


def without_conda_if_there_is_none():
    """--use-conda on a machine without conda: say so, and run in the active environment."""
    settings = workflow.deployment_settings
    if (
        DeploymentMethod.CONDA in settings.deployment_method
        and shutil.which("conda") is None
    ):
        print(
            "There is no conda on this machine; running in the active environment instead.",
            file=sys.stderr,
        )
        settings.deployment_method = settings.deployment_method - {
            DeploymentMethod.CONDA
        }


def image():
    """The image that jobs run in with --sdm apptainer; None without it.

    Of the image are Python and the packages. The folders that jobs work on, and the `gt` that was planned with, they see as here.
    """
    settings, name = workflow.deployment_settings, str(config["container"])
    if DeploymentMethod.APPTAINER not in settings.deployment_method:
        return None
    if DeploymentMethod.CONDA in settings.deployment_method:
        stop(
            "The image has what conda would install: let --sdm be apptainer alone, or conda."
        )
    if "://" not in name and not Path(name).exists():
        stop(
            f"config: container: there is no {name}. Of the Containerfile it is made by\n"
            "  podman build --target cpu --tag groundthink . && podman save --output groundthink.tar groundthink\n"
            "  apptainer build groundthink.sif docker-archive:groundthink.tar"
        )
    folders = [Path("results").resolve()]
    folders += [link.readlink() for link in CODE.iterdir()] if INSTALLED else [CODE]
    if texts := os.environ.get("GT_CORPUS_DIR"):
        folders.append(Path(texts).absolute())
    if config["store"] != "none" and "://" not in str(config["store"]):
        folders.append(Path(str(config["store"])).absolute().parent)
    binds = [f"--bind {shlex.quote(str(folder))}" for folder in sorted(folders)]
    wanted = " ".join(["--nv", *binds] if GPU_PER_JOB else binds)
    # A job that is sent elsewhere is given them, and reads these rules itself.
    if wanted not in settings.apptainer_args:
        settings.apptainer_args += f" {wanted}"
    return name


def plan_study(name, file):
    """A study's plan; `file` has that of an earlier call. Its models are built for a check, which takes torch.

    Where jobs have torch and Snakemake has not, a model that cannot be built fails in its job.
    """
    path = Path(f"config/studies/{name}.yaml")
    known = decided(name)
    if SEPARATE & workflow.deployment_settings.deployment_method and not COMPLETE:
        return load_study(path).plan(known)
    return checked_plan(path, file, known)


def decided(study):
    """What a study's runs that tune, and the looks at its claims, have decided so far."""
    return Decided(Path("results"), study, claims_about(study))


def settled(study):
    """A study's plan once nothing of it is left to decide. Until then, whatever asks for it waits for what decides."""
    while waits := waits_for(study):
        kind, name = waits
        getattr(checkpoints, kind).get(study=study, name=name)
        path = Path(f"config/studies/{study}.yaml")
        PLANS[study] = load_study(path).plan(decided(study))
        write_plan(Path(f"results/studies/{study}/plan.json"), PLANS[study])
        know_runs()
        runs = PLANS[study].waves
        OUTDATED.update((job, run) for run in runs for job in outdated_of_run(run))
        if waits_for(study) == waits:
            raise WorkflowError(f"{study}: what decides of its runs is not current.")
    return PLANS[study]


def settled_studies(wildcards):
    """Nothing, once the plans of all studies are settled.

    Snakemake runs no checkpoint for the sake of files that are there already, however outdated; for `all` it does.
    """
    for study in STUDIES:
        settled(study)
    return []


def waits_for(study):
    """The checkpoint that a study's plan waits for, and its name, which is that of its runs; None where it is settled."""
    plan = PLANS[study]
    if plan.tuning:
        runs = "\n".join(sorted(plan.trials))
        return "tune", hashlib.sha256(runs.encode()).hexdigest()[:10]
    if plan.next_look:
        return "look", decided(study).look(plan.next_look, sorted(plan.runs)).stem
    return None


def evaluations_of_trials(wildcards):
    """What the runs that tune were measured at."""
    trials = sorted(PLANS[wildcards.study].trials)
    return [f"results/runs/{run}/evaluations/held_out.json" for run in trials]


def measured_so_far(wildcards):
    """The files of measurements of every run that a study has asked for so far."""
    return [file for run in PLANS[wildcards.study].waves for file in measured(run)]


def measured_of_run(wildcards):
    return measured(wildcards.run)


def measured(run):
    """A file of each kind of measurement that is wanted of a run."""
    names = ["evaluations/held_out.json"] + ["probes.json"] * WANTED[run].probed
    return [f"results/runs/{run}/{name}" for name in names]


def claims_about(study):
    """The folder of the claims about a study: they stand in the configuration that has the study, as installed ones do."""
    return study_file(Path(f"config/studies/{study}.yaml")).parents[1] / "claims"


def study_names():
    """The studies that the configuration names, once the configuration is known to be right."""
    for file in workflow.configfiles:
        # Snakemake keeps the last of a key that stands twice.
        read_yaml(Path(file))
    for key in config:
        if key not in SETTINGS:
            raise ConfigError(f"config: unknown key {key!r}.{nearest(key, SETTINGS)}")
    for key in SETTINGS:
        if config.get(key) in (None, "", []):
            raise ConfigError(f"config: {key} is not set; see config/config.yaml.")
    if (device := config["device"]) not in DEVICES:
        raise ConfigError(
            f"config: device: unknown device {device!r}.{nearest(device, DEVICES)}"
        )
    if SENT and device == "auto":
        raise ConfigError(
            "config: device: 'auto' looks at this machine, and the jobs run on others. Say what they ask for: --config"
            " device=cuda or --config device=cpu."
        )
    for key, meaning in COUNTS.items():
        count, automatic = config[key], SETTINGS[key] == "auto"
        if type(count) is int and count > 0 or automatic and count == "auto":
            continue
        allowed = f"{'auto, or ' if automatic else ''}how many {meaning}, from 1."
        raise ConfigError(
            f"config: {key}: {count!r} is not allowed. Allowed: {allowed}"
        )
    if (
        not isinstance(seconds := config["checkpoint_seconds"], int | float)
        or not seconds > 0
    ):
        raise ConfigError(
            f"config: checkpoint_seconds: {seconds!r} is not allowed. Allowed: seconds above 0."
        )
    try:
        return names_asked_for(config["study"], Path("config/studies"))
    except ConfigError as error:
        raise ConfigError(f"config: {error}") from None


def load_plans():
    """The plan of each study, also written to results/studies/, once it is known that its jobs can do their work.

    Bad input, claims included, is one message and exit code 2. A dry run writes them too, where they differ: what is current is
    decided by what stands there, and Snakemake wants to see the files that no rule makes.
    """
    try:
        files = {
            name: Path(f"results/studies/{name}/plan.json") for name in study_names()
        }
        plans = {name: plan_study(name, file) for name, file in files.items()}
        # A job of a workflow that has begun has been through this.
        if workflow.is_main_process:
            for study in plans:
                claims = claims_about(study)
                check_planned(
                    load_claims(claims), load_arms(claims), {study: plans[study]}
                )
                registration.read(claims)
            preflight.check_tracking(config["mlflow_uri"])
        gpus = None if SENT else GPUS
        preflight.check(plans.values(), config["device"], config["mlflow_uri"], gpus)
    except ConfigError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop_without(error.name)
    for name, file in files.items():
        write_plan(file, plans[name])
    return plans


def write_plan(file, plan):
    """Keep a plan where it differs from what is there."""
    text = dumps(plan).encode()
    if not file.exists() or file.read_bytes() != text:
        with atomic_write(file) as temporary:
            temporary.write_bytes(text)


def load_packs():
    """The runs of each pack, by its name.

    auto: of each text at least as many packs as run at once, a core or a place on a GPU each. Nothing is known of machines that
    jobs are sent to, nor, there, of this one: each run is a job of its own.
    """
    size, at_once = config["pack_size"], 1
    if size == "auto":
        places = (
            GPUS * config["jobs_per_gpu"]
            if GPU_PER_JOB
            else workflow.resource_settings.cores
        )
        size, at_once = (1, 1) if SENT else (LARGEST_PACK, places or 1)
    if size == 1:
        return {}
    return packs(PLANS.values(), size, at_once, together=bool(GPU_PER_JOB))


def know_runs():
    """Have at hand what rules look up of runs. What was known stays: later runs are in packs of their own."""
    for plan in PLANS.values():
        ASKED_FOR.update({run: plan.runs[run] for run in plan.waves})
    WANTED.update(wanted(PLANS.values()))
    take_from_store()
    PACKS.update(load_packs())
    PACK_OF_RUN.update({run: pack for pack, runs in PACKS.items() for run in runs})


def open_store():
    """The store of finished records that the configuration names, and the runs that it has; None and nothing without one."""
    if workflow.storage_settings.default_storage_provider is not None:
        stop(
            "--default-storage-provider brings only files that rules name, and a record has more. Let the records be kept"
            f" elsewhere: --config store={workflow.storage_settings.default_storage_prefix or 's3://bucket/folder'}"
        )
    if config["store"] == "none" or not workflow.is_main_process:
        return None, set()
    try:
        opened = store.Store(str(config["store"]))
        return opened, opened.runs()
    except ConfigError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop_without(error.name)


def take_from_store():
    """Have the records that the store has and this machine has not."""
    for run in sorted(ASKED_FOR.keys() & KEPT):
        if (RUNS / run / "manifest.json").exists():
            continue
        try:
            STORE.get(RUNS.parent, run)
            store.write_note(RUNS.parent, run, STORED / run)
        except ConfigError as error:
            print(f"{error}\n{run} is made again.", file=sys.stderr)


def kept_records(wildcards):
    """The notes of a store's copies, of the runs that are known so far."""
    return [f"{STORED}/{run}" for run in sorted(ASKED_FOR) if STORE is not None]


def search(**folders):
    """Let jobs look into these folders before others, by the environment variables that name them."""
    for variable, folder in folders.items():
        others = os.environ.get(variable)
        os.environ |= {variable: f"{folder}:{others}" if others else str(folder)}


def limit_gpus():
    """Let no more jobs with a GPU run at once than this machine's GPUs have places, or than --resources gpu=N allows."""
    if GPUS and workflow.local_exec:
        limits, places = workflow.global_resources, GPUS * config["jobs_per_gpu"]
        asked = limits["gpu"].value if "gpu" in limits else places
        workflow.register_resource("gpu", min(places, asked))


config = {**SETTINGS, **config}
# Whether jobs run on other machines than the one that plans, or this is one of those: --jobs is given, and not --cores. What a
# job asks for is then decided by the configuration alone, and a scheduler has given it its GPU.
SENT = workflow.remote_exec or workflow.resource_settings.nodes is not None
GPUS = 0 if SENT else len(devices.visible())
without_conda_if_there_is_none()
# `python -m gt` in a job is the Python that Snakemake runs in, activated or not, and the `gt` that these rules came with; under
# --use-conda it is the rule's Python, and PYTHONPATH is let through; so does apptainer, whose image has a PATH of its own.
workflow.deployment_settings.conda_not_block_search_path_envvars = True
search(PATH=Path(sys.executable).parent)
CODE = ROOT
if INSTALLED and SEPARATE & workflow.deployment_settings.deployment_method:
    CODE = linked(Path(".snakemake/groundthink")).resolve()
if CODE != ROOT or not INSTALLED:
    search(PYTHONPATH=CODE)
# The packages of a user's own site would come before those of the jobs' environment.
os.environ |= {"PYTHONNOUSERSITE": "1"}
PLANS = load_plans()
limit_gpus()
STUDIES = list(PLANS)
TEMPLATES = templates()
GPU_PER_JOB = int(config["device"] == "cuda" or config["device"] == "auto" and GPUS > 0)


container: image()


STORE, KEPT = open_store()
# Notes of what a store has, a folder for each.
STORED = (
    Path("results/stored")
    / hashlib.sha256(str(config["store"]).encode()).hexdigest()[:10]
)
# The runs that can be made now; what is wanted of all; those that one job trains, evaluates and probes, without packs none; each run's.
ASKED_FOR, WANTED, PACKS, PACK_OF_RUN = {}, {}, {}, {}
know_runs()
# Whether a run's own jobs only fetch what its pack has made.
FETCHED = SENT and bool(PACKS)
# What a job calls `gt`. What fails by chance is tried once more, and what is refused (exit code 2) or stopped by hand is not.
# What is sent is sent once more instead (`retries`): a call that fails ends its job. SIGTERM, which reaches all processes of a
# job, ends the shell no sooner than what saves its work.
shell.prefix(
    'trap : TERM; gt() {{ python -m gt "$@" || exit; }}; '
    if SENT
    else 'gt() {{ python -m gt "$@" || case $? in 2 | 130) false ;; *) python -m gt "$@" ;; esac; }}; '
)


wildcard_constraints:
    study="|".join(map(re.escape, STUDIES)),
    run="[^/]+",
    pack="[^/]+",
    corpus="[^/]+",
    tokenizer="[^/]+",


def plan_naming(kind, name):
    """The plan.json of the first study that has this corpus, tokenizer or run."""
    for study, plan in PLANS.items():
        if name in getattr(plan, kind):
            return f"results/studies/{study}/plan.json"
    raise WorkflowError(f"{', '.join(STUDIES)}: there is no {name!r} among the {kind}.")


def plan_of_corpus(wildcards):
    return plan_naming("corpora", wildcards.corpus)


def plan_of_tokenizer(wildcards):
    return plan_naming("tokenizers", wildcards.tokenizer)


def plan_of_run(wildcards):
    return plan_naming("runs", wildcards.run)


def data_of(run):
    """The folder of the tokens that a run is trained on."""
    spec = ASKED_FOR[run]
    return f"results/data/{spec.corpus.id}/{spec.tokenizer.id}"


def tokens_of_run(wildcards):
    return [tokens_naming(wildcards.run)]


def tokens_naming(run):
    """The tokens.json that a run is trained on."""
    return f"{data_of(run)}/tokens.json"


def tokens_that_are_there(wildcards):
    """So that what is damaged of them is made again; those that were removed are made where a run needs them."""
    folders = {data_of(run) for run in ASKED_FOR}
    return [
        f"{f}/tokens.json" for f in sorted(folders) if os.path.exists(f"{f}/made-of")
    ]


def evaluations_of_run(wildcards):
    """All that is evaluated of a run, for all studies. It may have been trained already, and followed in another way."""
    run, own = wildcards.run, WANTED[wildcards.run]
    stays = ("train", run) not in OUTDATED
    return own.evaluations(read_run(RUNS / run)[0] if stays else own.looks[0])


def made_in_pack(job, run):
    """The files that a run's pack has made of what one of the run's own jobs is to make; none where it has failed."""
    staged, data = Path("results/staged") / run, Path(data_of(run))
    return stage.made(staged, WANTED[run], data).get(job, [])


def fetching(job):
    """A parameter of a run's job: the command that fetches what the run's pack has made, and fails where there is nothing."""

    def command(wildcards):
        if not PACKS:
            return "false"
        run = wildcards.run
        folders = f"results/staged/{run}", f"results/runs/{run}"
        fetch = shlex.join(
            ["python", "-m", "gt.fetch", *folders, *made_in_pack(job, run)]
        )
        if not SENT:
            return fetch
        # It runs where jobs are sent from, which is no place to train.
        failed = f"{run}: failed in its pack, which has said why in logs/pack/{PACK_OF_RUN[run]}.log."
        return f"{{ {fetch} || {{ echo {shlex.quote(failed)}; exit 1; }}; }}"

    return command


def gpus_to(job):
    """How many GPUs a run's job asks for. To fetch what a pack has made takes none; but what failed there, it tries alone."""

    def gpus(wildcards):
        if PACKS:
            pack = Path(f"results/packs/{PACK_OF_RUN[wildcards.run]}.json")
            if not pack.exists() or made_in_pack(job, wildcards.run):
                return 0
        return GPU_PER_JOB

    return gpus


def pack_of_run(wildcards):
    """The file that says that a run's pack is done, where there are packs."""
    return expand(
        "results/packs/{pack}.json", pack=[PACK_OF_RUN[wildcards.run]] if PACKS else []
    )


def runs_of_pack(wildcards):
    return PACKS[wildcards.pack]


def plans_of_pack(wildcards):
    """The plans that have runs of a pack, in their order."""
    runs = set(PACKS[wildcards.pack])
    return [
        f"results/studies/{study}/plan.json"
        for study, plan in PLANS.items()
        if runs & plan.runs.keys()
    ]


def tokens_of_pack(wildcards):
    return tokens_naming(PACKS[wildcards.pack][0])


def folder_of_output(wildcards, output):
    return os.path.dirname(output[0])


def folder_of_figures(wildcards, output):
    return os.path.dirname(output.folder)


def data_of_run(wildcards):
    return data_of(wildcards.run)


def data_of_pack(wildcards):
    return data_of(PACKS[wildcards.pack][0])


def measured_of_runs(wildcards):
    """The files of measurements of every run of a study that is to be made or measured.

    What reads the records finds the others by the plan. So what Snakemake goes through grows with what there is to do, and not
    with the study; of all runs it is asked for by name, or where it only says how things are made.
    """
    runs = settled(wildcards.study).runs
    every = workflow.execution_settings is None or is_forced()
    return [file for run in runs if every or is_outdated(run) for file in measured(run)]


def is_outdated(run):
    """Whether there is anything to do of a run."""
    return any((job, run) in OUTDATED for job in ("train", "evaluate", "probe"))


def is_forced():
    """Whether the call names what is to be made, current or not."""
    asked = workflow.dag_settings
    return bool(asked.forceall or asked.forcerun)


def claim_folder(wildcards):
    return claims_about(wildcards.study)


def claims_of_study(wildcards):
    """The files of the claims about a study, and of their registrations."""
    return sorted(map(str, claims_about(wildcards.study).glob("*.*")))


def own_text(wildcards):
    """The file or folder behind a `file:` corpus."""
    return [
        plan.corpus_files[wildcards.corpus]
        for plan in PLANS.values()
        if wildcards.corpus in plan.corpus_files
    ][:1]


def own_tokenizer(wildcards):
    """The tokenizer.json behind a tokenizer that is a file."""
    return [
        plan.tokenizer_files[wildcards.tokenizer]
        for plan in PLANS.values()
        if wildcards.tokenizer in plan.tokenizer_files
    ][:1]


def write_partial_reports():
    """After a failure: a report of what there is, which names what is missing. The next complete run replaces it."""
    # What failed in a pack is tried again in a pack.
    shutil.rmtree("results/packs", ignore_errors=True)
    templates = shlex.quote(str(TEMPLATES))
    uri = shlex.quote(config["mlflow_uri"])
    for study in STUDIES if COMPLETE else []:
        folder = f"results/studies/{study}"
        records = f"--plan {folder}/plan.json --runs results/runs"
        claims = shlex.quote(str(claims_about(study)))
        for name, command in {
            "aggregate": f"aggregate {records} --out {folder}",
            "claims": f"claims judge --study {folder} --claims {claims}",
            "figures": f"figures --study {folder}",
            "report": f"report --study {folder} --claims {claims} --templates {templates}",
            "track": f"track {records} --uri {uri} --out {folder}/tracking.json",
        }.items():
            note = f"--note {folder}/made-of/{name}"
            subprocess.run(f"python -m gt {command} {note}", shell=True)
        subprocess.run(f"python -m gt summary --study {folder}", shell=True)
    print(
        "Some jobs failed. Logs: logs/<rule>/. Run the same command again to retry them.",
        file=sys.stderr,
    )
