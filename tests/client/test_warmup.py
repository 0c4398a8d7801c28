"""After a warm-up nothing of the engine is compiled again: a first use only loads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys, tempfile
from mako.engine import jit
from mako.engine.warmup import warmup

progress = []
if len(sys.argv) == 1:
    warmup(lambda *step: progress.append(step))

import mako
from tests.client import procedures as p

def use(db):
    db.create(p.COUNTER)
    with db.transaction() as tx:
        tx.put(b"a", b"1")
        tx.delete(b"a")
    db[b"b"] = bytes(100_000)
    assert len(db[b"b"]) == 100_000
    assert db.table(p.COUNTER).get((1,)) is None
    assert [key for key, _ in db.items(reverse=True)] == [b"b"]
    db.begin().abort()
    assert db.run(p.clock) > 0
    with db.snapshot() as snapshot:
        assert snapshot.run(p.clock) > 0
    assert db.submit(p.clock).wait_durable() > 0

with mako.open(memory="32MiB", sessions=8) as db:
    use(db)
with tempfile.TemporaryDirectory() as folder:
    for _ in range(2):  # The second one replays the log.
        with mako.open(folder, memory="32MiB", sessions=8) as db:
            use(db)

compiled = set()
for name, module in list(sys.modules.items()):
    if name.startswith("mako.engine"):
        for function in vars(module).values():
            for signature in getattr(getattr(function, "stats", None), "cache_misses", ()):
                compiled.add(f"{function.py_func.__qualname__}{signature}")
print(json.dumps({"progress": progress, "compiled": sorted(compiled)}))
"""


def run(*arguments: str) -> dict[str, list[Any]]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, list[Any]] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_a_warm_start_compiles_nothing() -> None:
    steps = run()["progress"]
    done = [int(step[1]) for step in steps]
    assert done == list(range(len(steps)))
    assert all(int(step[1]) <= int(step[2]) for step in steps)
    assert steps[-1] == ["", done[-1], done[-1]]
    assert {step[0] for step in steps} >= {"commit", "worker.work", "interactive.session_get"}
    assert run("without a warm-up")["compiled"] == []
