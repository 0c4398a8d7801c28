"""Random numbers as clauses 2.1.6 and 4.3.2 define them, and a generator for the load.

    NURand(A, x, y) = (((random(0, A) | random(x, y)) + C) % (y - x + 1)) + x

The load wants the same rows from the same seed whatever the size of its chunks, so each row has
a generator of its own, seeded by its key. It is a number below 2^32 that the caller carries
along: `x = step(x)` and then `pick(x, low, high)`. Nothing here may exceed 63 bits, because
compiled integers do not wrap.
"""

from typing import Any, Final

import mako

#: A, by field (clause 2.1.6): about as many values as NURand makes popular.
A_LAST: Final = 255
A_CUSTOMER: Final = 1023
A_ITEM: Final = 8191

#: C, by field: drawn once and fixed here, so that runs are comparable. Those of C_LAST differ
#: between load and run, so that a run asks for other names than the popular ones of the load.
C_LAST_LOAD: Final = 157
C_LAST_RUN: Final = 223
C_CUSTOMER: Final = 259
C_ITEM: Final = 7911
assert 65 <= abs(C_LAST_RUN - C_LAST_LOAD) <= 119  # Clause 2.1.6.1.
assert abs(C_LAST_RUN - C_LAST_LOAD) not in (96, 112)
assert 0 <= C_CUSTOMER <= A_CUSTOMER
assert 0 <= C_ITEM <= A_ITEM

SYLLABLES: Final = (
    b"BAR", b"OUGHT", b"ABLE", b"PRI", b"PRES", b"ESE", b"ANTI", b"CALLY", b"ATION", b"EING",
)  # fmt: skip
#: The same, for compiled code: the first letter in the lowest eight bits.
_SYLLABLE_WORDS: Final = tuple(int.from_bytes(syllable, "little") for syllable in SYLLABLES)
#: The letters of "ORIGINAL", clause 4.3.3.1.
_ORIGINAL: Final = tuple(b"ORIGINAL")
_ORIGINAL_LENGTH: Final = len(_ORIGINAL)
#: A bit for each capital that is one of them, A the lowest.
_ORIGINAL_LETTERS: Final = sum(1 << letter - ord("A") for letter in set(_ORIGINAL))

_WORD: Final = (1 << 32) - 1
# What one step of the generator pays for: 26^6 and 62^5 are below 2^32.
_LETTERS: Final = 26
_LETTERS_PER_STEP: Final = 6
_ALPHANUMERICS: Final = 62
_ALPHANUMERICS_PER_STEP: Final = 5
_DIGITS: Final = 10
_FIRST_LETTER: Final = ord("a")
_FIRST_CAPITAL: Final = ord("A")
_LAST_CAPITAL: Final = ord("Z")
_ZERO: Final = ord("0")

#: Bits of a character in a packed name: 0 behind the end, 1 to 62 in the order of their bytes.
_PACKED_BITS: Final = 6
_FEISTEL_ROUNDS: Final = 4


@mako.function
def nurand(any_0_to_a: int, any_in_range: int, c: int, low: int, high: int) -> int:
    """NURand of two uniform numbers, the first from [0, A], the second from [low, high]."""
    return ((any_0_to_a | any_in_range) + c) % (high - low + 1) + low


@mako.function
def scramble(x: int) -> int:
    """Another number below 2^32: a bijection in which every bit of `x` moves about half."""
    x &= _WORD
    x = ((x >> 16) ^ x) * 0x45D9F3B & _WORD
    x = ((x >> 16) ^ x) * 0x45D9F3B & _WORD
    return (x >> 16) ^ x


@mako.function
def seeded(seed: int, table: int, place: int, number: int) -> int:
    """The first state of the generator of one row: of `table`, at `place`, with that number."""
    x: int = scramble(scramble(scramble(scramble(seed) + table) + place) + number)
    return max(x, 1)  # Zero is the one state that never changes.


@mako.function
def step(x: int) -> int:
    """The next state: xorshift, all numbers from 1 to 2^32 - 1 in turn (Marsaglia 2003)."""
    x ^= (x << 13) & _WORD
    x ^= x >> 17
    x ^= (x << 5) & _WORD
    return x


@mako.function
def pick(x: int, low: int, high: int) -> int:
    """The state `x` as a number from `low` to `high`, both included."""
    return low + (x * (high - low + 1) >> 32)


@mako.function
def put_letters(text: Any, first: int, end: int, x: int) -> int:
    """Fill text[first:end] with random lower-case letters. Return the next state."""
    word = 0
    for at in range(first, end):
        if (at - first) % _LETTERS_PER_STEP == 0:
            x = step(x)
            word = x
        text[at] = _FIRST_LETTER + word % _LETTERS
        word //= _LETTERS
    return x


