"""Sizes: one spelling of them for the library and for the command line."""

from typing import Any

import pytest

from mako.errors import ConfigError
from mako.size import parse_memory, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (5, 5),
        ("0", 0),
        ("1048576", 1 << 20),
        ("1048576B", 1 << 20),
        ("64KiB", 1 << 16),
        ("512 MiB", 1 << 29),
        (" 4gib ", 4 << 30),
        ("4G", 4 << 30),
        ("4GB", 4 * 10**9),
        ("1TiB", 1 << 40),
        ("1.5t", 3 << 39),
        ("0.1MB", 100_000),
        ("16777217TiB", 16777217 << 40),
    ],
)
def test_a_size(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "plenty", "-1", "1PiB", "4 Gi B", "1e9", "1.", ".5", "٤GiB", "4ＧiB", "1" * 19, None, True,
     1.5, b"4GiB"],
)  # fmt: skip
def test_no_size(text: Any) -> None:
    with pytest.raises(ConfigError, match="is not a size; write 4GiB or 512MiB") as caught:
        parse_size(text)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("text", "size"), [("16MB", 15_998_976), (4095, 0), (8192, 8192), (-1, -4096)]
)
def test_memory_is_whole_pages(text: str | int, size: int) -> None:
    assert parse_memory(text) == size
