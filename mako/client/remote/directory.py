"""What a server says of itself and of its cluster when a client asks: the answer to DESCRIBE."""

from typing import Any

from mako.placement import UNDIVIDED, Home, ShardMap
from mako.wire.errors import WireError


class Directory:
    """What a server has: procedures by name, tables by name and number. And what is where."""

    def __init__(self, about: dict[str, Any]) -> None:
        try:
            self.procedures: dict[str, tuple[int, list[str]]] = {}
            self.homes: dict[str, Home] = {}
            for name, number, parameters, *rest in about["procedures"]:
                self.procedures[name] = number, parameters
                if rest and rest[0] is not None:
                    self.homes[name] = Home.of_plain(rest[0], len(parameters))
            self.tables: dict[str, list[Any]] = {table[3]: table for table in about["tables"]}
            self.leads = bool(about["leads"])
            self.leader = str(about["leader"])
            #: Whether it has a replica of the partition that it was asked for.
            self.hosted = bool(about.get("hosted", True))
            given = about.get("shards")
            self.shards = UNDIVIDED if given is None else ShardMap.of_plain(given)
            #: By partition: addresses of processes that have a replica.
            self.places: list[list[str]] = about.get("places") or [[]]
            if len(self.places) != self.shards.partitions:
                raise ValueError("it names places of another number of partitions")
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise WireError(f"the server describes itself in another way ({error!r:.60})") from None
