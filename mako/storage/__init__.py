"""What a process keeps on disk: the write-ahead log, snapshots, and the disk itself.

    disk         what a disk can do; os_disk and memory_disk can do it
    wal          the write-ahead log of a process, shared by its groups
    wal_log      the log of one group in it, as Raft reads it
    snapshot     the container of a snapshot, its way to a peer, its installation

Nothing here reads a clock, draws a random number or knows a thread, and only `os_disk` touches
the operating system: time and disks are arguments. So the simulator runs this very code.
"""
