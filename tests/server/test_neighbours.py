"""Processes share memory if both find that it is the same, and else neither does."""

from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

from mako.server.neighbours import memory_number, name_between, own_memory
from mako.wire.hello import Hello, Role, decode_hello, encode_hello

ONE = Hello(7, Role.PEER, 1, "p1", 0x1A, "t", memory=5)
TWO = Hello(7, Role.PEER, 2, "p2", 0x2B, "t", memory=5)


def test_memory_is_that_of_a_boot_a_folder_a_user_and_a_host(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    boots = tmp_path / "boot", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    for boot in boots:
        boot.write_text(boot.name)
    all_of_them = list(product(folders, ("127.0.0.1", "10.0.0.1"), (1000, 1001), boots))
    numbers = [memory_number(*each) for each in all_of_them]
    assert numbers == [memory_number(*each) for each in all_of_them]
    assert len(set(numbers)) == 16
    assert all(0 < number < 1 << 64 for number in numbers)


def test_a_folder_by_another_name_is_the_same(tmp_path: Path) -> None:
    """As where a container is given the host's."""
    folder, link, boot = tmp_path / "a", tmp_path / "b", tmp_path / "boot"
    folder.mkdir()
    link.symlink_to(folder)
    boot.write_text("boot")
    assert memory_number(folder, "h", 0, boot) == memory_number(link, "h", 0, boot)


def test_what_the_system_does_not_say_is_shared_with_nobody(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.write_text("boot")
    assert memory_number(tmp_path / "none", "h", 0, boot) == 0
    assert memory_number(tmp_path, "h", 0, tmp_path / "none") == 0


def test_own_memory_is_that_of_its_user_at_its_host() -> None:
    assert own_memory("a") == own_memory("a") != own_memory("b")


def test_both_sides_find_the_same_name() -> None:
    assert name_between(7, ONE, TWO) == name_between(7, TWO, ONE) == "7-p1.1a-p2.2b"
    again = replace(TWO, boot=0x3C)
    assert name_between(7, ONE, again) == name_between(7, again, ONE) == "7-p1.1a-p2.3c"


def test_unequal_or_unknown_memory_is_shared_by_neither() -> None:
    assert name_between(7, ONE, None) == ""
    sides = ONE, replace(TWO, memory=6), replace(TWO, process=3, memory=0)
    for one, other in combinations(sides, 2):
        assert name_between(7, one, other) == name_between(7, other, one) == ""
    # Neither side knows; that is not the same.
    unknown = replace(ONE, memory=0), replace(TWO, memory=0)
    assert name_between(7, *unknown) == ""
    # Software that does not know the field says hello without it.
    assert name_between(7, ONE, decode_hello(encode_hello(replace(TWO, memory=0)))) == ""


def test_a_process_has_memory_for_itself() -> None:
    assert name_between(7, replace(ONE, memory=0), replace(ONE, memory=0)) == "7-p1.1a"
