"""Where everything lies in the engine's memory: one mapping, byte offsets, nothing moves.

    +--------+-----------------+-------------------+------------------------------------+
    | header | table catalogue | contexts          | chunks, handed out from BUMP up    |
    +--------+-----------------+-------------------+------------------------------------+

Record: one key of one table. `head` is the newest version; its low bits are free because
versions are aligned to 16 bytes.

      0  head     address of the newest version | PREPARED (4) | DEAD (2) | LOCKED (1)
                  0: placeholder
      8  key      one word | two words | length and bytes

Version: one value, never changed once installed.

      0  timestamp
      8  previous  the next older version, or 0
     16  mask      partitions that must be durable up to `timestamp` before this version is
     24  length    bytes of the value | TOMBSTONE (bit 32)
     32  value

Tree node: 1 KiB. The version word counts changes; it is LOCKED (1) while one is under way
and OBSOLETE (2) once the node is out of the tree. See `mako.engine.index`.

      0  version | 8  count | 16  level | 24  next leaf | 32  last insert | 40  high key ...
"""

from typing import Final

from mako.call_format import GATHERED_BYTES_MAX
from mako.ids import (
    KEY_BYTES_MAX,
    REMOTE_RANGES_MAX,
    REMOTE_ROWS_MAX,
    VALUE_BYTES_MAX,
    Outcome,
)

WORD: Final = 8
LINE: Final = 64

# --- engine header: words written by different threads lie on lines of their own -----------
MAGIC: Final = 0
SIZE: Final = 8  # bytes of the mapping
CONTEXTS: Final = 16  # address of the first context
CONTEXT_COUNT: Final = 24
OWN_BIT: Final = 32  # dependency mask with the bit of this partition only
LOGGING: Final = 40  # 1: committed transactions are appended to the rings
SOFT_LIMIT: Final = 48  # chunks for anything but deletes end here
CLOCK: Final = 1 * LINE  # last timestamp drawn
CLOSED: Final = 2 * LINE  # closed timestamp, published
STABLE: Final = 3 * LINE  # what snapshots read at; equal to CLOSED in a lone partition
HORIZON: Final = 4 * LINE  # what was replaced or unlinked at or below it is out of sight
INTENT: Final = 4 * LINE + 8  # no snapshot below it is handed out any more
BUMP: Final = 5 * LINE  # next byte nobody has
CLOSING: Final = 6 * LINE  # 1 while somebody computes the closed timestamp
PHYSICAL: Final = 7 * LINE  # physical milliseconds of the last tick
KEEPER: Final = 8 * LINE  # 1: the keeper shall stop
TOUCHED: Final = 8 * LINE + 8  # pages below it exist, as far as the keeper made them
RECORDING: Final = 8 * LINE + 16  # 1: a recorder takes the log out of the rings
REPLICATED: Final = 8 * LINE + 24  # 1: STABLE and the own watermark move with the Raft log
RECORDING_FAILED: Final = 2  # in RECORDING: it cannot write it any more, and takes nothing
SHARED_LOCK: Final = 9 * LINE  # 1 while somebody changes the shared free lists
SHARED_BYTES: Final = 9 * LINE + 8  # in them
SHARED_LARGE: Final = 9 * LINE + 16  # in blocks of values from RETIRED_BLOCK bytes up
FINDER: Final = 10 * LINE  # what a replayer has found, see finding; 0: nobody follows a log
FINDER_SHIFT: Final = 10 * LINE + 8  # 64 - the bits of a slot's number
PARTITION: Final = 11 * LINE  # number of this partition
PEERS: Final = 11 * LINE + 8  # bits of the partitions of the cluster; 0: this one is alone
VIEW: Final = 11 * LINE + 16  # epochs of all partitions as this one knows them: sum | hash
STALLED: Final = 11 * LINE + 24  # bits of the others from which nobody inherits now
WATERMARKS: Final = 16 * LINE  # 64 words: W_p of each partition, as far as known here
SHARED_LISTS: Final = 4096  # free lists of all contexts together: pools x classes
HEADER_BYTES: Final = 8192

