"""The procedures of benchmarks run where their rows are, in every configuration that is shipped."""

from pathlib import Path

import pytest

from bench.tpcc import calls, population
from mako.config import load
from mako.placement import UNDIVIDED, ShardMap, by_hash
from mako.server.deploy import check_homes, deploy

CONFIG = Path(__file__).parents[2] / "config"
DIVIDED = "1c2s3r1p.yml"


def shards_of(*files: str) -> ShardMap:
    return load([CONFIG / file for file in files]).shards


@pytest.mark.parametrize("module", ["tpcc.deployed", "tpca.deployed", "remote_procedures"])
@pytest.mark.parametrize("shards", [UNDIVIDED, by_hash(2), by_hash(3)])
def test_homes_tell_the_partition_by_default(module: str, shards: ShardMap) -> None:
    check_homes(deploy([f"bench.{module}"]), shards)


@pytest.mark.parametrize("demo", [[], ["demo.yml"]])
def test_a_terminal_of_tpcc_asks_the_partition_of_its_warehouse(demo: list[str]) -> None:
    shards = shards_of(DIVIDED, "tpcc.yml", "tpcc_shards.yml", *demo)
    deployed = deploy(["bench.tpcc.deployed"])
    check_homes(deployed, shards)
    without = {name for name, (_, procedure, _) in deployed.items() if procedure.home is None}
    assert without == {"load_items", "condition_8", "condition_9"}
    each = 1 if demo else 4
    for procedure in (calls.pay, calls.deliver, population.load_stock):
        home = procedure.home
        assert home is not None
        arguments = [0] * len(procedure.parameters)
        found = []
        for w_id in (1, each, each + 1, 2 * each):
            arguments[procedure.parameters.index("w_id")] = w_id
            found.append(shards.of(home.table).partition_of(home.key(arguments)))
        assert found == [0, 0, 1, 1]
