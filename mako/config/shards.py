"""The key `shards` of a configuration, made a shard map (mako.placement)."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mako.config.schema import CutSection, ShardsSection
from mako.errors import ConfigError, SchemaError
from mako.ids import KEY_BYTES_MAX
from mako.placement import Kind, Placement, ShardMap, blocks

HASH: Final = "hash"
EVERYWHERE: Final = "everywhere"
#: A boundary that begins so is written in hexadecimal digits.
_HEX: Final = "0x"

#: Makes the error of a key: its path, and the problem.
MakeError = Callable[[tuple[str, ...], str], ConfigError]


def shard_map(section: ShardsSection, partitions: int, error: MakeError) -> ShardMap:
    """The map of a cluster of `partitions`. ConfigError: made by `error`."""
    made = _Maker(partitions, error)
    default = ("shards", "default")
    if section.default == EVERYWHERE:
        raise error(default, "not all tables can be everywhere; name those that are in tables")
    return ShardMap(
        partitions,
        made.placement(default, section.default),
        {
            name: made.placement(("shards", "tables", name), rule)
            for name, rule in section.tables.items()
        },
    )


class _Maker:
    def __init__(self, partitions: int, error: MakeError) -> None:
        self._partitions = partitions
        self._error = error

    def placement(self, keys: tuple[str, ...], given: Any) -> Placement:
        if given == HASH:
            return Placement(Kind.HASH, self._partitions)
        if given == EVERYWHERE:
            return Placement(Kind.EVERYWHERE, self._partitions)
        if not isinstance(given, dict):
            problem = f"{given!r:.40} is no placement; give hash, everywhere, {{range: [...]}} or"
            raise self._error(keys, f"{problem} {{blocks: N, bits: B}}")
        rule = self._cut(keys, given)
        if (rule.range is None) == (rule.blocks is None):
            raise self._error(keys, "give either range: [...] or blocks: N")
        if rule.range is not None:
            return self._range(keys, rule)
        if rule.bits is None:
            problem = "blocks need bits: the width of the first key field, as its table declares it"
            raise self._error(keys, problem)
        assert rule.blocks is not None
        try:
            return blocks(self._partitions, size=rule.blocks, bits=rule.bits, first=rule.first)
        except SchemaError as problem:
            raise self._error((*keys, "blocks"), str(problem)) from None

    def _cut(self, keys: tuple[str, ...], given: dict[str, Any]) -> CutSection:
        try:
            return msgspec.convert(given, CutSection)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$.")
            problem = text[:1].lower() + text[1:]
            inner = re.match(r"\w*", path)
            here = (*keys, inner[0]) if inner and inner[0] else keys
            raise self._error(here, f"{problem}; see docs/configuration.md") from None

    def _range(self, keys: tuple[str, ...], rule: CutSection) -> Placement:
        assert rule.range is not None
        here = (*keys, "range")
        if rule.bits is not None or rule.first:
            raise self._error(keys, "bits and first belong to blocks; leave them out with range")
        wanted = self._partitions - 1
        if len(rule.range) != wanted:
            problem = (
                f"{len(rule.range)} boundaries for {self._partitions} partitions; give {wanted},"
                " the first key of each partition but the first"
            )
            raise self._error(here, problem)
        boundaries = tuple(self._boundary(here, text) for text in rule.range)
        if sorted(set(boundaries)) != list(boundaries) or b"" in boundaries:
            raise self._error(here, "the boundaries do not ascend; sort them, each once")
        return Placement(Kind.RANGE, self._partitions, boundaries)

    def _boundary(self, keys: tuple[str, ...], text: str) -> bytes:
        if not text.startswith(_HEX):
            key = text.encode()
        else:
            try:
                key = bytes.fromhex(text.removeprefix(_HEX))
            except ValueError:
                problem = f"{text!r:.40} is no hexadecimal number; give two digits for each byte"
                raise self._error(keys, problem) from None
        if len(key) > KEY_BYTES_MAX:
            raise self._error(keys, f"a boundary of {len(key)} bytes; keys have {KEY_BYTES_MAX}")
        return key