@mako.function
def put_digits(text: Any, first: int, end: int, x: int) -> int:
    """Fill text[first:end] with random digits. Return the next state."""
    for at in range(first, end):
        x = step(x)
        text[at] = _ZERO + pick(x, 0, 9)
    return x


@mako.function
def put_text(text: Any, length_min: int, length_max: int, x: int) -> int:
    """A random a-string of clause 4.3.2.2, from the start of `text`. Return the next state."""
    x = step(x)
    following: int = _put_alphanumerics(text, pick(x, length_min, length_max), x)
    return following


@mako.function
def _put_alphanumerics(text: Any, end: int, x: int) -> int:
    word = 0
    for at in range(end):
        if at % _ALPHANUMERICS_PER_STEP == 0:
            x = step(x)
            word = x
        which = word % _ALPHANUMERICS
        word //= _ALPHANUMERICS
        if which < _DIGITS:
            text[at] = _ZERO + which
        elif which < _DIGITS + _LETTERS:
            text[at] = _FIRST_CAPITAL + which - _DIGITS
        else:
            text[at] = _FIRST_LETTER + which - _DIGITS - _LETTERS
    return x


@mako.function
def put_data(text: Any, x: int) -> int:
    """I_DATA or S_DATA: 26 to 50 characters, one in ten with ORIGINAL. Return the next state."""
    x = step(x)
    length = pick(x, 26, 50)
    x = step(_put_alphanumerics(text, length, x))
    if pick(x, 1, 10) == 1:
        x = step(x)
        first = pick(x, 0, length - _ORIGINAL_LENGTH)
        for at in range(_ORIGINAL_LENGTH):
            text[first + at] = _ORIGINAL[at]
    return x


@mako.function
def has_original(text: Any, length: int) -> bool:
    """Whether ORIGINAL stands anywhere in text[:length].

    Eight letters in a row cover every eighth position, so only those are looked at, and only one
    of the word's own letters is worth a closer look.
    """
    for probe in range(_ORIGINAL_LENGTH - 1, length, _ORIGINAL_LENGTH):
        letter = text[probe]
        if (
            _FIRST_CAPITAL <= letter <= _LAST_CAPITAL
            and _ORIGINAL_LETTERS >> (letter - _FIRST_CAPITAL) & 1 == 1
            and _original_covers(text, length, probe)
        ):
            return True
    return False


@mako.function
def _original_covers(text: Any, length: int, probe: int) -> bool:
    """Whether ORIGINAL stands in `text` so that text[probe] is part of it."""
    last = min(probe, length - _ORIGINAL_LENGTH)
    for first in range(probe - _ORIGINAL_LENGTH + 1, last + 1):
        at = 0
        while at < _ORIGINAL_LENGTH and text[first + at] == _ORIGINAL[at]:
            at += 1
        if at == _ORIGINAL_LENGTH:
            return True
    return False


@mako.function
def put_last_name(text: Any, number: int) -> None:
    """The last name with this number: the syllables of its three digits (clause 4.3.2.3)."""
    at = 0
    for digit in (number // 100, number // 10 % 10, number % 10):
        letters = _SYLLABLE_WORDS[digit]
        while letters > 0:
            text[at] = letters & 255
            letters >>= 8
            at += 1


def last_name(number: int) -> bytes:
    """The last name with this number: 371 is PRICALLYOUGHT."""
    digits = (number // 100, number // 10 % 10, number % 10)
    return b"".join(SYLLABLES[digit] for digit in digits)


@mako.function
def pack_text(text: Any, first: int, end: int) -> int:
    """text[first:end], letters and digits up to the end of the text, as a number in their order."""
    packed = 0
    for at in range(first, end):
        character = text[at]
        packed <<= _PACKED_BITS
        if character >= _FIRST_LETTER:
            packed |= character - _FIRST_LETTER + _LETTERS + _DIGITS + 1
        elif character >= _FIRST_CAPITAL:
            packed |= character - _FIRST_CAPITAL + _DIGITS + 1
        elif character > 0:
            packed |= character - _ZERO + 1
    return packed


@mako.function
def permuted(number: int, count: int, key: int) -> int:
    """A permutation of the numbers below `count`, another one for each `key`.

    A Feistel network on the next power of four permutes; a result that is too big is put
    through it again, which must come back below `count` because `number` is on its cycle.
    """
    half = 1
    while 1 << 2 * half < count:
        half += 1
    mask = (1 << half) - 1
    while True:
        left = number >> half
        right = number & mask
        for turn in range(_FEISTEL_ROUNDS):
            mixed = left ^ (scramble(scramble(key + turn) + right) & mask)
            left = right
            right = mixed
        number = left << half | right
        if number < count:
            return number
