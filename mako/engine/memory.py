"""Memory of the engine: bump chunks per context, free lists by size class.

A context that has more free memory than it needs gives what it frees to lists that all share,
and one that has none takes from there before it takes a new chunk: one context may delete what
another one inserts.

Three pools that never mix: values (versions, separators, queue blocks), records and nodes.
A record stays a record and a node a node for as long as the engine lives, so a transaction
that does not pin memory between two calls may still load their words and find that they
changed.

A request that cannot be met returns 0 and changes nothing.
"""

from mako.engine.atomics import (
    cas,
    ld8,
    leading_zeros,
    load_relaxed,
    memset,
    pause,
    prefetch,
    st8,
    store_release,
)
from mako.engine.jit import compiled
from mako.engine.layout import (
    BUMP,
    C_CHUNK,
    C_CHUNK_END,
    C_ENGINE,
    C_FREE_BYTES,
    C_LISTS,
    CHUNK_BYTES,
    CLASS_COUNT,
    LINE,
    POOL_VALUES,
    RETIRED_BLOCK,
    SHARED_BYTES,
    SHARED_LARGE,
    SHARED_LISTS,
    SHARED_LOCK,
    SIZE,
    SOFT_LIMIT,
    SPIN_MAX,
    WORD,
)

_SMALL = 1024  # up to here a class every 16 bytes, above four classes per doubling
_SMALL_CLASSES = _SMALL // 16
#: Free memory a context keeps for itself: some hundred transactions of TPC-C, and less when
#: little is left, because nobody else can use it.
KEPT_BYTES_MAX = 2 << 20
KEPT_BYTES_MIN = 64 << 10
#: The least that a context takes from the shared end, and what it takes is at most so small a part
#: (a shift) of what is left there: nobody else can use it, and there may be hundreds of contexts.
_CHUNK_BYTES_MIN = 16 << 10
_CHUNK_SHIFT = 8
#: What a context takes from the shared lists at a time.
_TAKEN_BYTES = 64 << 10
#: How far ahead of what is handed out `allocate_ahead` asks for memory.
_AHEAD = 1024


@compiled
def size_class(size: int) -> int:
    """The class whose blocks hold `size` bytes, size > 0."""
    if size <= _SMALL:
        return (size + 15) >> 4
    octave = 63 - leading_zeros(size - 1)  # 2^octave <= size - 1
    quarter = ((size - 1) >> (octave - 2)) & 3
    return _SMALL_CLASSES + 1 + (octave - 10) * 4 + quarter


@compiled
def class_bytes(index: int) -> int:
    """Bytes of a block of class `index`."""
    if index <= _SMALL_CLASSES:
        return index << 4
    step = index - _SMALL_CLASSES - 1
    octave = 10 + (step >> 2)
    return (1 << octave) + (((step & 3) + 1) << (octave - 2))


#: First class of blocks that the retire queue can be made of.
_LARGE = _SMALL_CLASSES + 1 + (RETIRED_BLOCK.bit_length() - 12) * 4 + 3


@compiled
def _taken(size: int, left: int) -> int:
    """Bytes to take for a block of `size` where so many are left: a chunk, or only the block if it
    is large for one."""
    chunk = min(max(left >> _CHUNK_SHIFT, _CHUNK_BYTES_MIN), CHUNK_BYTES) & -LINE
    return size if size > chunk // 4 else chunk


@compiled
def _refill(context: int, size: int, limit: int) -> int:
    """A block of `size` bytes from the shared end of memory, or 0 past `limit`."""
    engine = ld8(context + C_ENGINE)
    end = engine + ld8(engine + limit)
    start = load_relaxed(engine + BUMP)
    wanted = _taken(size, end - start)
    # Adding first and taking it back on failure would let somebody with a higher limit, who
    # came in between, own what the next one is given, too.
    while start + wanted <= end and cas(engine + BUMP, start, start + wanted) == 0:
        start = load_relaxed(engine + BUMP)
        wanted = _taken(size, end - start)
    if start + wanted > end:
        return 0
    if wanted == size:
        return start
    # What is left of the old chunk is lost to this context; it is at most a quarter.
    lost = ld8(context + C_CHUNK_END) - ld8(context + C_CHUNK)
    st8(context + C_CHUNK, start + size)
    st8(context + C_CHUNK_END, start + wanted)
    st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) + wanted - lost - size)
    return start


@compiled
def kept_bytes(engine: int) -> int:
    """How much free memory a context may keep for itself at present."""
    end = engine + ld8(engine + SOFT_LIMIT)
    left = max(end - load_relaxed(engine + BUMP), 0) + load_relaxed(engine + SHARED_BYTES)
    return min(max(left >> 4, KEPT_BYTES_MIN), KEPT_BYTES_MAX)


@compiled
def release(context: int, pool: int, block: int, index: int) -> None:
    """Put a block of class `index` on the free list. Nobody may hold it any more.

    The link is its second word: the first one of a node or a record keeps its version, so
    that whoever still looks at it sees a change and not somebody else's data.
    """
    entry = context + C_LISTS + (pool * CLASS_COUNT + index) * WORD
    st8(block + WORD, ld8(entry))
    st8(entry, block)
    st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) + class_bytes(index))


@compiled
def _count_shared(engine: int, pool: int, index: int, count: int) -> None:
    """Keep the books of the shared lists, under their lock."""
    change = count * class_bytes(index)
    st8(engine + SHARED_BYTES, ld8(engine + SHARED_BYTES) + change)
    if pool == POOL_VALUES and index >= _LARGE:
        st8(engine + SHARED_LARGE, ld8(engine + SHARED_LARGE) + change)


