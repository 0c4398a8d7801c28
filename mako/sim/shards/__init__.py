"""Clusters of several partitions: transactions over them, and what their clients saw.

plan         what is drawn beside the rest
procedures   what clients call
crew         workers that take their turn for other partitions
process      three processes with a replica of each partition, gossip and mail between them
traffic      clients
faults       what goes wrong between partitions only
planted      bugs of what is compiled, to be found
busy         lanes that have a transaction
contexts     I3 and X2, as soon as something has run, or has been said yes to
history      what they saw, as mako.sim.checking judges it
checks       I1 and I4 as the run goes on, and what must be equal at its end
"""
