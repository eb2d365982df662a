"""How many tokens a request may take, before anybody has counted them."""

from collections.abc import Iterable
from typing import Final

__all__ = ["estimated_tokens"]

# About four letters of English make a token, and three bytes of everything else.
_LETTERS: Final = 4
_BYTES: Final = 3

# Roles and separators, of each message.
_AROUND_A_MESSAGE: Final = 4


def estimated_tokens(texts: Iterable[str], max_tokens: int | None = None) -> int:
    """Return how many tokens a request may take, answer included: never exact, always quick.

    Args:
        texts: the text of each message.
        max_tokens: the longest answer; where it is open, the answer counts once it is there.

    >>> estimated_tokens(["You are brief.", "What is the capital of France?"], max_tokens=100)
    120
    """
    return sum(_tokens_in(text) + _AROUND_A_MESSAGE for text in texts) + (max_tokens or 0)


def _tokens_in(text: str) -> int:
    if text.isascii():
        return -(-len(text) // _LETTERS)
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES)
