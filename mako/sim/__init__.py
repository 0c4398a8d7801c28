"""The simulator: whole groups of processes in one, under virtual time, with every fault drawn.

    clock        virtual time and chance      model       a small state machine
    network      links that fail              process     one process: disk, driver, nodes
    disk         disks that fail              faults      what goes wrong, and when
    workload     clients and what they saw    upkeep      repairs and changes of members
    checkers     what must always hold        coverage    situations that were reached
    cluster      one seed, from begin to end  batch       many seeds

With servers and clients (--clients), in place of the model and its clients:

    served       a process with its server    workers     its workers, step by step
    client       a remote client, its tasks   streams     connections of clients
    traffic      what clients do              serial      and whether what they saw can be
    procedures   the transactions that they call

And apart from all of it `checking`: whether what was recorded, here or of real processes, can be.

The cores and the driver are those of production; see docs/testing.md.
"""
