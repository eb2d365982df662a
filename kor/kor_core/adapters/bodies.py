"""Undoes the compression of an answer, and takes in no more than an answer can be.

A few kilobytes on the wire can be gigabytes unpacked, and a body may never end.
"""

import zlib
from http import HTTPStatus
from typing import Any, Final

from kor_core.adapters.exchange import Fault

__all__ = ["ACCEPTED", "Unpacking", "UnusableBodyError", "decoded", "largest"]

ACCEPTED: Final = "gzip, deflate"

_LARGEST: Final = 64 << 20
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
    >>> unpacking.fed(zlib.compress(b"Hello!")), unpacking.finish()
    (b'Hello!', None)
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

    def fed(self, piece: bytes) -> bytes:
        """Return what can be unpacked of the body now that this piece has come.

        Raises:
            UnusableBodyError: it is too large, or broken.
        """
        self._begun = self._begun or bool(piece)
        for number, stage in enumerate(self._stages):
            self._take(number, piece)
            piece = self._unpacked(stage, piece, self._left[number + 1])
        self._take(len(self._stages), piece)
        return piece

    def _take(self, number: int, piece: bytes) -> None:
        self._left[number] -= len(piece)
        if self._left[number] < 0:
            raise UnusableBodyError(Fault.TOO_LARGE)

    @staticmethod
    def _unpacked(stage: Any, piece: bytes, left: int) -> bytes:
        try:
            unpacked: bytes = stage.decompress(piece, left + 1)
        except zlib.error:
            raise UnusableBodyError(Fault.PACKED) from None
        return unpacked

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            UnusableBodyError: the body is not whole.
        """
        if self._begun and not all(stage.eof for stage in self._stages):
            raise UnusableBodyError(Fault.PACKED)


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body unpacked.

    Args:
        body: as it came.
        encoding: the value of ``Content-Encoding``.
        limit: how many bytes it may have, packed and unpacked.

    Raises:
        UnusableBodyError: it is too large, broken, or packed in a way nobody asked for.

    >>> decoded(zlib.compress(b"Hello!"), "deflate", limit=20)
    b'Hello!'
    """
    unpacking = Unpacking(encoding, limit)
    whole = unpacking.fed(body)
    unpacking.finish()
    return whole
