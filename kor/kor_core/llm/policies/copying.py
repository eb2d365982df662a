"""Copies that share nothing that can be changed, and everything that cannot."""

from collections.abc import Hashable
from copy import copy, deepcopy
from dataclasses import fields
from decimal import Decimal
from functools import lru_cache
from operator import is_
from typing import Any, Final, TypeVar, cast

__all__ = ["apart", "record_fields"]

T = TypeVar("T")

_UNCHANGEABLE: Final[frozenset[Any]] = frozenset(
    {type(None), bool, int, float, str, bytes, Decimal, frozenset}
)


def apart(value: T) -> T:
    """Return a copy, or the very object where nothing in it can be changed.

    A tenth of the time that ``deepcopy`` takes for an answer, most of which is unchangeable.

    Raises:
        TypeError: something in it cannot be copied.

    >>> from kor_core.llm.response import LLMResponse
    >>> response = LLMResponse("Hello!")
    >>> apart(response) is response
    True
    >>> arguments = {"city": ["Bern"]}
    >>> apart(arguments) == arguments, apart(arguments)["city"] is arguments["city"]
    (True, False)
    """
    return cast("T", _apart(value))


@lru_cache(maxsize=128)
def record_fields(kind: Hashable) -> tuple[str, ...] | None:
    """Return the names of the fields of a frozen dataclass, or None for any other class.

    A class derived from one that is none itself may hold more, and counts as any other.

    >>> from kor_core.llm.response import Usage
    >>> record_fields(Usage)
    ('input_tokens', 'output_tokens', 'cached_tokens', 'reasoning_tokens')
    >>> record_fields(dict) is None
    True
    """
    params = vars(kind).get("__dataclass_params__")
    if params is None or not params.frozen:
        return None
    return tuple(field.name for field in fields(cast("Any", kind)))


def _apart(value: Any) -> Any:
    kind = cast("Hashable", type(value))
    if kind in _UNCHANGEABLE:
        return value
    if kind is tuple:
        return _tuple(value)
    if kind is dict:
        return {name: _apart(item) for name, item in value.items()}
    if kind is list:
        return [_apart(item) for item in value]
    names = record_fields(kind)
    return deepcopy(value) if names is None else _record(value, names)


def _tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    items = tuple(map(_apart, value))
    same = all(map(is_, items, value))
    return value if same else items


def _record(value: Any, names: tuple[str, ...]) -> Any:
    made = value
    for name in names:
        before = getattr(value, name)
        after = before if type(before) in _UNCHANGEABLE else _apart(before)
        if after is not before:
            made = copy(value) if made is value else made
            # The way of dataclasses themselves: it is not handed out before it is complete.
            object.__setattr__(made, name, after)
    return made
