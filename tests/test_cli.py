"""What the command line understands, says and refuses, whatever a command then does."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gt.cli import app, main
from gt.cli.app import examples

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(examples)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and the one line on the error stream."""
    code = main(arguments)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("gt: ") and printed.err.count("\n") == 1
    return code, printed.err.removeprefix("gt: ").rstrip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pakc", "unknown command 'pakc'. Did you mean 'pack'? See `gt --help`."),
        ("--versoin", "unknown option --versoin. Did you mean '--version'? See `gt --help`."),
        ("figures --study s --jbos 2", "unknown option --jbos. Did you mean '--jobs'? See `gt figures --help`."),
        ("figures --stduy s", "unknown option --stduy. Did you mean '--study'? See `gt figures --help`."),
        ("figures", "--study: it is missing. See `gt figures --help`."),
        ("plan", "STUDY: it is missing. See `gt plan --help`."),
        ("figures --study s --jobs", "--jobs: a value is missing. See `gt figures --help`."),
        ("rebuild --templates t --published", "--published: a value is missing. See `gt rebuild --help`."),
        ("figures --study s --jobs x", "--jobs: x is not allowed. Allowed: whole numbers from 1. See `gt figures --help`."),
        ("figures --study s --jobs 1 --jobs 2", "--jobs: it is given twice. See `gt figures --help`."),
        (
            "probe --run r --data d --device gpu",
            "--device: gpu is not allowed. Did you mean 'cpu'? Allowed: auto, cpu, cuda. See `gt probe --help`.",
        ),
        (
            "claims jugde",
            "ACTION: jugde is not allowed. Did you mean 'judge'? Allowed: check, judge, list, register."
            " See `gt claims --help`.",
        ),
        ("plan a.yaml b.yaml --out p", "unexpected b.yaml. See `gt plan --help`."),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *arguments.split()) == (2, message)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_one_that_it_understands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, command, *arguments = shlex.split(examples[name])
    assert (program, command) == ("gt", name)
    app.parse_args([command, *arguments])  # raises for what it does not understand
    assert main([name, "--help"]) == 0
    help_ = capsys.readouterr().out
    assert shlex.split(help_.split("Example:")[1].replace("\\\n", "")) == shlex.split(examples[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_explains_every_option(name: str) -> None:
    for argument in app[name].assemble_argument_collection():
        assert argument.children or argument.parameter.help, (name, argument.name)


def test_the_help_shows_every_command_in_a_group_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    shown = [match[1] for line in lines if (match := re.match(r"  ([a-z][a-z-]*)  +\S", line))]
    assert sorted(shown) == COMMANDS  # each once, its text on the same line: a text that wraps begins without a name
    assert all(len(line) <= 80 for line in lines)


def test_options_take_several_values_up_to_the_next_option() -> None:
    line = (
        "pack --plans a b c --run x y --data d --runs r --staged s --checkpoints c --attempts t --out o --measuring 3"
        " --checkpoint-seconds 0.5 --device cpu --threads 2"
    )
    bound = app.parse_args(line.split())[1].arguments
    assert bound["plans"] == [Path("a"), Path("b"), Path("c")]
    assert (bound["run"], bound["measuring"]) == (["x", "y"], 3)
    training = bound["training"]
    assert (training.checkpoint_seconds, training.device, training.threads, training.recompute) == (0.5, "cpu", 2, "")


def test_evaluations_may_be_none_as_the_workflow_gives_them() -> None:
    bound = app.parse_args(["evaluate", "--run", "r", "--data", "d", "--evaluations", "--device", "cpu"])[1].arguments
    assert bound["evaluations"] == []


def test_every_call_of_the_workflow_is_understood() -> None:
    """The shell commands of the rules, with one word or two for each wildcard."""
    calls = []
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in re.findall(r"shell:\n((?:\s+\".*\"\n)+)", file.read_text()):
            calls += re.findall(r"\bgt [^>;]*", "".join(re.findall(r'"(.*)"', block)))
    assert len(calls) >= 9
    for call in calls:
        filled = re.sub(r"\{threads\}|\{resources\.(measuring_jobs|checkpoint_seconds)\}", "1", call)
        filled = re.sub(r"\{resources\.device\}", "cpu", filled)
        app.parse_args(shlex.split(re.sub(r"\{[^}]*\}", "word", filled))[1:])


def test_an_interrupted_command_says_nothing_and_exits_as_shells_do() -> None:
    code = (
        "import os, signal, sys\n"
        "from gt.cli import app, main\n"
        "@app.command\n"
        "def wait():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
        "sys.exit(main(['wait']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (130, "")


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "gt", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (-signal.SIGPIPE, "")


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program `gt` in it, of this checkout."""
    program = tmp_path_factory.mktemp("bin") / "gt"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gt "$@"\n')
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["why", "C-P2-0"], {f"C-P2-0{n}" for n in range(1, 6)}),
        (["match", "GF", "GF-MH-c"], {"GF-MH-cuda"}),
        (["show", "fusion", "gat"], {"gated"}),
        (["probe", "--dev"], {"--device", "--devices"}),
        (["probe", "--device", "c"], {"cpu", "cuda"}),
        (["comp"], {"compare", "completion"}),
    ],
)
def test_bash_completes_commands_options_and_names(
    words: list[str], offered: set[str], gt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (gt / "script").write_text(capsys.readouterr().out)
    line = shlex.join(["gt", *words])
    code = f'source {gt}/script; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _gt; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environment = os.environ | {"PATH": f"{gt}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert {reply.strip() for reply in result.stdout.splitlines()} == offered


@pytest.mark.parametrize(("shell", "first"), [("zsh", "#compdef gt"), ("fish", "# Fish completion for gt")])
def test_other_shells_have_their_scripts(shell: str, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script.splitlines()[0] == first
    assert all(name in script for name in COMMANDS)


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = said(capsys, "completion", "tcsh")
    assert code == 2 and message.startswith("SHELL: tcsh is not allowed. Allowed: bash, fish, zsh.")


def test_the_page_of_all_commands_has_each_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference"]) == 0
    page = capsys.readouterr().out
    sections = dict(re.findall(r"^### gt ([\w-]+)[^\n]*\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == COMMANDS
    for name, text in sections.items():
        options = {argument.name for argument in app[name].assemble_argument_collection() if not argument.children}
        assert options == set(re.findall(r"^\| `([\w-]+)`", text, re.MULTILINE)), name
