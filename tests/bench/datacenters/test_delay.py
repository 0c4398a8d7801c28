"""Packets that are late, in order, and bounded."""

import socket

import pytest

from bench.datacenters.delay import Delay, Link


def test_packets_leave_when_they_are_due_in_their_order() -> None:
    delay = Delay(0.025)
    assert delay.wait(10.0) is None
    delay.put(b"a", 10.0)
    delay.put(b"b", 10.010)
    assert delay.wait(10.0) == 10.025 - 10.0
    assert delay.take(10.024) == []
    assert delay.take(10.025) == [b"a"]
    assert delay.wait(10.1) == 0, "it is late already"
    assert delay.take(10.1) == [b"b"]
    assert delay.take(10.1) == []


def test_a_full_queue_loses_what_comes() -> None:
    delay = Delay(1.0, limit=2)
    for packet in (b"a", b"b", b"c"):
        delay.put(packet, 0.0)
    assert delay.lost == 1
    assert delay.take(2.0) == [b"a", b"b"]
    delay.put(b"d", 2.0)
    assert delay.take(3.0) == [b"d"]


def test_packets_go_from_each_device_to_the_other() -> None:
    # Pairs of datagram sockets stand for devices: they keep packets apart, too.
    first, first_device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    second, second_device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, first_device, second, second_device:
        for end in (first, first_device, second, second_device):
            end.settimeout(0)
        link = Link(first_device.fileno(), second_device.fileno(), 0.0, lambda: 7.0)
        first.send(b"to b")
        first.send(b"and again")
        link.turn()
        assert [second.recv(100), second.recv(100)] == [b"to b", b"and again"]
        second.send(b"to a")
        link.turn()
        assert first.recv(100) == b"to a"
        with pytest.raises(BlockingIOError):
            second.recv(100)
