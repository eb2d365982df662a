"""Undoes the compression of an answer, and takes in no more than an answer can be.

A few kilobytes on the wire can be gigabytes unpacked, and a body may never end.
"""

import zlib
from http import HTTPStatus
from typing import Final

from kor_core.adapters.exchange import Fault

__all__ = ["ACCEPTED", "UnusableBodyError", "decoded", "largest"]

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


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body unpacked.

    Args:
        body: as it came.
        encoding: the value of ``Content-Encoding``.
        limit: how many bytes it may have unpacked.

    Raises:
        UnusableBodyError: it is too large, broken, or packed in a way nobody asked for.

    >>> decoded(zlib.compress(b"Hello!"), "deflate", limit=10)
    b'Hello!'
    """
    words = (word.strip() for word in encoding.lower().split(","))
    codings = [word for word in words if word not in {"", "identity"}]
    if len(codings) > _MOST or not _KNOWN.issuperset(codings):
        raise UnusableBodyError(Fault.PACKED)
    for _ in codings if body else ():
        body = _unpacked(body, limit)
    return body


def _unpacked(body: bytes, limit: int) -> bytes:
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, as it begins
    try:
        whole = unpacking.decompress(body, limit + 1)
    except zlib.error:
        raise UnusableBodyError(Fault.PACKED) from None
    if len(whole) > limit:
        raise UnusableBodyError(Fault.TOO_LARGE)
    if not unpacking.eof:
        raise UnusableBodyError(Fault.PACKED)
    return whole
