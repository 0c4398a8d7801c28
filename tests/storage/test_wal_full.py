"""A full disk: growth is refused before anything is written, the rest goes on, and it clears."""

import pytest

from mako.storage.errors import DiskFull
from mako.storage.memory_disk import MemoryDisk
from mako.storage.wal import Wal
from tests.storage.building import (
    FOLDER,
    SMALL,
    contents,
    entry,
    hard,
    meta,
    opened,
    small_log,
    turn,
)
from tests.storage.failing import FailingDisk

CAPACITY = 8192 * 6 + 4096


def filled() -> tuple[MemoryDisk, Wal, int]:
    """A log that has refused an entry for want of room, and the index of that."""
    disk = MemoryDisk(CAPACITY)
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    for index in range(1, 1000):
        try:
            wal.append(1, hard(1, 0, index - 1), [entry(index, data=bytes(700))])
        except DiskFull:
            return disk, wal, index
        turn(wal)
    raise AssertionError("the disk never filled up")


def test_growth_is_refused_before_anything_is_written() -> None:
    disk, wal, index = filled()
    assert wal.full
    before = contents(wal)
    assert wal.storage(1).last_index() == index - 1
    assert not wal.seal()
    assert index > 45, "most of the room was used"
    disk.crash()
    assert contents(opened(disk)) == before


def test_hard_states_are_written_on_a_full_disk() -> None:
    disk, wal, _ = filled()
    for term in range(2, 22):
        wal.append(1, hard(term, 1, 1))
        turn(wal)
    disk.crash()
    assert opened(disk).storage(1).initial_state()[0].term == 21


def test_essential_entries_go_on_for_a_while() -> None:
    _, wal, index = filled()
    wal.append(1, None, [entry(index, data=bytes(700))], essential=True)
    turn(wal)
    with pytest.raises(DiskFull):
        wal.append(1, None, [entry(index + 1, data=bytes(700))])
    for more in range(index + 1, index + 4):
        wal.append(1, None, [entry(more, data=bytes(700))], essential=True)
        turn(wal)
    last = [entry(index + 4, data=bytes(2000))]
    with pytest.raises(DiskFull, match="nothing was written: free some room"):
        wal.append(1, None, last, essential=True)


def test_a_cut_makes_room_and_growth_goes_on_by_itself() -> None:
    disk, wal, index = filled()
    wal.append(1, hard(1, 0, index - 1), (), meta(index - 1, 1))
    wal.release(1, index - 1)
    turn(wal)
    assert wal.cut(0).segments
    turn(wal)
    wal.clean()
    assert not wal.full
    wal.append(1, None, [entry(index, data=bytes(700))])
    turn(wal)
    disk.crash()
    assert contents(opened(disk)) == contents(wal)


def test_a_cut_with_no_room_even_for_its_own_record_waits() -> None:
    """Seed 1000236 of the simulator: the reserve was used up, and the cut ended the node."""
    disk, wal, index = filled()
    wal.append(1, hard(1, 0, index - 1), (), meta(index - 1, 1))
    wal.release(1, index - 1)
    turn(wal)
    for more in range(index, index + 2000):
        try:
            wal.append(1, None, [entry(more, data=bytes(1))], essential=True)
        except DiskFull:
            break
        turn(wal)
    before = contents(wal)
    assert wal.cut(0).segments == ()
    assert contents(wal) == before
    disk.capacity_bytes = 2 * CAPACITY
    assert wal.cut(0).segments, "with room, the cut that waited is made"
    turn(wal)
    wal.clean()
    after = contents(wal)
    disk.crash()
    assert contents(opened(disk)) == after


def test_room_made_by_somebody_else_is_noticed() -> None:
    disk, wal, index = filled()
    disk.capacity_bytes = 2 * CAPACITY
    assert not wal.full
    for more in range(index, index + 30):
        wal.append(1, None, [entry(more, data=bytes(700))])
        turn(wal)
    disk.crash()
    assert contents(opened(disk)) == contents(wal)


def test_a_log_can_be_opened_on_a_full_disk() -> None:
    disk, wal, _ = filled()
    before = contents(wal)
    disk.capacity_bytes = disk.used_bytes() - 3000
    disk.crash()
    again = opened(disk)
    assert contents(again) == before
    assert again.full


def test_growth_is_refused_early_if_so_configured() -> None:
    disk = MemoryDisk(100_000)
    settings = type(SMALL)(segment_bytes=8192, reserve_bytes=4096, free_bytes_min=90_000)
    wal = opened(disk, settings)
    assert wal.full
    disk.capacity_bytes = 200_000
    assert not wal.full


def test_a_turn_that_finds_no_room_after_all_can_be_written_later() -> None:
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    large = [entry(1, data=bytes(50_000))]
    wal.append(1, None, large)
    wal.seal()
    # Somebody else takes the room between the promise and the write.
    disk.capacity_bytes = disk.used_bytes()
    with pytest.raises(DiskFull):
        wal.write()
    disk.capacity_bytes = None
    wal.write()
    wal.sync()
    disk.crash()
    assert opened(disk).storage(1).entries(1, 2, 1) == large


