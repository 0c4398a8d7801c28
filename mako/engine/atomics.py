"""The primitives the engine is written in: compiled, or interpreted when the JIT is off."""

from mako.engine.jit import INTERPRETED

if INTERPRETED:
    from mako.engine.interpreted import *  # noqa: F403
    from mako.engine.interpreted import read_bytes, register_entry  # noqa: F401
else:
    from mako.engine.native import *  # noqa: F403
