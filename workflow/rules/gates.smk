# Before anything is trained: what the claims of the studies can show, and what the runs take (gt/analysis/gates.py).


def print_gates():
    """On the error stream, in the main process alone. `gate: refuse` ends here, with exit code 2."""
    for study, plan in PLANS.items():
        todo = [run for run in plan.waves if ("train", run) in OUTDATED]
        if not todo or not workflow.is_main_process:
            continue
        try:
            from gt.analysis import gate_words, gates
        except ModuleNotFoundError as error:
            print(
                f"{study}: what its claims can show takes {error.name}, which is not in {sys.prefix}.",
                file=sys.stderr,
            )
            continue
        try:
            file = load_study(Path(f"config/studies/{study}.yaml"))
            found = gates.outlook(file, plan, claims_about(study), todo, GPU_PER_JOB)
        except ConfigError as error:
            stop(error)
        print(*gate_words.lines(found), sep="\n", file=sys.stderr)
        if found.refuses and found.faulty:
            what = "not trained, as its `gate: refuse` says"
            stop(gate_words.refusal(study, found.faulty, what))


print_gates()
