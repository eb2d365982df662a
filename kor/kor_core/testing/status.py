"""The HTTP statuses with which an upstream can fail."""

from typing import Final

__all__ = ["failing"]

_SUCH: Final = "Give a number from 300 to 599, such as 429 or 503."


def failing(status: object) -> None:
    """Refuse what is no HTTP status of a failure.

    Raises:
        TypeError: it is no number.
        ValueError: no failure has it.

    >>> failing("429")
    Traceback (most recent call last):
    TypeError: A status is a number, not '429'. Did you mean 429?
    """
    if isinstance(status, bool) or not isinstance(status, int):
        meant = f"Did you mean {status}?" if _is_failing_text(status) else _SUCH
        raise TypeError(f"A status is a number, not {status!r}. {meant}")
    if status in range(200, 300):
        raise ValueError(
            f"{status} is the status of a success. Tell a success with reply(); for a body of "
            "your own play Body(content) from kor_core.testing.faults."
        )
    if status not in range(300, 600):
        raise ValueError(f"No failure has the status {status}. {_SUCH}")


def _is_failing_text(status: object) -> bool:
    return isinstance(status, str) and status.isdecimal() and int(status) in range(300, 600)
