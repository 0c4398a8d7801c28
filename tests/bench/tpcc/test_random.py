import itertools
import string
from collections import Counter
from typing import Any, Final

import pytest

import mako
from bench.tpcc.random import (
    has_original,
    last_name,
    nurand,
    pack_text,
    permuted,
    pick,
    put_data,
    put_last_name,
    put_letters,
    put_text,
    scramble,
    seeded,
    step,
)

TEXT: Final = mako.Row({"text": "S50", "next": "i8"})
NAMES: Final = mako.Table("names", id=901, key={"number": 16}, row={"text": "S16"})
SOUGHT: Final = mako.Table("sought", id=902, key={"number": 16}, row={"text": "S50"})


@mako.procedure
def write_text(tx: Any, length_min: int, length_max: int, x: int, out: Any) -> int:
    out.next = put_text(out.text, length_min, length_max, x)
    return 0


@mako.procedure
def write_letters(tx: Any, first: int, end: int, x: int, out: Any) -> int:
    out.next = put_letters(out.text, first, end, x)
    return 0


@mako.procedure
def write_data(tx: Any, x: int, out: Any) -> int:
    out.next = put_data(out.text, x)
    return 1 if has_original(out.text, 50) else 0


@mako.procedure
def write_last_name(tx: Any, number: int, out: Any) -> int:
    put_last_name(out.text, number)
    return 0


@mako.procedure
def pack_name(tx: Any, number: int, first: int, end: int) -> int:
    packed: int = pack_text(tx.read(NAMES, (number,)).text, first, end)
    return packed


@mako.procedure
def look_for_original(tx: Any, number: int) -> int:
    return 1 if has_original(tx.read(SOUGHT, (number,)).text, 50) else 0


@pytest.fixture(scope="module")
def db() -> Any:
    with mako.open(":memory:", memory="64MiB") as opened:
        opened.create(NAMES, SOUGHT)
        yield opened


def write(db: Any, procedure: Any, *args: int) -> tuple[int, bytes]:
    with db.snapshot() as snapshot:
        returned, row = snapshot.run(procedure, *args, out=TEXT)
    return returned, row["text"]


def test_nurand_is_the_formula_of_clause_2_1_6() -> None:
    for any_0_to_a, any_in_range in ((0, 1), (255, 999), (77, 512)):
        expected = ((any_0_to_a | any_in_range) + 157) % 1000
        assert nurand(any_0_to_a, any_in_range, 157, 0, 999) == expected
    assert nurand(1023, 3000, 259, 1, 3000) == ((1023 | 3000) + 259) % 3000 + 1


def test_last_names_are_three_syllables() -> None:
    assert last_name(371) == b"PRICALLYOUGHT"
    assert last_name(0) == b"BARBARBAR"
    assert last_name(999) == b"EINGEINGEING"
    assert len({last_name(number) for number in range(1000)}) == 1000


def test_compiled_last_names_are_the_same(db: Any) -> None:
    for number in (0, 1, 10, 100, 371, 777, 999):
        assert write(db, write_last_name, number)[1] == last_name(number)


def test_the_generator_of_a_row_is_never_stuck_at_zero() -> None:
    assert all(seeded(seed, 1, 2, 3) > 0 for seed in range(1000))
    assert len({seeded(1, 2, 3, number) for number in range(10_000)}) > 9_990


def test_scramble_is_a_bijection_of_32_bits() -> None:
    images = {scramble(x) for x in range(20_000)}
    assert len(images) == 20_000
    assert all(0 <= image < 1 << 32 for image in images)


def test_pick_covers_its_range_evenly() -> None:
    x = seeded(1, 2, 3, 4)
    counts: Counter[int] = Counter()
    for _ in range(10_000):
        x = step(x)
        counts[pick(x, 5, 15)] += 1
    assert sorted(counts) == list(range(5, 16))
    # 909 of each; five standard deviations of chance are 144.
    assert all(765 < count < 1053 for count in counts.values())


@pytest.mark.parametrize("count", [1, 2, 3, 30, 300, 3000])
def test_permuted_is_a_permutation(count: int) -> None:
    assert sorted(permuted(n, count, 77) for n in range(count)) == list(range(count))


def test_permutations_have_no_pattern() -> None:
    """Two keys share few images, and neighbours are apart by every distance."""
    one = [permuted(n, 3000, 1) for n in range(3000)]
    other = [permuted(n, 3000, 2) for n in range(3000)]
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 10
    steps = Counter((b - a) % 3000 for a, b in itertools.pairwise(one))
    assert max(steps.values()) < 12


def test_text_has_the_length_and_characters_of_an_a_string(db: Any) -> None:
    lengths, characters = set(), set()
    for seed in range(1, 200):
        _, text = write(db, write_text, 8, 16, seeded(seed, 0, 0, 0))
        assert text.isalnum()
        lengths.add(len(text))
        characters |= set(text)
    assert lengths == set(range(8, 17))
    assert characters == set(string.ascii_letters.encode() + string.digits.encode())


def test_letters_are_written_where_asked(db: Any) -> None:
    _, text = write(db, write_letters, 3, 9, 12345)
    assert text[:3] == bytes(3)
    assert len(text) == 9


def test_one_in_ten_data_has_original(db: Any) -> None:
    marked = 0
    for seed in range(1000):
        found, text = write(db, write_data, seeded(seed, 0, 0, 0))
        assert 26 <= len(text) <= 50
        assert found == (b"ORIGINAL" in text)
        marked += found
    assert 55 < marked < 145


@pytest.mark.parametrize("first", range(43))
def test_original_is_found_wherever_it_stands(db: Any, first: int) -> None:
    table = db.table(SOUGHT)
    for filler in (b"x", b"O", b"I", b"L"):
        table.put((1,), {"text": filler * first + b"ORIGINAL" + filler * (42 - first)})
        with db.snapshot() as snapshot:
            assert snapshot.run(look_for_original, 1) == 1
    table.put((1,), {"text": b"ORIGINA" * 7})
    with db.snapshot() as snapshot:
        assert snapshot.run(look_for_original, 1) == 0


def test_packed_first_names_sort_as_the_names_do(db: Any) -> None:
    names = b"0 00 0A 9 A AA Aa ZZZZZ a aa ab b ba bz c zzzzz zzzzzz zzzzzzzzzzzzz".split()
    assert names == sorted(names)
    packed = []
    for number, name in enumerate(names):
        db.table(NAMES).put((number,), {"text": name})
        with db.snapshot() as snapshot:
            packed.append(
                (snapshot.run(pack_name, number, 0, 5), snapshot.run(pack_name, number, 5, 13))
            )
    assert packed == sorted(packed)
    assert len(set(packed)) == len(names)
    assert all(high < 1 << 30 and low + 1 < 1 << 48 for high, low in packed)
