"""What the compiler refuses is told in one line, with the place in the user's source."""

import pytest

import mako
from tests.client import procedures as p


@pytest.mark.parametrize(
    ("procedure", "what"),
    [
        (p.not_compilable, "cannot be compiled"),
        (p.wrong_field, "colour"),
        (p.assigns_what_it_read, "tx.write"),
    ],
)
def test_refused(db: mako.Database, procedure: mako.Procedure, what: str) -> None:
    db.create(p.COUNTER)
    with pytest.raises(mako.SchemaError, match=what) as caught:
        db.run(procedure, 1)
    assert "\n" not in str(caught.value)
    assert "procedures.py:" in str(caught.value)
    assert db.run(p.add, 1, 1) == 1
