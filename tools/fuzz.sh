#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 600) from its seeds. Exits non-zero on a finding.
#   tools/fuzz.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -gt 0 ] && shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(cd build/fuzz/bin && ls fuzz_* | grep -v '\.'))
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  seeds=()
  [ -d "fuzz/seeds/${target#fuzz_}" ] && seeds=("fuzz/seeds/${target#fuzz_}")
  printf '%s ' "$target"
  # A finding must end the run even where the fuzzer's own report of it hangs.
  if ! timeout -k 5 $((seconds + 60)) "build/fuzz/bin/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=20 -max_len=65536 \
      -artifact_prefix="build/fuzz/$target-" "$corpus" "${seeds[@]}" >"build/fuzz/$target.log" 2>&1; then
    tail -40 "build/fuzz/$target.log"
    echo "$target: FAILED"
    exit 1
  fi
  grep -E '^Done|stat::number' "build/fuzz/$target.log" || tail -1 "build/fuzz/$target.log"
done
