"""What was refused a moment ago, so that whoever asks often does not have it checked as often."""

from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from threading import Lock
from time import monotonic
from typing import Final

from kor_core.errors import ConfigurationError

__all__ = ["Refusals"]

# Long beside what checking an overlay takes, short for somebody who has just mended theirs.
_SECONDS: Final = 5.0
_MOST: Final = 64


class Refusals:
    """The errors of overlays that are wrong, by tenant, for some seconds.

    >>> refusals = Refusals()
    >>> with refusals.noting("acme"):
    ...     raise ConfigurationError([])
    Traceback (most recent call last):
    kor_core.errors.ConfigurationError: 0 problems in the configuration:
    >>> refusals.repeat("acme")
    Traceback (most recent call last):
    kor_core.errors.ConfigurationError: 0 problems in the configuration:
    >>> refusals.forget("acme")
    >>> refusals.repeat("acme")
    """

    def __init__(self) -> None:
        self._lock: Final = Lock()
        # The oldest first.
        self._known: dict[str, tuple[float, ConfigurationError]] = {}

    def repeat(self, tenant: str) -> None:
        """Raise what was raised for a tenant, if that was not long ago."""
        since, error = self._known.get(tenant, (0.0, None))
        if error is not None and monotonic() - since < _SECONDS:
            # A new one: each raise puts frames into the traceback of the error it raises.
            raise copy(error)

    @contextmanager
    def noting(self, tenant: str) -> Generator[None]:
        """Remember what the block raises, where it is the configuration that is wrong."""
        known = self._known  # what is noted after `forget_all` is of the time before it
        try:
            yield
        except ConfigurationError as error:
            with self._lock:
                known.pop(tenant, None)
                known[tenant] = monotonic(), copy(error)
                if len(known) > _MOST:
                    del known[next(iter(known))]
            raise

    def forget(self, tenant: str) -> None:
        """Have a tenant's overlay checked at its next use."""
        with self._lock:
            self._known.pop(tenant, None)

    def forget_all(self) -> None:
        """Have every overlay checked at its next use."""
        with self._lock:
            self._known = {}
