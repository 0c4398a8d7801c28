#!/usr/bin/env bash
# Set-up shared by the scripts of this folder, which source it; run one of those instead.
# Afterwards the working directory is the repository and `.venv` holds mako, installed editable.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'mako: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 2
}

# The first interpreter that is new enough and can make environments. numba lags behind new versions
# of Python, hence the upper bound.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 to 3.14 with the venv module found;" \
    "install one (Debian, Ubuntu: apt install python3-venv) or set PYTHON to its path"
}

# install_mako TARGET STAMP: `pip install -e TARGET`, unless the stamp says that it was done for
# this pyproject.toml at this place (an environment cannot be moved).
install_mako() {
  local target=$1 stamp=.venv/.mako-$2 wanted python
  wanted="$(cksum <pyproject.toml) $PWD"
  # Several scripts may start at once: one installs, the others wait for it.
  exec 9>.venv.lock
  command -v flock >/dev/null && flock 9
  # What another script has installed here stays, and only what it lacks is added.
  if [[ -e .venv/.unfinished ]] || ! grep -qsxF -- "$wanted" .venv/.mako-* ||
    ! .venv/bin/python -c '' 2>/dev/null; then
    python=$(find_python)
    "$python" -m venv --clear .venv || fail "could not create .venv with $python; see above"
  fi
  if [[ ! -x .venv/bin/mako || ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    say "installing into .venv (once; about 400 MB with numba)"
    touch .venv/.unfinished # Who finds it begins anew: this may be interrupted.
    .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable "$target" ||
      fail "the installation failed; see above, then run this script again"
    printf '%s\n' "$wanted" >"$stamp"
    rm .venv/.unfinished
  fi
  exec 9>&-
}

# The environment of the tests has all that anything else needs.
install_any() {
  if [[ -f .venv/.mako-dev ]]; then
    install_mako '.[dev]' dev
  else
    install_mako . run
  fi
}
