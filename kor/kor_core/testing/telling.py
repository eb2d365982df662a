"""What may be told to an upstream; a slip in it fails where it stands, and not later."""

from collections.abc import Collection, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import Any, Final, cast

from kor_core.suggestions import did_you_mean, listed
from kor_core.testing import faults
from kor_core.testing.faults import Fault
from kor_core.testing.replies import Reply
from kor_core.testing.script import When
from kor_core.testing.wire.base import WireFormat

__all__ = ["apis_of", "check_acts", "check_conditions", "check_models", "check_text"]

_FAULTS: Final = {name.lower(): name for name in faults.__all__ if name != "Fault"}
_CONDITIONS: Final = tuple(When.__annotations__)


def apis_of(formats: Iterable[WireFormat]) -> frozenset[str]:
    """Return what ``api=`` can name: the wire formats, and their vendors.

    >>> from kor_core.testing.wire.every import every_format
    >>> sorted(apis_of(every_format(())))[:4]
    ['anthropic', 'anthropic.messages', 'gemini', 'gemini.batch_embed']
    """
    names = {wire.name for wire in formats}
    return frozenset(names | {name.partition(".")[0] for name in names})


def check_models(models: object) -> None:
    """Refuse one text where several models are listed: its letters would be the models.

    Raises:
        TypeError: it is a text.
    """
    if isinstance(models, str):
        raise TypeError(f"models takes a list of names: models=[{models!r}].")


# --- replies and faults -------------------------------------------------------------------


def check_acts(acts: Sequence[object]) -> None:
    """Refuse what can neither be answered nor played.

    Raises:
        TypeError: one is no text, reply, function or fault.
    """
    for act in acts:
        if not _is_act(act):
            raise TypeError(
                "An upstream takes texts, Reply objects, functions of the request and faults, "
                f"not {_shown(act)}.{_cure(act)}"
            )


def check_text(text: object) -> None:
    """Refuse a text that is the name of a fault, for it would only be answered.

    Raises:
        ValueError: it is a fault's name.

    >>> check_text("Hang")
    Traceback (most recent call last):
    ValueError: 'Hang' is a text, and would be answered as one. Did you mean the fault Hang() \
from kor_core.testing.faults? To answer the text: reply('Hang').
    """
    fault = _FAULTS.get(text.strip().removesuffix("()").lower()) if isinstance(text, str) else None
    if fault is not None:
        raise ValueError(
            f"{text!r} is a text, and would be answered as one. Did you mean the fault {fault}() "
            f"from kor_core.testing.faults? To answer the text: reply({text!r})."
        )


def _is_act(act: object) -> bool:
    if isinstance(act, type) or iscoroutinefunction(act):
        return False
    return isinstance(act, str | Reply | Fault) or callable(act)


def _shown(act: object) -> str:
    kind = cast("type[Any]", act) if isinstance(act, type) else type(act)
    return f"the class {kind.__name__}" if kind is act else f"an object of {kind.__name__}"


def _cure(act: object) -> str:
    if isinstance(act, type):
        made = cast("type[Any]", act).__name__
        return f" Did you mean an object of it, {made}()?" if issubclass(act, Fault | Reply) else ""
    if iscoroutinefunction(act):
        return " The function cannot be async: it runs in the upstream's own thread."
    if isinstance(act, int) and act in range(300, 600):
        return f" Did you mean fail({act})?"
    return f" Did you mean {str(act)!r}?" if isinstance(act, int | float) else ""


# --- conditions ---------------------------------------------------------------------------


def check_conditions(
    told_by: str, when: When, apis: Collection[str], others: Iterable[str] = ()
) -> None:
    """Refuse conditions that do not exist or could never hold.

    Args:
        told_by: the method that was given them.
        when: the conditions.
        apis: what ``api`` can name.
        others: further keyword arguments of the method, as nearest names.

    Raises:
        TypeError: a condition is unknown, or its value is of another kind.
        ValueError: a condition can never hold.
    """
    values = cast("dict[str, object]", when)
    known = (*others, *_CONDITIONS)
    for name, value in values.items():
        if name not in _CONDITIONS:
            raise TypeError(
                f"{told_by}() takes no '{name}'. It takes: {listed(known)}."
                f"{did_you_mean(name, known)}"
            )
        _CHECKS[name](name, value, apis)


def _count(name: str, value: object, apis: Collection[str]) -> None:
    del apis
    if value is None:
        return
    cure = "1 or more" + (", or ALWAYS from kor_core.testing" if name == "times" else "")
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number, {cure}, not {value!r}.")
    if value < 1:
        raise ValueError(f"With {name}={value} it would never be played. Give {cure}.")


def _text(name: str, value: object, apis: Collection[str]) -> None:
    del apis
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {_shown(value)}.")


def _path(name: str, value: object, apis: Collection[str]) -> None:
    _text(name, value, apis)
    if not str(value).startswith("/"):
        raise ValueError(f"No path begins with {value!r}. Did you mean '/{value}'?")


def _api(name: str, value: object, apis: Collection[str]) -> None:
    _text(name, value, apis)
    if value not in apis:
        raise ValueError(
            f"No api {value!r}. Known: {listed(apis)}.{did_you_mean(str(value), apis)}"
        )


def _function(name: str, value: object, apis: Collection[str]) -> None:
    del apis
    if not callable(value):
        raise TypeError(f"{name} is a function of the request, not {_shown(value)}.")


_CHECKS: Final = {
    "times": _count,
    "at": _count,
    "model": _text,
    "path": _path,
    "api": _api,
    "where": _function,
}
