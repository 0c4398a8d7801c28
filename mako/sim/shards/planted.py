"""Planted bugs of transactions over partitions that lie in compiled code (`mako.sim.mutations`).

Each is one wrong line of mako.engine. Those that lie in Python are in `planted.py` of mako/server
and mako/replication, and are switched on at run time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mako.sim.mutations import Edit


@dataclass(frozen=True, slots=True)
class EngineBug:
    """The rule that it breaks, and how."""

    rule: str
    edits: tuple[Edit, ...]


#: By name.
ENGINE: Final[Mapping[str, EngineBug]] = MappingProxyType(
    {
        "closed_before_installed": EngineBug(
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
        "early_result_altered": EngineBug(
            "what is told early is what was installed (DESIGN §6)",
            (
                (
                    "serving",
                    "stu8(at + RESULT_VALUE, ld8(done + D_RESULT))",
                    "stu8(at + RESULT_VALUE, ld8(done + D_RESULT) + (flags & IS_EARLY))",
                ),
            ),
        ),
        "mask_not_inherited_from_tombstone": EngineBug(
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
        "mask_not_inherited_on_delete": EngineBug(
            "whoever deletes a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        if current != 0:\n            inherit(tx, current)\n",
                    "",
                ),
            ),
        ),
        "mask_not_inherited_on_overwrite": EngineBug(
            "whoever overwrites a version depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        inherit(tx, current)\n        if may_replace",
                    "        if may_replace",
                ),
            ),
        ),
        "mask_not_inherited_on_read": EngineBug(
            "whoever reads a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "    inherit(tx, version)\n    if ld8(version + V_LENGTH) & TOMBSTONE",
                    "    if ld8(version + V_LENGTH) & TOMBSTONE",
                ),
            ),
        ),
        "mask_not_inherited_on_update": EngineBug(
            "whoever changes a row depends on what it depends on (I3)",
            (
                (
                    "access",
                    "        inherit(tx, current)\n    if current == 0 or",
                    "        pass\n    if current == 0 or",
                ),
            ),
        ),
        "left_out_and_shown": EngineBug(
            "a snapshot does not show what waits for who is left out of it (P6)",
            (
                (
                    "access",
                    "        if lacking(tx, version, foreign) != 0:\n            break\n",
                    "",
                ),
            ),
        ),
        "proposal_not_compared": EngineBug(
            "a proposal is above the clock of each participant (X1)",
            (
                (
                    "participant",
                    "    if old >= proposal:\n        st8(lane + L_ANSWER",
                    "    if False:\n        st8(lane + L_ANSWER",
                ),
            ),
        ),
        "reader_not_validated": EngineBug(
            "a participant that was only read validates, too (X2)",
            (
                (
                    "participant",
                    "    outcome = validate(lane)  # X2",
                    "    outcome = validate(lane) if ld8(lane + C_WRITES) else COMMITTED  # X2",
                ),
            ),
        ),
        "validated_again_only_by_who_asked": EngineBug(
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
