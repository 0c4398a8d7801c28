"""What partitions have lost, who knows it, and what is durable: pure, without time and network.

    history       epochs and final watermarks of all partitions; vectors and their hash
    catching_up   what somebody has to undo who learns of another history
    gossip        what leaders tell all processes: their watermarks, and what they know
    watermarks    how far every partition is durable; the stable timestamp; stalled partitions

DESIGN §6 and §8 in code. The state machine, the coordinator and the participant use it, and the
wire carries it; it knows none of them.
"""
