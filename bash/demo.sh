#!/usr/bin/env bash
# Set up mako on a bare machine and show a cluster that loses nothing: `bash bash/demo.sh`.
# Three real processes, TPC-C over two shards, a leader of one killed with -9 under load; what was
# acknowledged is looked up afterwards. Arguments are passed on: `bash bash/demo.sh --shards 1`
# is one shard, `--scale tiny` is quick.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_any
.venv/bin/mako warmup
exec .venv/bin/python -m bench.demo "$@"
