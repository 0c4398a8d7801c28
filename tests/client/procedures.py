"""Tables and procedures of the tests in this folder."""

from typing import Any

import mako

COUNTER = mako.Table("counter", id=11, key={"id": 32}, row={"value": "i8"})
NOTE = mako.Table(
    "note",
    id=12,
    key={"owner": 16, "number": 16},
    row={"text": "S12", "size": "u1", "marks": "i2*4"},
)
UNDECLARED = mako.Table("undeclared", id=13, key={"id": 8}, row={"value": "i8"})
OUT = mako.Row({"count": "i8", "total": "i8", "text": "S4"})


@mako.procedure
def add(tx: Any, key: int, amount: int) -> Any:
    found, _ = tx.find(COUNTER, (key,))
    if not found:
        tx.insert(COUNTER, (key,))
    row = tx.write(COUNTER, (key,))
    row.value += amount
    return row.value


@mako.procedure
def value_of(tx: Any, key: int) -> Any:
    return tx.read(COUNTER, (key,)).value


@mako.procedure
def remove(tx: Any, key: int) -> None:
    tx.delete(COUNTER, (key,))


@mako.procedure
def insert(tx: Any, key: int) -> None:
    tx.insert(COUNTER, (key,))


@mako.procedure
def add_then_give_up(tx: Any, key: int) -> None:
    tx.write(COUNTER, (key,)).value += 1
    tx.rollback()


@mako.procedure
def add_then_raise(tx: Any, key: int, limit: int) -> None:
    row = tx.write(COUNTER, (key,))
    row.value += 1
    if row.value > limit:
        raise ValueError("over the limit")


@mako.procedure
def total(tx: Any, first: int, end: int) -> Any:
    cursor = tx.scan(COUNTER, (first,), (end,), 4096)
    result = 0
    for i in range(cursor.count):
        result += cursor.row(i).value
    return result


@mako.procedure
def last_key(tx: Any, first: int, end: int) -> Any:
    cursor = tx.scan_back(COUNTER, (first,), (end,), 1)
    return cursor.key(0).id if cursor.count else -1


@mako.procedure
def double_and_prune(tx: Any, first: int, end: int) -> Any:
    """Double the odd values of a range, delete the even ones."""
    cursor = tx.scan(COUNTER, (first,), (end,), 100)
    for i in range(cursor.count):
        if cursor.row(i).value % 2 == 0:
            cursor.delete(i)
        else:
            cursor.write(i).value *= 2
    return cursor.count


@mako.procedure
def write_note(tx: Any, owner: int, number: int, mark: int) -> Any:
    row = tx.put(NOTE, (owner, number))
    row.text = b"hello, world and more"
    row.text[0] = 72
    row.size = 300
    for i in range(len(row.marks)):
        row.marks[i] = mark + i
    return row.marks[3]


@mako.procedure
def compare_notes(tx: Any, owner: int, one: int, other: int) -> Any:
    a = tx.read(NOTE, (owner, one))
    b = tx.read(NOTE, (owner, other))
    copy = tx.put(NOTE, (owner, one + other))
    copy.text = a.text[7:12]
    if a.text == b.text and copy.text < b"world!" and copy.text[0:5] == b"world":
        return copy.text[0]
    return -1


@mako.procedure
def summary(tx: Any, end: int, out: Any) -> Any:
    cursor = tx.scan(COUNTER, (0,), (end,), 4096)
    for i in range(cursor.count):
        out.count += 1
        out.total += cursor.row(i).value
    out.text = b"done"
    return out.count


@mako.procedure
def write_at_snapshot(tx: Any, key: int) -> None:
    tx.write(COUNTER, (key,)).value += 1


@mako.procedure
def uses_undeclared(tx: Any) -> Any:
    return tx.read(UNDECLARED, (1,)).value


@mako.procedure
def not_compilable(tx: Any, key: int) -> Any:
    names: Any = {"a": [1, "two"]}
    return len(names[key])


@mako.procedure
def wrong_field(tx: Any, key: int) -> Any:
    return tx.read(COUNTER, (key,)).colour


@mako.procedure
def assigns_what_it_read(tx: Any, key: int) -> None:
    tx.read(COUNTER, (key,)).value = 1


@mako.procedure
def drawn(tx: Any, key: int) -> Any:
    """A number of its own, the same in every attempt."""
    number = tx.random(1, 1 << 40)
    tx.put(COUNTER, (key,)).value = number
    return number


@mako.procedure
def clock(tx: Any) -> Any:
    return tx.now()


# --- what does not end -------------------------------------------------------------------------


@mako.procedure
def spin(tx: Any, step: int) -> Any:
    i = 1
    while i != 0:
        i = (i + step) | 1
    return i


@mako.procedure
def count_far(tx: Any, rounds: int) -> Any:
    mixed = 1
    for i in range(rounds):
        mixed = (mixed ^ i) * 3 & 0xFFFF
    return mixed


@mako.procedure
def write_for_ever(tx: Any, key: int) -> None:
    while True:
        tx.write(COUNTER, (key,)).value += 1


@mako.function
def settle(tx: Any, value: int) -> Any:
    while value != -1:
        value = (value * 5 + 1) & 0xFFFF
    return value


@mako.procedure
def spin_in_a_helper(tx: Any, value: int) -> Any:
    return settle(tx, value)


ENDLESS: list[tuple[mako.Procedure, int]] = [
    (spin, 2),
    (count_far, 1 << 60),
    (write_for_ever, 1),
    (spin_in_a_helper, 7),
]


@mako.function
def circle(n: int) -> Any:
    while n != 1:
        n = (n % 7) + 2
    return n


@mako.function
def count_up(n: int) -> Any:
    mixed = 1
    for i in range(n):
        mixed = (mixed ^ i) * 3 & 0xFFFF
    return mixed


@mako.procedure
def circle_in_a_helper(tx: Any, n: int) -> Any:
    tx.put(COUNTER, (1,)).value = n
    return circle(n)


@mako.procedure
def count_in_a_helper(tx: Any, n: int) -> Any:
    tx.put(COUNTER, (1,)).value = n
    return count_up(n << 50)


ENDLESS_HELPERS = [circle_in_a_helper, count_in_a_helper]


@mako.procedure
def count_in_short_loops(tx: Any, n: int) -> Any:
    mixed = 0
    for a in range(4096):
        for b in range(4096):
            for c in range(4096):
                for d in range(4096):
                    mixed = (mixed * 31 + n + a * b ^ c + d) % 1_000_003
    return mixed


@mako.function
def divisor(a: int, b: int) -> Any:
    while b:
        a, b = b, a % b
    return a


@mako.procedure
def common_divisor(tx: Any, a: int, b: int) -> Any:
    return divisor(a, b)


STATE = mako.Row({"left": "i8", "rolls": "i8"})


@mako.function
def generate(random: Any, state: Any) -> Any:
    state.rolls += random.uniform(1, 6)
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    tx.write(COUNTER, (1,)).value += 1
    if state.left > 0:
        state.left -= 1
    else:
        while state.left == 0:
            state.rolls += 0


@mako.function
def generate_for_ever(random: Any, state: Any) -> Any:
    while state.left >= 0:
        state.left += 1
        if state.left > 1_000_000:
            state.left = 0
    return 0


ENDLESS_WORKLOAD = mako.Workload(
    "endless", kinds=("one",), state=STATE, generate=generate, execute=execute
)
ENDLESS_GENERATOR = mako.Workload(
    "dreaming", kinds=("one",), state=STATE, generate=generate_for_ever, execute=execute
)
