"""How much memory a value takes, about: enough to bound what is kept of others' words."""

import sys
from collections.abc import Hashable, Iterable
from itertools import chain
from typing import Any, cast

from kor_core.llm.policies.copying import record_fields
from kor_core.redaction import is_table

__all__ = ["weight"]


def weight(value: object, most: int) -> int:
    """Return how many bytes a value takes with all that it holds; what is held twice counts twice.

    Args:
        value: anything.
        most: where more than this are found, no more are looked for: what is larger takes no
            longer to weigh.

    >>> 1000 < weight({"text": "x" * 1000}, most=2000) < 2000
    True
    >>> weight([[0]] * 1_000_000, most=2000) > 2000
    True
    """
    found = 0
    left = [value]
    while left and found <= most:
        each = left.pop()
        found += sys.getsizeof(each)
        if found <= most:
            left.extend(_held_by(each))
    return found


def _held_by(value: Any) -> Iterable[object]:
    if is_table(value):
        return chain(value.keys(), value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return cast("Iterable[object]", value)
    names = record_fields(cast("Hashable", type(value)))
    if names is None:
        own: dict[str, object] = getattr(value, "__dict__", {})
        return own.values()
    return [getattr(value, name) for name in names]
