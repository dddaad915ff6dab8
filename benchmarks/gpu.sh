#!/usr/bin/env bash
# What a GPU has to show: tests of the kernels and of the engine, and how fast they are, in at most nine minutes.
# Run from the repository root, in an environment that has what `gt` needs: OUT=some/folder benchmarks/gpu.sh [PART ...]
# Each part has a time of its own and writes a log; whatever is cut off has left what it had measured until then.
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
    results+=("$(printf '%-14s exit %3d %4d s  %s' "$name" $code $((SECONDS - begin)) "$(grep -v '^$' "$out/$name.log" | tail -n 1 | cut -c 1-110)")")
    tail -n 40 "$out/$name.log"
}

parts=${*:-kernels ops engine models stacks cohorts}
for name in $parts; do
    case $name in
    kernels) part kernels 150 "$python" -m pytest -q -m gpu tests/gpu/test_kernels.py --durations=5 ;;
    engine) part engine 120 "$python" -m pytest -q -m gpu tests/gpu/test_engine.py --durations=5 ;;
    ops) part ops 60 "$python" -m gt bench ops --device cuda --rounds 5 --out "$out/ops.json" ;;
    *) part "$name" 75 "$python" -m gt bench "$name" --device cuda --rounds 5 --seconds 50 --out "$out/$name.json" ;;
    esac
done

echo
printf '%s\n' "${results[@]}" | tee "$out/summary.txt"
