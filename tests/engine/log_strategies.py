"""Log entries as hypothesis draws them: good ones, and bytes that are nearly good."""

from hypothesis import strategies as st

from tests.engine.log_reference import (
    Description,
    Discard,
    Entry,
    Transaction,
    Write,
    encode,
    seal,
)

INSTANTS = st.integers(0, 3) | st.integers(0, (1 << 63) - 1)
TABLE_IDS = st.integers(1, 32_767) | st.just(32_767)
KEYS = st.binary(max_size=20) | st.sampled_from([b"\xff" * 8, bytes(16), b"k" * 4096])

WRITES = st.builds(
    Write,
    table=TABLE_IDS,
    key=KEYS,
    value=st.none() | st.binary(max_size=40) | st.just(bytes(1000)),
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).map(lambda name: name[:60])
DESCRIPTIONS = st.builds(
    Description, table=TABLE_IDS, key_kind=st.just(3), row_size=st.just(0), name=NAMES
) | st.builds(
    Description,
    table=TABLE_IDS,
    key_kind=st.sampled_from([1, 2]),
    row_size=st.integers(0, 1 << 19).map(lambda words: 8 * words),
    name=NAMES,
)


@st.composite
def transactions(draw: st.DrawFn, partition: int) -> Transaction:
    own = 1 << partition
    foreign = draw(st.just(0) | st.integers(0, (1 << 64) - 1)) & ~own
    return Transaction(
        timestamp=draw(st.integers(1, (1 << 63) - 1)),
        writes=tuple(draw(st.lists(WRITES, min_size=1, max_size=4))),
        dependencies=foreign | own if foreign else None,
    )


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any good entry: transactions, a schema, an epoch or a discard."""
    partition = draw(st.integers(0, 63))
    stable, closed = sorted([draw(INSTANTS), draw(INSTANTS)])
    listed: tuple[Transaction, ...] = ()
    tables: tuple[Description, ...] = ()
    final = discard = None
    kind = draw(st.sampled_from([1, 2, 3, 4]))
    if kind == 3:
        final = closed
    elif kind == 4:
        forgotten, begins = sorted([draw(INSTANTS), draw(INSTANTS)])
        begins += forgotten == begins
        lost = draw(st.integers(0, 63))
        discard = Discard(lost, min(begins, (1 << 63) - 1), draw(INSTANTS), max(forgotten - 1, 0))
    elif kind == 1:
        listed = tuple(draw(st.lists(transactions(partition), max_size=4)))
    else:
        distinct = st.lists(
            DESCRIPTIONS, max_size=4, unique_by=(lambda it: it.table, lambda it: it.name)
        )
        tables = tuple(draw(distinct))
    epoch, submitted = draw(INSTANTS), draw(INSTANTS)
    return Entry(listed, tables, partition, epoch, closed, stable, submitted, final, discard)


@st.composite
def sealed_mutations(draw: st.DrawFn) -> bytes:
    """A good entry with some bytes changed, added or gone, under a CRC and a length that fit.

    Nearly all damage ends at the CRC; this is what reaches the checks behind it.
    """
    data = bytearray(encode(draw(entries()))[:-4])
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(data) - 1))
        end = first + draw(st.integers(0, 2))
        small = st.lists(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), max_size=2).map(bytes)
        data[first:end] = draw(small | st.binary(max_size=2))
    body = max(len(data) - 56, 0)
    data[16:24] = body.to_bytes(8, "little")
    return seal(bytes(data))
