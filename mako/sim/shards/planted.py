"""Planted bugs of transactions over partitions that lie where there are no switches: in compiled
code, and in clients (`mako.sim.mutations`).

Each is one wrong line of mako.engine or mako.client.remote. Those of servers are in `planted.py` of
mako/server and mako/replication, and are switched on at run time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mako.sim.mutations import Edit


@dataclass(frozen=True, slots=True)
class EditedBug:
    """The rule that it breaks, and how."""

    rule: str
    edits: tuple[Edit, ...]


#: By name.
EDITED: Final[Mapping[str, EditedBug]] = MappingProxyType(
    {
        "closed_before_installed": EditedBug(
            "the coordinator closes once all have installed (X4)",
            (
                (
                    "coordinator",
                    "    st8(lane + C_TIMESTAMP, timestamp)\n    st8(lane + C_OUTCOMES,",
                    "    store_release(lane + C_FLOOR, NONE)\n"
                    "    st8(lane + C_TIMESTAMP, timestamp)\n    st8(lane + C_OUTCOMES,",
                ),
            ),
        ),
        "early_result_altered": EditedBug(
            "what is told early is what was installed (DESIGN §6)",
            (
                (
                    "serving",
                    "stu8(at + RESULT_VALUE, ld8(done + D_RESULT))",
                    "stu8(at + RESULT_VALUE, ld8(done + D_RESULT) + (flags & IS_EARLY))",
                ),
            ),
        ),
        "gathered_absence_believed": EditedBug(
            "a commit looks again whether a row is still not there (mako.engine.gathered)",
            (
                (
                    "gathered",
                    "        return _SAME if version == 0 else _CHANGED\n",
                    "        return _SAME\n",
                ),
            ),
        ),
        "gathered_range_believed": EditedBug(
            "a commit looks again whether a range has other rows (mako.engine.gathered)",
            (
                (
                    "gathered",
                    "    return _SAME if at == found else _CHANGED\n",
                    "    return _SAME\n",
                ),
            ),
        ),
        "gathered_scan_not_noted": EditedBug(
            "what a client has been shown is noted for its commit (G1)",
            (
                (
                    "client.remote.gathered",
                    "for seen in self._ranges for item in counted.range(seen)]",
                    "for seen in self._ranges[:0] for item in counted.range(seen)]",
                ),
            ),
        ),
        "gathered_session_not_noted": EditedBug(
            "what a client was shown before it gathers is noted, too (G1)",
            (
                (
                    "client.remote.async_sessions",
                    "            for key, value in zip(packed, values, strict=True):\n"
                    "                gathered.saw(known, key, value)\n"
                    "            return values\n",
                    "            return values\n",
                ),
            ),
        ),
        "gathered_value_believed": EditedBug(
            "a commit looks again at each value that its client has seen (mako.engine.gathered)",
            (
                (
                    "gathered",
                    "kind == SEEN_THERE or _has_value(version, item) else",
                    "kind == SEEN_THERE or version != 0 else",
                ),
            ),
        ),
        "mask_not_inherited_from_tombstone": EditedBug(
            "whoever finds that a row is gone depends on who has deleted it (I3)",
            (
                (
                    "access",
                    "    if current != 0:  # A tombstone, too:",
                    "    if current != 0 and not ld8(current + V_LENGTH) & TOMBSTONE:  #",
                ),
                (
                    "access",
                    "        if current != 0:\n            inherit(tx, current)\n",
                    "        if current != 0 and not ld8(current + V_LENGTH) & TOMBSTONE:\n"
                    "            inherit(tx, current)\n",
                ),
            ),
        ),
        "mask_not_inherited_on_delete": EditedBug(
            "whoever deletes a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        if current != 0:\n            inherit(tx, current)\n",
                    "",
                ),
            ),
        ),
        "mask_not_inherited_on_overwrite": EditedBug(
            "whoever overwrites a version depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        inherit(tx, current)\n        if may_replace",
                    "        if may_replace",
                ),
            ),
        ),
        "mask_not_inherited_on_read": EditedBug(
            "whoever reads a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "    inherit(tx, version)\n    if ld8(version + V_LENGTH) & TOMBSTONE",
                    "    if ld8(version + V_LENGTH) & TOMBSTONE",
                ),
            ),
        ),
        "mask_not_inherited_on_update": EditedBug(
            "whoever changes a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        inherit(tx, current)\n    if current == 0 or",
                    "        pass\n    if current == 0 or",
                ),
            ),
        ),
        "left_out_and_shown": EditedBug(
            "a snapshot does not show what waits for who is left out of it (P6)",
            (
                (
                    "access",
                    "        if lacking(tx, version, foreign) != 0:\n            break\n",
                    "",
                ),
            ),
        ),
        "moment_lacks_own": EditedBug(
            "a snapshot of several partitions has what its client was told (mako.client.remote)",
            (
                (
                    "client.remote.moments",
                    "        self._least: Final = least\n",
                    "        self._least: Final = 0\n",
                ),
            ),
        ),
        "moment_not_moved": EditedBug(
            "a snapshot of several partitions is read at one timestamp (S1)",
            (
                (
                    "client.remote.moments",
                    "            if each.timestamp < highest\n",
                    "            if False\n",
                ),
            ),
        ),
        "proposal_not_compared": EditedBug(
            "a proposal is above the clock of each participant (X1)",
            (
                (
                    "participant",
                    "    if old >= proposal:\n        st8(lane + L_ANSWER",
                    "    if False:\n        st8(lane + L_ANSWER",
                ),
            ),
        ),
        "reader_not_validated": EditedBug(
            "a participant that was only read validates, too (X2)",
            (
                (
                    "participant",
                    "    outcome = validate(lane)  # X2",
                    "    outcome = validate(lane) if ld8(lane + C_WRITES) else COMMITTED  # X2",
                ),
            ),
        ),
        "validated_again_only_by_who_asked": EditedBug(
            "in the second round all participants validate (X2)",
            (
                (
                    "participant",
                    "    outcome = validate(lane)  # X2",
                    "    again = ld8(lane + L_BITS) != 0 and ld8(lane + L_HIGHEST) == 0\n"
                    "    outcome = COMMITTED if again else validate(lane)  # X2",
                ),
            ),
        ),
    }
)
