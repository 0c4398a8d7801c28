"""Values of users in messages: one line, of bounded length, whatever the value is."""

from typing import Any, Final

#: Characters of a value that a message shows, unless it says otherwise.
SHOWN_MAX: Final = 80


def shown(value: Any, most: int = SHOWN_MAX) -> str:
    """`repr(value)`, cut after `most` characters; what it is, if it cannot be written down.

    An integer of more than 4,300 digits has no repr, and neither has what contains one
    (`sys.set_int_max_str_digits`). The repr of what users made may fail in other ways.
    """
    try:
        text = repr(value)
    except Exception:  # Whatever it is, the message is about something else.
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[: most - 3]}..."
