"""Two datacenters on one host, a wide-area link between them, and how long transactions take.

    namespace mako-dc-a                                     namespace mako-dc-b
      a1  leads shard 0, follows in 1  ◀── 25 ms each way ──▶  b1  leads shard 1, follows in 0
      a2  follows in shard 1               mako-wide-a, -b     b2  follows in shard 0

A majority of each shard needs both datacenters. So a commit is answered at the speed of the
side where its shard is led, and durable one round trip later.

    network     the namespaces and the link: by netem, or where the kernel has none by `delay`
    delay       a program that hands packets from one device to the other, later
    processes   servers of both datacenters: started, awaited, ended
    measure     the client, which runs in side a
    deployed    its procedures

`bash bash/datacenters.sh` is the command, config/datacenters.yml the configuration.
"""
