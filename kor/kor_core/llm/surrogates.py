"""Halves of characters, which JSON can spell and UTF-8 cannot."""

import re
from typing import Final

__all__ = ["without_halves"]

# Whole pairs and other escapes come first: a backslash that is escaped begins none.
_ESCAPE: Final = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])"
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff]"
)


def without_halves(text: str) -> str:
    r"""Return JSON in which each half of a character is replaced by U+FFFD.

    A text with one can be read, but not sent: the next round of the conversation would fail.

    >>> without_halves(r'["\ud83d\ude00", "\ud83d", "\\ud83d"]')
    '["\\ud83d\\ude00", "�", "\\\\ud83d"]'
    """
    return _ESCAPE.sub(lambda found: found[1] or "\ufffd", text)
