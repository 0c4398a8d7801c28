#!/usr/bin/env bash
# Set up mako for development and run every check: `bash bash/test.sh`.
# Arguments go to pytest, which then runs alone and once: `bash bash/test.sh -k occ tests/engine`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_mako '.[dev]' dev
export PATH="$PWD/.venv/bin:$PATH"
mako warmup

if (($#)); then
  exec pytest "$@"
fi

step() {
  say "$*"
  "$@"
}
step ruff check .
step ruff format --check .
step mypy
step lint-imports --no-logo

# Two processes for two cores. worksteal hands out neighbouring tests together, so that a module's
# fixtures are mostly built once, and still evens out long files.
sharded=(-n 2 --dist worksteal)
step pytest "${sharded[@]}"

# The engine once more as plain Python, and the explored interleavings, which exist only there.
interpreted=()
for folder in tests/engine tests/interpreted; do
  [[ -d $folder ]] && interpreted+=("$folder")
done
if ((${#interpreted[@]})); then
  export NUMBA_DISABLE_JIT=1
  step pytest "${sharded[@]}" "${interpreted[@]}"
fi
say "all checks passed"
