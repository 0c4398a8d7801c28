"""Whether an engine asks for huge pages."""

from pathlib import Path
from typing import Final

import pytest

from mako.engine.engine import Engine

_SMAPS: Final = Path("/proc/self/smaps")


def flags_at(address: int) -> list[str]:
    """What the kernel was told about the mapping that has an address."""
    inside = False
    for line in _SMAPS.read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            low, _, high = first.partition("-")
            inside = int(low, 16) <= address < int(high, 16)
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError("nothing is mapped there")


@pytest.mark.skipif(not _SMAPS.exists(), reason="only Linux tells")
@pytest.mark.parametrize(("mib", "huge"), [(32, False), (256, True)])
def test_pages_are_huge_where_there_is_much_room_for_rows(mib: int, *, huge: bool) -> None:
    """However many contexts there are beside the rows: each would have megabytes cleared."""
    engine = Engine(mib << 20, contexts=24)
    assert ("hg" in flags_at(engine.base)) == huge
    engine.close()
