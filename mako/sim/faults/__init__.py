"""What goes wrong in a run: faults come at random times, last for a while, and are undone.

    schedule   what comes when                       machines   processes, clocks, disks
    attack     what all kinds of faults share        links      the network, cut-off leaders
    operations what one operation of a disk meets    members    orders at the wrong time

The model of faults is in docs/testing.md. Its one limit: of no group is a majority of the disks
lost at a time, so a fault that loses one waits until everything is settled (mako.sim.upkeep).
"""

from mako.sim.faults.schedule import Faults

__all__ = ["Faults"]
