#!/usr/bin/env bash
# Two datacenters on this host, 50 ms apart: `sudo bash bash/datacenters.sh up|bench|status|down`.
# Each is a network namespace with two processes of config/datacenters.yml. `up` starts everything,
# `bench` shows how long transactions take there until they are answered and until they are durable,
# `down` ends and removes all that `up` made.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage='usage: bash bash/datacenters.sh up|bench|status|down'
(($# >= 1)) || fail "$usage"
case $1 in
  up | bench | status | down) ;;
  *) fail "$1 is unknown; $usage" ;;
esac
install_any
exec .venv/bin/python -m bench.datacenters "$@"
