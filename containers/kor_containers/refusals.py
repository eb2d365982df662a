"""What was refused a moment ago, so that whoever asks often does not have it checked as often."""

from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from threading import Lock
from time import monotonic
from typing import Final, NamedTuple

from kor_containers.overlays import Overlay
from kor_core.errors import ConfigurationError
from kor_core.settings.provenance import Sourced

__all__ = ["Refusals"]

# Long beside what checking an overlay takes, short for somebody who has just mended theirs.
_SECONDS: Final = 5.0
_MOST: Final = 64


class Refusals:
    """The errors of overlays that are wrong, by tenant, for some seconds.

    >>> refusals, overlay = Refusals(), Overlay({"lmm": {}})
    >>> with refusals.noting("acme", overlay):
    ...     raise ConfigurationError([])
    Traceback (most recent call last):
    kor_core.errors.ConfigurationError: 0 problems in the configuration:
    >>> with refusals.noting("acme", overlay):
    ...     print("checked again")
    Traceback (most recent call last):
    kor_core.errors.ConfigurationError: 0 problems in the configuration:
    >>> with refusals.noting("acme", Overlay({"llm": {}})):
    ...     print("another one")
    another one
    """

    def __init__(self) -> None:
        self._lock: Final = Lock()
        # The oldest first.
        self._known: dict[str, _Refusal] = {}

    @contextmanager
    def noting(self, tenant: str, overlay: Overlay) -> Generator[None]:
        """Remember what the block raises, where it is the configuration that is wrong.

        Raises:
            ConfigurationError: it was raised for this very overlay a moment ago.
        """
        known = self._known  # what is noted after `forget_all` is of the time before it
        mark, found = _mark(overlay), known.get(tenant)
        if found is not None and found.mark == mark and monotonic() - found.since < _SECONDS:
            # A new one: each raise puts frames into the traceback of the error it raises.
            raise copy(found.error)
        try:
            yield
        except ConfigurationError as error:
            with self._lock:
                known.pop(tenant, None)
                known[tenant] = _Refusal(mark, monotonic(), copy(error))
                if len(known) > _MOST:
                    del known[next(iter(known))]
            raise

    def forget_all(self) -> None:
        """Have every overlay checked at its next use."""
        with self._lock:
            self._known = {}


class _Refusal(NamedTuple):
    mark: object
    since: float
    error: ConfigurationError


def _mark(overlay: Overlay) -> object:
    """Return what tells an overlay from others, and holds no key."""
    tables = overlay.tables
    given = tables.data if isinstance(tables, Sourced) else tables
    try:
        return hash(repr(given))
    except Exception:  # noqa: BLE001  # tables of others do as they like: each is another one
        return object()
