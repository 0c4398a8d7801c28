"""Numbers to text, five ways. Pure functions: a finished `RunReport` or an `Interval` in, text out.

    model      what a run has produced
    numbers    how a count, a duration, a size is written
    lines      one stable `key=value` line per second, for pipes
    live       the table that is refreshed on a terminal while the run goes on
    table      the closing tables
    summary    summary.json and the lines of intervals.jsonl
    plot       a time series as inline SVG
    page       report.html: one self-contained file

Units are in the names of machine-readable fields (`p99_us`, `memory_bytes`) and in the headings
of tables. A field is renamed only with a line in the changelog.
"""
