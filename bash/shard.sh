#!/usr/bin/env bash
# Start one process of a cluster by its name: `bash bash/shard.sh NSHARDS SHARD THREADS PROCESS`.
#   NSHARDS   partitions of the cluster; its file is config/1c${NSHARDS}s3r1p_cluster.yml
#   SHARD     the partition that is meant, from 0: the process PROCESS-SHARD of the configuration,
#             or PROCESS, where one process has replicas of several shards
#   THREADS   workers for each partition
#   PROCESS   localhost, p1, p2 or learner
# What follows is passed on: `-f FILE` in place of that configuration, `--data FOLDER`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage='usage: bash bash/shard.sh NSHARDS SHARD THREADS PROCESS [-f FILE ...] [--data FOLDER]'
(($# >= 4)) || fail "$usage"
shards=$1 shard=$2 threads=$3 process=$4
shift 4
for number in "$shards" "$shard" "$threads"; do
  [[ $number =~ ^[0-9]{1,9}$ ]] || fail "$number is no number; $usage"
done
# Zeros before a number do not make it an octal one.
shards=$((10#$shards)) shard=$((10#$shard)) threads=$((10#$threads))
((shards >= 1)) || fail "a cluster has at least one shard; $usage"
((shard < shards)) || fail "shard $shard of $shards; shards count from 0; $usage"
((threads >= 1)) || fail "a process needs at least one thread; $usage"

files=()
if [[ " $* " != *" -f"* && " $* " != *" --config"* ]]; then
  file="config/1c${shards}s3r1p_cluster.yml"
  ((shards == 1)) && file="config/1c1s3r1p_cluster_test.yml"
  [[ $process == learner ]] && file="config/1c${shards}s3r1l_cluster.yml"
  [[ -f $file ]] || fail "there is no $file; name a configuration with -f"
  files=(-f "$file")
fi
install_any
exec .venv/bin/mako server --process "$process" --shard "$shard" --threads "$threads" \
  "${files[@]}" "$@"
