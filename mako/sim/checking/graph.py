"""A graph of what must come before what, and the smallest cycle in it.

Nodes are numbers. The first `size` are transactions, the others are joints: a joint stands for "all
of these before all of those", so that k times m edges are k + m. A cycle never consists of joints
alone, and what is told of it leaves them out: the step from one transaction to the next has the
kind of its first edge.

An edge is one integer, target and kind, for there are millions of them:

    ww   wrote the version before            rw   read what was overwritten (an anti-dependency)
    wr   wrote what was read                 rt   ended before the other began (real time)

Whether there is a cycle at all takes one pass: nodes without predecessors are taken away until none
is left. Only what remains is searched, so a clean history is cheap.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

KIND_BITS: Final = 4
#: Edges that the search for the smallest cycle looks at: about a second.
EDGES_MAX: Final = 2_000_000
KIND_MASK: Final = (1 << KIND_BITS) - 1


#: Kinds of edges; sums of them are sets. Plain numbers: each edge is made with one.
WW: Final = 1
WR: Final = 2
RW: Final = 4
RT: Final = 8
KIND_NAMES: Final = {WW: "ww", WR: "wr", RW: "rw", RT: "real time"}


class Step(NamedTuple):
    """One edge of a cycle: from a transaction to the next one."""

    source: int
    target: int
    kind: int


class Graph:
    """See the module. Edges are only added."""

    def __init__(self, size: int) -> None:
        self.size = size
        #: Node -> edges, each target << KIND_BITS | kind.
        self.after: list[list[int]] = [[] for _ in range(size)]

    def joint(self) -> int:
        """A new joint."""
        self.after.append([])
        return len(self.after) - 1

    def edge(self, before: int, after: int, kind: int) -> None:
        self.after[before].append(after << KIND_BITS | kind)

    def remaining(self) -> list[int]:
        """The nodes on cycles and behind them; empty if and only if there is no cycle. O(edges)"""
        after = self.after
        before = [0] * len(after)
        for edges in after:
            for edge in edges:
                before[edge >> KIND_BITS] += 1
        free = [node for node, count in enumerate(before) if not count]
        for node in free:  # It grows meanwhile.
            for edge in after[node]:
                target = edge >> KIND_BITS
                before[target] -= 1
                if not before[target]:
                    free.append(target)
        return [] if len(free) == len(after) else [n for n, count in enumerate(before) if count]

    def components(self, nodes: Iterable[int], allowed: int) -> list[list[int]]:
        """Sets of more than one node that reach each other by allowed edges between `nodes`.

        Tarjan's algorithm without recursion, O(edges). A node with an edge to itself is not found:
        nobody makes one.
        """
        wanted = sorted(nodes)
        inside = set(wanted)
        number: dict[int, int] = {}
        low: dict[int, int] = {}
        waiting: list[int] = []
        on_stack: set[int] = set()
        found: list[list[int]] = []
        for root in wanted:
            if root in number:
                continue
            work = [(root, iter(self.after[root]))]
            number[root] = low[root] = len(number)
            waiting.append(root)
            on_stack.add(root)
            while work:
                node, edges = work[-1]
                for edge in edges:
                    target = edge >> KIND_BITS
                    if not edge & allowed & KIND_MASK or target not in inside:
                        continue
                    if target not in number:
                        number[target] = low[target] = len(number)
                        waiting.append(target)
                        on_stack.add(target)
                        work.append((target, iter(self.after[target])))
                        break
                    if target in on_stack:
                        low[node] = min(low[node], number[target])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == number[node]:
                        component = _take_from(waiting, node)
                        on_stack.difference_update(component)
                        if len(component) > 1:
                            found.append(sorted(component))
        return found

    def shortest_cycle(
        self,
        nodes: Iterable[int],
        allowed: int,
        *,
        one_rw: bool = False,
        edges_max: int = EDGES_MAX,
    ) -> list[Step]:
        """A cycle of allowed edges within `nodes`, with exactly one rw if `one_rw`. [] if none.

        It is the shortest one unless more than `edges_max` edges would have to be looked at; at
        least one start is always searched to its end, and with it the shortest cycle through it.
        Where one rw is asked for there must be no cycle without one.
        """
        inside = set(nodes)
        best: list[Step] = []
        spent = 0
        for start in sorted(nodes):
            if start >= self.size:
                continue  # Every cycle has a transaction.
            limit = len(best) or len(self.after) + 1
            cycle, cost = self._cycle_through(start, inside, allowed, limit, one_rw=one_rw)
            spent += cost
            if cycle:
                best = cycle
            if len(best) == 2 or (best and spent > edges_max):
                break
            if one_rw and spent > 10 * edges_max:
                break
        return best

    def _cycle_through(
        self, start: int, inside: set[int], allowed: int, limit: int, *, one_rw: bool
    ) -> tuple[list[Step], int]:
        """The shortest cycle through `start` if it has fewer than `limit` steps; the edges seen.

        A state is a node and whether an rw was taken, so that one rw can be asked for; only edges
        that leave transactions count as steps. Breadth first, edges of joints ahead of others.
        """
        size, after = self.size, self.after
        came: dict[int, tuple[int, int]] = {}  # State -> the state before it, and the edge.
        distance = {start << 1: 0}
        queue = deque([start << 1])
        spent = 0
        goal = start << 1 | one_rw
        while queue:
            state = queue.popleft()
            if state < 0:
                return self._steps(came, start << 1), spent
            node, taken, far = state >> 1, state & 1, distance[state]
            step = node < size
            if far + step >= limit:
                continue
            for edge in after[node]:
                spent += 1
                target = edge >> KIND_BITS
                if not edge & allowed & KIND_MASK or target not in inside:
                    continue
                now = taken
                if one_rw and step and edge & RW:
                    if taken:
                        continue
                    now = 1
                following = target << 1 | now
                if following == goal:
                    following = -1
                if far + step < distance.get(following, limit):
                    distance[following] = far + step
                    came[following] = (state, edge)
                    if step:
                        queue.append(following)
                    else:
                        queue.appendleft(following)
        return [], spent

    def _steps(self, came: dict[int, tuple[int, int]], first: int) -> list[Step]:
        """The way from `first` to the goal (-1), from transaction to transaction."""
        edges: list[tuple[int, int]] = []
        state = -1
        while state != first:
            state, edge = came[state]
            edges.append((state >> 1, edge))
        steps: list[Step] = []
        for node, edge in reversed(edges):
            if node < self.size:
                steps.append(Step(node, 0, edge & KIND_MASK))
        targets = [step.source for step in steps[1:]] + [steps[0].source]
        return [Step(s.source, t, s.kind) for s, t in zip(steps, targets, strict=True)]


def _take_from(waiting: list[int], node: int) -> list[int]:
    """Take `node` and what is above it from the stack."""
    taken: list[int] = []
    while not taken or taken[-1] != node:
        taken.append(waiting.pop())
    return taken
