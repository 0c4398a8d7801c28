"""A database from a recorded log."""

from __future__ import annotations

import os

from mako.client.database import Database
from mako.client.log import Source, check_file, entries_of, opened, survey
from mako.size import parse_memory


def replay(source: Source, *, memory: str | int = "1GiB", sessions: int = 24) -> Database:
    """A database with what a recorded log says, up to its last closed timestamp.

    Typed tables are there under their numbers; `db.create(TABLE)` gives them their fields back.
    LogCorrupt if an entry is bad: `offset` counts in that entry, and there is no database.
    """
    if isinstance(source, str | os.PathLike):
        with opened(source, "rb") as file:
            return replay(file, memory=memory, sessions=sessions)
    check_file(source, "read")
    from mako.engine.engine import Engine
    from mako.engine.replayer import Replayer

    partition, up_to = survey(source)
    engine = Engine(parse_memory(memory), contexts=sessions, partition=partition, now_ms=0)
    try:
        replayer = Replayer(engine)
        for entry in entries_of(source):
            replayer.apply(entry, up_to=up_to)
        replayer.end()
    except BaseException:
        engine.close()
        raise
    return Database(engine)
