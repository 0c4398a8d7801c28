"""The simulator: whole groups of processes in one, under virtual time, with every fault drawn.

    clock        virtual time and chance      model       a small state machine
    network      links that fail              process     one process: disk, driver, nodes
    disk         disks that fail              faults      what goes wrong, and when
    workload     clients and what they saw    upkeep      repairs and changes of members
    checkers     what must always hold        coverage    situations that were reached
    cluster      one seed, from begin to end  batch       many seeds

The cores and the driver are those of production; see docs/testing.md.
"""
