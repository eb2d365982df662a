"""Reads OpenAI's embeddings, and trusts nothing in them."""

import struct
from array import array
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import LARGEST_VECTORS, refuse_error, text_in, usage_of
from kor_core.llm.response import Embeddings
from kor_core.redaction import is_sequence, is_table

__all__ = ["embeddings_of", "largest_of"]

_FLOAT: Final = 4  # bytes

# Of a vector; the largest models give a few thousand.
_MOST_NUMBERS: Final = 1 << 16
_MOST_BASE64: Final = -(-_MOST_NUMBERS * _FLOAT // 3) * 4
_LARGEST: Final = 2 << 20  # bytes of a vector that is written in digits


def largest_of(count: int) -> int:
    """Return how many bytes an answer of so many vectors may have.

    >>> largest_of(1), largest_of(2048)
    (2097152, 67108864)
    """
    return min(count * _LARGEST, LARGEST_VECTORS)


def embeddings_of(answer: Mapping[str, Any], count: int) -> Embeddings:
    """Return the vectors, in the order of the texts.

    Args:
        answer: as it came.
        count: how many texts there were.

    Raises:
        SenselessAnswerError: there is not one vector for each text, or an error in their place.

    >>> rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    >>> embeddings_of({"data": rows}, 2).vectors
    ((1.0,), (2.0,))
    """
    refuse_error(answer)
    rows = answer.get("data")
    if not is_sequence(rows):
        raise SenselessAnswerError("it holds no embeddings")
    found: Mapping[int, Any] = _by_index(rows, count) if len(rows) == count else {}
    if len(found) != count:
        raise SenselessAnswerError(f"it holds {len(rows)} embeddings for {count} texts")
    vectors = tuple(_vector(found[index]) for index in range(count))
    if len(set(map(len, vectors))) > 1:
        raise SenselessAnswerError("it holds embeddings of different lengths")
    usage = usage_of(answer.get("usage"))
    return Embeddings(
        vectors,
        # Nothing is put out, which is known: the price of the call is that of its input.
        usage and replace(usage, output_tokens=0),
        model_id=text_in(answer, "model") or None,
    )


def _by_index(rows: Sequence[Any], count: int) -> Mapping[int, Any]:
    # No number without bounds is a key: a dict finds some such numbers all in one place.
    placed = ((_index_of(row, place), row) for place, row in enumerate(rows))
    return {index: row for index, row in placed if 0 <= index < count}


def _index_of(row: object, place: int) -> int:
    index = row.get("index") if is_table(row) else None
    return index if isinstance(index, int) else place


def _vector(row: object) -> tuple[float, ...]:
    written: Any = row.get("embedding") if is_table(row) else None
    if _is_long(written):
        raise SenselessAnswerError("one of its embeddings has more numbers than a vector can")
    try:
        vector = _decoded(written) if isinstance(written, str) else tuple(array("d", written))
    except (TypeError, ValueError, struct.error):
        vector = ()
    # A sum is finite where all that it sums is.
    if not vector or not isfinite(sum(vector)):
        raise SenselessAnswerError("one of its embeddings is no list of numbers")
    return vector


def _is_long(written: object) -> bool:
    if isinstance(written, str):
        return len(written) > _MOST_BASE64
    return is_sequence(written) and len(written) > _MOST_NUMBERS


def _decoded(written: str) -> tuple[float, ...]:
    """Return what base64 holds: numbers of 4 bytes, the lowest first."""
    data = b64decode(written, validate=True)
    return struct.unpack(f"<{len(data) // _FLOAT}f", data)
