"""TOML files, read with the line of every key and with errors that say line and column."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kor_core.errors import Problem
from kor_core.settings.provenance import KeyPath, Sourced, paths_of, too_deep

__all__ = ["parsed_toml", "read_toml"]

# How many times its own length a document is parsed to find its lines.
_EFFORT: Final = 50

_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")

# Text that lacks its quotes, and what stands before it: also `4`, of `4o-mini`.
_WORD: Final = re.compile(r"[A-Za-z_~/.-][^\s,\]}#]*")
_BEGUN: Final = re.compile(r"[=,\[]\s*(?:[\w.-]+)?$|^\s+$")
_FLAGS: Final = {"true", "false", "yes", "no", "on", "off"}


def read_toml(path: Path, *, largest: int | None = None) -> Sourced | Problem | None:
    """Return what a file holds, what is wrong with it, or None where there is none.

    Args:
        path: the file.
        largest: the most bytes that are accepted, a multiple of 1024; by default any number.

    >>> read_toml(Path("nowhere.toml")) is None
    True
    """
    try:
        with path.open("rb") as file:
            raw = file.read() if largest is None else file.read(largest + 1)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return Problem("Expected a file, found a directory.", str(path))
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Problem(f"The file cannot be read: {reason}.", str(path))
    if largest is not None and len(raw) > largest:
        return Problem(f"The file is larger than {largest // 1024} KB.", str(path))
    return _decoded(raw, path)


def _decoded(raw: bytes, path: Path) -> Sourced | Problem:
    try:
        text = raw.decode("utf-8-sig")  # some editors begin UTF-8 files with a mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Problem(f"The file is not UTF-8: see line {line}. Save it as UTF-8.", str(path))
    return parsed_toml(text, str(path))


def parsed_toml(text: str, name: str) -> Sourced | Problem:
    r"""Return the tables in ``text``, each key with ``name:line`` as its origin.

    >>> parsed_toml("[llm.default]\nmodel = 'echo'", "config.toml").origin(("llm", "default"))
    'config.toml:1'
    >>> print(parsed_toml("model =", "config.toml"))
    config.toml:1: TOML syntax error in column 8: Invalid value.
    """
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        return Problem("Tables or lists are nested too deeply.", name)
    except ValueError as error:  # TOMLDecodeError is one; numbers of 5,000 digits raise others
        return _syntax_error(error, text, name)
    if too_deep(data):
        return Problem("Tables or lists are nested too deeply.", name)
    lines = {path: f"{name}:{line}" for path, line in _lines(text).items()}
    return Sourced(data, {**dict.fromkeys(paths_of(data), name), **lines})


def _syntax_error(error: ValueError, text: str, name: str) -> Problem:
    message = str(error)
    found = _POSITION.search(message)
    if found is None:
        return Problem(f"TOML error: {message}.", name)
    at_end = (text.count("\n") + 1, len(text) - text.rfind("\n"))
    line, column = (int(found[1]), int(found[2])) if found[1] else at_end
    cause = message[: found.start()]
    cure = _unquoted(text.split("\n")[line - 1], column - 1)
    where = f"TOML syntax error in column {column}"
    return Problem(f"{where}: {cause}. {cure}".rstrip(), f"{name}:{line}")


def _unquoted(line: str, at: int) -> str:
    """Return what a text without quotes lacks, where one stands there."""
    word = _WORD.match(line, at)
    if word is None or not _BEGUN.search(line, 0, at):
        return ""
    if word[0].lower() in _FLAGS:
        return "Write true or false, in small letters."
    return 'Text needs quotes: "…".'


def _lines(text: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    header: KeyPath = ()
    for number, statement in _statements(text):
        is_header = statement.lstrip().startswith("[")
        paths = list(paths_of(tomllib.loads(statement), () if is_header else header))
        if is_header:
            header = paths[-1]
            lines[header] = number
        for path in paths:
            lines.setdefault(path, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of a valid document with its line.

    A statement ends with the first line at which it can be parsed: tomllib says where
    strings and lists over several lines end. Where that takes too long, on a value of
    thousands of lines, the rest goes without lines.
    """
    start, pending, parsed = 1, "", 0
    for number, line in enumerate(text.split("\n"), 1):
        pending += line
        parsed += len(pending)
        if parsed > _EFFORT * len(text):
            return
        if _parses(pending):
            yield start, pending
            start, pending = number + 1, ""
        else:
            pending += "\n"


def _parses(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except ValueError:
        return False
    return True
