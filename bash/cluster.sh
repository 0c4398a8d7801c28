#!/usr/bin/env bash
# All processes of a configuration on this host: `bash bash/cluster.sh up|status|down -f FILE ...`.
# `up` starts them and shows what they say, each line with the name of its process, until it is
# interrupted; then it ends them. `--detach`: it returns instead, and logs go to the data folder.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage='usage: bash bash/cluster.sh up|status|down -f FILE [-f FILE ...] [--detach]'
(($# >= 1)) || fail "$usage"
case $1 in
  up | down) command=(python -m mako.cli.cluster "$1") ;;
  status) command=(mako status) ;;
  *) fail "$1 is unknown; $usage" ;;
esac
shift
install_any
exec .venv/bin/"${command[0]}" "${command[@]:1}" "$@"
