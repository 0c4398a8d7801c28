"""The compiled engine: memory, index, versions, commit, log rings, worker kernel.

Read in this order: `layout` (what lies where), `native` and `interpreted` (the primitives),
`memory` and `retire`, `keys`, `index` and `prune`, `sets`, `access` and `scan` (a transaction's
operations), `closing`, `ring`, `commit`, `reclaim` (its end), `worker` and `keeper` (who runs
it), `rows`, `transactions`, `entries` (procedures), `engine` (the face for Python).

Importing a module of it imports numba, and compiles or loads what it exports; nothing outside
does so before a database is opened. The one exception is `cache_folder`.
"""
