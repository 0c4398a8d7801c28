"""Metrics, read back by Prometheus' own parser."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mako.metrics import Registry, ServerMetrics, render
from mako.metrics.registry import Counter, Histogram

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_registry_reads_as_prometheus_writes_it() -> None:
    registry = Registry()
    registry.gauge("raft_term", "Term of the replica.", ("partition", "node")).of(0, 1).set(3)
    registry.counter("a_total", "A \\ and\na line.").of().inc(2)
    times = registry.histogram("b_seconds", "B.", (0.5, 1.0)).of()
    for value in (0.25, 0.5, 0.75, 9.0):
        times.observe(value)
    assert render(registry).splitlines() == [
        "# HELP raft_term Term of the replica.",
        "# TYPE raft_term gauge",
        'raft_term{partition="0",node="1"} 3',
        "# HELP a_total A \\\\ and\\na line.",
        "# TYPE a_total counter",
        "a_total 2",
        "# HELP b_seconds B.",
        "# TYPE b_seconds histogram",
        'b_seconds_bucket{le="0.5"} 2',
        'b_seconds_bucket{le="1.0"} 3',
        'b_seconds_bucket{le="+Inf"} 4',
        "b_seconds_sum 10.5",
        "b_seconds_count 4",
    ]


def test_the_parser_sees_kinds_and_help() -> None:
    registry = Registry()
    registry.counter("a_total", "A \\ and\na line.").of().inc()
    registry.histogram("b_seconds", "B.", (1.0,)).of().observe(1)
    found = {family.name: family for family in text_string_to_metric_families(render(registry))}
    assert found["a"].type == "counter"
    assert found["a"].documentation == "A \\ and\na line."
    assert found["b_seconds"].type == "histogram"


#: The parser splits lines as Python does, the format at line feeds alone: no other ends of lines.
LABELS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from('\n\\"{},= ')
)


@given(st.dictionaries(LABELS, st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)))
def test_any_label_and_number_survives(values: dict[str, float]) -> None:
    registry = Registry()
    family = registry.gauge("a", "A.", ("label",))
    for label, value in values.items():
        family.of(label).set(value)
    want = {("a", (("label", label),)): float(value) for label, value in values.items()}
    assert parsed(render(registry)) == want


def test_not_a_number_is_written() -> None:
    registry = Registry()
    registry.gauge("a", "A.").of().set(math.nan)
    assert render(registry).endswith("a NaN\n")


@given(st.lists(st.floats(0, 5)))
def test_a_histogram_counts_what_does_not_exceed_the_bound(values: list[float]) -> None:
    histogram = Histogram((1.0, 2.0, 3.0))
    for value in values:
        histogram.observe(value)
    for bound, count in histogram.cumulative():
        assert count == sum(value <= bound for value in values)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_a_mirrored_counter_goes_on_when_its_source_begins_anew() -> None:
    counter = Counter()
    for total in (5, 7, 7, 2, 3):
        counter.mirror(total)
    assert counter.value == 7 + 3


def test_members_are_kept_until_cleared() -> None:
    registry = Registry()
    family = registry.gauge("a", "A.", ("node",))
    assert render(registry) == "", "a family without members is left out"
    assert family.of(1) is family.of("1")
    family.clear()
    assert render(registry) == ""


def test_misuse_is_a_bug() -> None:
    registry = Registry()
    registry.gauge("a", "A.")
    with pytest.raises(AssertionError, match="two metrics called a"):
        registry.gauge("a", "A.")
    with pytest.raises(AssertionError, match="ends with _total"):
        registry.counter("b", "B.")
    with pytest.raises(AssertionError, match="is no name"):
        registry.gauge("a b", "A.")
    with pytest.raises(AssertionError, match="labels of c"):
        registry.gauge("c", "C.", ("__node",))
    with pytest.raises(AssertionError, match="has the labels"):
        registry.gauge("d", "D.", ("node",)).of()
    with pytest.raises(AssertionError, match="does not fall"):
        registry.counter("e_total", "E.").of().inc(-1)
    with pytest.raises(AssertionError, match="rise"):
        registry.histogram("f", "F.", (2.0, 1.0))


def test_the_catalogue_has_what_was_promised() -> None:
    families = {family.name: family for family in ServerMetrics().registry}
    for name in ("role", "term", "commit_index", "last_applied", "log_size"):
        assert families[f"raft_{name}"].kind == "gauge"
        assert families[f"raft_{name}"].labels == ("partition", "node")
    for name in ("elections", "replication_failures"):
        assert families[f"raft_{name}_total"].kind == "counter"
    assert families["raft_replication_failures_total"].labels == ("partition", "node", "peer")
    assert all(name.startswith(("raft_", "mako_")) for name in families)
    assert all(family.help.endswith(".") for family in families.values())


def test_the_document_has_every_metric() -> None:
    document = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(
        r"^\| `((?:raft|mako)_\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$", document, re.MULTILINE
    )
    assert rows == [
        (family.name, family.kind, ", ".join(family.labels), family.help)
        for family in ServerMetrics().registry
    ]
