"""What this machine offers to this process: cores and memory, limits of a container included."""

import itertools
import os
from pathlib import Path
from typing import Final

_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED: Final = Path("/sys/fs/cgroup/memory.current")
_MEMINFO: Final = Path("/proc/meminfo")
_PROCESSES: Final = Path("/proc")


def core_count() -> int:
    """Cores this process may run on, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> tuple[int, int]:
    """Memory in total and available, the smaller of the machine's and the container's."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = min(total, _meminfo_available() or total)
    limit = _number_in(_CGROUP_LIMIT)
    if limit is None:
        return total, available
    used = _number_in(_CGROUP_USED) or 0
    return min(total, limit), max(0, min(available, limit - used))


def server_count(processes: Path = _PROCESSES) -> int:
    """How many `mako server` run here, whoever started them; 0 where processes are not listed."""
    count = 0
    for file in processes.glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue  # It has ended meanwhile, or is not ours to see.
        pairs = itertools.pairwise(words)
        count += any(one.split(b"/")[-1] == b"mako" and two == b"server" for one, two in pairs)
    return count


def format_bytes(count: int) -> str:
    """`count` in the largest binary unit that leaves at least one."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _meminfo_available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _number_in(file: Path) -> int | None:
    """The number in `file`; None if it cannot be read or says that there is no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
