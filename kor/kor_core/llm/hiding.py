"""Takes secrets out of errors: a server may repeat a key in whatever it answers."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NoReturn

from kor_core.errors import KorError, Problem
from kor_core.redaction import is_sequence, redact

__all__ = ["hide", "proper", "raise_typed", "said"]

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


def said(error: BaseException) -> str:
    """Return what an exception of others says; nothing where it fails at that.

    >>> said(ValueError("no such town"))
    'no such town'
    """
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # classes of others do as they like
        return ""


def raise_typed(failure: KorError, cause: Exception, secrets: Iterable[str]) -> NoReturn:
    """Raise an error of ours for somebody else's, whose texts are masked where they hold a key.

    The cause keeps its class, its frames and its chain for whoever looks for the fault.

    >>> try:
    ...     raise_typed(KorError("It failed."), ValueError("the key sk-planted"), ["sk-planted"])
    ... except KorError as error:
    ...     print(repr(error.__cause__))
    ValueError('the key **********')
    """
    shown = _harmless(cause, frozenset(secrets))
    try:
        raise failure from shown
    except KorError:
        failure.__context__ = shown  # and not what is handled now, where that could not be masked
        raise


def _harmless(error: BaseException, secrets: frozenset[str]) -> BaseException:
    """Mask an exception and its chain in place; what keeps a key all the same has a stand-in."""
    pending, seen = [error], set[int]()
    harmful = False
    while pending:
        each = pending.pop()
        if id(each) not in seen:
            seen.add(id(each))
            harmful = _mask(each, secrets) or harmful
            pending += [chained for chained in (each.__cause__, each.__context__) if chained]
    if not harmful:
        return error
    words = f"{type(error).__qualname__}: {redact(said(error), secrets)}"
    return RuntimeError(words).with_traceback(error.__traceback__)


def _mask(error: BaseException, secrets: frozenset[str]) -> bool:
    """Mask the texts of one exception; say whether it shows a key all the same."""
    with suppress(Exception):  # classes of others may refuse whatever they like
        error.args = tuple(_masked(item, secrets) for item in error.args)
        for name, value in vars(error).copy().items():
            vars(error)[name] = _masked(value, secrets)
    try:
        shown = f"{error} {error!r}"
    except Exception:  # noqa: BLE001  # likewise
        return True
    return redact(shown, secrets) != shown


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