# --- table catalogue ------------------------------------------------------------------------
TABLES: Final = HEADER_BYTES
TABLE_BYTES: Final = LINE
TABLE_MAX: Final = 1 << 15  # bit 15 of a table number in the log marks a delete
T_ROOT: Final = 0
T_KIND: Final = 8  # 0: no such table; 1, 2: words of the key; 3: byte strings
T_ID: Final = 16
T_ROW: Final = 24  # bytes of a row; 0: byte strings of any length
T_MAP: Final = 32  # which partition has a key, see owner; 0: all of them are here
T_MAP_SHIFT: Final = 40  # what these three are depends on the kind of map
T_MAP_FIRST: Final = 48
T_MAP_EACH: Final = 56
WORD_KEYS: Final = 1
PAIR_KEYS: Final = 2
BYTES_KEYS: Final = 3
FIRST_CONTEXT: Final = TABLES + TABLE_MAX * TABLE_BYTES

# --- record, version ------------------------------------------------------------------------
R_HEAD: Final = 0
R_KEY: Final = 8
LOCKED: Final = 1
DEAD: Final = 2
PREPARED: Final = 4  # beside LOCKED: held until another partition has answered
POINTER: Final = ~15
V_TIMESTAMP: Final = 0
V_PREVIOUS: Final = 8
V_MASK: Final = 16
V_LENGTH: Final = 24
V_VALUE: Final = 32
TOMBSTONE: Final = 1 << 32
LENGTH_MASK: Final = TOMBSTONE - 1

KEY_MAX: Final = KEY_BYTES_MAX  # bytes of a byte-string key
VALUE_MAX: Final = VALUE_BYTES_MAX  # bytes of a value