def on_its_last_spare() -> tuple[MemoryDisk, Wal]:
    """A log whose sealed turn needs the spare, which is all that is left but the reserve."""
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    wal.append(1, None, [entry(1, data=bytes(5000))])
    turn(wal)
    disk.capacity_bytes = disk.used_bytes()
    wal.append(1, None, [entry(2, data=bytes(5000))])
    wal.seal()
    return disk, wal


def test_a_spare_that_a_sealed_turn_needs_is_promised_to_no_other() -> None:
    """The second turn would be sealed, and wait for room for ever, with all cuts behind it."""
    disk, wal = on_its_last_spare()
    for size in (700, 5000):
        with pytest.raises(DiskFull):
            wal.append(1, None, [entry(3, data=bytes(size))])
    wal.append(1, hard(7, 1))  # The reserve is there for it.
    wal.write()
    wal.sync()
    wal.append(1, None, [entry(3, data=bytes(700))])  # The segment that it got has room.
    turn(wal)
    with pytest.raises(DiskFull):
        wal.append(1, None, [entry(4, data=bytes(5000))])
    before = contents(wal)
    disk.crash()
    assert contents(opened(disk)) == before


def test_a_reserve_that_a_sealed_turn_needs_is_promised_to_no_other() -> None:
    disk, wal = on_its_last_spare()
    wal.write()
    wal.sync()
    wal.append(1, None, [entry(3, data=bytes(3000))], essential=True)
    wal.seal()
    with pytest.raises(DiskFull):
        wal.append(1, None, [entry(4, data=bytes(200))], essential=True)
    wal.write()
    wal.sync()
    wal.append(1, None, [entry(4, data=bytes(200))], essential=True)
    turn(wal)
    before = contents(wal)
    disk.crash()
    assert contents(opened(disk)) == before


def test_room_for_two_segments_is_promised_to_two_turns() -> None:
    disk, wal = on_its_last_spare()
    disk.capacity_bytes = disk.used_bytes() + 8192
    wal.append(1, None, [entry(3, data=bytes(5000))])
    wal.write()
    turn(wal)
    assert wal.storage(1).last_index() == 3


def test_a_large_turn_that_is_sealed_takes_what_is_free_beside_the_spare() -> None:
    disk = MemoryDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    turn(wal)
    disk.capacity_bytes = disk.used_bytes() + 13_000
    wal.append(1, None, [entry(1, data=bytes(12_000))])
    wal.seal()
    with pytest.raises(DiskFull):
        wal.append(1, None, [entry(2, data=bytes(12_000))])
    wal.append(1, None, [entry(2, data=bytes(5000))])
    wal.write()
    turn(wal)
    assert wal.storage(1).last_index() == 2


def test_a_segment_whose_name_finds_no_room_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems need room for a name."""
    for needs_reserve in (False, True):
        disk, wal = on_its_last_spare()
        if needs_reserve:
            wal.write()
            wal.sync()
            wal.append(1, None, [entry(3, data=bytes(3000))], essential=True)
            wal.seal()
        before = disk.open_files

        def full(old: str, new: str) -> None:
            raise DiskFull(f"no room for the name {new} of {old}")

        with monkeypatch.context() as patch:
            patch.setattr(disk, "rename", full)
            for _ in range(3):
                with pytest.raises(DiskFull):
                    wal.write()
        assert disk.open_files == before
        wal.write()
        wal.sync()
        found = contents(wal)
        disk.crash()
        assert contents(opened(disk)) == found


def test_a_segment_whose_room_is_not_given_after_all_is_closed() -> None:
    """Some file systems need room to write into what was allocated."""
    disk = FailingDisk()
    wal = opened(disk)
    wal.append(1, None, (), meta(0, 0))
    turn(wal)
    before = disk.open_files
    wal.append(1, None, [entry(1, data=bytes(50_000))])
    wal.seal()

    def full(offset: int, length: int) -> None:
        raise DiskFull(f"no room for {length} bytes at {offset}")

    disk.on_write = full
    for _ in range(3):
        with pytest.raises(DiskFull):
            wal.write()
    assert disk.open_files == before
    disk.on_write = None
    wal.write()
    wal.sync()
    disk.crash()
    assert opened(disk).storage(1).last_index() == 1


def test_a_torn_tail_that_finds_no_room_leaves_nothing_open() -> None:
    disk, wal = small_log(2)
    wal.append(1, hard(3, 1), [entry(3, 3, b"x" * 2000)])
    wal.seal()
    wal.write()
    (segment,) = [name for name in disk.list(FOLDER) if name.endswith(".wal")]
    torn = bytearray(disk.contents(f"{FOLDER}/{segment}"))
    torn[wal._at - 1024 : wal._at] = bytes(1024)
    wal.close()
    disk.damage(f"{FOLDER}/{segment}", bytes(torn))
    disk.capacity_bytes = disk.used_bytes()
    before = disk.open_files
    opened(disk).close()
    assert disk.open_files == before
