"""What can be wrong with bytes that came from another process: one error, always one line."""

from mako.errors import Error


class WireError(Error):
    """The other side broke the protocol: close the connection, nothing it sent since counts.

    `offset` counts bytes from the beginning of what was decoded: of the stream for frames, of the
    body for a hello or a batch.
    """

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset

    def __reduce__(self) -> tuple[type["WireError"], tuple[str, int]]:
        return type(self), (str(self), self.offset)


def bad(what: str, offset: int) -> WireError:
    """The error for byte `offset`, which it names."""
    return WireError(f"{what} at byte {offset}", offset)
