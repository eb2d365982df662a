"""Undoes the compression of an answer, and takes in no more than an answer can be.

A few kilobytes on the wire can be gigabytes unpacked, and a body may never end.
"""

import asyncio
import zlib
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from kor_core.adapters.exchange import Fault

__all__ = ["ACCEPTED", "Unpacking", "UnusableBodyError", "decoded", "largest"]

ACCEPTED: Final = "gzip, deflate"

_LARGEST: Final = 64 << 20
_SLICE: Final = 1 << 16
_LARGEST_COMPLAINT: Final = 1 << 20
_KNOWN: Final = frozenset({"gzip", "x-gzip", "deflate"})
_MOST: Final = 2


class UnusableBodyError(Exception):
    """A body that is not taken in; ``fault`` says why. Never leaves the adapters."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault: Final = fault


def largest(status: int) -> int:
    """Return how many bytes the body of an answer may have, packed and unpacked.

    >>> largest(200), largest(401)
    (67108864, 1048576)
    """
    return _LARGEST_COMPLAINT if status >= HTTPStatus.BAD_REQUEST else _LARGEST


class Unpacking:
    """Unpacks a body piece by piece.

    Args:
        encoding: the value of ``Content-Encoding``.
        limit: how many bytes the whole body may have unpacked.

    Raises:
        UnusableBodyError: it is packed in a way nobody asked for.

    >>> unpacking = Unpacking("deflate", limit=20)
    >>> list(unpacking.fed(zlib.compress(b"Hello!"))), unpacking.finish()
    ([b'Hello!'], None)
    """

    def __init__(self, encoding: str, limit: int) -> None:
        words = (word.strip() for word in encoding.lower().split(","))
        codings = [word for word in words if word not in {"", "identity"}]
        if len(codings) > _MOST or not _KNOWN.issuperset(codings):
            raise UnusableBodyError(Fault.PACKED)
        # 32: gzip or zlib, as it begins
        self._stages: list[Any] = [zlib.decompressobj(zlib.MAX_WBITS | 32) for _ in codings]
        self._left = [limit] * (len(codings) + 1)
        self._begun = False

    def fed(self, piece: bytes) -> Iterable[bytes]:
        """Give what can be unpacked of the body now that this piece has come.

        It comes in slices of 64 KiB at most, each of them the work of a moment; those of which
        nothing can be unpacked yet are empty.

        Raises:
            UnusableBodyError: it is too large, or broken.
        """
        self._begun = self._begun or bool(piece)
        if not self._stages and len(piece) <= _SLICE:
            self._take(0, piece)
            return (piece,)
        slices = self._taken(0, _sliced(piece))
        for number, stage in enumerate(self._stages, 1):
            slices = self._taken(number, _unpacked(stage, slices))
        return slices

    def _taken(self, number: int, slices: Iterable[bytes]) -> Iterator[bytes]:
        for each in slices:
            self._take(number, each)
            yield each

    def _take(self, number: int, piece: bytes) -> None:
        self._left[number] -= len(piece)
        if self._left[number] < 0:
            raise UnusableBodyError(Fault.TOO_LARGE)

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            UnusableBodyError: the body is not whole.
        """
        if self._begun and not all(stage.eof for stage in self._stages):
            raise UnusableBodyError(Fault.PACKED)


def _sliced(piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), _SLICE):
        yield piece[start : start + _SLICE]


def _unpacked(stage: Any, slices: Iterable[bytes]) -> Iterator[bytes]:
    for rest in slices:
        packed, full = rest, True
        # zlib keeps some of what it has not given out, and leaves some of what it was given. What
        # follows the end of the packed body is nobody's, and zlib would add it up.
        while (packed or full) and not stage.eof:
            try:
                unpacked: bytes = stage.decompress(packed, _SLICE)
            except zlib.error:
                raise UnusableBodyError(Fault.PACKED) from None
            packed, full = stage.unconsumed_tail, len(unpacked) == _SLICE
            yield unpacked


async def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body unpacked; the event loop has a turn after each slice.

    Args:
        body: as it came.
        encoding: the value of ``Content-Encoding``.
        limit: how many bytes it may have, packed and unpacked.

    Raises:
        UnusableBodyError: it is too large, broken, or packed in a way nobody asked for.

    >>> asyncio.run(decoded(zlib.compress(b"Hello!"), "deflate", limit=20))
    b'Hello!'
    """
    unpacking = Unpacking(encoding, limit)
    slices: list[bytes] = []
    for each in unpacking.fed(body):
        if slices:
            await asyncio.sleep(0)
        slices.append(each)
    unpacking.finish()
    return b"".join(slices)
