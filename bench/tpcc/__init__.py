"""TPC-C: an order-entry system, five kinds of transactions on nine tables.

Follows the specification, revision 5.11, but is not audited and does not wait between
transactions as terminals do: compare its numbers only with other unaudited ones.

    schema          the tables, how they are split, how keys are packed
    scale           how many rows: the specification's, or fewer
    random          NURand, last names, random text; an arithmetic generator for the load
    population      procedures that fill the tables (clause 4.3.3.1)
    load            calls them, chunk by chunk
    inputs          what a terminal types in: drawn inside the worker, counted for the audit
    customers       the customer in the middle of those with a last name
    new_order, payment, order_status, delivery, stock_level
                    the five transactions, clauses 2.4 to 2.8
    calls           the five transactions as procedures, for terminals at a distance
    terminals       such a terminal: what it asks for next, what it was told
    workload        ties inputs and transactions together for `db.drive`
    consistency     the conditions of clause 3.3.2, as procedures and as a list to run
    audit           whether the inputs were what clause 2 asks for
    benchmark       all of it behind `bench.workload.Benchmark`
"""
