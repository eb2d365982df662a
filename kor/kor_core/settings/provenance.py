"""Where each value of the configuration came from, kept beside the values themselves.

A :class:`Sourced` is one source (a file, the environment) or several merged ones. Merging
has one rule: tables merge key by key, everything else, lists included, is replaced.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeGuard

__all__ = [
    "KeyPath",
    "Sourced",
    "as_list",
    "as_table",
    "copied",
    "dotted",
    "paths_of",
    "too_deep",
    "undotted",
]

KeyPath = tuple[str, ...]

# So that no source, however odd, meets Python's limit of recursion further on.
_DEEPEST: Final = 64
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def dotted(path: KeyPath) -> str:
    """Return a key path as TOML writes it.

    >>> dotted(("llm", "purposes", "gpt-4.1", "model"))
    'llm.purposes."gpt-4.1".model'
    """
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in path)


def undotted(text: str) -> KeyPath:
    """Return the key path that TOML writes so; what is no such path is one key.

    >>> undotted('llm.purposes."gpt-4.1".model')
    ('llm', 'purposes', 'gpt-4.1', 'model')
    """
    try:
        paths = list(paths_of(tomllib.loads(f"{text} = 0")))
    except ValueError:
        return (text,)
    one_line = len(paths) == len(paths[-1])
    return paths[-1] if one_line else (text,)


def as_table(value: Any) -> dict[str, Any] | None:
    """Return a new dict of ``value`` when it is a table, otherwise None."""
    return {str(key): item for key, item in value.items()} if _is_table(value) else None


def as_list(value: Any) -> list[Any] | None:
    """Return a new list of ``value`` when it is a list or tuple, otherwise None."""
    return list(value) if _is_list(value) else None


def _is_table(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, list | tuple)


def copied(value: Any) -> Any:
    """Return new plain dicts and lists, all the way down, of the same leaves."""
    if (table := as_table(value)) is not None:
        return {name: copied(item) for name, item in table.items()}
    if (items := as_list(value)) is not None:
        return [copied(item) for item in items]
    return value


def too_deep(value: Any) -> bool:
    """Say whether tables and lists are nested deeper than any setting is, or hold themselves.

    >>> too_deep({"a": [{"b": 1}]})
    False
    """
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inside = [
            item for each in level for item in as_list(each) or (as_table(each) or {}).values()
        ]
        # by identity, so that what holds itself several times does not multiply
        level = list({id(item): item for item in inside}.values())
        if not level:
            return False
    return True


def paths_of(value: Any, prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every table and leaf under ``value``, parents first."""
    for key, item in (as_table(value) or {}).items():
        yield (*prefix, key)
        yield from paths_of(item, (*prefix, key))


class Sourced:
    """Tables as a source gave them, with the place that each key came from.

    Args:
        data: the tables. Plain values, keys included: the repr shows none of them.
        origins: the place each path came from, such as ``config.toml:3``. A path that is
            missing here has the origin of its nearest ancestor.

    >>> file = Sourced({"llm": {"default": {"model": "a"}}}, {("llm",): "config.toml"})
    >>> variable = Sourced(
    ...     {"llm": {"default": {"model": "b"}}},
    ...     {("llm", "default", "model"): "KOR_LLM__DEFAULT__MODEL"},
    ... )
    >>> merged = file.under(variable)
    >>> merged.data
    {'llm': {'default': {'model': 'b'}}}
    >>> merged.origin(("llm", "default", "model")), merged.origin(("llm", "default"))
    ('KOR_LLM__DEFAULT__MODEL', 'config.toml')
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        origins: Mapping[KeyPath, str] | None = None,
    ) -> None:
        self.data: dict[str, Any] = dict(data or {})
        self.origins: dict[KeyPath, str] = dict(origins or {})

    def __repr__(self) -> str:
        return f"<configuration of {len(self.origins)} keys>"

    def origin(self, path: KeyPath) -> str:
        """Return the place that ``path``, or its nearest ancestor, came from, or ``""``."""
        for length in range(len(path), 0, -1):
            if (found := self.origins.get(path[:length])) is not None:
                return found
        return ""

    def holds(self, path: KeyPath) -> bool:
        """Say whether ``path`` is set."""
        here: Any = self.data
        for part in path:
            table = as_table(here)
            if table is None or part not in table:
                return False
            here = table[part]
        return True

    def under(self, upper: "Sourced") -> "Sourced":
        """Return both as one, in which ``upper`` wins."""
        replaced: set[KeyPath] = set()
        data = _merged(self.data, upper.data, (), replaced)
        kept = {path: place for path, place in self.origins.items() if not _in(path, replaced)}
        return Sourced(data, {**kept, **upper.origins})


def _merged(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: KeyPath, replaced: set[KeyPath]
) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        here = (*path, key)
        below, above = as_table(lower.get(key)), as_table(value)
        if below is not None and above is not None:
            merged[key] = _merged(below, above, here, replaced)
        else:
            merged[key] = value
            replaced.add(here)
    return merged


def _in(path: KeyPath, replaced: set[KeyPath]) -> bool:
    return any(path[:length] in replaced for length in range(1, len(path) + 1))
