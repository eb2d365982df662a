"""Answers that were given before: in memory, bounded in number and in time."""

import json
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from decimal import Decimal
from hashlib import sha256
from threading import Lock
from typing import Any, Final, Generic, TypeVar, cast
from weakref import WeakValueDictionary

from kor_core.llm.policies.concurrency import Gate
from kor_core.llm.policies.copying import apart, record_fields
from kor_core.redaction import is_sequence, is_table

__all__ = ["ResponseCache", "request_key"]

T = TypeVar("T")

# Made once: json.dumps makes an encoder at each call.
_encode: Final = json.JSONEncoder(sort_keys=True).encode
_ATOMS: Final[frozenset[Any]] = frozenset({type(None), str, bool, int, float})


def request_key(tenant: str | None, model: str, request: object) -> str | None:
    """Return what a request is remembered by, or None for one that cannot be remembered.

    It reveals neither prompt nor key. Compute it only where there is a cache.

    Args:
        tenant: whose call it is; what one was told, no other hears.
        model: all that decides who answers: reference, endpoint and fingerprint of the key.
        request: tables, sequences, texts, numbers, bytes and frozen dataclasses, at any depth.

    >>> request_key(None, "m", {"a": 1, "b": 2}) == request_key(None, "m", {"b": 2, "a": 1})
    True
    >>> request_key("acme", "m", {}) == request_key("umbrella", "m", {})
    False
    >>> request_key(None, "m", {"callback": print}) is None
    True
    """
    try:
        text = _encode([tenant, model, _plain(request)])
    except (TypeError, RecursionError):
        return None
    return sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return it as JSON has it; different values never come out alike."""
    kind = cast("Hashable", type(value))
    if kind in _ATOMS:
        return value
    if kind is dict or is_table(value):
        return {_name(name): _plain(item) for name, item in value.items()}
    if kind is tuple or is_sequence(value):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float):
        return value
    return {"": [type(value).__qualname__, _content(kind, value)]}


def _name(name: object) -> str:
    # "" marks what JSON has no form for; and 1 must not become "1".
    if not isinstance(name, str) or not name:
        raise TypeError(f"{name!r} is no name of a setting.")
    return name


def _content(kind: Hashable, value: Any) -> Any:
    names = record_fields(kind)
    if names is not None:
        return [_plain(getattr(value, name)) for name in names]
    if kind is frozenset:
        return sorted(map(_encode, map(_plain, value)))
    if kind is bytes:
        return b64encode(value).decode()
    if kind is Decimal:
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical form.")


class ResponseCache(Generic[T]):
    """The latest answers by :func:`request_key`.

    Args:
        most: answers that are kept; beyond, the one unused for longest goes.
        ttl: seconds that an answer is kept.
        coalesce: whether identical requests at the same time make one call.
        copied: makes the copy that is kept and each that is given out, so that a caller who
            changes an answer changes its own.
        clock: seconds, never going back.

    >>> cache = ResponseCache[str]()
    >>> cache.put("key", "the answer")
    >>> cache.get("key")
    'the answer'
    """

    def __init__(
        self,
        most: int = 1000,
        ttl: float = 300.0,
        *,
        coalesce: bool = False,
        copied: Callable[[T], T] = apart,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._ttl = ttl
        self._coalesce = coalesce
        self._copied = copied
        self._clock = clock
        self._lock = Lock()
        self._answers: OrderedDict[str, tuple[T, float]] = OrderedDict()
        # Weak: a flight is there for as long as somebody is aboard.
        self._flights: WeakValueDictionary[str, _Flight[T]] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> T | None:
        """Return a copy of the answer, or None where there is none, or none any more."""
        with self._lock:
            found = self._found(key)
        return None if found is None else self._copied(found)

    def put(self, key: str, answer: T) -> None:
        """Keep a copy of an answer."""
        self._copy_kept(key, answer)

    def clear(self) -> None:
        """Forget every answer."""
        with self._lock:
            self._answers.clear()

    async def through(self, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        """Return the answer that is kept, or make the call and keep what it returns.

        Args:
            key: of the request; with None the call is always made and nothing is kept.
            call: makes it. What it raises is raised, and kept from nobody: where identical
                requests wait for this one, the next of them makes the call.
        """
        if key is None:
            return await call()
        found = self.get(key)
        if found is not None:
            return found
        if self._coalesce:
            return await self._together(key, call)
        answer = await call()
        self.put(key, answer)
        return answer

    def _found(self, key: str) -> T | None:
        answer, expires = self._answers.get(key, (None, 0.0))
        if answer is None:
            return None
        if self._clock() >= expires:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return answer

    def _copy_kept(self, key: str, answer: T) -> T | None:
        try:
            kept = self._copied(answer)
        except TypeError:  # it holds what cannot be copied, and so cannot be given out again
            return None
        with self._lock:
            self._answers[key] = (kept, self._clock() + self._ttl)
            self._answers.move_to_end(key)
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)
        return kept

    async def _together(self, key: str, call: Callable[[], Awaitable[T]]) -> T:
        flight = self._flight(key)
        await flight.board()
        try:
            # An earlier flight may have landed after this caller looked.
            landed = self.get(key) if flight.answer is None else self._copied(flight.answer)
            if landed is not None:
                return landed
            answer = await call()
            flight.answer = self._copy_kept(key, answer)
        except Exception:
            flight.failed()
            raise
        else:
            return answer
        finally:
            flight.leave()

    def _flight(self, key: str) -> "_Flight[T]":
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
            return flight


class _Flight(Generic[T]):
    """Identical requests at one time: one makes the call, the others wait for their turn.

    Whoever comes to its turn and finds no answer makes the call itself, so that a leader that
    fails or is cancelled harms no follower. After a second failure more of them go at a time:
    following one that fails takes time, which their deadlines may not have.
    """

    __slots__ = ("__weakref__", "_failures", "_gate", "answer")

    def __init__(self) -> None:
        self._gate = Gate(1)
        self._failures = 0
        self.answer: T | None = None

    async def board(self) -> None:
        if not self._gate.enter():
            await self._gate.wait()

    def leave(self) -> None:
        self._gate.leave()

    def failed(self) -> None:
        self._failures += 1
        if self._failures > 1:
            self._gate.leave()
