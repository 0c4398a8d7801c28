"""The members of a running cluster change, under load, by the commands that operators use.

One test: each step begins with the members that the one before has left, and tests of a file may
come in any order, in several processes of pytest.
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mako.cli import membership
from mako.cli.app import main
from mako.client.remote import core
from tests.server.load import Load
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """Of one process, and nobody, commands and clients included, is in a hurry."""
    for name in ("_REQUEST_SECONDS", "_PROCESS_SECONDS"):
        monkeypatch.setattr(membership, name, PATIENCE)
    monkeypatch.setattr(core, "PATIENCE", PATIENCE)
    made = Cluster(tmp_path_factory.mktemp("cluster"), first=1, module="tests.server.patient")
    try:
        made.start("a")
        made.line("a", " leads ")
        yield made
    finally:
        made.close()


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    made = Load(cluster.addresses)
    try:
        yield made
    finally:
        made.stop()


def operate(cluster: Cluster, *arguments: str) -> int:
    command, *rest = arguments
    return main(["replica", command, "-f", str(cluster.file), *rest])


def lead(cluster: Cluster, name: str) -> int:
    return operate(cluster, "lead", "--timeout", str(PATIENCE), name)


def voters(cluster: Cluster) -> list[int]:
    from mako.client.remote.administration import Administrator

    with Administrator(cluster.connect()) as leader:
        return sorted(leader.members().voters)


def test_members_change_under_load(
    cluster: Cluster, load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_replica_becomes_three(cluster, load)
    a_single_voter_more_is_refused(cluster, capsys)
    a_leadership_is_handed_over_and_stays(cluster, load)
    nobody_is_left_in_the_dark_when_a_leadership_is_handed_over(cluster)
    a_replica_that_is_gone_is_replaced(cluster, load)
    a_backup_taken_under_load_is_restored(cluster, load, tmp_path, capsys)
    replicas_are_taken_out(cluster, load)
    bad_commands_say_what_to_do(cluster, capsys)


def one_replica_becomes_three(cluster: Cluster, load: Load) -> None:
    load.goes_on()
    cluster.write(NAMES, joined=["sb", "sc"])
    cluster.start("b")
    cluster.start("c")
    assert operate(cluster, "add", "b", "c") == 0
    assert voters(cluster) == [1, 2, 3]
    load.goes_on()


def a_single_voter_more_is_refused(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert operate(cluster, "remove", "c") == 2
    assert "there would be 2 voters" in capsys.readouterr().err
    assert voters(cluster) == [1, 2, 3]


def a_leadership_is_handed_over_and_stays(cluster: Cluster, load: Load) -> None:
    assert lead(cluster, "b") == 0
    cluster.settle("b")
    load.goes_on()
    assert lead(cluster, "b") == 0, "it leads already"
    cluster.settle("b")


def nobody_is_left_in_the_dark_when_a_leadership_is_handed_over(cluster: Cluster) -> None:
    """These cannot ask twice: an answer that is lost, or Unknown, ends them."""
    loads = [Load(cluster.addresses, b"once%d" % i, once=False) for i in range(8)]
    try:
        for name in ("a", "b", "a", "b"):
            for load in loads:
                load.goes_on()
            assert lead(cluster, name) == 0
        for load in loads:
            load.goes_on()
    finally:
        for load in loads:
            load.stop()
    counts = [load.end() for load in loads]
    with cluster.connect() as db:
        assert [db.get_int(b"once%d" % i) for i in range(8)] == counts


def a_replica_that_is_gone_is_replaced(cluster: Cluster, load: Load) -> None:
    cluster.end("c", signal.SIGKILL)
    shutil.rmtree(cluster.folder / "data" / "c")
    cluster.write(NAMES, joined=["sb", "sc"], node={"sc": 4})
    cluster.start("c")
    assert operate(cluster, "replace", "c") == 0
    assert voters(cluster) == [1, 2, 4]
    load.goes_on()
    # Who was replaced is told apart from who was never there.
    assert operate(cluster, "replace", "c") == 2


def a_backup_taken_under_load_is_restored(
    cluster: Cluster, load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    least = load.acknowledged
    assert main(["backup", "-f", str(cluster.file), str(folder)]) == 0
    assert "the backup is complete" in capsys.readouterr().out
    most = load.acknowledged + 1  # One may be under way.
    assert main(["backup", "-f", str(cluster.file), str(folder)]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err

    other = Cluster(tmp_path)
    data = str(tmp_path / "data")
    restore = ["restore", "-f", str(other.file), "--data", data, str(folder)]
    assert main(restore) == 0
    assert main(restore) == 2
    assert "is not empty" in capsys.readouterr().err
    # One process was left out, on a host of its own: the others bring it up.
    shutil.rmtree(tmp_path / "data" / "c")
    try:
        for name in NAMES:
            other.start(name)
        with other.connect(once=True) as db:
            assert least <= (db.get_int(b"count") or 0) <= most
            db.add(b"count", 1)
            written = db.watermark
        hashes = set()
        for name in NAMES:
            with other.connect(name, replica=True) as db:
                db.wait_watermark(written, timeout=PATIENCE)
                with db.snapshot() as snapshot:
                    hashes.add(snapshot.state_hash())
        assert len(hashes) == 1
    finally:
        other.close()


def replicas_are_taken_out(cluster: Cluster, load: Load) -> None:
    assert lead(cluster, "c") == 0
    assert operate(cluster, "remove", "a", "b") == 0
    assert voters(cluster) == [4]
    for name in ("a", "b"):
        assert cluster.end(name, signal.SIGTERM) == 0
    cluster.write(["-", "-", "c"], node={"sc": 4})
    load.goes_on()
    count = load.end()
    # The one that is left goes on alone, also after a restart.
    assert cluster.end("c", signal.SIGTERM) == 0
    cluster.start("c")
    with cluster.connect() as db:
        assert db.get_int(b"count") == count > 0


def bad_commands_say_what_to_do(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert operate(cluster, "add", "nobody") == 2
    assert "there is no process 'nobody'" in capsys.readouterr().err
    assert operate(cluster, "add", "a") == 2
    assert "have no site" in capsys.readouterr().err
