"""Configuration files: read, and combined in the order in which they are given.

A key of a later file takes the place of the same key before it; mappings are merged key by key,
lists are replaced. So a small file changes a large one: `-f cluster.yml -f memory_log.yml`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from mako.errors import ConfigError

#: A larger file is no configuration.
BYTES_MAX: Final = 1 << 20
#: Path of a key -> the file that set it last.
Origins = dict[tuple[str, ...], str]


def read(path: Path) -> dict[str, Any]:
    """The mapping in one file. ConfigError names the file and what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a configuration file") from None
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{path}: larger than 1 MiB, so no configuration; name another file")
    try:
        found = yaml.load(data, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}{_place(error)}: not YAML ({_problem(error)}); correct this line"
        ) from None
    except (ValueError, RecursionError) as error:
        # A date that does not exist, a number of thousands of digits, brackets in brackets.
        raise ConfigError(f"{path}: a value cannot be read ({_line(error)}); correct it") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: a configuration is a mapping of keys, not {_kind(found)}; begin with site:"
        )
    for key in found:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: {key!r:.40} is no key; keys are words")
    return found


class _Loader(yaml.SafeLoader):
    """Refuses what people do not mean: a key twice, and a value that contains itself."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - as its base has it
    ) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r:.40} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "an alias; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"


def _problem(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{value!r:.40}"


def combine(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], Origins]:
    """All documents as one, and where each key came from."""
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for name, document in documents:
        _merge(merged, document, (), name, origins)
    return merged, origins


def _merge(
    into: dict[str, Any],
    document: Mapping[str, Any],
    path: tuple[str, ...],
    name: str,
    origins: Origins,
) -> None:
    for key, value in document.items():
        here = (*path, str(key))
        origins[here] = name
        known = into.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value, here, name, origins)
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, here, name, origins)
        else:
            into[key] = value
