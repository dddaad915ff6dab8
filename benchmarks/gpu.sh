#!/usr/bin/env bash
# What a GPU has to show: tests of the kernels and of the engine, and how fast they are, in at most nine minutes on 16 cores.
# Run from the repository root, in an environment that has what `gt` needs: OUT=some/folder benchmarks/gpu.sh [PART[:SECONDS] ...]
# Other parts are `accounting` and the other comparisons of `gt bench`: for speed alone `peers:430 step:100`, `alone:530`, and
# `sizes:530`, which goes on where the published file ends. Each has a time of its own (PART:SECONDS gives another) and writes
# a log; what is cut off has left what it had measured.
set -u
out=${OUT:-results/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
# Empty at first, so that what starts cold says so; then shared by all parts.
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$(mktemp -d)}" TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$(mktemp -d)}"
export MAMBA_DETERMINISTIC=1
results=()

part() { # name, seconds, command ...
    local name=$1 seconds=$2 begin=$SECONDS
    shift 2
    echo "=== $name"
    timeout --kill-after=5 "$seconds" "$@" >"$out/$name.log" 2>&1
    local code=$?
    results+=("$(printf '%-14s exit %3d %4d s  %s' "$name" $code $((SECONDS - begin)) "$(grep -v '^$' "$out/$name.log" | tail -n 1 | cut -c 1-240)")")
    tail -n 40 "$out/$name.log"
}

for entry in ${*:-kernels:195 engine:130 models:75 stacks:140}; do
    name=${entry%%:*}
    seconds=${entry#"$name"}
    seconds=${seconds#:}
    seconds=${seconds:-90}
    case $name in
    kernels) part kernels "$seconds" "$python" -m pytest -q -m gpu --numprocesses 14 --dist worksteal tests/gpu --ignore=tests/gpu/test_engine.py --durations=5 ;;
    engine) part engine "$seconds" "$python" -m pytest -q -m gpu --numprocesses 12 tests/gpu/test_engine.py --durations=5 ;;
    accounting) part accounting "$seconds" "$python" benchmarks/accounting.py "$out/accounting.json" ;;
    *)
        [ "$name" = sizes ] && cp -n results/published/bench/h200-sizes.json "$out/sizes.json" 2>/dev/null
        # two thirds of the time to start candidates, so that those which did can be measured
        part "$name" "$seconds" "$python" -m gt bench "$name" --device cuda --rounds 5 --seconds $((seconds * 2 / 3)) --out "$out/$name.json"
        ;;
    esac
done

echo
printf '%s\n' "${results[@]}" | tee "$out/summary.txt"
