"""`bash bash/shard.sh`: what is wrong is one line, before anything is installed or started."""

import pytest

from tests.server.scripts import Scripts

USAGE = "usage: bash bash/shard.sh NSHARDS SHARD THREADS PROCESS"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("installed"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", USAGE),
        ("1 0 1", USAGE),
        ("one 0 1 p1", "one is no number; usage"),
        ("1 0.5 1 p1", "0.5 is no number; usage"),
        ("1 0 -1 p1", "-1 is no number; usage"),
        ("99999999999999999999 0 1 p1", "99999999999999999999 is no number; usage"),
        ("0 0 1 p1", "a cluster has at least one shard; usage"),
        ("1 1 1 p1", "shard 1 of 1; shards count from 0; usage"),
        ("1 09 1 p1", "shard 9 of 1; shards count from 0; usage"),
        ("1 0 0 p1", "a process needs at least one thread; usage"),
        ("7 0 1 p1", "there is no config/1c7s3r1p_cluster.yml; name a configuration with -f"),
        (
            "1 0 1 nobody",
            "there is no process 'nobody' in the configuration; it has localhost, p1, p2",
        ),
        ("2 0 1 p9", "there is no process 'p9' in the configuration; it has localhost-0, p1-0"),
        ("3 2 1 p1 -f config/1c2s3r1p.yml", "there is no shard 2; the configuration has 2"),
        ("1 0 65 p1", "--threads: 65 is not in the range"),
        ("1 0 1 p1 -f none.yml", "none.yml"),
        ("1 0 1 p1 --config none.yml", "none.yml"),
        ("1 0 1 p1 -fnone.yml", "none.yml"),
        ("1 0 1 p1 --config=none.yml", "none.yml"),
        ("1 0 1 p1 --sideways", "there is no option --sideways; see mako server --help"),
    ],
)
def test_wrong_use_is_one_line(scripts: Scripts, arguments: str, said: str) -> None:
    done = scripts.run("shard.sh", *arguments.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mako: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("1 0 1 p1", "process p1, number 2"),
        ("01 00 08 p1", "process p1, number 2"),
        ("1 0 1 learner", "partition 0: node 4, learner"),
        ("2 0 1 p1", "process p1-0, number 2"),
        ("2 1 1 p1", "process p1-1, number 5"),
        ("3 2 6 localhost", "process localhost-2, number 7"),
        ("2 1 1 learner", "partition 1: node 4, learner"),
        ("2 1 1 p1 -f config/1c2s3r1p.yml", "process p1, number 2"),
        ("2 1 1 localhost -f config/1c2s1r1p_cluster.yml", "process localhost-1, number 2"),
        ("1 0 1 localhost -f config/1c1s1r1p.yml", "process localhost, number 1"),
        ("1 0 1 localhost --config config/1c1s1r1p.yml", "process localhost, number 1"),
    ],
)
def test_what_is_right_is_passed_on(scripts: Scripts, arguments: str, said: str) -> None:
    done = scripts.run("shard.sh", *arguments.split(), "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
