"""A registry in Prometheus' text format, version 0.0.4.

    # HELP raft_term Term of the replica.
    # TYPE raft_term gauge
    raft_term{partition="0",node="1"} 3

A histogram has one line per bound, each counting all values up to it, then sum and count. A family
without members is left out.
"""

from collections.abc import Iterator, Sequence
from math import inf, isnan
from typing import Final

from mako.metrics.registry import AnyFamily, Histogram, Registry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(registry: Registry) -> str:
    """All families with members, each line ended."""
    return "".join(f"{line}\n" for family in registry for line in _family(family))


def _family(family: AnyFamily) -> Iterator[str]:
    header = False
    for values, member in family.members():
        if not header:
            header = True
            yield f"# HELP {family.name} {_help(family.help)}"
            yield f"# TYPE {family.name} {family.kind}"
        if isinstance(member, Histogram):
            yield from _histogram(family.name, family.labels, values, member)
        else:
            yield f"{family.name}{_labels(family.labels, values)} {_number(member.value)}"


def _histogram(
    name: str, labels: Sequence[str], values: Sequence[str], member: Histogram
) -> Iterator[str]:
    for bound, count in member.cumulative():
        yield f"{name}_bucket{_labels((*labels, 'le'), (*values, _number(bound)))} {count}"
    yield f"{name}_sum{_labels(labels, values)} {_number(member.sum)}"
    yield f"{name}_count{_labels(labels, values)} {member.count}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = [f'{name}="{_value(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _value(text: str) -> str:
    return _help(text).replace('"', '\\"')


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if isnan(value):
        return "NaN"
    if abs(value) == inf:
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
