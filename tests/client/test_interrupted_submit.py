"""Ctrl-C in the middle of a call of `db.submit` or of what it returns: caught, and on it goes."""

import pytest

import mako
from mako import Database
from mako.client import requests
from mako.engine import layout
from tests.client import procedures as p
from tests.client.interrupting import interrupted_at
from tests.client.test_submit import PATIENCE
from tests.engine.running import until


def test_an_interrupted_submit_has_submitted_or_not(db: Database) -> None:
    db.create(p.COUNTER)
    value = db.submit(p.add, 1, 0).result()
    place = 0
    while interrupted_at(requests, place, lambda: db.submit(p.add, 1, 1)):
        now = db.submit(p.add, 1, 10).result(timeout=PATIENCE)
        assert now - value in (10, 11)
        value = now
        place += 1
    assert place > 10
    db.stop_workers()
    assert db.run(p.value_of, 1) == value + 1


def test_an_interrupted_result_is_there_when_it_is_asked_for_again(db: Database) -> None:
    db.create(p.COUNTER)
    assert db.submit(p.add, 1, 0).result() == 0
    (mailbox,) = db._requests._mailboxes
    engine, head = db._engine, mailbox.context + layout.K_COMPLETION_HEAD
    tail = mailbox.context + layout.K_COMPLETION_TAIL
    place = 0
    interrupted = True
    while interrupted:
        submitted = db.submit(p.add, 1, 1)
        until(lambda: engine.word(head) > engine.word(tail))
        interrupted = interrupted_at(requests, place, submitted.result)
        assert submitted.result(timeout=PATIENCE) == place + 1
        place += 1
    assert place > 5
    db.stop_workers()


def test_an_interrupted_result_of_one_that_failed_is_its_error(db: Database) -> None:
    db.create(p.COUNTER)
    place = 0
    interrupted = True
    while interrupted:
        submitted = db.submit(p.value_of, 1)

        def ask(submitted: mako.Submitted = submitted) -> None:
            with pytest.raises(mako.NotFound, match="value_of: table counter"):
                submitted.result(timeout=PATIENCE)

        interrupted = interrupted_at(requests, place, ask)
        ask()
        place += 1
    assert place > 5
    db.stop_workers()
