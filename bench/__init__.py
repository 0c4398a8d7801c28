"""TPC-C, TPC-A and a micro-benchmark: ordinary users of mako, with a runner and reports.

    cli                what the user types; checks every option before anything is compiled
    runner             open, load, check, warm up, measure, check, audit
    report             numbers to text: live table, plain lines, JSON, HTML; pure functions
    machine            what the numbers were measured on
    tpcc, tpca, micro  the benchmarks, each an implementation of `workload.Benchmark`
    workload, options  what the parts above have in common

`bench` sees mako only through its public face, and importing `bench.cli` compiles nothing.
"""
