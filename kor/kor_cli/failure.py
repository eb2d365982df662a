"""How an error looks on the command line, and which exit code it gives."""

import sys
import traceback
from typing import Final

from kor_core.errors import ConfigurationError, KorError, LLMError

__all__ = ["FAILED", "MISCONFIGURED", "report"]

FAILED: Final = 1
MISCONFIGURED: Final = 2


def report(error: Exception, *, debug: bool = False) -> int:
    """Write one readable block about an error on stderr and return the exit code.

    Args:
        error: what ended the command.
        debug: write the traceback before it.
    """
    if debug:
        traceback.print_exception(error)
    code, message = _judged(error)
    notes: list[str] = getattr(error, "__notes__", [])
    block = "\n".join([message, *notes])
    sys.stderr.write("kor: " + block.replace("\n", "\n     ") + "\n")
    return code


def _judged(error: Exception) -> tuple[int, str]:
    # A missing key is both; nobody was asked yet, so it is the configuration that is wrong.
    if isinstance(error, LLMError) and not isinstance(error, ConfigurationError):
        return FAILED, f"no answer: {error}"
    if isinstance(error, KorError):
        return MISCONFIGURED, str(error)
    return FAILED, (
        f"unexpected {type(error).__name__}: {error}\n"
        "This is a fault in KOR or in a plugin. Please report it with what --debug shows."
    )
