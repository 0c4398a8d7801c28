"""Three real processes, a leader that is killed under load, and the proof that nothing was lost.

    start ─▶ load ─▶ terminals ─▶ kill -9 a leader ─▶ terminals go on ─▶ start it again
                                                                              │
      0 lost ◀─ hashes ◀─ 12 conditions on leader and follower ◀─ all equal ◀─┘

`bash bash/demo.sh` runs it: TPC-C of two warehouses, each in a shard of its own, each shard with a
replica in each process and a leader in another one. Payments and orders for the other warehouse go
over both shards. The leader of the last shard is killed.

    cluster     the processes, started by bash/shard.sh as a user would, and who leads
    terminals   who asks for transactions, and what became of each
    dip         how many were acknowledged, second by second and shard by shard
    proof       what must hold afterwards
"""