# --- context: one per worker or session -----------------------------------------------------
# Read by others:
C_ENGINE: Final = 0
C_INDEX: Final = 8
C_FLOOR: Final = 1 * LINE  # below the timestamp it will draw; NONE when not committing
C_ACTIVE: Final = 1 * LINE + 8  # closed timestamp at its last transaction boundary, or NONE
C_SNAPSHOT: Final = 1 * LINE + 16  # timestamp of the snapshot it reads, or NONE
C_DOOMED: Final = 1 * LINE + 24  # the C_PROGRESS of a transaction the watchdog gave up on
C_INTERRUPTED: Final = 1 * LINE + 32  # the same, of one that is to be run again
C_LOG_HEAD: Final = 2 * LINE  # bytes ever appended; written by the worker
C_LOG_TAIL: Final = 3 * LINE  # bytes ever taken; written by the drainer
C_PROGRESS: Final = 4 * LINE  # transactions begun: the watchdog sees it stand still
C_CONTROL: Final = 5 * LINE  # what the worker is asked to do, written by others
C_STATE: Final = 5 * LINE + 8  # what it does
C_WAKE: Final = 5 * LINE + 16  # eventfd it sleeps on
# Private, hot:
C_READS: Final = 6 * LINE
C_WRITES: Final = 6 * LINE + 8
C_LEAVES: Final = 6 * LINE + 16
C_INSERTS: Final = 6 * LINE + 24
C_LOG_BYTES: Final = 6 * LINE + 32  # bytes the writes will take in the log
C_INHERITED: Final = 6 * LINE + 40  # commits of this partition alone that inherited any
C_REFUSED: Final = 10 * LINE + 40  # ended, as they inherited from a partition that stalls
C_MASK: Final = 6 * LINE + 48  # foreign partitions inherited
C_MODE: Final = 6 * LINE + 56  # 0: transaction; else the timestamp of a snapshot
C_OUTCOME: Final = 7 * LINE  # why the transaction cannot commit, an Outcome
C_TIMESTAMP: Final = 7 * LINE + 8  # of the last commit
C_SEED: Final = 7 * LINE + 16  # random state at the start of the transaction
C_RANDOM: Final = 7 * LINE + 24
C_NOW: Final = 7 * LINE + 32
C_SCAN_USED: Final = 7 * LINE + 40
C_LOG_BASE: Final = 7 * LINE + 48
C_LOG_SIZE: Final = 7 * LINE + 56
C_CHUNK: Final = 8 * LINE
C_CHUNK_END: Final = 8 * LINE + 8
C_FREE_BYTES: Final = 8 * LINE + 16  # in this context's free lists, and the rest of its chunk
C_RETIRED_HEAD: Final = 8 * LINE + 24  # block and offset of the retire queue
C_RETIRED_HEAD_AT: Final = 8 * LINE + 32
C_RETIRED_TAIL: Final = 8 * LINE + 40
C_RETIRED_TAIL_AT: Final = 8 * LINE + 48
C_RETIRED_COUNT: Final = 8 * LINE + 56
C_INSTALLED: Final = 9 * LINE + 16  # 1: the writes are in the trees, and no abort's to free
C_HINT_TABLE: Final = 9 * LINE + 24  # leaf of the last insert lookup, for runs of inserts
C_HINT_LEAF: Final = 9 * LINE + 32
C_HINT_VERSION: Final = 9 * LINE + 40
C_STEPS: Final = 9 * LINE + 56  # engine calls of this transaction
C_LOG_TRANSACTIONS: Final = 10 * LINE
C_LOG_TOTAL: Final = 10 * LINE + 8
C_REQUEST: Final = 10 * LINE + 16  # request ring, see worker
C_DETAIL: Final = 10 * LINE + 24  # what the outcome is about: a table, a size
C_OWN: Final = 10 * LINE + 32  # dependency mask of this partition alone
C_SCAN_LAPS: Final = 10 * LINE + 48  # times the scan buffer of a snapshot began again
C_AHEAD_COUNT: Final = 10 * LINE + 56  # rows ever asked for with `prefetch`
C_FULL_SINCE: Final = 9 * LINE  # the clock when this transaction first found memory full
C_FULL_TURNS: Final = 9 * LINE + 8  # turns it has waited in vain since
C_LINKED: Final = 15 * LINE  # what the last `link` did: five words
C_OUTCOMES: Final = 11 * LINE  # 32 counters, one per Outcome
C_COMMITTED: Final = C_OUTCOMES
C_PARKED_OUTCOMES: Final = C_OUTCOMES + 20 * WORD  # 12 counters of a lane, see parking
C_PATH: Final = 16 * LINE  # node, version, child index per level, for repairs of the tree
PATH_MAX: Final = 16
C_WORKLOAD: Final = 24 * LINE  # what the worker kernel runs, see worker
# What a worker drives, at C_WORKLOAD:
K_GENERATE: Final = C_WORKLOAD  # entry that draws the inputs; 0: serve requests
K_EXECUTE: Final = C_WORKLOAD + 8
K_STATE: Final = C_WORKLOAD + 16  # the worker's row
K_INTERVAL: Final = C_WORKLOAD + 24  # ns between two transactions of an open loop; 0: closed
K_DUE: Final = C_WORKLOAD + 32  # when the next one is due, monotonic ns
K_RANDOM: Final = C_WORKLOAD + 40
K_OFFSET: Final = C_WORKLOAD + 48  # wall clock minus monotonic clock, ns
K_ATTEMPTS: Final = C_WORKLOAD + 56
K_STARTED: Final = C_WORKLOAD + 64  # when the present transaction was due or began
K_FAILED: Final = C_WORKLOAD + 72  # the outcome that stopped the worker by itself
K_ROLLED_BACK: Final = C_WORKLOAD + 80  # KIND_MAX counters
K_STATE_BYTES: Final = C_WORKLOAD + 208
K_FAILED_DETAIL: Final = C_WORKLOAD + 216  # C_DETAIL of the transaction that stopped it
K_REQUESTS: Final = C_WORKLOAD + 256  # address of the request ring
K_COMPLETIONS: Final = K_REQUESTS + 8
K_LISTENER: Final = K_REQUESTS + 16  # eventfd of whoever collects, or -1
# Heads and tails count bytes. Written by who submits and collects:
K_REQUEST_HEAD: Final = C_WORKLOAD + 5 * LINE
K_COMPLETION_TAIL: Final = K_REQUEST_HEAD + 8
K_REQUEST_FILLED: Final = K_REQUEST_HEAD + 16  # written so far, published by the head
K_COMPLETION_SEEN: Final = K_REQUEST_HEAD + 24  # early results are sent up to here
K_LISTENING: Final = K_REQUEST_HEAD + 32  # 1: who collects is asleep; the worker clears it
# Written by the worker:
K_REQUEST_TAIL: Final = C_WORKLOAD + 6 * LINE
K_COMPLETION_HEAD: Final = K_REQUEST_TAIL + 8
RING_SKIP: Final = -1  # in place of a size: the next one begins at the start of the ring
REQUEST_RING_BYTES: Final = 1 << 20
Q_SIZE: Final = 0  # bytes of the whole request, a multiple of eight
Q_ID: Final = 8
Q_ENTRY: Final = 16
Q_ORIGIN: Final = 24  # who asked, and FLAG_ bits
Q_ARGUMENTS: Final = 32
COMPLETION_RING_BYTES: Final = 1 << 20
D_SIZE: Final = 0
D_ID: Final = 8
D_OUTCOME: Final = 16
D_TIMESTAMP: Final = 24
D_MASK: Final = 32
D_RESULT: Final = 40
D_DETAIL: Final = 48
D_ORIGIN: Final = 56
D_BYTES: Final = 64  # of a request with FLAG_BYTES: as many as its result says
FLAG_EARLY: Final = 1  # its result is wanted before it is durable, and a notice when it is
FLAG_BYTES: Final = 2  # its result is a length, and the bytes are behind C_RESULT
FLAG_ANSWERED: Final = 4  # all that there is to say has been sent early
ORIGIN_SHIFT: Final = 8  # bits of flags below the number of a connection
C_HISTOGRAMS: Final = 4096  # 8 kinds x HISTOGRAM_BUCKETS
HISTOGRAM_BYTES: Final = 8 * 2304
KIND_MAX: Final = 16
C_LISTS: Final = C_HISTOGRAMS + KIND_MAX * HISTOGRAM_BYTES  # free lists: pools x classes
CLASS_COUNT: Final = 160
POOL_VALUES: Final = 0  # versions and everything else that only running workers point to
POOL_RECORDS: Final = 1
POOL_NODES: Final = 2
POOL_COUNT: Final = 3
C_AHEAD: Final = C_LISTS + POOL_COUNT * CLASS_COUNT * WORD  # rows on their way: see prefetch
AHEAD_MAX: Final = 64
AHEAD_BYTES: Final = 64
A_TABLE: Final = 0
A_LEAF: Final = 8
A_VERSION: Final = 16  # of the leaf, when the record was found in it
A_RECORD: Final = 24  # 0: not found yet
A_LINES: Final = 32  # lines of the row's version | kind of key << 8
A_KEY: Final = 40
A_TRANSACTION: Final = 56  # C_PROGRESS when the leaf was found
C_ORDER: Final = C_AHEAD + AHEAD_MAX * AHEAD_BYTES  # the last entries asked for, in order
C_KEY: Final = C_ORDER + AHEAD_MAX * WORD  # a key of bytes: length, bytes
C_KEY_END: Final = C_KEY + KEY_MAX + LINE  # a second one, for scans
C_ARGUMENTS: Final = C_KEY_END + KEY_MAX + LINE
#: A gathered transaction is the longest that a client can send; a page for what comes with it.
ARGUMENT_BYTES: Final = GATHERED_BYTES_MAX + 4096
C_RESULT: Final = C_ARGUMENTS + ARGUMENT_BYTES
RESULT_BYTES: Final = 64 << 10
#: Own writes by record and own inserts by key: the transaction that filled the bucket and its
#: newest entry there. A bucket of an earlier transaction is empty; nothing is ever cleared.
BUCKETS: Final = 1024
C_RECORD_BUCKETS: Final = C_RESULT + RESULT_BYTES
C_KEY_BUCKETS: Final = C_RECORD_BUCKETS + BUCKETS * 16  # transaction, entry
C_ZERO: Final = C_KEY_BUCKETS + BUCKETS * 16  # a row of zeros, for rows not found
ZERO_BYTES: Final = 64 << 10
C_READSET: Final = -(-(C_ZERO + ZERO_BYTES) // 4096) * 4096
READ_MAX: Final = 1 << 18
READ_BYTES: Final = 16  # record, timestamp seen
C_LEAFSET: Final = C_READSET + READ_MAX * READ_BYTES
LEAF_MAX: Final = 1 << 16
LEAF_BYTES: Final = 16  # leaf, version seen
C_WRITESET: Final = C_LEAFSET + LEAF_MAX * LEAF_BYTES
WRITE_MAX: Final = 65_535  # `count` of a transaction in the log is 16 bits
WRITE_BYTES: Final = 80
C_SCAN: Final = C_WRITESET + (WRITE_MAX + 1) * WRITE_BYTES
SCAN_MAX: Final = 1 << 17  # rows of all scans of one transaction
SCAN_BYTES: Final = 16  # record, version
C_BATCH: Final = C_SCAN + SCAN_MAX * SCAN_BYTES  # records of one leaf
BATCH_BYTES: Final = 4096
C_DURABLE: Final = C_BATCH + BATCH_BYTES  # see durability
DURABLE_RING: Final = 0  # address of DURABLE_SLOTS slots; 0: nothing is measured
DURABLE_HEAD: Final = 8
DURABLE_TAIL: Final = 16
DURABLE_COUNT: Final = 24  # transactions that have become durable
DURABLE_SUM: Final = 32  # of their latencies, ns
DURABLE_LEAST: Final = 40  # the least time from commit to durable, ns; 0: none is known
DURABLE_LOOK: Final = 48  # when it is looked for anew, ns
DURABLE_HISTOGRAMS: Final = LINE  # kinds x HISTOGRAM_BUCKETS, like C_HISTOGRAMS
#: Commits of a worker that are not durable yet; some hundred milliseconds of TPC-C.
DURABLE_SLOTS: Final = 1 << 14
#: Rows of other partitions that the transaction knows or asks for, see remote.
C_REMOTE: Final = -(-(C_DURABLE + DURABLE_HISTOGRAMS + KIND_MAX * HISTOGRAM_BYTES) // LINE) * LINE
C_MESH: Final = C_REMOTE  # what a worker needs for transactions over partitions; 0: there are none
C_ROWS: Final = C_REMOTE + 8  # how many
C_KNOWN: Final = C_REMOTE + 16  # bytes of the heap with keys, and values that came
C_DRAFTED: Final = C_REMOTE + 24  # and from its end on those that this run has written
C_DRAFT_RUN: Final = C_REMOTE + 32  # the C_PROGRESS of that run
C_SCANS: Final = C_REMOTE + 40
C_PREPARED: Final = C_REMOTE + 48  # 1: its locks are held until another partition has answered
C_MET_PREPARED: Final = C_REMOTE + 56  # 1: the last conflict was with such a lock
C_LOOK_FIRST: Final = C_REMOTE + LINE  # 1: nothing is inserted blindly
C_GUEST: Final = C_REMOTE + LINE + 8  # of a driven worker: one that serves and has no thread now
C_LANE: Final = C_REMOTE + 2 * LINE  # how far a distributed transaction has come, see lane
C_REMOTE_ROWS: Final = C_LANE + 4 * LINE
REMOTE_ROW_MAX: Final = REMOTE_ROWS_MAX
REMOTE_ROW_BYTES: Final = 2 * LINE
C_REMOTE_SCANS: Final = C_REMOTE_ROWS + REMOTE_ROW_MAX * REMOTE_ROW_BYTES
REMOTE_SCAN_MAX: Final = REMOTE_RANGES_MAX
REMOTE_SCAN_BYTES: Final = 2 * LINE
C_HEAP: Final = C_REMOTE_SCANS + REMOTE_SCAN_MAX * REMOTE_SCAN_BYTES
HEAP_BYTES: Final = 4 << 20
_C_END: Final = C_HEAP + HEAP_BYTES
CONTEXT_BYTES: Final = -(-_C_END // 4096) * 4096

# --- write set entry ------------------------------------------------------------------------
W_RECORD: Final = 0
W_VERSION: Final = 8
W_SEEN: Final = 16  # timestamp of the head when it was read; 0: there was none
W_KIND: Final = 24
W_TABLE: Final = 32  # address of the table
W_LEAF: Final = 40  # inserts: where the key will go, if nothing changes
W_LEAF_VERSION: Final = 48
W_HEAD: Final = 56  # head before locking; what an abort puts back
W_NEXT: Final = 64  # entry before it in the same bucket of records, or 0
W_NEXT_KEY: Final = 72  # the same for the keys of inserts
UPDATE: Final = 1
INSERT: Final = 2
DELETE: Final = 3
CANCELLED: Final = 4  # an own insert deleted again

# --- tree node ------------------------------------------------------------------------------
NODE_BYTES: Final = 1024
N_VERSION: Final = 0
N_COUNT: Final = 8
N_LEVEL: Final = 16
N_NEXT: Final = 24
N_LAST: Final = 32
N_HIGH: Final = 40
NODE_LOCKED: Final = 1
NODE_OBSOLETE: Final = 2
NODE_STEP: Final = 4

# --- retired memory -------------------------------------------------------------------------
RETIRED_BYTES: Final = 32  # timestamp, address, what | class << 8, table
RETIRED_BLOCK: Final = 4096
RETIRED_NEXT: Final = 0  # first word of a block
RETIRED_FIRST: Final = 32
RETIRE_VALUE: Final = 0
RETIRE_RECORD: Final = 1
RETIRE_NODE: Final = 2
RETIRE_TOMBSTONE: Final = 3
RETIRE_NOTHING: Final = 4  # an entry that was crossed out

NONE: Final = (1 << 63) - 1  # no floor, no snapshot, not active
CHUNK_BYTES: Final = 256 << 10
#: Rounds of a spin before the caller gives up and aborts. Locks are held for well under a
#: microsecond; a holder that lost its processor is not worth waiting for inside the engine.
SPIN_MAX: Final = 4096

assert SHARED_LISTS + POOL_COUNT * CLASS_COUNT * WORD <= HEADER_BYTES
assert C_PATH + PATH_MAX * 24 <= C_WORKLOAD
assert C_OUTCOMES + 32 * WORD <= C_LINKED
assert C_OUTCOMES + (Outcome.REMOTE + 1) * WORD <= C_PARKED_OUTCOMES
assert C_PARKED_OUTCOMES + (Outcome.LOG_FULL + 1) * WORD <= C_OUTCOMES + 32 * WORD
assert C_LINKED + 5 * WORD <= C_PATH
assert C_WORKLOAD + 8 * LINE <= C_HISTOGRAMS
assert K_ROLLED_BACK + KIND_MAX * WORD <= K_STATE_BYTES
