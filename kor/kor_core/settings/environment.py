"""Environment variables as one more source: ``KOR_LLM__DEFAULT__MODEL`` is ``llm.default.model``.

Only variables that begin with a section and ``__`` are read. Names are matched to those of
the models and of the files, ignoring case and telling ``-`` and ``_`` not apart.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, get_origin

from pydantic import BaseModel

from kor_core.errors import Problem
from kor_core.settings.problems import step
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table, dotted, too_deep

__all__ = ["matched", "typed"]

_LONGEST: Final = 32
_YES: Final = {"true", "1", "yes", "on"}
_NO: Final = {"false", "0", "no", "off"}


# --- names --------------------------------------------------------------------------------


def matched(
    environ: Mapping[str, str], model: type[BaseModel], below: Sourced
) -> tuple[Sourced, list[Problem]]:
    """Return the variables that configure something as tables of texts, and what is wrong.

    Args:
        environ: the environment.
        model: the model of the whole configuration; its fields are the sections.
        below: what the files gave: names there keep their spelling.
    """
    source, problems = Sourced(), list[Problem]()
    for name in sorted(environ):
        segments = _segments(name, model)
        if segments:
            problem = _placed(source, name, environ[name], _path(segments, model, below))
            problems += [problem] if problem else []
    return source, problems


def _segments(name: str, model: type[BaseModel]) -> list[str]:
    first, *rest = name.split("__")
    sections = {f"KOR_{section.upper()}": section for section in model.model_fields}
    return [sections[first], *rest] if first in sections and rest else []


def _path(segments: list[str], model: type[BaseModel], below: Sourced) -> KeyPath | Problem:
    if len(segments) > _LONGEST:
        return Problem("Is nested too deeply.", key=segments[0])
    path: KeyPath = ()
    here: Any = model
    table: Any = below.data
    for segment in segments:
        found = _spelt(segment, _names(here, table))
        if not segment or len(found) > 1:
            return _unclear(path, found)
        path = (*path, found[0])
        here, table = step(here, found[0]), (as_table(table) or {}).get(found[0])
    return path


def _names(here: Any, table: Any) -> list[str]:
    if isinstance(here, type) and issubclass(here, BaseModel):
        return list(here.model_fields)
    return list(as_table(table) or {})


def _spelt(segment: str, names: list[str]) -> list[str]:
    if segment in names:
        return [segment]
    found = [name for name in names if _folded(name) == _folded(segment)]
    # Shells write variables in capitals; a name written otherwise was meant so.
    return found or [segment.lower() if segment.isupper() else segment]


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _unclear(path: KeyPath, found: list[str]) -> Problem:
    if len(found) > 1:
        names = " and ".join(f"'{name}'" for name in found)
        return Problem(f"Fits {names}: write one of them exactly.", key=dotted(path))
    return Problem("Expected a name after '__'.", key=dotted(path))


def _placed(source: Sourced, name: str, text: str, path: KeyPath | Problem) -> Problem | None:
    if isinstance(path, Problem):
        return Problem(path.message, name, path.key)
    table = _table_for(path, source.data)
    if table is None or path[-1] in table:
        other = source.origin(path)
        return Problem(f"Contradicts {other}: remove one.", name, dotted(path))
    table[path[-1]] = text
    for length in range(1, len(path) + 1):
        source.origins.setdefault(path[:length], name)
    return None


def _table_for(path: KeyPath, data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the table that is to hold ``path``, or None where a text is in the way."""
    here: Any = data
    for part in path[:-1]:
        here = here.setdefault(part, {})
        if isinstance(here, str):
            return None
    table: dict[str, Any] = here
    return table


# --- values -------------------------------------------------------------------------------


def typed(source: Sourced, model: type[BaseModel]) -> tuple[Sourced, list[Problem]]:
    """Return the same tables with each text made what its field holds, and what is wrong.

    A text that makes no such value stays, and its problem says what was expected.
    """
    problems = list[Problem]()
    data = _typed(source.data, model, (), source, problems)
    return Sourced(data, source.origins), problems


def _typed(value: Any, here: Any, path: KeyPath, source: Sourced, problems: list[Problem]) -> Any:
    if (table := as_table(value)) is not None:
        return {
            name: _typed(
                item, step(here, name) if here is not Any else Any, (*path, name), source, problems
            )
            for name, item in table.items()
        }
    if not isinstance(value, str):
        return value
    expected, read = _reader(here)
    try:
        return read(value.strip())
    except (ValueError, RecursionError):
        message = f"Expected {expected}, found text."
        problems.append(Problem(message, source.origin(path), dotted(path)))
        return value


def _reader(here: Any) -> tuple[str, Callable[[str], Any]]:
    if here is Any:
        return "a value", _anything
    if isinstance(here, type) and issubclass(here, BaseModel):
        return _TABLE
    return _READERS.get(get_origin(here) or here, ("text", str))


def _flag(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(text)
    return text.lower() in _YES


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error


def _list(text: str) -> list[Any]:
    if text.startswith("["):
        return as_list(_notation(text)) or []
    return [item.strip() for item in text.split(",")] if text else []


def _table(text: str) -> dict[str, Any]:
    found = as_table(_notation(text))
    if found is None:
        raise ValueError(text)
    return found


def _notation(text: str) -> Any:
    """Return what a value written as JSON, or as TOML has it on one line, says."""
    try:
        found = json.loads(text)
    except ValueError:
        found = tomllib.loads(f"value = {text}")["value"]
    return _shallow(found)


def _anything(text: str) -> Any:
    try:
        return _shallow(json.loads(text))
    except ValueError:
        return text


def _shallow(value: Any) -> Any:
    if too_deep(value):
        raise RecursionError
    return value


_TABLE: Final = ('a table, such as {"name": "value"}', _table)
_READERS: Final[dict[Any, tuple[str, Callable[[str], Any]]]] = {
    bool: ("true or false", _flag),
    int: ("a whole number", int),
    float: ("a number", float),
    Decimal: ("a number", _number),
    tuple: ('a list, such as ["a", "b"] or a,b', _list),
    Mapping: _TABLE,
}
