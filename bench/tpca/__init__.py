"""TPC-A: debit and credit, one kind of transaction, in two profiles.

    spec     the specification's: branches, tellers, accounts, history, 85 % of the accounts at home
    janus    that of Mako and Janus: three tables of equal size, one amount added in each

    spec, janus    tables, load, transaction and checks of a profile
    conditions     the consistency conditions of `spec`, as procedures
    benchmark      both profiles behind `bench.workload.Benchmark`

The specification was withdrawn in 1995; its text was not at hand, only what others say of it.
"""
