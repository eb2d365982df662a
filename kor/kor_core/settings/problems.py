"""pydantic's findings, put as problems: where the value came from, what was expected."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kor_core.errors import Problem
from kor_core.settings.cures import of_dotted, of_misplaced, of_wrong_kind
from kor_core.settings.provenance import KeyPath, Sourced, dotted
from kor_core.suggestions import listed, nearest

__all__ = ["bare", "problem_at", "problems_in", "step"]

_EXPECTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "path_type": "text, the path of a file",
    "finite_number": "a finite number",
}
_WORDS: Final = {"missing": "Missing: it has no default."}
_RANGES: Final = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}


def problem_at(
    path: KeyPath, message: str, source: Sourced, suggestion: str | None = None
) -> Problem:
    """Return a problem of the key at ``path``, which ``source`` has read."""
    return Problem(message, source.origin(path), dotted(path), suggestion)


def problems_in(
    error: ValidationError,
    model: type[BaseModel],
    source: Sourced,
    moved: Mapping[KeyPath, KeyPath],
) -> list[Problem]:
    """Return what pydantic found, each once.

    Args:
        error: what it raised.
        model: the model of the whole configuration.
        source: the configuration, with its origins.
        moved: where inherited values stand in the configuration, by where they were used.
    """
    found = [_problem(details, model, source, moved) for details in error.errors(include_url=False)]
    return list(dict.fromkeys(found))


def _problem(
    details: ErrorDetails,
    model: type[BaseModel],
    source: Sourced,
    moved: Mapping[KeyPath, KeyPath],
) -> Problem:
    path = tuple(str(part) for part in details["loc"] if part != "[key]")
    path = moved.get(path[:4], path[:4]) + path[4:]
    if details["type"] == "extra_forbidden":
        return _unknown(path, details["input"], model, source)
    suggestion = None
    if details["type"] == "literal_error":
        suggestion = _nearest_literal(details)
    return problem_at(path, _message(details, path), source, suggestion)


def _unknown(path: KeyPath, value: Any, model: type[BaseModel], source: Sourced) -> Problem:
    if place := of_misplaced(path, value):
        return problem_at(path, place, source)
    known = _fields(path[:-1], model)
    kind = "section" if len(path) == 1 else "key"
    cure = " What only the provider understands goes into `extra`." if "extra" in known else ""
    near = nearest(path[-1], known)
    if near is None and (dots := of_dotted(path, value)):
        cure = f" {dots}"
    message = f"Unknown {kind}. Known: {listed(known)}.{cure}"
    return problem_at(path, message, source, near)


def _fields(path: KeyPath, model: type[BaseModel]) -> tuple[str, ...]:
    here: Any = model
    for part in path:
        here = step(here, part)
    return tuple(here.model_fields)


def step(annotation: Any, name: str) -> Any:
    """Return the annotation of the key ``name`` inside a table annotated so, or None.

    >>> from kor_core.settings.tables import NetworkSettings
    >>> step(NetworkSettings, "max_connections") is not None, step(NetworkSettings, "nothing")
    (True, None)
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(name)
        return bare(field.annotation) if field else None
    arguments = get_args(annotation)
    return bare(arguments[1]) if len(arguments) == 2 else None  # noqa: PLR2004 - a mapping


def bare(annotation: Any) -> Any:
    """Return an annotation without ``Annotated`` and without ``| None``."""
    if hasattr(annotation, "__metadata__"):
        return bare(annotation.__origin__)
    arguments = get_args(annotation)
    if type(None) in arguments:
        return bare(next(item for item in arguments if item is not type(None)))
    return annotation


def _message(details: ErrorDetails, path: KeyPath) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"Expected {context['expected']}."
    if kind in _RANGES:
        words, bound = _RANGES[kind]
        return f"Expected a number {words} {context[bound]:,.12g}."
    expected = _EXPECTED.get(kind)
    if expected is None:
        return _WORDS.get(kind, details["msg"])
    return _wrong_kind(expected, path, details["input"])


def _wrong_kind(expected: str, path: KeyPath, value: Any) -> str:
    if expected == _EXPECTED["int_type"] and isinstance(value, float):
        return "Expected a whole number, found a number with a fraction."
    cure = of_wrong_kind(expected, path, value)
    return f"Expected {expected}, found {_kind(value)}. {cure}".rstrip()


def _nearest_literal(details: ErrorDetails) -> str | None:
    expected = str(details.get("ctx", {}).get("expected", ""))
    return nearest(str(details["input"]), [word.strip("' ") for word in expected.split(" or ")])


def _kind(value: Any) -> str:
    """Say what a value is, never what it holds: it may be a key."""
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    return "a date or time"


_KINDS: Final[tuple[tuple[Any, str], ...]] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a whole number"),
    (float, "a number"),
    (Mapping, "a table"),
    (list, "a list"),
    (type(None), "nothing"),
)
