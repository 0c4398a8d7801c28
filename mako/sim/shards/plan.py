"""What is drawn for clusters of several partitions, beside what is drawn for all."""

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from mako.placement import Kind, Placement, ShardMap, blocks
from mako.sim.clock import MS, SECOND
from mako.sim.plan import SILENCES, ClientsPlan, Plan
from mako.sim.shards.tpcc import TABLES
from mako.sim.streams import StreamSettings

_KIB: Final = 1 << 10
PROCESSES: Final = 3
#: Accounts of the bank: as many as one result can hold.
ACCOUNTS: Final = 3

#: What clients do, by the weights that it may be drawn with.
SHARES: Final = {
    "append": (3.0, 6.0),
    "lengths": (0.0, 1.0, 2.0),
    "lasts": (0.0, 1.0, 2.0),
    "write": (0.0, 1.0, 2.0),
    "read": (0.0, 1.0),
    "transfer": (0.0, 1.0, 2.0),
    "balances": (0.0, 1.0),
    "snapshot": (0.0, 1.0),
    "order": (0.0, 1.0, 3.0),
    "newest_order": (0.0, 1.0),
    "pay": (0.0, 1.0, 2.0),
}

#: What they do with registers beside that, in half of the seeds, and how much more often than the
#: weights above say they write and read them there.
HOT_SHARES: Final = {
    "change": (1.0, 3.0),
    "watch": (3.0, 6.0),
}
_HOTTER: Final = 3.0
#: And key by key, over all partitions.
BY_HAND: Final = (0.0, 1.0, 4.0, 10.0)
#: As far as the fault "clock" goes.
CLOCKS_WRONG_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class ShardsPlan:
    """See the module."""

    partitions: int = 2
    #: Where rows are, by table; a list's elements are with its head, or anywhere.
    together: bool = True
    registers: int = 6
    #: Of the small TPC-C, in each partition.
    warehouses: int = 1
    #: Chance that a client asks a partition that has none of what it wants.
    elsewhere: float = 0.2
    #: Requests of a worker between two turns, at most.
    requests: int = 2
    #: Mean time until a worker looks again: after it did something, and after it did nothing, ns.
    busy: int = MS // 5
    idle: int = 2 * MS
    shares: dict[str, float] = field(default_factory=dict)
    #: Mean time until a partition moves there and back unheard, ns; 0: never (see faults).
    move_distance: int = 0
    #: Chance that mail of an epoch is repeated in the next one.
    echo: float = 0.0
    #: Chance that what a leader tells of epochs is lost, beside what links lose.
    history_loss: float = 0.0
    #: ms by which wall clocks may be wrong either way, more than is configured; 0: they are not.
    clocks_wrong_ms: int = 0


def draw_shards(
    plan: Plan, chance: Random, hot: Random, clocks: Random, hands: Random
) -> ShardsPlan:
    """Draw that part of a seed, and change what has to be other with several partitions. `hot`
    draws whether registers are fought for, `clocks` whether clocks are wrong, `hands` how
    much is done by hand."""
    choice = chance.choice
    partitions = choice((2, 2, 3, 4))
    plan.groups = partitions
    plan.processes = PROCESSES
    plan.duration = int(SECOND * choice((2.0, 3.0, 4.0)))
    plan.think = choice((8, 20)) * MS
    # Of each partition.
    plan.clients = choice((2, 3))
    plan.fault_distance = choice((150, 300, 600)) * MS
    plan.leader_killer = choice((0.0, 0.0, 0.3))
    plan.keys = choice((2, 4, 6, 9))
    plan.raft = replace(plan.raft, entry_bytes_max=4 << 20)
    stream = plan.driver.stream
    plan.driver = replace(
        plan.driver,
        stream=replace(
            stream,
            chunk_bytes=16 * stream.chunk_bytes,
            window_bytes=16 * stream.window_bytes,
        ),
    )
    plan.clients_plan = ClientsPlan(
        workers=choice((1, 1, 2)),
        sessions=5,
        ring_bytes=choice((32, 64)) * _KIB,
        turn=choice((2, 5, 10)) * MS,
        # Wall clocks differ by less than that: see `ShardProcess.move_wall`.
        clock_offset_ms=choice((1, 3, 20)),
        between=choice((0.0, 0.3, 0.9)),
        trouble_distance=choice((SECOND // 4, SECOND, 3 * SECOND)),
        trouble_length=choice((SECOND // 20, SECOND // 2)),
        stream=StreamSettings(
            delay_mean=choice((MS // 10, MS // 2, 3 * MS)), pieces_max=choice((1, 3))
        ),
    )
    drawn = ShardsPlan(
        partitions=partitions,
        together=choice((True, False)),
        registers=choice((3, 8)),
        warehouses=choice((1, 3)),
        elsewhere=choice((0.0, 0.2, 0.6)),
        requests=choice((1, 2, 4)),
        busy=choice((MS // 20, MS // 4)),
        idle=choice((MS, 4 * MS)),
        shares=_heated({name: choice(options) for name, options in SHARES.items()}, hot)
        | {"by_hand": hands.choice(BY_HAND)},
        move_distance=int(SECOND * choice((0.0, 0.5, 1.5))),
        echo=choice((0.0, 0.3, 1.0)),
        history_loss=choice((0.0, 0.0, 0.5)),
        clocks_wrong_ms=clocks.choice((0, 0, 0, 0, CLOCKS_WRONG_MS)),
    )
    plan.clients_plan = replace(plan.clients_plan, silence=choice(SILENCES))
    return drawn


def _heated(shares: dict[str, float], hot: Random) -> dict[str, float]:
    """What clients do, where registers are perhaps fought for."""
    if hot.random() < 0.5:
        return shares | dict.fromkeys(HOT_SHARES, 0.0)
    more = {name: hot.choice(options) for name, options in HOT_SHARES.items()}
    more |= {name: _HOTTER * (shares[name] or 1.0) for name in ("write", "read")}
    return shares | more


def shard_map(plan: ShardsPlan) -> ShardMap:
    """Lists, registers, accounts and warehouses one by one around the partitions, or by their
    hashes."""
    count = plan.partitions
    hashed = Placement(Kind.HASH, count)
    if not plan.together:
        return ShardMap(count, hashed)
    by_number = blocks(count, size=NUMBERS_EACH, bits=32)
    names = ["heads", "elements", "registers", "accounts", *(table.name for table in TABLES)]
    return ShardMap(count, hashed, dict.fromkeys(names, by_number))


#: Lists, registers, accounts and warehouses: number n is in partition n mod partitions.
NUMBERS_EACH: Final = 1000


def key_of(plan: ShardsPlan, number: int) -> int:
    """The key of list, register, account or warehouse `number`."""
    return number % plan.partitions * NUMBERS_EACH + number // plan.partitions
