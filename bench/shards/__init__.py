"""Transactions over partitions of one process, one worker each: `python -m bench.shards --help`."""
