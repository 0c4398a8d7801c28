"""Configurations: what they mean, how they combine, and what is said about bad ones."""

import contextlib
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mako.config import ClusterConfig, load, resolve
from mako.entry import NodeId
from mako.errors import ConfigError
from mako.placement import Kind, Placement, blocks, by_hash
from mako.server.planning import plan_of

CONFIG: Final = Path(__file__).parents[2] / "config"

GOOD: Final = """
site: {server: [["s1:7001", "s2:7002", "s3:7003"]]}
process: {s1: a, s2: b, s3: c}
host: {a: 127.0.0.1, b: 127.0.0.1, c: 127.0.0.1}
"""


def loaded(tmp_path: Path, *texts: str) -> ClusterConfig:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.yml")
        files[-1].write_text(text)
    return load(files)


def refusal(tmp_path: Path, *texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, *texts)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


# --- Good ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.yml")), ids=lambda file: file.name)
def test_every_shipped_file_loads(file: Path) -> None:
    whole = CONFIG / "1c1s3r1p_cluster_test.yml"
    config = load([file] if "site" in yaml.safe_load(file.read_text()) else [whole, file])
    assert config.processes


def test_sites_nodes_and_processes(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    (sites,) = config.partitions
    assert [(s.name, s.node, s.process, s.port) for s in sites] == [
        ("s1", 1, "a", 7001),
        ("s2", 2, "b", 7002),
        ("s3", 3, "c", 7003),
    ]
    assert [(p.number, p.name, p.ports, p.http_port) for p in config.processes] == [
        (1, "a", (7001,), 17001),
        (2, "b", (7002,), 17002),
        (3, "c", (7003,), 17003),
    ]
    assert config.process("b").number == 2


def test_the_cluster_id_follows_from_its_name(tmp_path: Path) -> None:
    first = loaded(tmp_path, GOOD)
    assert first.id == loaded(tmp_path, GOOD).id
    assert first.id != loaded(tmp_path, GOOD, "cluster: {name: other}").id
    assert loaded(tmp_path, GOOD, "cluster: {id: 7}").id == 7


def test_later_files_change_earlier_ones(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD, "host: {b: 10.0.0.2}\nworkers: 4", "workers: 2")
    assert [process.host for process in config.processes] == ["127.0.0.1", "10.0.0.2", "127.0.0.1"]
    assert config.document.workers == 2


def test_the_process_called_learner_has_no_vote(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        GOOD,
        "site: {server: [['s1:7001', 's2:7002', 's3:7003', 's4:7004']]}\n"
        "process: {s4: learner}\nhost: {learner: 127.0.0.1}",
    )
    assert [site.is_learner for site in config.partitions[0]] == [False, False, False, True]


def test_a_node_that_was_replaced_has_a_new_id(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD, "node: {s2: 7}")
    site = config.partitions[0][1]
    assert (site.node, site.first_node) == (7, 2)


def test_sites_that_came_later_were_no_first_members(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD, "joined: [s2, s3]")
    assert [site.first_node for site in config.partitions[0]] == [1, 0, 0]
    plan = plan_of(config, "b")
    assert plan.replicas[0].first.voters == {1}
    assert not plan.replicas[0].is_founder
    assert plan.process_of[plan.replicas[0].group, NodeId(2)] == 2


def test_a_site_that_was_taken_out_leaves_its_place(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        GOOD,
        "site: {server: [['-', 's2:7002', 's3:7003', 's1:7001', '-']]}",
    )
    assert [(site.name, site.node) for site in config.partitions[0]] == [
        ("s2", 2),
        ("s3", 3),
        ("s1", 4),
    ]


TWO: Final = """
site: {server: [["s1:7001", "s2:7002", "s3:7003"], ["t1:7001"]]}
process: {s1: a, s2: b, s3: c, t1: a}
host: {a: 127.0.0.1, b: 127.0.0.1, c: 127.0.0.1}
"""


@pytest.mark.parametrize(
    ("files", "ms"),
    [
        ([TWO, "host: {a: 10.0.0.1, b: 10.0.0.2}", "max_clock_offset_ms: 20"], 21),
        ([TWO, "max_clock_offset_ms: 20"], 20),
        ([TWO], 1),
        (["host: {a: 10.0.0.1, b: 10.0.0.2}", "max_clock_offset_ms: 20"], 20),
    ],
)
def test_between_hosts_an_acknowledgement_waits_for_a_whole_ms_more(
    tmp_path: Path, files: list[str], ms: int
) -> None:
    """Where there are several partitions, whose timestamps count within a ms each on its own."""
    assert plan_of(loaded(tmp_path, GOOD, *files), "b").clock_offset_ms == ms


def test_tables_are_placed_by_hash_unless_something_else_is_said(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD).shards == by_hash(1)
    assert loaded(tmp_path, TWO).shards == by_hash(2)
    shards = loaded(
        tmp_path,
        TWO,
        "shards: {default: {blocks: 4, bits: 16, first: 1}, tables: {item: everywhere, kv: hash,"
        " words: {range: [m]}, raw: {range: ['0x00ff']}}}",
    ).shards
    assert shards.of("district") == blocks(2, size=4, bits=16, first=1)
    assert shards.of("item") == Placement(Kind.EVERYWHERE, 2)
    assert shards.of("kv") == Placement(Kind.HASH, 2)
    assert shards.of("words") == Placement(Kind.RANGE, 2, (b"m",))
    assert shards.of("raw") == Placement(Kind.RANGE, 2, (b"\x00\xff",))


def test_later_files_change_where_tables_are(tmp_path: Path) -> None:
    first = "shards: {tables: {a: everywhere, b: everywhere}}"
    shards = loaded(tmp_path, TWO, first, "shards: {tables: {b: hash}}").shards
    assert [shards.of(name).kind for name in "ab"] == [Kind.EVERYWHERE, Kind.HASH]


def test_the_map_is_in_the_plan_of_every_process(tmp_path: Path) -> None:
    config = loaded(tmp_path, TWO, "shards: {tables: {item: everywhere}}")
    for name in "abc":
        plan = plan_of(config, name)
        assert plan.shards == config.shards
        assert [plan.places(0), plan.places(1)] == [
            ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"],
            ["127.0.0.1:7001"],
        ]


def test_the_process_of_a_shard(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "site: {server: [['s1:7001'], ['s2:7002'], ['s3:7002']]}\n"
        "process: {s1: p-0, s2: p-1, s3: p-1}\n"
        "host: {p-0: 127.0.0.1, p-1: 127.0.0.1}",
    )
    assert config.process_of_shard("p", 0).name == "p-0"
    assert config.process_of_shard("p", 1).name == "p-1"
    assert config.process_of_shard("p-1", 2).name == "p-1"
    assert loaded(tmp_path, TWO).process_of_shard("a", 1).name == "a"
    for name, shard, said in (
        ("q", 0, "there is no process 'q' in the configuration; it has p-0, p-1"),
        ("p", 3, "there is no shard 3; the configuration has 3, which count from 0"),
        ("p-0", 1, "no process 'p-0' has a replica of shard 1; p-1 have"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            config.process_of_shard(name, shard)


# --- Bad ones ----------------------------------------------------------------------------------

BAD: Final = {
    "unknown key": ("sites: 1", "1.yml: sites: object contains unknown field `sites`; see docs/"),
    "unknown key below": ("raft: {tik: 1}", "1.yml: raft.tik: object contains unknown field"),
    "wrong type": ("workers: many", "1.yml: workers: expected `int`, got `str`"),
    "wrong mode": ("mode: {cc: 2pl}", "1.yml: mode.cc: "),
    "duplicate port": (
        "site: {server: [['s1:7001', 's2:7001', 's3:7003']]}",
        "port 7001 of 127.0.0.1 is used by b and by a",
    ),
    "port of http": ("http: {a: 7002}", "port 7002 of 127.0.0.1 is used by"),
    "own port of http": ("http: {a: 7001}", "port 7001 of 127.0.0.1 is used by a and by its HTTP"),
    "port out of range": (
        "site: {server: [['s1:70010', 's2:7002', 's3:7003']]}",
        "1.yml: site.server: 's1:70010' is no site; write name:port",
    ),
    "no port": ("site: {server: [['s1', 's2:7002', 's3:7003']]}", "'s1' is no site"),
    "even voters": (
        "site: {server: [['s1:7001', 's2:7002']]}\nprocess: {}",
        "partition 0 has 2 voters; use an odd number",
    ),
    "site without process": (
        "site: {server: [['s1:7001', 's2:7002', 's9:7003']]}",
        "1.yml: site.server: site s9 has no process; add it to `process`",
    ),
    "process without host": ("process: {s3: d}", "1.yml: process.s3: process 'd' has no address"),
    "process of no site": ("process: {s9: a}", "1.yml: process.s9: there is no such site"),
    "two replicas": ("process: {s2: a}", "partition 0 has two replicas in process a"),
    "site twice": (
        "site: {server: [['s1:7001', 's2:7002', 's1:7003']]}",
        "site s1 is there twice; give each its own name",
    ),
    "no partition": ("site: {server: []}", "there is no partition"),
    "empty partition": ("site: {server: [[]]}", "partition 0 has no site"),
    "only learners": ("learner: [a, b, c]", "partition 0 has no voter"),
    "unknown learner": ("learner: [nobody]", "1.yml: learner: there is no process 'nobody'"),
    "unknown http": ("http: {nobody: 1}", "1.yml: http.nobody: there is no process 'nobody'"),
    "unknown node": ("node: {s9: 4}", "1.yml: node.s9: there is no site 's9'"),
    "unknown joined": ("joined: [s9]", "1.yml: joined: there is no site 's9'"),
    "nobody began": (
        "joined: [s1, s2, s3]",
        "1.yml: joined: partition 0 has no voter that it began with",
    ),
    "old node": ("node: {s2: 3}", "1.yml: node.s2: node 3 was a first member"),
    "unknown preferred": ("preferred: {'0': s9}", "1.yml: preferred.0: 's9' is no site of"),
    "preferred of none": ("preferred: {'1': s1}", "1.yml: preferred.1: there is no such partition"),
    "little memory": ("memory: 1MiB", "1.yml: memory: '1MiB' is out of range; give 16MiB to"),
    "no size": ("snapshot: {bytes: rubbish}", "1.yml: snapshot.bytes: 'rubbish' is not a size"),
    "elections": ("raft: {election_ticks: 3}", "1.yml: raft.election_ticks: 3 must be more"),
    "no address": ("host: {a: ''}", "1.yml: host.a: '' is no name and no IP address"),
    "no http host": ("http_host: ''", "1.yml: http_host: '' is no name and no IP address; 0.0.0.0"),
    "odd http host": ("http_host: 'a b'", "1.yml: http_host: 'a b' is no name"),
    "no cluster name": ("cluster: {name: ''}", "1.yml: cluster.name: it is empty; give one"),
    "blank cluster name": ("cluster: {name: ' '}", "1.yml: cluster.name: it is empty"),
    "odd name": ("host: {'a b': x}", "1.yml: host: 'a b' is no name; use letters"),
    "unknown placement": (
        "shards: {tables: {a: hashed}}",
        "1.yml: shards.tables.a: 'hashed' is no placement; give hash, everywhere, {range: [...]}",
    ),
    "default everywhere": (
        "shards: {default: everywhere}",
        "1.yml: shards.default: not all tables can",
    ),
    "a cut of the wrong type": (
        "shards: {tables: {a: {blocks: many}}}",
        "1.yml: shards.tables.a.blocks: expected `int | null`, got `str`; see docs/",
    ),
    "unknown key of a cut": (
        "shards: {tables: {a: {block: 4}}}",
        "1.yml: shards.tables.a: object contains unknown field `block`; see docs/",
    ),
    "no cut": ("shards: {tables: {a: {}}}", "1.yml: shards.tables.a: give either range: [...] or"),
    "both cuts": (
        "shards: {tables: {a: {blocks: 1, range: []}}}",
        "1.yml: shards.tables.a: give either range: [...] or blocks: N",
    ),
    "blocks without bits": (
        "shards: {default: {blocks: 4}}",
        "1.yml: shards.default: blocks need bits: the width of the first key field",
    ),
    "boundaries": (
        "shards: {tables: {a: {range: [m]}}}",
        "1.yml: shards.tables.a.range: 1 boundaries for 1 partitions; give 0, the first key of",
    ),
    "range with bits": (
        "shards: {tables: {a: {range: [], bits: 8}}}",
        "1.yml: shards.tables.a: bits and first belong to blocks; leave them out with range",
    ),
    "not YAML": ("a: [1", "1.yml:1:6: not YAML"),
    "a list": ("- 1", "1.yml: a configuration is a mapping of keys, not a list"),
    "a key twice": ("data: a\ndata: b", "1.yml:2:1: not YAML (the key 'data' is there twice)"),
    "an alias": ("site: &a {server: *a}", "1.yml:1:19: not YAML (an alias; write the value out)"),
    "no date": ("data: 2020-13-45", "1.yml: a value cannot be read (month must be in 1..12)"),
    "deep": ("[" * 3000, "1.yml: a value cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_refused_in_a_line_that_says_where(
    tmp_path: Path, name: str
) -> None:
    text, expected = BAD[name]
    assert expected in refusal(tmp_path, GOOD, text)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{range: []}", "shards.tables.a.range: 0 boundaries for 3 partitions; give 2, the first"),
        ("{range: [p, h]}", "shards.tables.a.range: the boundaries do not ascend; sort them"),
        ("{range: [h, h]}", "shards.tables.a.range: the boundaries do not ascend; sort them"),
        ("{range: ['', h]}", "shards.tables.a.range: the boundaries do not ascend; sort them"),
        ("{range: [a, 0xag]}", "shards.tables.a.range: '0xag' is no hexadecimal number; give two"),
        ("{blocks: 9, bits: 4}", "shards.tables.a.blocks: the block of partition 2 begins at 18"),
    ],
)
def test_what_does_not_cut_three_partitions(tmp_path: Path, rule: str, expected: str) -> None:
    text = (
        "site: {server: [['s1:7001'], ['s2:7002'], ['s3:7003']]}\n"
        "process: {s1: a, s2: b, s3: c}\nhost: {a: h, b: h, c: h}"
    )
    assert expected in refusal(tmp_path, text, f"shards: {{tables: {{a: {rule}}}}}")


def test_several_partitions_need_an_offset_of_clocks(tmp_path: Path) -> None:
    two = (
        "site: {server: [['s1:7001'], ['s2:7002']]}\n"
        "process: {s1: a, s2: b}\nhost: {a: h, b: h}\nmax_clock_offset_ms: 0"
    )
    assert refusal(tmp_path, two).startswith(
        "0.yml: max_clock_offset_ms: 0 does not keep the order of 2 partitions; give 1 if all"
    )
    assert loaded(tmp_path, two, "max_clock_offset_ms: 1").document.max_clock_offset_ms == 1
    # One partition has one clock.
    assert loaded(tmp_path, GOOD, "max_clock_offset_ms: 0").document.max_clock_offset_ms == 0


def test_more_than_64_partitions(tmp_path: Path) -> None:
    lists = [[f"s{n}:{7000 + n}"] for n in range(65)]
    text = yaml.safe_dump({"site": {"server": lists}, "host": {"a": "x"}, "process": {}})
    assert "65 partitions, at most 64" in refusal(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yml: No such file"):
        load([tmp_path / "none.yml"])
    (tmp_path / "large.yml").write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load([tmp_path / "large.yml"])
    with pytest.raises(ConfigError, match="no configuration is given"):
        load([])


def test_an_unknown_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no process 'd' .* it has a, b, c"):
        loaded(tmp_path, GOOD).process("d")


VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "site",
                "process",
                "host",
                "learner",
                "http",
                "node",
                "raft",
                "memory",
                "wal",
                "snapshot",
                "preferred",
                "data",
                "cluster",
                "procedures",
                "shards",
            ]
        ),
        VALUES,
        max_size=3,
    )
)
def test_whatever_it_is_it_is_a_cluster_or_refused(change: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        resolve({**yaml.safe_load(GOOD), **change})
