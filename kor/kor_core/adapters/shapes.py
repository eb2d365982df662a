"""What a JSON value is, told to the type checkers too."""

from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ["is_sequence", "is_table"]


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a value is an object of JSON.

    >>> is_table({"choices": []}), is_table("<html>")
    (True, False)
    """
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Say whether a value is an array of JSON.

    >>> is_sequence([1]), is_sequence("text")
    (True, False)
    """
    return isinstance(value, list | tuple)
