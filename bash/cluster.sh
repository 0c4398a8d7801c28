#!/usr/bin/env bash
# All processes of a configuration on this host: `bash bash/cluster.sh up|status|down -f FILE ...`.
# `up` starts them and shows what they say, each line with the name of its process, until it is
# interrupted; then it ends them. `--detach`: it returns instead, and logs go to the data folder.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage='usage: bash bash/cluster.sh up|status|down -f FILE [-f FILE ...] [--detach]'
(($# >= 1)) || fail "$usage"
command=$1
shift
install_any
case $command in
  up | down) exec .venv/bin/python -m mako.cli.cluster "$command" "$@" ;;
  status) exec .venv/bin/mako status "$@" ;;
  *) fail "$command is unknown; $usage" ;;
esac
