"""Handles that last: the same object for the same question, without growing for ever."""

from collections.abc import Callable
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

from kor_core.llm.handle import ModelHandle

__all__ = ["Lasting"]

# Far more than an application names; a guard against references made of users' input.
_RECENT: Final = 1024


# One for all: it is held for an instant, and one each would be paid by every tenant.
_remembering: Final = Lock()


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