@compiled
def _keeps_reserve(engine: int) -> bool:
    """Whether the reserve for deletes is there: first it is the end of the memory, and once that
    has been handed out, free blocks that are large enough for the queue of what is retired."""
    left = engine + ld8(engine + SIZE) - load_relaxed(engine + BUMP)
    left += load_relaxed(engine + SHARED_LARGE)
    return left >= ld8(engine + SIZE) - ld8(engine + SOFT_LIMIT)


@compiled
def _take_shared(context: int, pool: int, index: int) -> int:
    """A block from the shared lists, with some more for the context's own list; or 0."""
    engine = ld8(context + C_ENGINE)
    shared = engine + SHARED_LISTS + (pool * CLASS_COUNT + index) * WORD
    if load_relaxed(shared) == 0:
        return 0
    for _ in range(SPIN_MAX):
        if cas(engine + SHARED_LOCK, 0, 1):
            break
        pause()
    else:
        return 0
    size = class_bytes(index)
    first = ld8(shared)
    last = first
    count = 1 if first != 0 else 0
    while count != 0 and (count + 1) * size <= _TAKEN_BYTES and ld8(last + WORD) != 0:
        last = ld8(last + WORD)
        count += 1
    if first != 0:
        st8(shared, ld8(last + WORD))
        _count_shared(engine, pool, index, -count)
        st8(last + WORD, 0)
        st8(context + C_LISTS + (pool * CLASS_COUNT + index) * WORD, ld8(first + WORD))
        st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) + (count - 1) * size)
    store_release(engine + SHARED_LOCK, 0)
    return first


@compiled
def release_surplus(context: int, pool: int, block: int, index: int) -> None:
    """Put a block on the shared free list, or, should that be busy, on the context's own."""
    engine = ld8(context + C_ENGINE)
    if cas(engine + SHARED_LOCK, 0, 1) == 0:
        release(context, pool, block, index)
        return
    shared = engine + SHARED_LISTS + (pool * CLASS_COUNT + index) * WORD
    st8(block + WORD, ld8(shared))
    st8(shared, block)
    _count_shared(engine, pool, index, 1)
    store_release(engine + SHARED_LOCK, 0)


@compiled
def _recycle(context: int, size: int, limit: int) -> int:
    """When there is no new chunk: make a larger free block of values the chunk, 1, or 0. Large
    ones only for `limit` SIZE, or while there is the reserve.

    Only the pool of values gives memory to all: nobody relies on what a value's block was.
    """
    own = context + C_LISTS + POOL_VALUES * CLASS_COUNT * WORD
    for index in range(size_class(size) + 1, CLASS_COUNT):
        if index >= _LARGE and limit != SIZE and not _keeps_reserve(ld8(context + C_ENGINE)):
            return 0
        block = ld8(own + index * WORD)
        if block != 0:
            st8(own + index * WORD, ld8(block + WORD))
        else:
            block = _take_shared(context, POOL_VALUES, index)
            if block != 0:
                st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) + class_bytes(index))
        if block != 0:
            lost = ld8(context + C_CHUNK_END) - ld8(context + C_CHUNK)
            st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) - lost)
            memset(block, 0, class_bytes(index))  # As a chunk is: a node's version begins at 0.
            st8(context + C_CHUNK, block)
            st8(context + C_CHUNK_END, block + class_bytes(index))
            return 1
    return 0


@compiled
def _allocate(context: int, pool: int, size: int, limit: int) -> int:
    index = size_class(size)
    entry = context + C_LISTS + (pool * CLASS_COUNT + index) * WORD
    block = ld8(entry)
    size = class_bytes(index)
    if block != 0:
        st8(entry, ld8(block + WORD))
        st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) - size)
        return block
    block = ld8(context + C_CHUNK)
    if block + size <= ld8(context + C_CHUNK_END):
        st8(context + C_CHUNK, block + size)
        st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) - size)
        return block
    if index < _LARGE or limit == SIZE or _keeps_reserve(ld8(context + C_ENGINE)):
        block = _take_shared(context, pool, index)
        if block != 0:
            return block
    block = _refill(context, size, limit)
    if block == 0 and _recycle(context, size, limit):
        block = ld8(context + C_CHUNK)
        st8(context + C_CHUNK, block + size)
        st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) - size)
    return block


@compiled
def allocate(context: int, pool: int, size: int) -> int:
    """A block of at least `size` bytes, 16-byte aligned; 0 when memory is full."""
    return _allocate(context, pool, size, SOFT_LIMIT)


@compiled(inline=True)
def allocate_ahead(context: int, pool: int, size: int) -> int:
    """As `allocate`, for those who take one block after the other: it asks for the memory of the
    next ones. What was freed, or never used, is in no cache, and its first store would wait."""
    index = size_class(size)
    entry = context + C_LISTS + (pool * CLASS_COUNT + index) * WORD
    block = ld8(entry)
    if block != 0:
        following = ld8(block + WORD)
        st8(entry, following)
        st8(context + C_FREE_BYTES, ld8(context + C_FREE_BYTES) - class_bytes(index))
        prefetch(following)
        return block
    prefetch(ld8(context + C_CHUNK) + _AHEAD)
    prefetch(ld8(context + C_CHUNK) + _AHEAD + LINE)
    return _allocate(context, pool, size, SOFT_LIMIT)


@compiled
def allocate_reserved(context: int, pool: int, size: int) -> int:
    """The same, from the reserve too: deletes must work when memory is full."""
    return _allocate(context, pool, size, SIZE)
