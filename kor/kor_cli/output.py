"""What a command prints, and what is said where it cannot be."""

import os
import sys
from contextlib import suppress

__all__ = ["UnwrittenError", "flush", "stop_writing", "write"]


class UnwrittenError(OSError):
    """stdout takes no more: the disk is full, or nobody opened it."""


def write(text: str) -> None:
    """Print a text on stdout, at once, so that a full disk is known while it can be said.

    Raises:
        UnwrittenError: it could not be written.
    """
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # so under `>&-`
        raise UnwrittenError("stdout is closed")
    # A terminal that lacks a character shows its escape: an answer is not lost for an emoji.
    encoding = sys.stdout.encoding
    try:
        print(text.encode(encoding, errors="backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwrittenError(error.strerror or str(error)) from error


def flush() -> None:
    """Write out what argparse printed."""
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]  # see above
        sys.stdout.flush()


def stop_writing() -> None:
    """Drop what is left: the interpreter flushes stdout at exit, and would complain again."""
    with suppress(AttributeError):  # there is none
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
