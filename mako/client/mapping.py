"""`x[key]`, `x[first:end]`, `key in x` for everything that has rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, overload

from mako.errors import SchemaError
from mako.shown import shown


class Readable(ABC):
    """Reads by subscript, for what can `get` a key and iterate over a range."""

    @abstractmethod
    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""

    @abstractmethod
    def _range(self, first: Any, end: Any) -> Iterator[tuple[Any, Any]]:
        """(key, value) with first <= key < end, in order."""

    @overload
    def __getitem__(self, key: slice) -> Iterator[tuple[Any, Any]]: ...
    @overload
    def __getitem__(self, key: Any) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._range(*bounds_of(key))
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None


class Writable(Readable):
    """Writes by subscript, too."""

    @abstractmethod
    def put(self, key: Any, value: Any) -> None:
        """Insert or replace."""

    @abstractmethod
    def delete(self, key: Any) -> bool:
        """Delete; False if the key was not there."""

    @abstractmethod
    def _delete_range(self, first: Any, end: Any) -> None:
        """Delete the rows with first <= key < end, if there are any."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, slice):
            raise SchemaError("a range of keys cannot be assigned to; put them one by one")
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        if isinstance(key, slice):
            self._delete_range(*bounds_of(key))
        elif not self.delete(key):
            raise KeyError(key)


class Joinable:
    """Marks a transaction or a snapshot: what a transactional function can run in."""

    __slots__ = ()


def bounds_of(keys: slice) -> tuple[Any, Any]:
    """First key and end of a range; a slice of rows has no step."""
    if keys.step is not None:
        raise SchemaError(
            f"a step of {shown(keys.step)}: a range of keys is [first:end]; scan() can go backwards"
        )
    return keys.start, keys.stop
