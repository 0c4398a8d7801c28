"""docs/wire.md says what the code does: sizes, numbers, limits and examples."""

import re
from pathlib import Path
from typing import Final

from mako.engine.pump import PIECE_BYTES, Z_SIZE
from mako.entry import Entry, EntryId, EntryKind, GroupId, Index, NodeId, Term
from mako.net.limits import Limits
from mako.raft.message import AppendRequest
from mako.recovery.history import RECORDS_MAX
from mako.recovery.mail import PIECES_MAX
from mako.wire import hello, peer
from mako.wire.frame import HEADER_BYTES, HELLO_BODY_MAX, PEER_BODY_MAX, FrameKind
from mako.wire.hello import Hello, Role, hello_parts
from mako.wire.peer import batch_frames

TEXT: Final = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", TEXT.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def fixed_end(heading: str) -> int:
    """Where the last field with a plain offset of the first table in a section begins."""
    return max(int(at) for at in re.findall(r"^\| (\d+) \| ", section(heading), re.MULTILINE))


def example(name: str) -> bytes:
    found = re.search(rf"^```{name}\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return bytes.fromhex(found.group(1))


def test_examples() -> None:
    mine = Hello(7, Role.PEER, 1, "p1", 0x1122334455667788, "mako 0.1.0")
    assert example("hello") == b"".join(hello_parts(mine))
    entry = Entry(Term(3), Index(8), EntryKind.NORMAL, b"hi")
    previous = EntryId(Term(3), Index(7))
    append = AppendRequest(GroupId(1), NodeId(1), NodeId(2), 3, previous, [entry], 7)
    assert example("append") == b"".join(batch_frames([append])[0])


def test_layouts_end_where_the_tables_say() -> None:
    assert f"| {HEADER_BYTES} | length − 4 | body |" in section("Frames")
    assert fixed_end("Hello") == hello._FIXED.size
    assert [layout.size for layout in peer._WORDS] == [32, 40, 48, 56]
    assert "| 60 | 16 · count |" in section("AppendRequest, number 5")
    assert (peer._APPEND.size, peer._ENTRY.size) == (60, 16)
    assert fixed_end("SnapshotRequest, number 9") == peer._SNAPSHOT.size
    assert fixed_end("Beat and BeatReply, numbers 32 and 33") == peer._BEAT.size
    assert peer._QUIET.size == 36
    assert "| 88 | 8 | offset |" in section("Snapshots under way, numbers 48 to 51")
    assert peer._PARCEL.size == 88 + 8
    assert f"| {peer._GOSSIP.size} | length | history |" in section("Gossip, number 64")
    assert f"at most {RECORDS_MAX:,} |" in section("Gossip, number 64")
    assert f"| {peer._MAIL.size} | length | pieces |" in section("Mail, number 65")
    assert f"at most {PIECES_MAX:,} |" in section("Mail, number 65")
    assert (PIECE_BYTES, Z_SIZE) == (64, 48)


def test_numbers() -> None:
    for kind in FrameKind:
        assert f"| {kind.value} | {kind.name} |" in section("Frames")
    fixed = section("Messages of fixed size")
    named = {int(n) for n in re.findall(r"^\| (\d+) \| [A-Z]\w+ \|", fixed, re.MULTILINE)}
    assert named == set(peer._FIXED)
    parcels = section("Snapshots under way, numbers 48 to 51")
    named = {int(n) for n in re.findall(r"^\| (\d+) \| Snapshot\w+ \|", parcels, re.MULTILINE)}
    assert named | {5, 9, 32, 33, 64, 65} == set(peer._DECODERS)


def test_limits() -> None:
    text = section("Limits")
    limits = Limits()
    assert f"{HELLO_BODY_MAX >> 10} KiB" in text
    assert f"{PEER_BODY_MAX:,} bytes" in text
    assert f"{limits.hello_s:g} s, {limits.strangers_max} of them" in text
    assert f"| {limits.connections_max:,} |" in text
    assert f"of a frame | {limits.partial_frame_s:g} s" in text
    assert f"is taken | {limits.write_stall_s:g} s" in text
    assert f"on a link | {limits.silence_s:g} s" in text
    assert f"one peer | {limits.queue_bytes_max >> 20} MiB" in text
    links = section("Connections")
    assert f"every {limits.keepalive_s:g} s" in links
    assert f"from {limits.dial_first_s:g} s to {limits.dial_last_s:g} s" in links


def test_what_clients_say() -> None:
    from mako import call_format as f
    from mako.ids import REFUSED_CHANGED, REFUSED_PLACE, Status
    from mako.wire.requests import CLIENT_BODY_MAX, ClientKind, Operation

    for kind in ClientKind:
        assert f"| {kind.value} | {kind.name} | " in section("Clients")
    calls = section("Packed calls")
    assert fixed_end("Packed calls") == f.CALL_BYTES
    assert f"at most {f.VALUE_PACKED_MAX:,}" in calls
    assert fixed_end("Packed results") == f.RESULT_BYTES
    assert "**early**" in calls
    assert "**once**" in calls
    for status in Status:
        assert f"| {status.value} | {status.name} | " in section("Statuses")
    for operation in Operation:
        assert f"| {operation.value} | {operation.name} | " in section("Requests")
    assert f"({CLIENT_BODY_MAX:,} bytes)" in section("Limits")
    gathered = section("What was gathered")
    assert fixed_end("What was gathered") == f.ITEM_BYTES
    assert f"at most {f.GATHERED_BYTES_MAX:,} bytes" in gathered
    assert re.findall(r"^\| (\d) \| [a-z]", gathered, re.MULTILINE) == [
        str(kind) for kind in range(f.SEEN_THERE, f.WRITE_DELETE + 1)
    ]
    assert f"detail −{-REFUSED_CHANGED}." in gathered
    assert f"detail −{-REFUSED_PLACE} " in gathered
