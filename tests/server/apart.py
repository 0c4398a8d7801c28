"""Real processes of a cluster of two partitions, each replica in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.server.processes import Cluster


class Apart(Cluster):
    """Processes `a0`, `b0`, ... have the replicas of partition 0, `a1`, ... those of 1."""

    def __init__(self, folder: Path, *, replicas: int = 3, **more: Any) -> None:
        self.replicas = "abcdefg"[:replicas]
        names = [f"{replica}{shard}" for shard in range(2) for replica in self.replicas]
        super().__init__(folder, names, **more)

    def write(self, names: Any, **changes: Any) -> None:
        document = {
            "site": {
                "server": [
                    [f"s{r}{shard}:{self.ports[f'{r}{shard}']}" for r in self.replicas]
                    for shard in range(2)
                ]
            },
            "process": {f"s{name}": name for name in self.names},
            "host": dict.fromkeys(self.names, "127.0.0.1"),
            "http": dict(zip(self.names, self.http, strict=True)),
            "memory": "128MiB",
            "raft": {"election_ticks": 60},
        }
        self.file.write_text(json.dumps(document | self._more | changes))
