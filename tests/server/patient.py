"""`python -m tests.server.patient server ...`: mako, with a minute in place of a few seconds.

A leader gives its successor three seconds as it ends, and what its clients wait for is unknown if
nobody has told it within 1.5 s what became of that. Where a test says that nobody is left in the
dark, a process that waits for its processor is no reason to be.
"""

import sys
from dataclasses import replace
from typing import Any, Final

from mako.cli import main
from mako.server import planning, process
from mako.server.plan import ServerPlan

SECONDS: Final = 60.0


def be_patient() -> None:
    plan_of = planning.plan_of

    def patient_plan_of(*arguments: Any, **options: Any) -> ServerPlan:
        return replace(plan_of(*arguments, **options), judged_seconds=SECONDS)

    setattr(planning, "plan_of", patient_plan_of)  # noqa: B010
    setattr(process, "HANDOVER_SECONDS", SECONDS)  # noqa: B010


if __name__ == "__main__":
    be_patient()
    sys.exit(main())
