"""The log of a database as a file: recorded while it runs, taken apart into its entries."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Self, cast

from mako.errors import ConfigError, FileError, LogCorrupt
from mako.forks import lead_nowhere, leave_in_child
from mako.ids import PARTITIONS_MAX, TIMESTAMP_MASK
from mako.log_format import (
    BODY_BYTES_MAX,
    ENTRY_BYTES_MIN,
    FOOTER,
    FOOTER_BYTES,
    HEADER,
    HEADER_BYTES,
    HEADER_LENGTH,
    HEADER_MAGIC,
    HEADER_VERSION,
    MAGIC,
    VERSION,
    Check,
    message_of,
)
from mako.shown import shown

if TYPE_CHECKING:
    from mako.client.database import Database
    from mako.engine.recorder import Recorder

Source = str | os.PathLike[str] | BinaryIO


class Recording:
    """The log of a database on its way to a file; close it, or use `with`."""

    def __init__(self, recorder: Recorder, file: BinaryIO, *, own: bool) -> None:
        self._recorder = recorder
        self._file = file
        self._own = own

    @property
    def bytes(self) -> int:
        """Bytes written."""
        return self._recorder.bytes

    @property
    def entries(self) -> int:
        return self._recorder.entries

    @property
    def transactions(self) -> int:
        return self._recorder.transactions

    @property
    def closed(self) -> int:
        """The timestamp up to which the file has everything."""
        return self._recorder.closed

    def close(self) -> None:
        """Write everything committed so far, and stop. Raises what went wrong with the file.
        Harmless the second time; if the first one was interrupted, this goes on."""
        try:
            self._recorder.close()
        finally:
            if self._own and self._recorder.ended:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def record(db: Database, target: Source) -> Recording:
    """What `Database.record_log` does."""
    from mako.engine.recorder import Recorder

    if not isinstance(target, str | os.PathLike):
        check_file(target, "write")
        return Recording(Recorder(db._engine, target), target, own=False)
    file = cast("BinaryIO", _Named(opened(target, "wb")))
    try:
        return Recording(Recorder(db._engine, file), file, own=True)
    except BaseException:
        file.close()
        raise


class _Named:
    """A file that was opened by name: what goes wrong with it is a FileError. It is not buffered:
    a buffer has a lock, and a fork while another thread has that leaves it locked in the child."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        leave_in_child(self, _Named._leave)

    def _leave(self) -> None:
        """See `mako.forks`. What is written here goes nowhere."""
        with contextlib.suppress(ValueError):  # It is closed.
            lead_nowhere(self._file.fileno())

    def write(self, data: bytes | memoryview) -> int:
        with self._failures(), memoryview(data) as whole:
            written = 0
            while written < len(whole):
                written += self._file.write(whole[written:])
            return written

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        with self._failures():
            self._file.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError.of(f"cannot write {self._file.name!r}", error) from error


def check_file(file: object, use: Literal["read", "write"]) -> None:
    """ConfigError for what is neither a path nor a file."""
    if not hasattr(file, use):
        raise ConfigError(f"{shown(file)} is neither a path nor a file to {use}; give one")


def opened(path: str | os.PathLike[str], mode: Literal["rb", "wb"]) -> BinaryIO:
    """The file, which the caller closes; one to write is not buffered. FileError if it cannot be
    opened."""
    try:
        if mode == "wb":
            return cast("BinaryIO", Path(path).open(mode, buffering=0))
        return Path(path).open(mode)
    except (OSError, ValueError) as error:
        raise FileError.of(f"cannot open {os.fspath(path)!r}", error) from error


def entries_of(file: BinaryIO) -> Iterator[bytes]:
    """The entries of a log, one by one, as far as their lengths tell them apart.

    LogCorrupt where the next one cannot be found. What is found is to be checked by its reader.
    """
    left = _bytes_left(file)
    while left:
        head = file.read(min(HEADER_BYTES, left))
        length = _length_of(head)
        if left < ENTRY_BYTES_MIN:
            raise _corrupt(Check.SHORT, left)
        if left < ENTRY_BYTES_MIN + length:
            raise _corrupt(Check.LENGTH, HEADER_LENGTH)
        left -= ENTRY_BYTES_MIN + length
        yield head + file.read(length + FOOTER_BYTES)


def _bytes_left(file: BinaryIO) -> int:
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return end - start


def _length_of(head: bytes) -> int:
    """Length of the body of the entry that begins with `head`: checks 2, 3 and half of 4."""
    if len(head) < HEADER_BYTES:
        raise _corrupt(Check.SHORT, len(head))
    magic, version, _, _, _, _, _, length, _ = HEADER.unpack(head)
    if magic != MAGIC:
        raise _corrupt(Check.MAGIC, HEADER_MAGIC)
    if version != VERSION:
        raise _corrupt(Check.VERSION, HEADER_VERSION)
    if length > BODY_BYTES_MAX:
        raise _corrupt(Check.LENGTH, HEADER_LENGTH)
    return int(length)


def survey(file: BinaryIO) -> tuple[int, int]:
    """Partition of the log in `file`, and the closed timestamp of its last entry.

    Nothing here is trusted: all entries are checked when they are applied, and a file in which
    one is bad is refused then, whatever was found here. The file is left where it was.
    """
    start = file.tell()
    left = _bytes_left(file)
    partition, closed = 0, 0
    with contextlib.suppress(LogCorrupt):
        while left >= ENTRY_BYTES_MIN:
            head = file.read(HEADER_BYTES)
            size = ENTRY_BYTES_MIN + _length_of(head)
            if size > left:
                break
            partition = HEADER.unpack(head)[4] % PARTITIONS_MAX
            file.seek(size - HEADER_BYTES - FOOTER_BYTES, io.SEEK_CUR)
            closed = FOOTER.unpack(file.read(FOOTER_BYTES))[0] & TIMESTAMP_MASK
            left -= size
    file.seek(start)
    return partition, closed


def _corrupt(check: Check, offset: int) -> LogCorrupt:
    return LogCorrupt(message_of(check, offset), offset=offset, check=int(check))
