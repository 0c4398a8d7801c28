#!/usr/bin/env bash
# Set up mako on a bare machine and run TPC-C on it: `bash bash/demo.sh`.
# Arguments are passed on: `bash bash/demo.sh --seconds 30 --rate 10000`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_any
.venv/bin/mako warmup

# One warehouse per worker, and no more workers than cores: two are enough to see.
workers=$(.venv/bin/python -c 'import os; print(min(2, os.cpu_count() or 1))')
exec .venv/bin/mako bench tpcc run --scale spec --warehouses "$workers" --workers "$workers" \
  --seconds 10 --report results/demo "$@"
