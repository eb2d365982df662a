"""How an error looks on the command line, and which exit code it gives."""

import sys
import traceback
from typing import Final

from kor_core.errors import ConfigurationError, KorError, LLMError

__all__ = ["FAILED", "MISCONFIGURED", "report", "worded"]

FAILED: Final = 1
MISCONFIGURED: Final = 2

# Messages are written for those who call KOR from code; here the same cure is another.
_CURES: Final = {
    "Register one with registry.register().": "Providers come with KOR and with [plugins]; "
    "`kor check` lists them.",
    "ask for a model by reference: kernel.llm_registry.get_model('provider:model')": (
        "name a purpose, or a model with `kor ask --model provider:model`"
    ),
}


def report(error: Exception, *, debug: bool = False) -> int:
    """Write one readable block about an error on stderr and return the exit code.

    Notes, such as which binding was being built, are for those who debug: the traceback has them.

    Args:
        error: what ended the command.
        debug: write the traceback before it.
    """
    if debug:
        traceback.print_exception(error)
    code, message = _judged(error)
    sys.stderr.write("kor: " + worded(message).replace("\n", "\n     ") + "\n")
    return code


def worded(message: str) -> str:
    """Return a message of KOR with its cure put for the command line.

    >>> worded("No provider 'x'. Registered: echo. Register one with registry.register().")
    "No provider 'x'. Registered: echo. Providers come with KOR and with [plugins]; `kor check` ..."
    """
    for cure, ours in _CURES.items():
        message = message.replace(cure, ours)
    return message


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
