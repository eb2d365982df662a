"""What a command prints, and what is said where it cannot be."""

import os
import shutil
import sys
from contextlib import suppress
from textwrap import wrap
from typing import Final

__all__ = [
    "UnwrittenError",
    "flush",
    "is_terminal",
    "stop_writing",
    "width",
    "wrapped",
    "write",
]


# What a terminal obeys rather than shows, or is to be seen in no other way: an answer is somebody
# else's words, and may move the cursor, write into the clipboard or pass for the shell.
_VISIBLE: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


class UnwrittenError(OSError):
    """stdout takes no more: the disk is full, or nobody opened it."""


def write(text: str, end: str = "\n") -> None:
    """Print a text on stdout, at once, so that a full disk is known while it can be said.

    A terminal gets control characters as escapes that can be read; files and pipes get all of it
    as it is.

    Args:
        text: what is printed.
        end: what is printed after it.

    Raises:
        UnwrittenError: it could not be written.
    """
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # so under `>&-`
        raise UnwrittenError("stdout is closed")
    # A terminal that lacks a character shows its escape: an answer is not lost for an emoji.
    encoding = sys.stdout.encoding
    if is_terminal():
        text = text.translate(_VISIBLE)
    try:
        shown = text.encode(encoding, errors="backslashreplace").decode(encoding)
        print(shown, end=end, flush=True)
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


def width() -> int | None:
    """Return the width of the terminal; None for files and pipes, where lines stay whole."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def is_terminal() -> bool:
    """Say whether somebody reads along what is printed."""
    return sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]  # so under `>&-`


def wrapped(text: str, longest: int | None, indent: str) -> list[str]:
    """Break a line between words.

    Args:
        text: the line.
        longest: line to make of it, in characters; None for no limit.
        indent: what the lines after the first begin with.

    >>> wrapped("ok  files: one, two", 12, "    ")
    ['ok  files:', '    one, two']
    """
    if longest is None:
        return [text]
    # Names and paths are to be copied whole, hyphens included.
    return wrap(
        text, longest, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
