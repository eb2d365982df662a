"""Answers that were given before: in memory, bounded in number, in size and in time."""

import json
import time
from base64 import b64encode
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from threading import Lock
from typing import Any, Final, Generic, TypeVar, cast
from weakref import WeakValueDictionary

from kor_core.llm.policies.concurrency import Gate
from kor_core.llm.policies.copying import apart, record_fields
from kor_core.llm.policies.weighing import weight
from kor_core.llm.response import LLMResponse
from kor_core.redaction import is_sequence, is_table

__all__ = ["ResponseCache", "request_key"]

T = TypeVar("T")

# Made once: json.dumps makes an encoder at each call.
_encode: Final = json.JSONEncoder(sort_keys=True).encode

# Bytes. A long answer takes tens of thousands; what is larger is asked for again. On average an
# answer takes less, so that the answers of one tenant fill no memory either.
_LARGEST: Final = 256 << 10
_AVERAGE: Final = 64 << 10

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

    An answer of more than 256 KiB is kept without the provider's own (``raw``), or not at all.

    Args:
        most: answers that are kept, of 64 KiB on average; beyond, one of the tenant with the most
            goes, of these the one unused for longest.
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
        self._most_bytes = max(most * _AVERAGE, _LARGEST)
        self._count = self._bytes = 0
        self._answers: dict[str | None, OrderedDict[str, tuple[T, float, int]]] = {}
        self._bytes_of: Counter[str | None] = Counter()
        # Weak: a flight is there for as long as somebody is aboard.
        self._flights: WeakValueDictionary[str, _Flight[T]] = WeakValueDictionary()

    def __len__(self) -> int:
        return self._count

    def get(self, key: str, tenant: str | None = None) -> T | None:
        """Return a copy of the answer, or None where there is none, or none any more.

        Args:
            key: of the request.
            tenant: who asks; None for the application.
        """
        with self._lock:
            found = self._found(key, tenant)
        return None if found is None else self._copy(found)

    def put(self, key: str, answer: T, tenant: str | None = None) -> None:
        """Keep a copy of an answer.

        Args:
            key: of the request.
            answer: what is kept, unless it cannot be copied.
            tenant: who was answered; None for the application.
        """
        self._copy_kept(key, answer, tenant)

    def clear(self) -> None:
        """Forget every answer."""
        with self._lock:
            self._answers.clear()
            self._bytes_of.clear()
            self._count = self._bytes = 0

    async def through(
        self, key: str | None, call: Callable[[], Awaitable[T]], tenant: str | None = None
    ) -> T:
        """Return the answer that is kept, or make the call and keep what it returns.

        Args:
            key: of the request; with None the call is always made and nothing is kept.
            call: makes it. What it raises is raised, and kept from nobody: where identical
                requests wait for this one, the next of them makes the call.
            tenant: who asks; None for the application.
        """
        if key is None:
            return await call()
        found = self.get(key, tenant)
        if found is not None:
            return found
        if self._coalesce:
            return await self._together(key, call, tenant)
        answer = await call()
        self.put(key, answer, tenant)
        return answer

    def _found(self, key: str, tenant: str | None) -> T | None:
        answers = self._answers.get(tenant)
        if answers is None or key not in answers:
            return None
        answer, expires, _ = answers[key]
        if self._clock() >= expires:
            self._drop(tenant, key)
            return None
        answers.move_to_end(key)
        return answer

    def _copy(self, answer: T) -> T | None:
        """Return a copy; None of what cannot be copied, or is nested too deeply for it."""
        try:
            return self._copied(answer)
        except (TypeError, RecursionError):
            return None

    def _copy_kept(self, key: str, answer: T, tenant: str | None) -> T | None:
        light, size = _light(answer)
        copied = self._copy(light)
        if copied is not None and size <= _LARGEST:
            with self._lock:
                self._keep(key, copied, size, tenant)
        return copied

    def _keep(self, key: str, kept: T, size: int, tenant: str | None) -> None:
        if key in self._answers.get(tenant, ()):
            self._drop(tenant, key)
        self._answers.setdefault(tenant, OrderedDict())[key] = (
            kept,
            self._clock() + self._ttl,
            size,
        )
        self._count += 1
        self._bytes += size
        self._bytes_of[tenant] += size
        # Whoever asks the most makes room: nobody can drive out what others were answered.
        if self._count > self._most:
            self._drop_oldest_of(max(self._answers, key=lambda each: len(self._answers[each])))
        while self._bytes > self._most_bytes:
            self._drop_oldest_of(max(self._answers, key=self._bytes_of.__getitem__))

    def _drop_oldest_of(self, tenant: str | None) -> None:
        self._drop(tenant, next(iter(self._answers[tenant])))

    def _drop(self, tenant: str | None, key: str) -> None:
        answers = self._answers[tenant]
        _, _, size = answers.pop(key)
        self._count -= 1
        self._bytes -= size
        self._bytes_of[tenant] -= size
        if not answers:
            del self._answers[tenant], self._bytes_of[tenant]

    async def _together(self, key: str, call: Callable[[], Awaitable[T]], tenant: str | None) -> T:
        flight = self._flight(key)
        await flight.board()
        try:
            # An earlier flight may have landed after this caller looked.
            kept = flight.answer
            landed = self.get(key, tenant) if kept is None else self._copy(kept)
            if landed is not None:
                return landed
            answer = await call()
            flight.answer = self._copy_kept(key, answer, tenant)
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


def _light(answer: T) -> tuple[T, int]:
    """Return an answer with its size; where it is too large as it came, without ``raw``."""
    size = weight(answer, _LARGEST)
    if size <= _LARGEST or not isinstance(answer, LLMResponse) or answer.raw is None:
        return answer, size
    light = cast("T", replace(answer, raw=None))
    return light, weight(light, _LARGEST)


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
