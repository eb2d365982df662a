"""Takes secrets out of errors: a server may repeat a key in whatever it answers."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from kor_core.errors import KorError, Problem
from kor_core.redaction import is_sequence, redact

__all__ = ["hide", "proper"]

_LONGEST_NAME: Final = 128


def hide(error: KorError, secrets: Iterable[str]) -> None:
    """Mask the secrets in an error of ours, which keeps its shape.

    >>> error = KorError("The key sk-planted was refused.")
    >>> hide(error, ["sk-planted"])
    >>> str(error)
    'The key ********** was refused.'
    """
    error.args = tuple(_masked(item, secrets) for item in error.args)
    for name, value in vars(error).copy().items():
        vars(error)[name] = _masked(value, secrets)


def _masked(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Problem):
        return replace(value, message=redact(value.message, secrets))
    if is_sequence(value):  # notes are a list, and stay one
        found = [_masked(item, secrets) for item in value]
        return found if isinstance(value, list) else tuple(found)
    return value


def proper(name: str) -> str | None:
    r"""Return a name that somebody else gave, where it may stand in a message.

    Others may forge lines of a log, and are not shortened either: half of a key is found by no
    mask.

    >>> proper("add"), proper("add\nroot: all is well")
    ('add', None)
    """
    return name if len(name) <= _LONGEST_NAME and name.isprintable() else None
