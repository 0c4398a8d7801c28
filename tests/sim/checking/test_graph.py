"""Cycles: whether there is one is as networkx says, and the smallest is as small as can be."""

import random
from itertools import pairwise

import networkx
import pytest

from mako.sim.checking.graph import RT, RW, WR, WW, Graph


def drawn(draw: random.Random, size: int, density: float, joints: int = 0) -> Graph:
    graph = Graph(size)
    for _ in range(joints):
        graph.joint()
    nodes = size + joints
    for _ in range(int(nodes * density)):
        one, other = draw.randrange(nodes), draw.randrange(nodes)
        # Joints lead to later joints only, so that no cycle is of joints alone.
        if one != other and (one < size or other < size or one < other):
            graph.edge(one, other, draw.choice([WW, WR, RW, RT]))
    return graph


def oracle(graph: Graph, allowed: int) -> networkx.MultiDiGraph:
    found = networkx.MultiDiGraph()
    found.add_nodes_from(range(len(graph.after)))
    for node, edges in enumerate(graph.after):
        for edge in edges:
            if edge & allowed & 15:
                found.add_edge(node, edge >> 4, kind=edge & 15)
    return found


@pytest.mark.parametrize("density", [0.5, 1.0, 1.5, 4.0])
def test_components_are_those_of_networkx(seed: int, density: float) -> None:
    draw = random.Random(seed)
    for size in (1, 2, 10, 200):
        graph = drawn(draw, size, density, joints=size // 4)
        for allowed in (WW, WW | WR, WW | WR | RW | RT):
            expected = networkx.strongly_connected_components(oracle(graph, allowed))
            found = graph.components(range(len(graph.after)), allowed)
            assert {frozenset(one) for one in found} == {
                frozenset(one) for one in expected if len(one) > 1
            }
        acyclic = networkx.is_directed_acyclic_graph(oracle(graph, WW | WR | RW | RT))
        assert (graph.remaining() == []) == acyclic


@pytest.mark.parametrize("one_rw", [False, True])
def test_the_smallest_cycle_is_as_small_as_can_be(seed: int, *, one_rw: bool) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        graph = drawn(draw, 6, 1.6, joints=2)
        nodes = range(len(graph.after))
        if one_rw and graph.components(nodes, WW):
            continue  # Of these a cycle with one rw is not asked for.
        steps = graph.shortest_cycle(nodes, WW | RW, one_rw=one_rw)
        # All cycles, without their joints, and with each choice of kinds.
        sizes = [
            size
            for cycle in networkx.simple_cycles(networkx.DiGraph(oracle(graph, WW | RW)))
            for size, rws in [measure(graph, cycle)]
            if not one_rw or 1 in rws
        ]
        if 1 in sizes:
            continue  # Nobody makes an edge to itself, and not through joints.
        assert len(steps) == min(sizes, default=0)
        if steps:
            assert sum(step.kind == RW for step in steps) == 1 or not one_rw
            following = steps[1:] + steps[:1]
            assert [one.target for one in steps] == [one.source for one in following]


def measure(graph: Graph, cycle: list[int]) -> tuple[int, set[int]]:
    """Steps of a cycle, and how many of them can be rw."""
    counts = {0}
    for node, following in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        if node < graph.size:
            kinds = {e & 15 for e in graph.after[node] if e >> 4 == following and e & (WW | RW)}
            counts = {count + (kind == RW) for count in counts for kind in kinds}
    return sum(node < graph.size for node in cycle), counts


def test_joints_do_not_count() -> None:
    graph = Graph(6)
    for start, end in ((0, 1), (1, 0)):  # Two steps, over three joints each.
        line = [start, graph.joint(), graph.joint(), graph.joint(), end]
        for one, other in pairwise(line):
            graph.edge(one, other, RT)
    for circle in ((0, 2, 3, 0), (1, 4, 5, 1)):
        for one, other in pairwise(circle):
            graph.edge(one, other, WW)
    steps = graph.shortest_cycle(range(len(graph.after)), WW | RT)
    assert [(step.source, step.target, step.kind) for step in steps] == [(0, 1, RT), (1, 0, RT)]


def test_a_search_with_little_budget_still_finds_a_cycle() -> None:
    graph = Graph(1000)
    for node in range(1000):
        graph.edge(node, (node + 1) % 1000, RW)
    assert len(graph.shortest_cycle(range(1000), RW, edges_max=1)) == 1000
