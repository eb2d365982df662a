"""How many tokens a request may take, before anybody has counted them."""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, Final

__all__ = ["estimated_tokens", "length_in_tokens", "longest_answer"]

# About four letters of English make a token, and three bytes of everything else.
_LETTERS: Final = 4
_BYTES: Final = 3

# Roles and separators, of each message.
_AROUND_A_MESSAGE: Final = 4


# By which of these a vendor is told differs, and a table may hold more than one.
_LONGEST: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def longest_answer(*tables: Mapping[str, Any]) -> int:
    """Return how many tokens an answer may take; 0 where that is open.

    Args:
        tables: the settings of a call, those first that go over the others.

    >>> longest_answer({"max_tokens": 5}, {"max_tokens": 9, "top_k": 4}), longest_answer({})
    (5, 0)
    """
    # Loops, since each call asks: comprehensions within comprehensions take three times as long.
    longest = 0
    for name in _LONGEST:
        for table in tables:
            if limit := table.get(name):
                longest = max(longest, limit) if isinstance(limit, int) else longest
                break
    return longest


def estimated_tokens(texts: Iterable[str], max_tokens: int | None = None) -> int:
    """Return how many tokens a request may take, answer included: never exact, always quick.

    Args:
        texts: the text of each message.
        max_tokens: the longest answer; where it is open, the answer counts once it is there.

    >>> estimated_tokens(["You are brief.", "What is the capital of France?"], max_tokens=100)
    120
    """
    asked = sum(ceil(length_in_tokens(text)) + _AROUND_A_MESSAGE for text in texts)
    return asked + max(0, max_tokens or 0)


def length_in_tokens(text: str) -> float:
    """Return how many tokens a text, or a piece of one, makes about.

    >>> length_in_tokens("Hello!"), length_in_tokens("été")
    (1.5, 1.6666666666666667)
    """
    if text.isascii():
        return len(text) / _LETTERS
    return len(text.encode("utf-8", "surrogatepass")) / _BYTES
