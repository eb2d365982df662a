"""Handles that last: the same object for the same question, without growing for ever."""

from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

from kor_core.llm.handle import ModelHandle
from kor_core.redaction import Secret, is_sequence, is_table

__all__ = ["Lasting", "question"]

# Far more than an application names; a guard against references made of users' input.
_RECENT: Final = 1024


# One for all: it is held for an instant, and one each would be paid by every tenant.
_remembering: Final = Lock()


def question(reference: str | None, settings: Mapping[str, Any]) -> Hashable:
    """Return what was asked, to remember the answer by: equal for equal values alone.

    Texts in it are :class:`Secret`, since a setting may hold a key and this lives long.

    >>> question("openai:m", {"extra": {"k": [1]}}) == question("openai:m", {"extra": {"k": [1]}})
    True
    >>> question("openai:m", {"seed": 1}) == question("openai:m", {"seed": True})
    False
    """
    return reference, _frozen(settings)


def _frozen(value: object) -> Hashable:
    if is_table(value):
        return frozenset((key, _frozen(item)) for key, item in value.items())
    if is_sequence(value):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, str):
        return Secret(value)
    try:
        hash(value)
    except TypeError:
        value = Secret(repr(value))
    # With its type: 1, 1.0 and True are equal, and not the same setting.
    return type(value), value


class Lasting:
    """Remembers handles by what was asked.

    The latest are kept; an older one is still the same object for as long as somebody holds
    it.
    """

    __slots__ = ("_older", "recent")

    def __init__(self) -> None:
        self.recent: Final[dict[Any, ModelHandle]] = {}
        self._older: WeakValueDictionary[Any, ModelHandle] | None = None

    def get(self, key: Any, make: Callable[[], ModelHandle]) -> ModelHandle:
        """Return the handle for a question; ``make`` is called where there is none.

        Threads that race may each make one, and all get the same.
        """
        found = self._known(key) or make()
        with _remembering:
            kept = self.recent.setdefault(key, self._known(key) or found)
            if len(self.recent) > _RECENT:
                self._retire(next(iter(self.recent)))
            return kept

    def _known(self, key: Any) -> ModelHandle | None:
        older = self._older
        return self.recent.get(key) or (older.get(key) if older is not None else None)

    def _retire(self, key: Any) -> None:
        if self._older is None:
            self._older = WeakValueDictionary()
        self._older[key] = self.recent.pop(key)
