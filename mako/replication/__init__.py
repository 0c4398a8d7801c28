"""Replicas of a process: what Raft wants done meets the store, the snapshots and the machines.

    replica      one replica: execution ahead of the log, acknowledgements, reads
    driver       the turn of a process, for all its replicas
    snapshots    snapshots on their way between processes
    outbox       messages by process
    planted      bugs that can be switched on; wrong: what some of them do

Nothing here reads a clock, draws a random number or starts a thread: a server and the simulator
run this very code.
"""
