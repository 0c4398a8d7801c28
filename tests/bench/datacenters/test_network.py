"""The commands that make the two datacenters, and what is said where they cannot be made."""

import ipaddress
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.datacenters import network
from bench.datacenters.__main__ import Datacenters
from bench.datacenters.processes import FILE
from mako.config import load
from mako.errors import ConfigError

HOSTS = {process.name: process.host for process in load([FILE]).processes}


def test_only_root_makes_namespaces() -> None:
    with pytest.raises(ConfigError, match="made by root alone: sudo bash bash/") as refused:
        network.check_tools(1000, lambda name: f"/sbin/{name}")
    assert "\n" not in str(refused.value)


def test_a_missing_command_is_named_with_its_package() -> None:
    with pytest.raises(ConfigError, match="no command `ip`; install it: apt install iproute2"):
        network.check_tools(0, lambda name: None)
    network.check_tools(0, lambda name: f"/sbin/{name}")


def test_each_side_has_the_addresses_of_its_processes() -> None:
    given = [command[5] for command in network.addressing(HOSTS) if "addr" in command]
    sides = [command[2] for command in network.addressing(HOSTS) if "addr" in command]
    assert given == [f"10.77.{side}.{place}/16" for side in (1, 2) for place in (1, 2)]
    assert sides == ["mako-dc-a", "mako-dc-a", "mako-dc-b", "mako-dc-b"]
    assert len({ipaddress.ip_interface(address).network for address in given}) == 1, "one link"


def test_both_ends_of_the_pair_delay_what_they_send() -> None:
    delays = [command for command in network.pair(25) if "netem" in command]
    assert [(command[3], command[8]) for command in delays] == [
        ("mako-dc-a", "mako-wide-a"),
        ("mako-dc-b", "mako-wide-b"),
    ]
    assert all("25ms" in command for command in delays)


def test_names_fit_into_the_kernel_and_only_ours_are_removed() -> None:
    assert all(len(network.device(side)) <= 15 for side in network.SIDES)
    assert network.removal(["mako-dc-b", "default"]) == [["ip", "netns", "del", "mako-dc-b"]]
    assert network.removal([]) == []


def test_a_command_that_fails_is_said_with_its_reason() -> None:
    with pytest.raises(ConfigError, match=r"`sh -c echo no >&2; exit 3` failed: no$"):
        network.run([["true"], ["sh", "-c", "echo no >&2; exit 3"]])
    with pytest.raises(ConfigError, match="failed: exit status 1"):
        network.run([["false"]])


class Machine:
    """What `make` does, without doing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.done: list[str] = []
        self.netem = False
        monkeypatch.setattr(network, "run", self._run)
        monkeypatch.setattr(network, "existing", list)
        monkeypatch.setattr(network, "has_netem", lambda delay: self.netem)
        self.tun = folder / "tun"
        self.tun.touch()
        monkeypatch.setattr(network, "_TUN", self.tun)

    def _run(self, commands: Sequence[list[str]]) -> None:
        self.done += [" ".join(command) for command in commands]

    def make(self) -> str:
        return network.make(HOSTS, 25, lambda names: self.done.append(f"forward {' '.join(names)}"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_a_kernel_with_netem_delays_by_itself(machine: Machine) -> None:
    machine.netem = True
    assert machine.make() == "netem"
    assert [line for line in machine.done if line.startswith("forward")] == []
    assert any("type veth" in line for line in machine.done)


def test_without_netem_devices_are_opened_first_and_moved_then(machine: Machine) -> None:
    assert "no netem" in machine.make()
    opened = machine.done.index("forward mako-wide-a mako-wide-b")
    moved = machine.done.index("ip link set mako-wide-a netns mako-dc-a")
    assert opened < moved < machine.done.index("ip -n mako-dc-a link set mako-wide-a up")


def test_without_either_it_says_which_modules_are_missing(machine: Machine) -> None:
    machine.tun.unlink()
    with pytest.raises(ConfigError, match=r"modprobe sch_netem, or modprobe tun$"):
        machine.make()


def test_who_comes_second_makes_and_removes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(commands: Sequence[list[str]]) -> None:
        raise ConfigError(f"`{' '.join(commands[0])}` failed: File exists")

    monkeypatch.setattr(network, "run", refuse)
    monkeypatch.setattr(network, "remove", lambda: machine.done.append("remove"))
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: None)
    with pytest.raises(ConfigError, match="netns add mako-dc-a` failed: File exists"):
        Datacenters(load([FILE])).up(50)
    assert machine.done == []
